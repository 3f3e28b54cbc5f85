// Ends of WAL that have gone wrong elsewhere: a server's WAL is made to end exactly where it is wanted, at a page's or a
// segment's end, inside a record that crosses it, right behind one. (Neon's crafted_wal_end, TAP 026)
import type { SqlSession } from '../../src/demo/sql-session.ts';
import { INVALID_LSN, PAGE_SIZE, formatLsn, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';

/** XLogRecord, without data. (xlogrecord.h) */
const SWITCH_RECORD_BYTES = 24;
const ALIGNMENT = 8;
const SWITCH_END = "SELECT pg_switch_wal() - '0/0'";
const ATTEMPTS_MAX = 200;
/** Payload of the message that measures what a message costs besides; more than 255 bytes take a longer header. */
const SMALL = 96;

/** The shapes. */
export const CRAFTED_ENDS = [
  'a record like any other',
  'a switch of segments',
  'a switch of segments that ends at a page boundary',
  'a record that crosses into the next segment',
  'a small record behind one that crosses into the next segment',
] as const;
export type CraftedEnd = (typeof CRAFTED_ENDS)[number];

/** Makes the WAL of `session`'s server end in that shape, flushed. From PostgreSQL 17 on. */
export async function craftEnd(
  session: SqlSession,
  shape: CraftedEnd,
  segmentSize: SegmentSize,
): Promise<void> {
  switch (shape) {
    case 'a record like any other':
      return await emit(session, 1_000);
    case 'a switch of segments':
      await emit(session, 1_000);
      await session.query('SELECT pg_switch_wal()');
      return;
    case 'a switch of segments that ends at a page boundary':
      await fillUpTo(session, { boundary: PAGE_SIZE, left: SWITCH_RECORD_BYTES });
      // The server names the end behind the next page's header. (xlog.c:XLogInsertRecord)
      if (![24n, 40n].includes(BigInt(await session.value(SWITCH_END)) % BigInt(PAGE_SIZE)))
        throw new Error('the switch did not end at a page boundary');
      return;
    case 'a record that crosses into the next segment':
    case 'a small record behind one that crosses into the next segment': {
      await fillUpTo(session, { boundary: segmentSize, left: 512 });
      const before = await insertLsn(session);
      await emit(session, 20_000);
      const crossed =
        (await insertLsn(session)) / BigInt(segmentSize) - before / BigInt(segmentSize);
      if (crossed !== 1n) throw new Error('the record did not cross into the next segment');
      if (shape.startsWith('a small')) await emit(session, SMALL);
      return;
    }
    default:
      throw new Error(`unknown shape ${String(shape satisfies never)}`);
  }
}

/** Position at which the next record will begin. */
export async function insertLsn(session: SqlSession): Promise<Lsn> {
  return parseLsn(await session.value('SELECT pg_current_wal_insert_lsn()')) ?? INVALID_LSN;
}

/** Writes messages until exactly `left` bytes remain before a multiple of `boundary`. */
export async function fillUpTo(
  session: SqlSession,
  { boundary, left }: { boundary: number; left: number },
): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    const before = await insertLsn(session);
    const missing = boundary - Number(before % BigInt(boundary)) - left;
    if (missing === 0) return;
    const overhead = await overheadOf(session);
    if (overhead === null) continue;
    const lsn = await insertLsn(session);
    const rest = boundary - Number(lsn % BigInt(boundary)) - left;
    const isOnLastPage = rest > 0 && rest <= PAGE_SIZE - left;
    if (isOnLastPage && rest >= overhead + ALIGNMENT && rest - overhead <= 255 - ALIGNMENT) {
      await emit(session, rest - overhead);
    } else if (rest > 2 * PAGE_SIZE) {
      await emit(session, Math.min(rest - PAGE_SIZE, 200_000));
    } else if (rest > 600) {
      await emit(session, Math.min(rest, PAGE_SIZE) / 2 - overhead);
    } else {
      // Too little is left for a message: on to the next boundary.
      await emit(session, 600);
    }
  }
  throw new Error(`no end ${left} bytes before a multiple of ${boundary} could be made`);
}

/** What a small message costs besides its payload; null when somebody else wrote at the same time, or a page ended. */
async function overheadOf(session: SqlSession): Promise<number | null> {
  const before = await insertLsn(session);
  await emit(session, SMALL);
  const cost = Number((await insertLsn(session)) - before) - SMALL;
  return cost > 0 && cost < 128 ? cost : null;
}

async function emit(session: SqlSession, payload: number): Promise<void> {
  const rounded = Math.max(ALIGNMENT, Math.floor(payload / ALIGNMENT) * ALIGNMENT);
  await session.query(
    `SELECT pg_logical_emit_message(false, 'end', repeat('x', ${rounded}), true)`,
  );
}

/** For people: where a server's WAL ends. */
export async function describeEnd(session: SqlSession, segmentSize: SegmentSize): Promise<string> {
  const lsn = await insertLsn(session);
  return `${formatLsn(lsn)} (${Number(lsn % BigInt(PAGE_SIZE))} bytes into its page, ${Number(lsn % BigInt(segmentSize))} into its segment)`;
}
