// Does pg_receivewal archive from walcast what it would archive from the primary, byte for byte, and does pg_waldump read
// walcast's own store?
import { readdir } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { advanceLsn, formatLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, segmentStart, toSegmentSize, walFileName } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { compareWal, missingSegments } from '../harness/compare-wal.ts';
import { createPhysicalSlot } from '../harness/relay-scenario.ts';
import { runTool, runToolChecked, startTool } from '../harness/pg-tools.ts';
import type { RunningTool } from '../harness/pg-tools.ts';
import { comparable } from '../support/clients-psql.ts';
import {
  connectArguments,
  openClientsRig,
  runAsOurselves,
  writeWal,
} from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { clientMajor, spannedMajors, itWhen, requires } from '../support/requirements.ts';

const SEGMENT_SIZE = toSegmentSize(1 << 20);

/** pg_receivewal takes WAL from servers up to its own major. */
const CLIENT_MAJOR = clientMajor('pg_receivewal');
const MAJORS = spannedMajors();
const SERVED = MAJORS.filter((major) => major <= CLIENT_MAJOR);
const NEWER = MAJORS.filter((major) => major > CLIENT_MAJOR);

const { describe } = requires('pg_receivewal', 'pg_waldump');

describe.each(SERVED)('pg_receivewal on walcast before PostgreSQL %i', (major) => {
  let rig: ClientsRig;

  beforeAll(async () => {
    rig = await openClientsRig({ major, segmentSizeMb: 1 });
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  /** Arguments for an archive in `directory`. */
  function archiving(directory: string, ...more: string[]): string[] {
    return [
      ...connectArguments(rig.relay),
      '-D',
      directory,
      '--verbose',
      '--status-interval=1',
      ...more,
    ];
  }

  async function isStreaming(): Promise<void> {
    await rig.relay.waitForStatus('pg_receivewal streaming', ({ standbys }) =>
      standbys.some(
        ({ application_name: name, state }) => name === 'pg_receivewal' && state === 'streaming',
      ),
    );
  }

  async function hasKept(endLsn: Lsn): Promise<void> {
    await pollUntil(
      `${formatLsn(endLsn)} kept by pg_receivewal`,
      async () => {
        const { standbys } = await rig.relay.status();
        const receiver = standbys.find(({ state }) => state === 'streaming');
        // Without a slot and without --synchronous it reports no flush position.
        const lsn = receiver?.flush_lsn ?? receiver?.write_lsn ?? null;
        return lsn !== null && lsnOf(lsn) >= endLsn ? true : null;
      },
      { timeoutMs: 30_000 },
    );
  }

  /** Finished segments only, so that a receiver without --synchronous has flushed them. Gives their end. */
  async function writeSegments(megabytes: number): Promise<Lsn> {
    await writeWal(rig.primary, megabytes);
    await rig.primary.query('SELECT pg_switch_wal()');
    const endLsn = segmentStart(
      segmentNumber(advanceLsn(await rig.primary.walPosition(), SEGMENT_SIZE - 1), SEGMENT_SIZE),
      SEGMENT_SIZE,
    );
    // Something behind the end, which a receiver with --endpos waits for.
    await rig.primary.query('SELECT pg_create_restore_point($$behind$$)');
    return endLsn;
  }

  /** What is wrong with an archive, in sentences. */
  async function differences(directory: string, fromLsn: Lsn, untilLsn: Lsn): Promise<string[]> {
    const span = { segmentSize: SEGMENT_SIZE, fromLsn, untilLsn };
    const compared = await compareWal({
      expected: rig.primary.walDirectory,
      actual: directory,
      ...span,
    });
    expect(compared.comparedBytes).toBe(Number(untilLsn - fromLsn));
    return [
      ...compared.differences,
      ...(await missingSegments({ directory, timeline: 1, ...span })),
    ];
  }

  async function firstSegment(directory: string): Promise<Lsn> {
    const [name = ''] = (await readdir(directory)).toSorted();
    const segment = BigInt(`0x${name.slice(8, 16)}`) * 4096n + BigInt(`0x${name.slice(16, 24)}`);
    return toLsn(segment * BigInt(SEGMENT_SIZE));
  }

  it('archives without a slot and stops behind --endpos', async () => {
    const directory = await rig.workspace.makeDirectory('archive-plain');
    const endpos = advanceLsn(await rig.primary.walPosition(), 3 * SEGMENT_SIZE);
    const tool = startTool(
      rig.workspace,
      'pg_receivewal',
      archiving(directory, `--endpos=${formatLsn(endpos)}`),
    );
    await isStreaming();
    await writeSegments(5);
    const result = await tool.ended;
    expect(result).toMatchObject({ exitCode: 0 });
    expect(result.stderr).toContain('stopped log streaming at');
    expect(await differences(directory, await firstSegment(directory), endpos)).toEqual([]);
    expect(
      (await readdir(directory)).filter((name) => !name.endsWith('.partial')).length,
    ).toBeGreaterThan(2);
  });

  it('makes, refuses and drops slots with the words of the primary', async () => {
    const steps = [
      ['--create-slot', '--slot=kept'],
      ['--create-slot', '--slot=kept'],
      ['--create-slot', '--slot=kept', '--if-not-exists'],
      ['--create-slot', '--slot=Bad'],
      ['--drop-slot', '--slot=kept'],
      ['--drop-slot', '--slot=kept'],
      ['--slot=kept', '--no-loop', '-D', rig.workspace.directory],
    ];
    const ran = await Promise.all(
      [rig.primary.target(), rig.relay].map(async (server) => {
        const results: { step: string[]; exitCode: number | null; stderr: string }[] = [];
        for (const step of steps) {
          const args = [...connectArguments(server), ...step];
          const { exitCode, stderr } = await runTool(rig.workspace, 'pg_receivewal', args);
          results.push({ step, exitCode, stderr: comparable(stderr) });
        }
        return results;
      }),
    );
    expect(ran[1]).toEqual(ran[0]);
    expect(ran[0]?.map(({ exitCode }) => exitCode)).toEqual([0, 1, 0, 1, 0, 1, 1]);
  });

  // Servers that cannot be asked where a slot begins are asked for what comes next.
  itWhen(versionFacts(major).hasReadReplicationSlot)(
    'archives with a slot from where the slot begins, also what was written before it came',
    async () => {
      const slot = ['--slot=archive'];
      // A slot that pg_receivewal makes keeps nothing before its first connection.
      await createPhysicalSlot(rig.relay.target(), 'archive', major);
      const endLsn = await writeSegments(3);
      const directory = await rig.workspace.makeDirectory('archive-slot');
      const args = archiving(directory, ...slot, '--synchronous', `--endpos=${formatLsn(endLsn)}`);
      await runToolChecked(rig.workspace, 'pg_receivewal', args);
      const fromLsn = await firstSegment(directory);
      expect(endLsn - fromLsn).toBeGreaterThanOrEqual(3 * SEGMENT_SIZE);
      expect(await differences(directory, fromLsn, endLsn)).toEqual([]);
      await runToolChecked(rig.workspace, 'pg_receivewal', [
        ...connectArguments(rig.relay),
        ...slot,
        '--drop-slot',
      ]);
    },
  );

  it('goes on after it was interrupted and after it was killed', async () => {
    const directory = await rig.workspace.makeDirectory('archive-resumed');
    const run = async (): Promise<RunningTool> => {
      const tool = startTool(rig.workspace, 'pg_receivewal', archiving(directory));
      await isStreaming();
      await hasKept(await writeSegments(2));
      return tool;
    };
    const interrupted = await (await run()).stop('SIGINT');
    expect(interrupted).toMatchObject({ exitCode: 0 });
    await writeSegments(2);
    await (await run()).stop('SIGKILL');
    const endLsn = await writeSegments(2);
    await runToolChecked(
      rig.workspace,
      'pg_receivewal',
      archiving(directory, `--endpos=${formatLsn(endLsn)}`),
    );
    expect(await differences(directory, await firstSegment(directory), endLsn)).toEqual([]);
  });

  // It waits five seconds each time; nothing of that depends on the major.
  itWhen(major === Math.max(...SERVED))(
    'goes on when walcast is restarted and when it is killed',
    async () => {
      const directory = await rig.workspace.makeDirectory('archive-restarts');
      const slot = ['--slot=restarts'];
      await runToolChecked(rig.workspace, 'pg_receivewal', [
        ...connectArguments(rig.relay),
        ...slot,
        '--create-slot',
      ]);
      const tool = startTool(rig.workspace, 'pg_receivewal', archiving(directory, ...slot));
      await isStreaming();
      await hasKept(await writeSegments(2));
      expect(await rig.relay.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
      await writeSegments(2);
      await rig.relay.start();
      await isStreaming();
      await hasKept(await writeSegments(2));
      await rig.relay.kill();
      await writeSegments(2);
      await rig.relay.start();
      await isStreaming();
      const endLsn = await writeSegments(2);
      await hasKept(endLsn);
      // The primary pays for walcast alone.
      expect(await rig.primary.query('SELECT application_name FROM pg_stat_replication')).toEqual([
        ['walcast'],
      ]);
      const result = await tool.stop('SIGINT');
      expect(result).toMatchObject({ exitCode: 0 });
      expect(result.stderr.match(/disconnected; waiting 5 seconds/g)).toHaveLength(2);
      expect(await differences(directory, await firstSegment(directory), endLsn)).toEqual([]);
    },
  );

  // pg_waldump reads the WAL of its own major only.
  itWhen(major === clientMajor('pg_waldump'))(
    'leaves a store that pg_waldump reads as it reads the primary',
    async () => {
      const endLsn = await writeSegments(2);
      await rig.relay.waitForStatus(
        'everything stored',
        ({ store }) => lsnOf(store.flushed_lsn ?? '0/0') >= endLsn,
      );
      const { store } = await rig.relay.status();
      const startLsn = lsnOf(store.oldest_lsn ?? '0/0');
      const first = walFileName(
        toTimelineId(1),
        segmentNumber(startLsn, SEGMENT_SIZE),
        SEGMENT_SIZE,
      );
      expect(await readdir(rig.relay.walDirectory)).toContain(first);
      const span = [`--start=${formatLsn(startLsn)}`, `--end=${formatLsn(endLsn)}`];
      const [theirs, ours] = await Promise.all(
        [rig.primary.walDirectory, rig.relay.walDirectory].map((directory) =>
          runAsOurselves(rig.workspace, 'pg_waldump', ['-p', directory, ...span]),
        ),
      );
      expect(ours).toMatchObject({ exitCode: 0, stderr: '' });
      expect(ours?.stdout.length).toBeGreaterThan(100_000);
      expect(ours?.stdout === theirs?.stdout).toBe(true);
      expect(rig.relay.problems()).toEqual([]);
    },
  );
});

describe.each(NEWER)('pg_receivewal on walcast before PostgreSQL %i, which is newer', (major) => {
  it('refuses walcast as it refuses the server, and nothing else happens', async () => {
    await using rig = await openClientsRig({ major });
    const answers = await Promise.all(
      [rig.primary.target(), rig.relay].map(async (server, index) => {
        const directory = await rig.workspace.makeDirectory(`archive-${index}`);
        const args = [...connectArguments(server), '--no-loop', '-D', directory];
        const { exitCode, stderr } = await runTool(rig.workspace, 'pg_receivewal', args);
        return { exitCode, stderr, files: await readdir(directory) };
      }),
    );
    expect(answers[1]).toEqual(answers[0]);
    const version = await rig.primary.value('SHOW server_version');
    expect(answers[1]).toMatchObject({ exitCode: 1, files: [] });
    expect(answers[1]?.stderr).toContain(
      `pg_receivewal: error: incompatible server version ${version}; ` +
        `client does not support streaming from server versions newer than ${CLIENT_MAJOR}`,
    );
    expect(rig.relay.problems()).toEqual([]);
  });
});

function lsnOf(text: string): Lsn {
  const [high = '', low = ''] = text.split('/');
  return toLsn((BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`));
}
