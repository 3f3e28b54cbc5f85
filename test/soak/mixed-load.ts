// WAL of every shape for a store that is going to be hit: small commits, records that span several segments, switches of
// segments, checkpoints with page images.
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import type { SqlSession } from '../../src/demo/sql-session.ts';

/** A statement that makes WAL of one shape. */
export interface Shape {
  readonly name: 'message' | 'spanning' | 'switch' | 'checkpoint' | 'rows';
  readonly sql: string;
}

const TABLE = 'mixed_load';

/** Longest pause between two statements: a few megabytes a second, so that hundreds of rounds stay comparable to the end. */
export const PAUSE_MS: number = 120;

/** What is written next. `random` gives numbers in [0, 1); `segmentBytes` decides what is large. */
export function nextShape(random: () => number, segmentBytes: number): Shape {
  const kind = random();
  if (kind < 0.4) return message('message', 8 + Math.floor(random() * 20_000));
  if (kind < 0.46) {
    // Up to two and a half segments in one record.
    return message('spanning', Math.floor(segmentBytes * (0.5 + 2 * random())));
  }
  if (kind < 0.6) return { name: 'switch', sql: 'SELECT pg_switch_wal()' };
  if (kind < 0.63) return { name: 'checkpoint', sql: 'CHECKPOINT' };
  const rows = 1 + Math.floor(random() * 40);
  return {
    name: 'rows',
    sql: `INSERT INTO ${TABLE} SELECT i, md5(i::text) FROM generate_series(1, ${rows}) AS i`,
  };
}

function message(name: 'message' | 'spanning', byteCount: number): Shape {
  return {
    name,
    sql: `SELECT pg_logical_emit_message(true, 'soak', repeat('x', ${byteCount})) IS NULL`,
  };
}

/** One session that writes shapes one after the other until it is stopped. */
export class MixedLoad {
  readonly #primary: PostgresCluster;
  readonly #random: () => number;
  readonly #segmentBytes: number;
  readonly #pauseMs: number;
  #running: Promise<void> | null = null;
  #isStopping = false;
  /** Statements done so far, by shape. */
  readonly done: Record<Shape['name'], number> = {
    message: 0,
    spanning: 0,
    switch: 0,
    checkpoint: 0,
    rows: 0,
  };

  /** `pauseMs`: longest pause between two statements. */
  constructor(
    primary: PostgresCluster,
    options: { random: () => number; segmentBytes: number; pauseMs: number },
  ) {
    this.#primary = primary;
    this.#random = options.random;
    this.#segmentBytes = options.segmentBytes;
    this.#pauseMs = options.pauseMs;
  }

  async start(): Promise<void> {
    await this.#primary.query(`CREATE TABLE IF NOT EXISTS ${TABLE} (i int, filler text)`);
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#running;
  }

  // Sessions end with a primary that is restarted: then another one is opened.
  async #run(): Promise<void> {
    let session: SqlSession | null = null;
    while (!this.#isStopping) {
      try {
        session ??= await openSqlSession(this.#primary.target({ applicationName: 'mixed' }));
        const { name, sql } = nextShape(this.#random, this.#segmentBytes);
        await session.query(sql);
        this.done[name] += 1;
      } catch {
        session?.close();
        session = null;
      }
      await pause(this.#random() * this.#pauseMs);
    }
    session?.close();
  }
}

/** The random instants of a campaign are waits: what happens meanwhile is not told to anybody. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
