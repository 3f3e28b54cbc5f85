// Write load on whoever is the primary: writers that remember which commits they were told of, one that writes WAL of every
// shape, and a pause in which nobody writes so that everybody can be compared.
import { systemClock } from '../../../src/base/clock.ts';
import type { PostgresCluster } from '../../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../../src/demo/postgres-process.ts';
import type { SqlSession } from '../../../src/demo/sql-session.ts';
import { nextShape, pause } from '../mixed-load.ts';

const ROWS = 'soak_rows';
const MIXED = 'mixed_load';
/** Between two commits of a writer: what is looked at is walcast, not a machine that can do no more. */
const COMMIT_PAUSE_MS = 6;
/** Longest pause between two statements of the mixed load. */
const MIXED_PAUSE_MS = 250;
/** Before a writer whose session broke tries again. */
const RETRY_MS = 20;
/** A commit that waits for a relay goes on when one is back. */
const PAUSE_TIMEOUT_MS = 60_000;

/** What to write, and where. */
export interface FleetLoadOptions {
  /** Asked before each session. */
  readonly primary: () => PostgresCluster;
  readonly writers: number;
  /** Numbers in [0, 1), for the shapes of WAL. */
  readonly random: () => number;
  readonly segmentBytes: number;
}

/** The writers. Use {@link startFleetLoad}. */
export class FleetLoad {
  readonly #options: FleetLoadOptions;
  /** By writer: the last number whose commit was acknowledged. */
  readonly #vouched: number[];
  /** By writer: everything up to here was found on every server. */
  readonly #checked: number[];
  readonly #running: Promise<void>[] = [];
  #isStopping = false;
  #isPaused = false;
  #busy = 0;
  #lastCommitMs: number = systemClock.nowMs();
  #longestStallMs = 0;

  constructor(options: FleetLoadOptions) {
    this.#options = options;
    this.#vouched = Array.from({ length: options.writers }, () => 0);
    this.#checked = [...this.#vouched];
  }

  /** Commits that were acknowledged so far. */
  get commits(): number {
    return this.#vouched.reduce((sum, count) => sum + count, 0);
  }

  /** Makes the tables and begins. */
  async start(): Promise<void> {
    const primary = this.#options.primary();
    await primary.query(
      `CREATE TABLE ${ROWS} (writer int, number int, filler text);
       CREATE INDEX ON ${ROWS} (writer, number);
       CREATE TABLE ${MIXED} (i int, filler text)`,
    );
    for (let writer = 0; writer < this.#options.writers; writer += 1)
      this.#running.push(this.#forever((session) => this.#commit(session, writer)));
    this.#running.push(this.#forever((session) => this.#shape(session)));
  }

  /** Waits until `count` more commits were acknowledged. */
  async waitForCommits(count: number, timeoutMs: number): Promise<void> {
    const goal = this.commits + count;
    await pollUntil(`${goal} commits under load`, () => (this.commits >= goal ? true : null), {
      timeoutMs,
    });
  }

  /** Longest time without an acknowledged commit since this was asked last, in milliseconds; pauses do not count. */
  takeLongestStallMs(): number {
    const stallMs = Math.max(this.#longestStallMs, systemClock.nowMs() - this.#lastCommitMs);
    this.#longestStallMs = 0;
    return Math.round(stallMs);
  }

  /** Nobody writes when this resolves. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    await pollUntil('all writers resting', () => (this.#busy === 0 ? true : null), {
      timeoutMs: PAUSE_TIMEOUT_MS,
    });
  }

  resume(): void {
    this.#lastCommitMs = systemClock.nowMs();
    this.#isPaused = false;
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#running);
  }

  /** Acknowledged commits since the last {@link allFound} that `server` does not have, as sentences. */
  async lostOn(server: PostgresCluster): Promise<string[]> {
    const rows = await server.query(
      `SELECT writer, count(DISTINCT number) FROM ${ROWS} WHERE ${this.#sinceChecked()} GROUP BY writer`,
    );
    const found = new Map(rows.map(([writer, count]) => [Number(writer), Number(count)]));
    return this.#vouched.flatMap((vouched, writer) => {
      const expected = vouched - (this.#checked[writer] ?? 0);
      const there = found.get(writer) ?? 0;
      return there === expected
        ? []
        : [
            `LOST: writer ${writer} was told of ${expected} commits up to number ${vouched}; ${server.name} has ${there} of them`,
          ];
    });
  }

  /** A digest of the rows that came since the last {@link allFound}; the order of rows does not count. */
  async newRows(server: PostgresCluster): Promise<string> {
    return await server.value(
      `SELECT count(*) || ' ' || md5(coalesce(string_agg(m, '' ORDER BY m), ''))
       FROM (SELECT md5(t::text) AS m FROM ${ROWS} t WHERE ${this.#above()}) q`,
    );
  }

  /** From here on only what comes later is looked at. */
  allFound(): void {
    for (const [writer, vouched] of this.#vouched.entries()) this.#checked[writer] = vouched;
  }

  #sinceChecked(): string {
    const spans = this.#vouched.map(
      (vouched, writer) =>
        `writer = ${writer} AND number > ${this.#checked[writer] ?? 0} AND number <= ${vouched}`,
    );
    return `(${spans.join(' OR ')})`;
  }

  #above(): string {
    return this.#checked
      .map((checked, writer) => `writer = ${writer} AND number > ${checked}`)
      .join(' OR ');
  }

  // A commit may have happened although we were not told: the number is used again then, hence no primary key.
  async #commit(session: SqlSession, writer: number): Promise<void> {
    const number = (this.#vouched[writer] ?? 0) + 1;
    const repeats = number % 50 === 0 ? 1_200 : number % 7 === 0 ? 90 : 2;
    await session.query(
      `INSERT INTO ${ROWS} SELECT ${writer}, ${number}, string_agg(md5(i::text), '') FROM generate_series(1, ${repeats}) AS i`,
    );
    this.#vouched[writer] = number;
    const nowMs = systemClock.nowMs();
    this.#longestStallMs = Math.max(this.#longestStallMs, nowMs - this.#lastCommitMs);
    this.#lastCommitMs = nowMs;
    await pause(COMMIT_PAUSE_MS);
  }

  async #shape(session: SqlSession): Promise<void> {
    const { random, segmentBytes } = this.#options;
    await session.query(nextShape(random, segmentBytes).sql);
    await pause(random() * MIXED_PAUSE_MS);
  }

  // Sessions end with a primary that is restarted or left: then another one is opened.
  async #forever(step: (session: SqlSession) => Promise<void>): Promise<void> {
    let session: SqlSession | null = null;
    while (!this.#isStopping) {
      if (this.#isPaused) {
        await pause(RETRY_MS);
        continue;
      }
      this.#busy += 1;
      try {
        session ??= await this.#options.primary().session({ applicationName: 'load' });
        await step(session);
      } catch {
        session?.close();
        session = null;
        await pause(RETRY_MS);
      } finally {
        this.#busy -= 1;
      }
    }
    session?.close();
  }
}

/** Makes the tables on the primary and begins to write. */
export async function startFleetLoad(options: FleetLoadOptions): Promise<FleetLoad> {
  const load = new FleetLoad(options);
  await load.start();
  return load;
}
