// Rows that are committed while the guide's commands are typed: how long did the slowest wait, and does every standby have them?
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { GuideHosts } from './guide-hosts.ts';

/** How long anything may take until a standby has what was committed, or streams again. */
export const GUIDE_TIMEOUT_MS = 30_000;

/** Commits one row after the other on a primary until it is stopped. */
export class Commits {
  readonly #hosts: GuideHosts;
  readonly #host: string;
  readonly #mayFail: boolean;
  #isOver = false;
  #slowestMs = 0;
  #count = 0;
  readonly #end: Promise<void>;

  /** With `mayFail` commits that fail are tried again: the server itself is restarted meanwhile. */
  constructor(hosts: GuideHosts, host: string, mayFail = false) {
    this.#hosts = hosts;
    this.#host = host;
    this.#mayFail = mayFail;
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

  async #commit(): Promise<boolean> {
    try {
      await this.#hosts.sql(this.#host, 'INSERT INTO entries DEFAULT VALUES');
      return true;
    } catch (error) {
      if (this.#mayFail) return false;
      throw error;
    }
  }

  async #run(): Promise<void> {
    while (!this.#isOver) {
      const from = performance.now();
      while (!(await this.#commit()));
      this.#slowestMs = Math.max(this.#slowestMs, performance.now() - from);
      this.#count += 1;
    }
  }
}

/** Waits until each of `standbys` has as many rows as `primary` has now. */
export async function everywhere(
  hosts: GuideHosts,
  primary: string,
  standbys: string[],
): Promise<void> {
  const rowsOf = async (host: string): Promise<number> =>
    Number(await hosts.sql(host, 'SELECT count(*) FROM entries'));
  const rows = await rowsOf(primary);
  for (const standby of standbys) {
    await pollUntil(
      `${standby} has what ${primary} had`,
      async () => ((await rowsOf(standby)) >= rows ? true : null),
      { timeoutMs: GUIDE_TIMEOUT_MS },
    );
  }
}

/** Waits until one session of `primary` waits for a standby. */
export async function commitWaits(hosts: GuideHosts, primary: string): Promise<void> {
  const waiting = `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`;
  await pollUntil(
    'the commit waits',
    async () => ((await hosts.sql(primary, waiting)) === '1' ? true : null),
    { timeoutMs: GUIDE_TIMEOUT_MS },
  );
}
