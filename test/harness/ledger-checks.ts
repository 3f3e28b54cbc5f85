// Does what a recorder saw keep the promises? Each check gives its violations as sentences; none means it holds.
import { PAGE_SIZE, formatLsn, pageOffset } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { streamsOf } from './ledger.ts';
import type { Ledger, ReplyEntry, Seen, StreamLedger, WalEntry } from './ledger.ts';

/** MAX_SEND_SIZE of a walsender: 16 pages. (walsender.c) */
export const WAL_MESSAGE_BYTES_MAX: number = 16 * PAGE_SIZE;

/** True for a position at which a record ends. */
export type IsRecordEnd = (lsn: Lsn) => boolean;

/**
 * The stream has no gap and no repeat: its first byte is the one that was asked for, and each message starts where the
 * last one ended. (P12, I3)
 */
export function checkContiguous(stream: StreamLedger): string[] {
  const violations: string[] = [];
  let expected = stream.startLsn;
  for (const message of stream.wal) {
    if (message.startLsn > expected) {
      violations.push(
        `gap: WAL ${range(message)} came where ${formatLsn(expected)} was next${within(stream)}`,
      );
    } else if (message.startLsn < expected) {
      violations.push(
        `repeat: WAL ${range(message)} came although everything before ${formatLsn(expected)} had been sent${within(stream)}`,
      );
    }
    if (message.endLsn === message.startLsn) {
      violations.push(`a message without WAL at ${formatLsn(message.startLsn)}${within(stream)}`);
    }
    expected = message.endLsn;
  }
  return violations;
}

/**
 * A message carries at most 128 KiB and ends on a page boundary, on an end that upstream itself used, or on a record
 * end. (P13)
 */
export function checkMessageEnds(
  stream: StreamLedger,
  ends: { upstreamEnds?: ReadonlySet<Lsn>; isRecordEnd?: IsRecordEnd } = {},
): string[] {
  return stream.wal.flatMap((message) => {
    const violations: string[] = [];
    if (message.endLsn - message.startLsn > WAL_MESSAGE_BYTES_MAX) {
      violations.push(`WAL ${range(message)} is longer than 128 KiB${within(stream)}`);
    }
    if (!isAllowedEnd(message.endLsn, ends)) {
      violations.push(
        `WAL ${range(message)} ends at ${formatLsn(message.endLsn)}, which is no page boundary, no end of an upstream message and no record end${within(stream)}`,
      );
    }
    return violations;
  });
}

/**
 * Reported positions lie on page boundaries, message ends or record ends; 0 is allowed. (P5, I2)
 * `ends.upstreamEnds` are the ends of the messages that the reporting side received.
 */
export function checkReplyEnds(
  stream: StreamLedger,
  ends: { upstreamEnds?: ReadonlySet<Lsn>; isRecordEnd?: IsRecordEnd } = {},
): string[] {
  return stream.replies.flatMap((reply) =>
    positionsOf(reply).flatMap(([name, lsn]) =>
      lsn === 0n || isAllowedEnd(lsn, ends)
        ? []
        : [
            `${name} position ${formatLsn(lsn)} was reported, which is inside a record${within(stream)}`,
          ],
    ),
  );
}

/**
 * Within one START_REPLICATION reported positions never decrease; 0 ("not offered") is allowed at any time. (I2, P9)
 * A standby's write position may: its first reply names its replay position. So `standby` looks at flush and apply only.
 */
export function checkRepliesNeverDecrease(
  stream: StreamLedger,
  reporter: 'walcast' | 'standby',
): string[] {
  const violations: string[] = [];
  const highest = new Map<string, Lsn>();
  for (const reply of stream.replies) {
    for (const [name, lsn] of positionsOf(reply)) {
      if (lsn === 0n || (reporter === 'standby' && name === 'write')) continue;
      const before = highest.get(name);
      if (before !== undefined && lsn < before) {
        violations.push(
          `${name} position went back from ${formatLsn(before)} to ${formatLsn(lsn)}${within(stream)}`,
        );
      }
      if (before === undefined || lsn > before) highest.set(name, lsn);
    }
  }
  return violations;
}

/**
 * No reply names a position beyond what had been sent. `startedAt` (default: nothing) is what the receiver had before this stream:
 * a standby names its replay position, walcast its own end.
 */
export function checkRepliesWithinSent(
  stream: StreamLedger,
  hadBefore: (stream: StreamLedger) => Lsn = (each) => each.startLsn,
): string[] {
  const before = hadBefore(stream);
  return stream.replies.flatMap((reply) => {
    const limit = reply.sentLsn > before ? reply.sentLsn : before;
    return positionsOf(reply).flatMap(([name, lsn]) =>
      lsn > limit
        ? [
            `${name} position ${formatLsn(lsn)} was reported when only ${formatLsn(limit)} had been sent${within(stream)}`,
          ]
        : [],
    );
  });
}

/** One reply and the durable end of the store when it was seen. */
export interface DurableSample {
  readonly reply: ReplyEntry;
  readonly durableLsn: Lsn;
}

/**
 * What is reported as flushed is durable. (I1, P1) The samples pair each reply with the end of what was on disk when
 * the reply passed, as told by whoever watched the disk.
 */
export function checkFlushIsDurable(samples: Iterable<DurableSample>): string[] {
  return [...samples].flatMap(({ reply, durableLsn }) =>
    reply.flushLsn > durableLsn
      ? [
          `flush position ${formatLsn(reply.flushLsn)} was reported when only ${formatLsn(durableLsn)} was durable`,
        ]
      : [],
  );
}

