// walcast vouched for WAL that the server which was promoted does not have: is that said aloud, is every byte of it kept
// aside until somebody lets go of it, and do all the others go on?
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import type { StoreDetailJson } from '../../src/http/api-types.ts';
import { formatLsn, parseLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { parseWalFileName, segmentNumber, segmentStart } from '../../src/pg/segment.ts';
import { runTool } from '../harness/pg-tools.ts';
import { openPromotionRig } from '../harness/promotion-rig.ts';
import type { PromotionRig } from '../harness/promotion-rig.ts';
import { walcast } from '../support/cli.ts';
import { writeWal } from '../support/clients-rig.ts';
import { clientMajor, installedMajors, itWhen } from '../support/requirements.ts';

const REWIND_MAJOR = clientMajor('pg_rewind');
const MAJOR = installedMajors().includes(REWIND_MAJOR)
  ? REWIND_MAJOR
  : Math.max(...installedMajors());

describe(`walcast ahead of a promoted standby of PostgreSQL ${MAJOR}`, () => {
  let rig: PromotionRig;
  /** End of what was acknowledged on timeline 1. */
  let acknowledgedLsn: Lsn;
  let switchLsn: Lsn;

  beforeAll(async () => {
    rig = await openPromotionRig({ major: MAJOR, segmentSizeMb: 1 });
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  async function dead(): Promise<StoreDetailJson['dead']> {
    return ((await rig.relay.get('/api/v1/store')) as StoreDetailJson).dead;
  }

  it('follows, says which LSNs are lost, and serves the others', async () => {
    const [alpha, beta, gamma] = [rig.server('alpha'), rig.server('beta'), rig.server('gamma')];
    await writeWal(alpha, 2);
    await rig.settle();
    await beta.stop('fast');
    await gamma.stop('fast');
    await alpha.configure({ synchronous_standby_names: 'walcast' });
    await alpha.reload();
    await alpha.query(
      'CREATE TABLE lost AS SELECT md5(i::text) FROM generate_series(1, 40000) AS i',
    );
    acknowledgedLsn = await alpha.walPosition();
    await rig.relay.waitForStatus(
      'all of it acknowledged',
      ({ upstream }) => lsnOf(upstream.reported.flush) >= acknowledgedLsn,
    );
    await alpha.kill();
    await beta.followUpstream({ ...alpha.target(), port: 1 });
    await beta.start();
    await beta.promote();
    rig.primary = beta;
    await rig.followed(2);
    switchLsn = (await rig.history()).ancestors[0]?.endLsn ?? toLsn(0n);
    const { acknowledged, files, bytes } = await dead();
    expect(acknowledged).toMatchObject({ timeline: 1, switch_lsn: formatLsn(switchLsn) });
    const reportedLsn = lsnOf(acknowledged?.reported_flush_lsn ?? null);
    expect(reportedLsn).toBeGreaterThanOrEqual(acknowledgedLsn);
    expect(acknowledged?.bytes).toBe(Number(reportedLsn - switchLsn));
    expect(files).toBeGreaterThan(2);
    expect(bytes).toBeGreaterThan(2_000_000);
    const [alarm = '', ...more] = rig.relay.problems();
    expect(more).toEqual([]);
    expect(alarm).toContain(formatLsn(switchLsn));
    expect(alarm).toContain(formatLsn(reportedLsn));

    await gamma.start();
    await writeWal(beta, 3);
    expect(await rig.violations(await rig.settle())).toEqual([]);
    expect(await gamma.query("SELECT to_regclass('lost')")).toEqual([['']]);
  });

  it('keeps every byte of it aside, and gives nobody any', async () => {
    const directory = join(rig.relay.directory, 'dead');
    const names = (await readdir(directory)).toSorted();
    expect(names.filter((name) => name.endsWith('.partial'))).toHaveLength(1);
    const theirs = rig.server('alpha').walDirectory;
    for (const name of names) {
      const segment = name.replace('.partial', '');
      const parsed = parseWalFileName(segment, rig.segmentSize);
      expect(parsed?.timeline).toBe(1);
      const startLsn = segmentStart(
        parsed?.segment ?? segmentNumber(switchLsn, rig.segmentSize),
        rig.segmentSize,
      );
      const length = Math.max(0, Math.min(rig.segmentSize, Number(acknowledgedLsn - startLsn)));
      const [expected, kept] = [
        await readFile(join(theirs, segment)),
        await readFile(join(directory, name)),
      ];
      expect(kept.subarray(0, length).equals(expected.subarray(0, length))).toBe(true);
      const answer = await rig.relay.walFile(segment);
      expect([name, answer.status]).toEqual([name, 404]);
      await answer.body?.cancel();
    }
    // And nobody is told of it over a restart less than before.
    const before = await dead();
    await rig.relay.stop();
    await rig.relay.start();
    await rig.followed(2);
    expect(await dead()).toEqual(before);
  });

  it('lets go of it when it is told to, and only then', async () => {
    const url = ['--url', rig.relay.url];
    const token = ['--token-file', join(rig.workspace.directory, 'token')];
    expect(await walcast(['store', 'release', '--yes', ...url])).toMatchObject({ code: 1 });
    expect(await walcast(['store', 'release', ...url, ...token])).toMatchObject({ code: 2 });
    expect((await dead()).files).toBeGreaterThan(2);
    const { code, out } = await walcast(['store', 'release', '--yes', ...url, ...token]);
    expect(code).toBe(0);
    expect(out).toContain(formatLsn(switchLsn));
    expect(await dead()).toEqual({ files: 0, bytes: 0, acknowledged: null });
    expect(await readdir(join(rig.relay.directory, 'dead')).catch(() => [])).toEqual([]);
    const again = await walcast(['store', 'release', '--yes', ...url, ...token]);
    expect(again).toMatchObject({ code: 0 });
  });

  itWhen(MAJOR === REWIND_MAJOR)(
    'takes the old primary back behind itself after pg_rewind',
    async () => {
      const [alpha, beta] = [rig.server('alpha'), rig.server('beta')];
      await alpha.configure({ synchronous_standby_names: '' });
      await alpha.start();
      await alpha.stop('fast');
      // Before its first checkpoint pg_rewind takes a promoted server for one of the old timeline.
      await beta.query('CHECKPOINT');
      const source = `host=127.0.0.1 port=${beta.port} user=postgres dbname=postgres`;
      const rewound = await runTool(rig.workspace, 'pg_rewind', [
        `--target-pgdata=${alpha.dataDirectory}`,
        `--source-server=${source}`,
        '--no-sync',
      ]);
      expect(rewound).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('Done!') });
      rig.forgive(alpha);
      // Its settings came over from the other server.
      await alpha.configure({});
      await rig.rejoin(alpha);
      await writeWal(beta, 1);
      expect(await rig.violations(await rig.settle())).toEqual([]);
    },
  );

  it('serves a standby that is ahead of it once it has caught up, and never with zeros', async () => {
    const [beta, gamma] = [rig.server('beta'), rig.server('gamma')];
    await rig.relay.stop();
    await gamma.followUpstream(beta.target());
    await gamma.reload();
    await writeWal(beta, 2);
    await gamma.waitForReplay(await beta.walPosition());
    await beta.stop('immediate');
    await rig.relay.start({ wait: false });
    const from = gamma.log.mark();
    await gamma.followUpstream(rig.relay.target(), 'gamma');
    await gamma.reload();
    await gamma.waitForLog(
      /ERROR: {2}requested starting point \S+ is ahead of the WAL flush position/,
      {
        from,
      },
    );
    await beta.start();
    await rig.followed(2);
    await rig.receiverPid(gamma);
    await writeWal(beta, 1);
    expect(await rig.violations(await rig.settle())).toEqual([]);
  });

  it('turns away a standby that is on a timeline of its own, and nobody else notices', async () => {
    const [beta, gamma] = [rig.server('beta'), rig.server('gamma')];
    const stays = await openStandbyOfRelay();
    const pid = await rig.receiverPid(stays);
    await gamma.promote();
    await gamma.query('CREATE TABLE of_its_own AS SELECT generate_series(1, 1000)');
    await gamma.stop('fast');
    const from = gamma.log.mark();
    await gamma.becomeStandby(rig.relay.target(), 'gamma');
    await gamma.start();
    await gamma.waitForLog(
      /FATAL: {2}highest timeline 2 of the primary is behind recovery timeline 3/,
      { from },
    );
    await writeWal(beta, 1);
    await stays.waitForReplay(await beta.walPosition());
    expect(await rig.receiverPid(stays)).toBe(pid);
    await gamma.stop('fast');
    await stays.stop('fast');
  });

  /** A standby that has been there all the time: nothing was wrong with it. */
  async function openStandbyOfRelay(): Promise<PostgresCluster> {
    const standby = await createStandby(rig.workspace, {
      major: MAJOR,
      name: 'delta',
      backupFrom: rig.primary.target(),
      upstream: rig.relay.target(),
    });
    await standby.start();
    return standby;
  }

  it('stands still before another cluster at the same address, and changes nothing', async () => {
    const stranger = await createPrimary(rig.workspace, {
      major: MAJOR,
      name: 'stranger',
      segmentSizeMb: 1,
    });
    await stranger.start();
    await rig.relay.stop();
    const before = await contentOf(rig.relay.walDirectory);
    const conninfo = `host=127.0.0.1 port=${stranger.port} user=postgres sslmode=disable`;
    rig.relay.configure({ upstream: { conninfo } });
    await rig.relay.start({ wait: false });
    const { detail } = await rig.relay.waitForStatus(
      'the state diverged',
      ({ state }) => state === 'diverged',
    );
    expect(detail).toContain('database system identifier differs');
    await rig.relay.stop();
    expect(await contentOf(rig.relay.walDirectory)).toEqual(before);
  });
});

/** A digest of every file; the segment that is made ready for what comes next is no WAL. */
async function contentOf(directory: string): Promise<string[]> {
  const content: string[] = [];
  for (const name of (await readdir(directory)).toSorted()) {
    const bytes = await readFile(join(directory, name));
    if (bytes.equals(Buffer.alloc(bytes.length))) continue;
    content.push(`${name} ${createHash('sha1').update(bytes).digest('hex')}`);
  }
  return content;
}

function lsnOf(text: string | null): Lsn {
  return parseLsn(text ?? '0/0') ?? toLsn(0n);
}
