// Write load on a primary that goes on through its restarts, and remembers which commits it was told of.
import { systemClock } from '../../src/base/clock.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { SqlSession } from '../../src/demo/sql-session.ts';

const TABLE = 'write_load';

/** Writers in the background. */
export class WriteLoad {
  readonly #cluster: () => PostgresCluster;
  #running: Promise<void>[] = [];
  readonly #highest: number[];
  readonly #pauseMs: number;
  #isStopping = false;
  #lastCommitAtMs = 0;
  #longestStallMs = 0;

  /** Use {@link startWriteLoad}. */
  constructor(cluster: () => PostgresCluster, writers: number, pauseMs: number) {
    this.#cluster = cluster;
    this.#pauseMs = pauseMs;
    this.#highest = Array.from({ length: writers }, () => 0);
  }

  /** Commits that were acknowledged so far. */
  get commits(): number {
    return this.#highest.reduce((sum, count) => sum + count, 0);
  }

  /** Begins, or goes on after {@link stop} with the numbers it had. */
  start(): void {
    this.#isStopping = false;
    this.#lastCommitAtMs = systemClock.nowMs();
    for (let writer = 0; writer < this.#highest.length; writer += 1) {
      this.#running.push(this.#write(writer));
    }
  }

  /** The longest time without an acknowledged commit since the last call, in milliseconds; one that still lasts counts. */
  takeLongestStall(): number {
    this.#noteStall();
    const longest = this.#longestStallMs;
    this.#longestStallMs = 0;
    return longest;
  }

  /** Waits until `count` more commits were acknowledged. */
  async waitForCommits(count: number, timeoutMs = 60_000): Promise<void> {
    const goal = this.commits + count;
    await pollUntil(
      `${goal} commits under load`,
      () => Promise.resolve(this.commits >= goal ? true : null),
      { timeoutMs },
    );
  }

  /** Ends the writers after their current transaction. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#running);
    this.#running = [];
  }

  /** Acknowledged commits that `cluster` does not have, as sentences. */
  async lostOn(cluster: PostgresCluster): Promise<string[]> {
    const rows = await cluster.query(
      `SELECT writer, max(number), count(DISTINCT number) FROM ${TABLE} GROUP BY writer`,
    );
    const found = new Map(
      rows.map(([writer, highest, count]) => [Number(writer), [Number(highest), Number(count)]]),
    );
    return this.#highest.flatMap((highest, writer) => {
      const [there = 0, count = 0] = found.get(writer) ?? [];
      if (there >= highest && count === there) return [];
      return [
        `writer ${writer} was told of ${highest} commits; ${cluster.name} has ${count} of them, the last is ${there}`,
      ];
    });
  }

  #noteStall(): void {
    const nowMs = systemClock.nowMs();
    this.#longestStallMs = Math.max(this.#longestStallMs, nowMs - this.#lastCommitAtMs);
    this.#lastCommitAtMs = nowMs;
  }

  // A commit may have happened although we were not told: the number is used again then, hence no primary key.
  async #write(writer: number): Promise<void> {
    let session: SqlSession | null = null;
    while (!this.#isStopping) {
      try {
        session ??= await this.#cluster().session({ applicationName: 'load' });
        const number = (this.#highest[writer] ?? 0) + 1;
        const bytes = number % 50 === 0 ? 40_000 : number % 7 === 0 ? 3_000 : 60;
        await session.query(
          `INSERT INTO ${TABLE} SELECT ${writer}, ${number}, string_agg(md5(i::text), '') FROM generate_series(1, ${Math.ceil(bytes / 32)}) AS i`,
        );
        this.#highest[writer] = number;
        this.#noteStall();
        if (this.#pauseMs > 0) await pause(this.#pauseMs);
      } catch {
        session?.close();
        session = null;
        await pause(20);
      }
    }
    session?.close();
  }
}

/**
 * Makes the table and starts `writers` sessions on `cluster` (asked for each session, where it is a function) that insert rows of a few sizes, as fast as they are let or with a pause behind
 * each.
 */
export async function startWriteLoad(
  cluster: PostgresCluster | (() => PostgresCluster),
  writers = 2,
  pauseMs = 0,
): Promise<WriteLoad> {
  const primary = typeof cluster === 'function' ? cluster : () => cluster;
  await primary().query(
    `CREATE TABLE IF NOT EXISTS ${TABLE} (writer int, number int, filler text)`,
  );
  const load = new WriteLoad(primary, writers, pauseMs);
  load.start();
  return load;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
