// The operations guide, typed as it stands: one relay, the first look at night, a standby moved there and back, and what is tried
// before it happens.
import { expect } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import { GuideHosts, guideHostsProblem } from '../harness/guide-hosts.ts';
import { Commits, commitWaits, everywhere, GUIDE_TIMEOUT_MS } from '../harness/guide-rows.ts';
import { ONE_RELAY, runPage } from '../harness/guide-run.ts';
import { FULL_FAULTS, itWhen, needs, requires } from '../support/requirements.ts';

/** What a page may say about the time that a move takes, in seconds. */
const GAP_SECONDS_MAX = 10;

const TOOLS = requires('initdb', 'pg_ctl', 'pg_basebackup', 'psql');

TOOLS.describe('the operations guide', () => {
  TOOLS.it(
    'one relay, the first look at night, a standby moved there and back',
    async (context) => {
      needs(context, guideHostsProblem());
      await using workspace = await openWorkspace(await serverUser());
      const hosts = await GuideHosts.open(workspace, ['pg-a', 'relay-a', 'standby-1']);
      await hosts.makePrimary('pg-a');
      await hosts.makeStandby('standby-1', 'pg-a');
      await runPage(hosts, ONE_RELAY);
      await runPage(hosts, 'docs/operations.md', {
        release: async (run) => {
          await hosts.sql('pg-a', `ALTER SYSTEM SET synchronous_standby_names = 'relay_a'`);
          await hosts.sql('pg-a', 'SELECT pg_reload_conf()');
          await hosts.must('relay-a', 'systemctl stop walcast');
          const commit = hosts.sql('pg-a', 'INSERT INTO entries DEFAULT VALUES');
          await commitWaits(hosts, 'pg-a');
          await run();
          await commit;
          await hosts.must('relay-a', 'systemctl start walcast');
        },
      });

      const started = await hosts.sql('standby-1', 'SELECT pg_postmaster_start_time()');
      const gaps: number[] = [];
      /** Commits go on meanwhile; how long was the standby without new ones? */
      const moved = async (run: () => Promise<void>, sender: string): Promise<void> => {
        const from = performance.now();
        await run();
        await pollUntil(
          `the standby streams from ${sender}`,
          async () => {
            const row = await hosts.sql(
              'standby-1',
              'SELECT status, sender_host FROM pg_stat_wal_receiver',
            );
            return row === `streaming|${sender}` ? true : null;
          },
          { timeoutMs: GUIDE_TIMEOUT_MS },
        );
        gaps.push((performance.now() - from) / 1_000);
        await hosts.sql('pg-a', 'INSERT INTO entries DEFAULT VALUES');
        await everywhere(hosts, 'pg-a', ['standby-1']);
      };
      const slowest: number[] = [];
      await runPage(hosts, 'docs/operations/moving.md', {
        onto: async (run) => {
          const query = hosts.run('standby-1', 'psql -c "SELECT pg_sleep(2)"');
          await moved(run, 'relay-a');
          expect((await query).exitCode, 'a query on the standby goes on').toBe(0);
        },
        back: async (run) => {
          await hosts.sql('standby-1', 'SELECT pg_wal_replay_pause()');
          await untilTrue(hosts, `SELECT pg_get_wal_replay_pause_state() = 'paused'`);
          await run();
          await untilTrue(hosts, `SELECT current_setting('primary_conninfo') LIKE '%host=pg-a %'`);
          // The old walreceiver goes on while replay is paused, with WAL that was written after the reload.
          await hosts.sql('pg-a', 'INSERT INTO entries DEFAULT VALUES');
          const end = await hosts.sql('pg-a', 'SELECT pg_current_wal_flush_lsn()');
          await untilTrue(hosts, `SELECT pg_last_wal_receive_lsn() >= '${end}'`);
          const sender = await hosts.sql(
            'standby-1',
            'SELECT sender_host FROM pg_stat_wal_receiver',
          );
          expect(sender).toBe('relay-a');
          const resume = async (): Promise<void> => {
            await hosts.sql('standby-1', 'SELECT pg_wal_replay_resume()');
          };
          await moved(resume, 'pg-a');
        },
        synchronous: async (run) => {
          const commits = new Commits(hosts, 'pg-a');
          await moved(run, 'relay-a');
          slowest.push((await commits.stop()).slowestMs / 1_000);
        },
        synchronously_back: async (run) => {
          const commits = new Commits(hosts, 'pg-a');
          await moved(run, 'pg-a');
          slowest.push((await commits.stop()).slowestMs / 1_000);
        },
      });
      await everywhere(hosts, 'pg-a', ['standby-1']);
      expect(await hosts.sql('standby-1', 'SELECT pg_postmaster_start_time()')).toBe(started);
      process.stdout.write(
        `moved: a standby streams again after ${gaps.map((one) => one.toFixed(2)).join(', ')} s; ` +
          `slowest commit ${slowest.map((one) => one.toFixed(2)).join(', ')} s\n`,
      );
      expect(Math.max(...gaps)).toBeLessThan(GAP_SECONDS_MAX);
    },
  );

  itWhen(FULL_FAULTS)('each part dies while commits wait', async (context) => {
    needs(context, guideHostsProblem());
    await using workspace = await openWorkspace(await serverUser());
    const hosts = await GuideHosts.open(workspace, ['pg-a', 'relay-a', 'standby-1']);
    await hosts.makePrimary('pg-a');
    await runPage(hosts, ONE_RELAY);
    await hosts.makeStandby('standby-1', 'relay-a');
    const figures: string[] = [];
    const measured =
      (name: string, mayFail = false) =>
      async (run: () => Promise<void>): Promise<void> => {
        const commits = new Commits(hosts, 'pg-a', mayFail);
        const from = performance.now();
        await run();
        await everywhere(hosts, 'pg-a', ['standby-1']);
        const all = ((performance.now() - from) / 1_000).toFixed(1);
        const { slowestMs, count } = await commits.stop();
        expect(count).toBeGreaterThan(0);
        await everywhere(hosts, 'pg-a', ['standby-1']);
        figures.push(`${name}: ${(slowestMs / 1_000).toFixed(1)} s | ${all} s`);
      };
    await runPage(hosts, 'docs/operations/failures.md', {
      killed: measured('killed'),
      restarted: measured('restarted'),
      primary: measured('primary', true),
      standby: measured('standby'),
    });
    process.stdout.write(`failures: slowest commit | standby has all: ${figures.join('; ')}\n`);
  });
});

/** Waits until a query on the standby says so. */
async function untilTrue(hosts: GuideHosts, query: string): Promise<void> {
  await pollUntil(
    query,
    async () => ((await hosts.sql('standby-1', query)) === 't' ? true : null),
    { timeoutMs: GUIDE_TIMEOUT_MS },
  );
}
