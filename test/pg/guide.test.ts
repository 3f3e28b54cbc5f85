// The operations guide, typed as it stands: hosts with the guide's names are made, and every command of every page is run on them.
import { afterAll, expect } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { GuideHosts, guideHostsProblem } from '../harness/guide-hosts.ts';
import { runPage } from '../harness/guide-run.ts';
import { needs, requires } from '../support/requirements.ts';

const TOOLS = requires('initdb', 'pg_ctl', 'pg_basebackup', 'psql');

const ONE_RELAY = 'docs/operations/one-relay.md';
const MOVED_TIMEOUT_MS = 30_000;

/** What the page may say about the time that a move takes, in seconds. */
const GAP_SECONDS_MAX = 10;

/** Commits one row after the other on a primary until it is stopped. */
class Commits {
  readonly #hosts: GuideHosts;
  readonly #host: string;
  #isOver = false;
  #slowestMs = 0;
  #count = 0;
  readonly #end: Promise<void>;

  constructor(hosts: GuideHosts, host: string) {
    this.#hosts = hosts;
    this.#host = host;
    this.#end = this.#run();
    // Told by stop().
    this.#end.catch(() => {});
  }

  /** Ends it. Gives how many commits came back and the longest that one took; throws when one failed. */
  async stop(): Promise<{ readonly count: number; readonly slowestMs: number }> {
    this.#isOver = true;
    await this.#end;
    return { count: this.#count, slowestMs: this.#slowestMs };
  }

  async #run(): Promise<void> {
    while (!this.#isOver) {
      const from = performance.now();
      await this.#hosts.sql(this.#host, 'INSERT INTO entries DEFAULT VALUES');
      this.#slowestMs = Math.max(this.#slowestMs, performance.now() - from);
      this.#count += 1;
    }
  }
}

async function everywhere(hosts: GuideHosts, primary: string, standbys: string[]): Promise<void> {
  const rowsOf = async (host: string): Promise<number> =>
    Number(await hosts.sql(host, 'SELECT count(*) FROM entries'));
  const rows = await rowsOf(primary);
  for (const standby of standbys) {
    await pollUntil(
      `${standby} has what ${primary} had`,
      async () => ((await rowsOf(standby)) >= rows ? true : null),
      { timeoutMs: MOVED_TIMEOUT_MS },
    );
  }
}

TOOLS.describe('the operations guide', () => {
  const workspaces: Workspace[] = [];
  afterAll(async () => {
    for (const workspace of workspaces) await workspace.close();
  });

  const hostsOf = async (names: readonly string[]): Promise<GuideHosts> => {
    const workspace = await openWorkspace(await serverUser());
    workspaces.push(workspace);
    return await GuideHosts.open(workspace, names);
  };

  TOOLS.it(
    'one relay, the first look at night, a standby moved there and back',
    async (context) => {
      needs(context, guideHostsProblem());
      const hosts = await hostsOf(['pg-a', 'relay-a', 'standby-1']);
      await hosts.makePrimary('pg-a');
      await hosts.makeStandby('standby-1', 'pg-a');
      await runPage(hosts, ONE_RELAY);
      await runPage(hosts, 'docs/operations.md');

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
          { timeoutMs: MOVED_TIMEOUT_MS },
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
        back: (run) => moved(run, 'pg-a'),
        synchronous: async (run) => {
          const commits = new Commits(hosts, 'pg-a');
          await moved(run, 'relay-a');
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

  TOOLS.it('a relay a zone, a relay behind a relay, commits through both', async (context) => {
    needs(context, guideHostsProblem());
    const hosts = await hostsOf(['pg-a', 'relay-a', 'relay-b', 'standby-1', 'standby-2']);
    await hosts.makePrimary('pg-a');
    await hosts.makeStandby('standby-1', 'pg-a');
    await hosts.makeStandby('standby-2', 'pg-a');
    await runPage(hosts, ONE_RELAY);
    let returned = 0;
    await runPage(hosts, 'docs/operations/topologies.md', {
      commit: async (run) => {
        await run();
        await everywhere(hosts, 'pg-a', ['standby-1', 'standby-2']);
        await hosts.stopServer('standby-2');
        let isBack = false;
        const commit = run().then(() => {
          isBack = true;
        });
        await pollUntil(
          'the commit waits',
          async () => {
            const waiting = `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`;
            return (await hosts.sql('pg-a', waiting)) === '1' ? true : null;
          },
          { timeoutMs: MOVED_TIMEOUT_MS },
        );
        await everywhere(hosts, 'pg-a', ['standby-1']);
        expect(isBack, 'the commit is not back without standby-2').toBe(false);
        const from = performance.now();
        await hosts.startServer('standby-2');
        await commit;
        returned = (performance.now() - from) / 1_000;
      },
    });
    await everywhere(hosts, 'pg-a', ['standby-1', 'standby-2']);
    process.stdout.write(`topologies: the commit returned after ${returned.toFixed(2)} s\n`);
  });
});