/**
 * Downstream never hears of WAL that upstream had not stated before: ends of messages, walEnd, keepalives and
 * IDENTIFY_SYSTEM. (P15) Both ledgers must come from this process, which orders their entries.
 */
export function checkNeverBeyondUpstream(downstream: Ledger, upstream: Ledger): string[] {
  const stated = statements(upstream).toSorted((a, b) => a.seq - b.seq);
  const claims = statements(downstream).toSorted((a, b) => a.seq - b.seq);
  const violations: string[] = [];
  let limit = 0n;
  let next = 0;
  for (const claim of claims) {
    for (
      let entry = stated[next];
      entry !== undefined && entry.seq < claim.seq;
      entry = stated[next]
    ) {
      if (entry.lsn > limit) limit = entry.lsn;
      next += 1;
    }
    if (claim.lsn > limit) {
      violations.push(
        `${claim.what} ${formatLsn(claim.lsn)} went downstream when upstream had stated only ${limit.toString(16)}`,
      );
    }
  }
  return violations;
}

/** SHA-1 (hex) of the bytes [startLsn, endLsn) of one page on `timeline`; null when they cannot be had. */
export type PageTruth = (
  timeline: number,
  startLsn: Lsn,
  endLsn: Lsn,
) => string | null | Promise<string | null>;

/** Every byte that passed is the byte of the truth, page by page. (P11, I3) A page the truth lacks is a violation too. */
export async function checkSameBytes(stream: StreamLedger, truth: PageTruth): Promise<string[]> {
  const violations: string[] = [];
  for (const piece of stream.pages) {
    const expected = await truth(stream.timeline ?? 1, piece.startLsn, piece.endLsn);
    const where = `${formatLsn(piece.startLsn)} to ${formatLsn(piece.endLsn)}${within(stream)}`;
    if (expected === null) violations.push(`nothing to compare the bytes from ${where} with`);
    else if (expected !== piece.digest)
      violations.push(`the bytes from ${where} are not upstream's`);
  }
  return violations;
}

/** Every message could be read. */
export function checkReadable(ledger: Ledger): string[] {
  return ledger.connections.flatMap((connection) =>
    connection.unreadable.map((text) => `connection ${connection.id}: ${text}`),
  );
}

/** Ends of all WALData messages of a ledger: what upstream itself used. */
export function messageEnds(ledger: Ledger): Set<Lsn> {
  const ends = new Set<Lsn>();
  for (const stream of streamsOf(ledger))
    for (const message of stream.wal) ends.add(message.endLsn);
  return ends;
}

/**
 * Everything that must hold for a receiver that streams from `ledger`'s server, whoever it is.
 * `reporter` says whose replies they are.
 */
export function checkLedger(
  ledger: Ledger,
  options: {
    reporter: 'walcast' | 'standby';
    upstreamEnds?: ReadonlySet<Lsn>;
    isRecordEnd?: IsRecordEnd;
  },
): string[] {
  const ends = {
    ...(options.upstreamEnds === undefined ? {} : { upstreamEnds: options.upstreamEnds }),
    ...(options.isRecordEnd === undefined ? {} : { isRecordEnd: options.isRecordEnd }),
  };
  const hasEnds = options.upstreamEnds !== undefined || options.isRecordEnd !== undefined;
  return [
    ...checkReadable(ledger),
    ...streamsOf(ledger).flatMap((stream) => [
      ...checkContiguous(stream),
      ...(hasEnds ? checkMessageEnds(stream, ends) : []),
      ...(hasEnds && options.reporter === 'walcast' ? checkReplyEnds(stream, ends) : []),
      ...checkRepliesNeverDecrease(stream, options.reporter),
    ]),
  ];
}

interface Statement extends Seen {
  readonly lsn: Lsn;
  readonly what: string;
}

function statements(ledger: Ledger): Statement[] {
  const identified = ledger.connections
    .flatMap((connection) => connection.identified)
    .map(({ seq, atMs, xlogPos }) => ({ seq, atMs, lsn: xlogPos, what: 'the position' }));
  const streamed = streamsOf(ledger).flatMap((stream) => [
    ...stream.wal.flatMap(({ seq, atMs, endLsn, walEnd }) => [
      { seq, atMs, lsn: endLsn, what: 'WAL up to' },
      { seq, atMs, lsn: walEnd, what: 'an end of WAL of' },
    ]),
    ...stream.keepalives.map(({ seq, atMs, walEnd }) => ({
      seq,
      atMs,
      lsn: walEnd,
      what: 'a keepalive with',
    })),
  ]);
  return [...identified, ...streamed];
}

function positionsOf(reply: ReplyEntry): [string, Lsn][] {
  return [
    ['write', reply.writeLsn],
    ['flush', reply.flushLsn],
    ['apply', reply.applyLsn],
  ];
}

function isAllowedEnd(
  lsn: Lsn,
  ends: { upstreamEnds?: ReadonlySet<Lsn>; isRecordEnd?: IsRecordEnd },
): boolean {
  if (pageOffset(lsn) === 0) return true;
  return ends.upstreamEnds?.has(lsn) === true || ends.isRecordEnd?.(lsn) === true;
}

function range(message: WalEntry): string {
  return `${formatLsn(message.startLsn)}–${formatLsn(message.endLsn)}`;
}

function within(stream: StreamLedger): string {
  return ` (stream from ${formatLsn(stream.startLsn)}, timeline ${stream.timeline ?? '?'})`;
}
