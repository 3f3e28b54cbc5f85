// The operations guide, typed as it stands: the topologies; a planned switchover and a failover, with walcast between.
import { expect } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import { GuideHosts, guideHostsProblem } from '../harness/guide-hosts.ts';
import { Commits, commitWaits, everywhere, GUIDE_TIMEOUT_MS } from '../harness/guide-rows.ts';
import { ONE_RELAY, runPage } from '../harness/guide-run.ts';
import { FULL_FAULTS, itWhen, needs, requires } from '../support/requirements.ts';

const TOOLS = requires('initdb', 'pg_ctl', 'pg_basebackup', 'pg_controldata', 'psql');

TOOLS.describe('the operations guide', () => {
  TOOLS.it('a relay a zone, a relay behind a relay, commits through both', async (context) => {
    needs(context, guideHostsProblem());
    await using workspace = await openWorkspace(await serverUser());
    const hosts = await GuideHosts.open(workspace, [
      'pg-a',
      'relay-a',
      'relay-b',
      'standby-1',
      'standby-2',
    ]);
    await hosts.makePrimary('pg-a');
    await hosts.makeStandby('standby-1', 'pg-a');
    await hosts.makeStandby('standby-2', 'pg-a');
    await runPage(hosts, ONE_RELAY);
    let returned = 0;
    let commits: Commits | null = null;
    let slowest = 0;
    await runPage(hosts, 'docs/operations/topologies.md', {
      first: (run) => {
        commits = new Commits(hosts, 'pg-a');
        return run();
      },
      both: async (run) => {
        await run();
        const done = await commits?.stop();
        expect(done?.count).toBeGreaterThan(0);
        slowest = (done?.slowestMs ?? 0) / 1_000;
      },
      commit: async (run) => {
        await run();
        await everywhere(hosts, 'pg-a', ['standby-1', 'standby-2']);
        await hosts.stopServer('standby-2');
        let isBack = false;
        const commit = run().then(() => {
          isBack = true;
        });
        await commitWaits(hosts, 'pg-a');
        await everywhere(hosts, 'pg-a', ['standby-1']);
        expect(isBack, 'the commit is not back without standby-2').toBe(false);
        const from = performance.now();
        await hosts.startServer('standby-2');
        await commit;
        returned = (performance.now() - from) / 1_000;
      },
    });
    await everywhere(hosts, 'pg-a', ['standby-1', 'standby-2']);
    process.stdout.write(
      `topologies: slowest commit ${slowest.toFixed(2)} s; the commit returned after ${returned.toFixed(2)} s\n`,
    );
  });

  itWhen(FULL_FAULTS)(
    'a switchover, and a failover, without a row that is missing',
    async (context) => {
      needs(context, guideHostsProblem());
      await using workspace = await openWorkspace(await serverUser());
      const hosts = await GuideHosts.open(workspace, ['pg-a', 'pg-b', 'relay-a', 'standby-1']);
      await hosts.makePrimary('pg-a');
      await runPage(hosts, ONE_RELAY);
      await hosts.must('relay-a', 'walcast slots create pg_b --token-file /etc/walcast/token');
      await hosts.makeStandby('pg-b', 'relay-a');
      await hosts.makeStandby('standby-1', 'relay-a');
      const times: string[] = [];
      let rows = 0;
      const commit = async (primary: string): Promise<void> => {
        await hosts.sql(primary, 'INSERT INTO entries DEFAULT VALUES');
        rows += 1;
      };
      let promotedAt = 0;
      /** Until `standby` has the first row of the new primary, from its promotion on. */
      const followed = async (primary: string, standby: string): Promise<void> => {
        await everywhere(hosts, primary, [standby]);
        times.push(((performance.now() - promotedAt) / 1_000).toFixed(1));
      };
      const promoted = async (run: () => Promise<void>, primary: string): Promise<void> => {
        promotedAt = performance.now();
        await run();
        await commit(primary);
      };
      await runPage(hosts, 'docs/operations/switchover.md', {
        stop: async (run) => {
          await commit('pg-a');
          await run();
        },
        replayed: async (run) => {
          const control = await hosts.must('pg-a', 'pg_controldata');
          const begin = /^Latest checkpoint location: +(\S+)$/m.exec(control)?.[1] ?? '';
          // What the page has a person look at: behind the record's begin, by no more than its length.
          const behind = `SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '${begin}') BETWEEN 100 AND 200`;
          await pollUntil(
            'the shutdown checkpoint is replayed',
            async () => ((await hosts.sql('pg-b', behind)) === 't' ? true : null),
            { timeoutMs: GUIDE_TIMEOUT_MS },
          );
          await run();
        },
        promote: async (run) => {
          await promoted(run, 'pg-b');
          await followed('pg-b', 'standby-1');
        },
        die: async (run) => {
          await commit('pg-b');
          await everywhere(hosts, 'pg-b', ['pg-a', 'standby-1']);
          await run();
        },
        failover: (run) => promoted(run, 'standby-1'),
        known: async (run) => {
          await run();
          await followed('standby-1', 'pg-a');
        },
      });
      await everywhere(hosts, 'standby-1', ['pg-a', 'pg-b']);
      for (const host of hosts.names.filter((name) => name !== 'relay-a'))
        expect(Number(await hosts.sql(host, 'SELECT count(*) FROM entries'))).toBe(rows);
      process.stdout.write(`switchover: a standby has the first row after ${times.join(', ')} s\n`);
    },
  );
});
