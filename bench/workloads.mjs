// How WAL is made: few large records, or many small ones. Both as fast as one session goes, unless paced.
import { setTimeout as sleep } from 'node:timers/promises';
import { parseLsn } from './wal-stream.mjs';

/** About this much WAL is made by one statement. */
const STEP_BYTES = 4 << 20;

/** @typedef {{ query(sql: string): Promise<string[][]>, value(sql: string): Promise<string> }} Session */

/** Statements that make about STEP_BYTES of WAL each. */
const STATEMENTS = {
  // One record of 8 kB a row: what a table with large values makes.
  message: `SELECT count(pg_logical_emit_message(false, 'bench', repeat('w', 8000))) FROM generate_series(1, ${Math.floor(STEP_BYTES / 8100)})`,
  // Two records of about 100 bytes a row: heap and primary key.
  insert: `INSERT INTO bench (note) SELECT repeat('n', 64) FROM generate_series(1, ${Math.floor(STEP_BYTES / 200)})`,
};

export const BENCH_TABLE = 'CREATE TABLE bench (id bigserial PRIMARY KEY, note text NOT NULL)';

/**
 * Makes at least that much WAL. Returns the end of what is flushed then.
 * @param {Session} session
 * @param {{ kind: 'message' | 'insert', bytes: number, bytesPerSecond: number }} options bytesPerSecond 0: as fast as it goes
 * @returns {Promise<number>}
 */
export async function makeWal(session, { kind, bytes, bytesPerSecond }) {
  const startLsn = parseLsn(await session.value('SELECT pg_current_wal_insert_lsn()'));
  const startedMs = performance.now();
  for (;;) {
    await session.query(STATEMENTS[kind]);
    const made = parseLsn(await session.value('SELECT pg_current_wal_insert_lsn()')) - startLsn;
    if (made >= bytes) return flushAll(session);
    if (bytesPerSecond > 0) {
      await sleep(Math.max(0, (made / bytesPerSecond) * 1000 - (performance.now() - startedMs)));
    }
  }
}

/** Writes a commit record, which flushes everything before it. Returns the end of what is flushed. @param {Session} session */
export async function flushAll(session) {
  await session.query('CREATE TEMPORARY TABLE bench_flush (); DROP TABLE bench_flush');
  return parseLsn(await session.value('SELECT pg_current_wal_flush_lsn()'));
}
