// Do the commands work beside real servers of each major: does a standby that has nothing but `walcast wal get` as its
// restore_command catch up, is the WAL that servers wrote found good, does a drain end walcast?
import { mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { runCommand, serverUser } from '../../src/demo/postgres-user.ts';
import { advanceLsn, formatLsn, INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, segmentStart, toSegmentSize } from '../../src/pg/segment.ts';
import { readCheckpoint } from '../../src/wal/server-control.ts';
import { copyDirectory } from '../support/copy-directory.ts';
import { walcast } from '../support/cli.ts';
import type { CliOutcome } from '../support/cli.ts';
import { openClientsRig, runAsOurselves, writeWal } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { clientMajor, EDGE_MAJORS, itWhen, needs, newestMajors } from '../support/requirements.ts';
import { SERVER_ALARM } from '../support/server-alarms.ts';

const SEGMENT_SIZE = toSegmentSize(1 << 20);
const PROGRAM = fileURLToPath(new URL('../../dist/program/main.js', import.meta.url));
const TIMEOUT_MS = 120_000;

describe.each(newestMajors())('PostgreSQL %i', (major) => {
  let rig: ClientsRig;
  let directory: string;
  let tokenFile: string;
  /** A segment start up to which the primary has written, and walcast has flushed. */
  let endLsn: Lsn;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'walcast-cli-pg-'));
    tokenFile = join(directory, 'token');
    await writeFile(tokenFile, 'a-token-of-some-length\n', { mode: 0o600 });
    rig = await openClientsRig({
      major,
      segmentSizeMb: 1,
      relaySettings: { http: { token_file: tokenFile } },
    });
    await writeWal(rig.primary, 2);
    await rig.primary.query('SELECT pg_switch_wal()');
    const position = await rig.primary.walPosition();
    const last = segmentNumber(advanceLsn(position, SEGMENT_SIZE - 1), SEGMENT_SIZE);
    endLsn = segmentStart(last, SEGMENT_SIZE);
    // Something behind the end, so that the switch itself is surely sent.
    await rig.primary.query('SELECT pg_create_restore_point($$behind$$)');
    await pollUntil(
      'walcast having flushed it',
      async () => {
        const flushed = parseLsn((await rig.relay.status()).store.flushed_lsn ?? '');
        return flushed !== null && flushed >= endLsn ? true : null;
      },
      { timeoutMs: 30_000 },
    );
  }, TIMEOUT_MS);

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  function ask(...words: string[]): Promise<CliOutcome> {
    return walcast([...words, '--url', rig.relay.url, '--token-file', tokenFile]);
  }

  // The bytes are those of the files: what depends on the major is how a server asks, and the oldest and newest show that.
  itWhen(EDGE_MAJORS.includes(major))(
    'a standby with nothing but wal get as restore_command replays every whole segment',
    async (context) => {
      const user = await serverUser();
      const cwd = rig.workspace.directory;
      const tried = await runCommand(process.execPath, [PROGRAM, '--version'], { user, cwd });
      needs(
        context,
        tried.exitCode === 0 ? null : `the servers' user cannot run ${PROGRAM}: ${tried.stderr}`,
      );
      const standby = await restoringStandby();
      await standby.start();
      await standby.waitForReplay(endLsn, 60_000);
      const rows = 'SELECT count(*), sum(length(filler)) FROM clients_filler';
      expect(await standby.query(rows)).toEqual(await rig.primary.query(rows));
      expect(await standby.value('SELECT count(*) FROM pg_stat_wal_receiver')).toBe('0');
      const names = await readdir(standby.walDirectory);
      expect(names.filter((name) => name.includes('walcast'))).toEqual([]);
      // The segment that is not whole yet, and the history of a timeline that never was, are not there.
      expect(standby.log.textFrom(0)).not.toMatch(SERVER_ALARM);
      await standby.stop();
    },
  );

  /** Seeded from the primary at its beginning; no primary_conninfo. */
  async function restoringStandby(): Promise<PostgresCluster> {
    const standby = await createStandby(rig.workspace, {
      major,
      name: 'restoring',
      backupFrom: rig.primary.target(),
      upstream: rig.relay.target(),
    });
    await writeWal(rig.primary, 1);
    await rig.primary.query('SELECT pg_switch_wal()');
    const position = await rig.primary.walPosition();
    endLsn = segmentStart(
      segmentNumber(advanceLsn(position, SEGMENT_SIZE - 1), SEGMENT_SIZE),
      SEGMENT_SIZE,
    );
    await rig.primary.query('SELECT pg_create_restore_point($$behind$$)');
    const token = `--token-file ${await rig.relay.walTokenFileForServers()}`;
    await standby.configure({
      primary_conninfo: null,
      restore_command: `'${process.execPath}' '${PROGRAM}' wal get %f %p --url ${rig.relay.url} ${token}`,
    });
    return standby;
  }

  it(
    'the WAL of the server and of walcast is found good to its end, and a flipped bit is found',
    { timeout: TIMEOUT_MS },
    async () => {
      // The end of a record, which a flushed position need not be; the commit behind it brings it to the disk.
      const inserted = await rig.primary.value('SELECT pg_current_wal_insert_lsn()');
      await rig.primary.query('CREATE TABLE behind ()');
      for (const path of [
        rig.primary.dataDirectory,
        rig.primary.walDirectory,
        rig.relay.directory,
      ]) {
        const { code, out } = await walcast(['wal', 'verify', path, '--json']);
        const report: { timelines: { end_lsn: string }[]; problems: unknown[] } = JSON.parse(out);
        expect({ path, code, problems: report.problems }).toEqual({ path, code: 0, problems: [] });
        expect(report).toMatchObject({ postgresql_major: major, wal_segment_size: SEGMENT_SIZE });
        if (path === rig.relay.directory) continue;
        const end = parseLsn(report.timelines[0]?.end_lsn ?? '');
        expect(end).toBeGreaterThanOrEqual(parseLsn(inserted) ?? INVALID_LSN);
      }
      const [row = []] = await rig.primary.query(
        'SELECT checkpoint_lsn, timeline_id FROM pg_control_checkpoint()',
      );
      const required = await readCheckpoint(join(rig.primary.dataDirectory, 'global/pg_control'));
      const checkpoint = advanceLsn(required?.lsn ?? INVALID_LSN, -1);
      expect([formatLsn(checkpoint), String(required?.timeline)]).toEqual(row);
      const copy = join(directory, 'copy');
      await copyDirectory(rig.relay.walDirectory, copy);
      const names = (await readdir(copy)).filter((name) => /^[0-9A-F]{24}$/.test(name)).toSorted();
      const hit = names[1] ?? '';
      const file = await open(join(copy, hit), 'r+');
      const byte = Buffer.alloc(1);
      await file.read(byte, 0, 1, 4_321);
      await file.write(Buffer.from([(byte[0] ?? 0) ^ 4]), 0, 1, 4_321);
      await file.close();
      const damaged = await walcast(['wal', 'verify', copy]);
      expect(damaged.code).toBe(1);
      expect(damaged.out).toContain(`damage: ${hit} at `);
    },
  );

  itWhen(major === clientMajor('pg_waldump'))(
    'as many records are counted as pg_waldump prints',
    async () => {
      const copy = join(directory, 'archive');
      await copyDirectory(rig.relay.walDirectory, copy);
      const names = (await readdir(copy)).filter((name) => /^[0-9A-F]{24}$/.test(name)).toSorted();
      const { out } = await walcast(['wal', 'verify', copy, '--json']);
      const report: { timelines: { records: number; end_lsn: string }[] } = JSON.parse(out);
      const [timeline] = report.timelines;
      const range = ['-p', copy, '-e', timeline?.end_lsn ?? ''];
      const [first = '', last = ''] = [names[0], names.at(-1)];
      const dump = await runAsOurselves(rig.workspace, 'pg_waldump', [...range, first, last]);
      const records = dump.stdout.split('\n').filter((line) => line.startsWith('rmgr: '));
      expect(records.length).toBeGreaterThan(1000);
      expect(timeline?.records).toBe(records.length);
    },
  );

  it(
    'slots are made and dropped, health is told, a drain ends the process with 0',
    { timeout: TIMEOUT_MS },
    async () => {
      expect((await ask('slots', 'create', 'made_here', '--reserve-wal')).code).toBe(0);
      expect((await ask('slots', 'create', 'made_here')).err).toContain('already exists');
      const slots: { slot_name: string; restart_lsn: string | null }[] = JSON.parse(
        (await ask('slots', 'list', '--json')).out,
      );
      expect(slots).toMatchObject([{ slot_name: 'made_here', wal_status: 'reserved' }]);
      expect(slots[0]?.restart_lsn).not.toBeNull();
      expect((await ask('slots', 'drop', 'made_here')).code).toBe(0);
      expect((await ask('slots', 'drop', 'made_here')).code).toBe(1);
      const health = await ask('health', '--lag', '1GB');
      expect([health.code, health.out]).toEqual([
        0,
        expect.stringMatching(/^WALCAST OK - streaming/),
      ]);
      const served: { name: string; end_lsn: string }[] = JSON.parse(
        (await ask('wal', 'ls', '--json')).out,
      );
      expect(served.map(({ end_lsn: end }) => end)).toContain(formatLsn(endLsn));
      expect(await ask('drain')).toMatchObject({ code: 0, out: 'walcast is gone\n' });
      expect(await rig.relay.process.ended).toMatchObject({ exitCode: 0 });
    },
  );
});
