// An archive that goes over a switch of timeline: does a standby that has nothing but the store's files, copied or fetched,
// come to the end of the next timeline, and does pg_waldump read them?
import { copyFile, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { runCommand, serverUser } from '../../src/demo/postgres-user.ts';
import { advanceLsn, formatLsn, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import {
  parseWalFileName,
  segmentNumber,
  segmentStart,
  segmentStartOf,
  walFileName,
} from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { openPromotionRig } from '../harness/promotion-rig.ts';
import type { PromotionRig } from '../harness/promotion-rig.ts';
import { tableDigest } from '../harness/table-digest.ts';
import { runAsOurselves, writeWal } from '../support/clients-rig.ts';
import {
  clientMajor,
  FULL_FAULTS,
  installedMajors,
  itWhen,
  needs,
} from '../support/requirements.ts';
import { SERVER_ALARM } from '../support/server-alarms.ts';

const WALDUMP_MAJOR = clientMajor('pg_waldump');
const MAJOR = installedMajors().includes(WALDUMP_MAJOR)
  ? WALDUMP_MAJOR
  : Math.max(...installedMajors());
/** Segments and history files; the store has its own remains and preparations beside them. */
const ARCHIVED = /^[0-9A-F]{24}$|^[0-9A-F]{8}\.history$/;
const PROGRAM = fileURLToPath(new URL('../../dist/program/main.js', import.meta.url));

describe(`the store as an archive of PostgreSQL ${MAJOR} over a switch`, () => {
  let rig: PromotionRig;
  let archive: string;
  let switchLsn: Lsn;
  /** A segment start that ends everything that was written. */
  let endLsn: Lsn;
  let restoring: PostgresCluster[];

  beforeAll(async () => {
    rig = await openPromotionRig({ major: MAJOR, servers: ['alpha', 'beta'], segmentSizeMb: 1 });
    const [alpha, beta] = [rig.server('alpha'), rig.server('beta')];
    restoring = await Promise.all(
      ['copying', 'fetching', 'knowing'].map((name) =>
        createStandby(rig.workspace, {
          major: MAJOR,
          name,
          backupFrom: alpha.target(),
          upstream: rig.relay.target(),
        }),
      ),
    );
    await writeWal(alpha, 1);
    await alpha.stop('fast');
    await rig.promote(beta);
    await rig.followed(2);
    switchLsn = (await rig.history()).ancestors[0]?.endLsn ?? advanceLsn(await rig.settle(), 0);
    await writeWal(beta, 1);
    await beta.query('SELECT pg_switch_wal()');
    const position = await beta.walPosition();
    endLsn = segmentStartOf(advanceLsn(position, rig.segmentSize - 1), rig.segmentSize);
    // Something behind the end, so that the switch itself is surely sent.
    await beta.query('SELECT pg_create_restore_point($$behind$$)');
    await rig.settle();
    archive = join(rig.workspace.directory, 'archive');
    await mkdir(archive);
    for (const name of await readdir(rig.relay.walDirectory)) {
      if (!ARCHIVED.test(name)) continue;
      // As an archive: what is not complete, or was only made ahead, is not there.
      const parsed = parseWalFileName(name, rig.segmentSize);
      if (parsed !== null && segmentStart(parsed.segment, rig.segmentSize) >= endLsn) continue;
      await copyFile(join(rig.relay.walDirectory, name), join(archive, name));
    }
    await rig.workspace.giveAwayTree(archive);
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  async function restored(server: PostgresCluster | undefined, command: string): Promise<void> {
    if (server === undefined) throw new Error('there is no such server');
    await server.configure({ primary_conninfo: null, restore_command: command });
    await server.start();
    await server.waitForReplay(endLsn, 150_000);
    expect(
      await server.value('SELECT received_tli FROM pg_stat_wal_receiver UNION ALL SELECT 0'),
    ).toBe('0');
    const { digest } = await tableDigest(rig.primary);
    expect((await tableDigest(server)).digest).toBe(digest);
    expect(server.log.textFrom(0)).toContain('restored log file "00000002.history" from archive');
    expect(server.log.textFrom(0)).not.toMatch(SERVER_ALARM);
    await server.stop('fast');
  }

  it('serves cp as a restore_command', async () => {
    await restored(restoring[0], `cp '${archive}/%f' '%p'`);
  });

  itWhen(FULL_FAULTS)('serves walcast wal get as a restore_command', async (context) => {
    const user = await serverUser();
    const cwd = rig.workspace.directory;
    const tried = await runCommand(process.execPath, [PROGRAM, '--version'], { user, cwd });
    needs(
      context,
      tried.exitCode === 0 ? null : `the servers' user cannot run ${PROGRAM}: ${tried.stderr}`,
    );
    const tokenFile = await rig.relay.walTokenFileForServers();
    const command = `'${process.execPath}' '${PROGRAM}' wal get %f %p --url ${rig.relay.url} --token-file ${tokenFile}`;
    await restored(restoring[1], command);
  });

  it('streams everything to a standby that has nothing but the history file of the next timeline', async () => {
    const [, , standby] = restoring;
    if (standby === undefined) throw new Error('there is no such server');
    for (const name of await readdir(standby.walDirectory)) {
      if (ARCHIVED.test(name)) await rm(join(standby.walDirectory, name));
    }
    await standby.configure({
      restore_command: `case %f in *.history) cp '${archive}/%f' '%p';; *) exit 1;; esac`,
    });
    await standby.start();
    await standby.waitForReplay(await rig.primary.walPosition());
    expect((await tableDigest(standby)).digest).toBe((await tableDigest(rig.primary)).digest);
    expect(standby.log.textFrom(0)).not.toMatch(/PANIC|(?<!data_)checksum|invalid magic/);
    const { standbys } = await rig.relay.status();
    expect(standbys).toContainEqual(
      expect.objectContaining({ application_name: 'knowing', timeline: 2, state: 'streaming' }),
    );
    await standby.stop('fast');
  });

  it('gives the segments and the history of both timelines, and of the old one nothing past its end', async () => {
    const { segmentSize } = rig;
    const last = segmentNumber(switchLsn, segmentSize);
    const status = async (name: string): Promise<number> => {
      const answer = await rig.relay.walFile(name);
      await answer.body?.cancel();
      return answer.status;
    };
    const nameOf = (timeline: number, lsn: Lsn): string =>
      walFileName(toTimelineId(timeline), segmentNumber(lsn, segmentSize), segmentSize);
    const before = advanceLsn(switchLsn, 0 - segmentSize);
    expect(segmentNumber(before, segmentSize)).toBeLessThan(last);
    expect({
      before: await status(nameOf(1, before)),
      cut: await status(nameOf(1, switchLsn)),
      'cut, on the next timeline': await status(nameOf(2, switchLsn)),
      'before, on the next timeline': await status(nameOf(2, before)),
      behind: await status(nameOf(1, endLsn)),
      history: await status('00000002.history'),
      'history of nobody': await status('00000003.history'),
    }).toEqual({
      before: 200,
      cut: 404,
      'cut, on the next timeline': 200,
      'before, on the next timeline': 404,
      behind: 404,
      history: 200,
      'history of nobody': 404,
    });
  });

  itWhen(MAJOR === WALDUMP_MAJOR)('is read by pg_waldump on both timelines', async () => {
    const [first = ''] = (await readdir(archive)).filter((name) => name.length === 24).toSorted();
    const oldest = parseWalFileName(first, rig.segmentSize)?.segment;
    if (oldest === undefined) throw new Error('the archive is empty');
    const spans = [
      [1, segmentStart(oldest, rig.segmentSize), segmentStartOf(switchLsn, rig.segmentSize)],
      [2, switchLsn, endLsn],
    ] as const;
    for (const [timeline, fromLsn, untilLsn] of spans) {
      const range = ['-s', formatLsn(fromLsn), '-e', formatLsn(untilLsn)];
      const dump = await runAsOurselves(
        rig.workspace,
        'pg_waldump',
        ['-p', archive, '-t', String(timeline)].concat(range),
      );
      expect({ timeline, ...dump }).toMatchObject({ timeline, exitCode: 0, stderr: '' });
      const records = dump.stdout.split('\n').filter((line) => line.startsWith('rmgr: '));
      expect(records.length).toBeGreaterThan(100);
      if (timeline === 2) expect(records[0]).toContain('END_OF_RECOVERY');
      const lastLsn = /lsn: ([0-9A-F]+\/[0-9A-F]+),/.exec(records.at(-1) ?? '')?.[1] ?? '';
      expect(parseLsn(lastLsn)).toBeLessThan(untilLsn);
    }
  });
});
