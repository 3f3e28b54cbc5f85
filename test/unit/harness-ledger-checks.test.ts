// Does every check of the harness find the fault it is for, and nothing in a clean ledger?
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import {
  checkContiguous,
  checkFlushIsDurable,
  checkLedger,
  checkMessageEnds,
  checkNeverBeyondUpstream,
  checkReadable,
  checkRepliesNeverDecrease,
  checkRepliesWithinSent,
  checkReplyEnds,
  checkSameBytes,
  messageEnds,
} from '../harness/ledger-checks.ts';
import { seenNow } from '../harness/ledger.ts';
import type { ConnectionLedger, Ledger, ReplyEntry, StreamLedger } from '../harness/ledger.ts';
import { parseStart } from '../harness/recorder.ts';

const SEGMENT_START = 0x3000000;

describe('the check for gaps and repeats', () => {
  it('finds nothing in messages that follow each other', () => {
    const stream = streamOf([
      [0, 100],
      [100, 8192],
      [8192, 8300],
    ]);
    expect(checkContiguous(stream)).toEqual([]);
  });

  it('finds a gap, also before the first message', () => {
    expect(checkContiguous(streamOf([[8, 100]]))).toEqual([
      'gap: WAL 0/3000008–0/3000064 came where 0/3000000 was next (stream from 0/3000000, timeline 1)',
    ]);
    const later = streamOf([
      [0, 100],
      [200, 300],
    ]);
    expect(checkContiguous(later).join()).toContain('gap');
  });

  it('finds a repeat, whole or in part', () => {
    const whole = streamOf([
      [0, 100],
      [0, 100],
    ]);
    const part = streamOf([
      [0, 100],
      [50, 200],
    ]);
    expect(checkContiguous(whole).join()).toContain('repeat');
    expect(checkContiguous(part).join()).toContain('repeat');
  });

  it('finds a message without WAL', () => {
    expect(checkContiguous(streamOf([[0, 0]])).join()).toContain('without WAL');
  });
});

describe('the check of message ends', () => {
  it('allows page boundaries, upstream ends and record ends', () => {
    const stream = streamOf([
      [0, 8192],
      [8192, 8200],
      [8200, 8304],
    ]);
    const upstreamEnds = new Set([at(8200)]);
    const isRecordEnd = (lsn: Lsn): boolean => lsn === at(8304);
    expect(checkMessageEnds(stream, { upstreamEnds, isRecordEnd })).toEqual([]);
  });

  it('finds an end inside a record, and a message above 128 KiB', () => {
    expect(checkMessageEnds(streamOf([[0, 8200]])).join()).toContain('no record end');
    expect(checkMessageEnds(streamOf([[0, 17 * 8192]])).join()).toContain('128 KiB');
  });
});

describe('the checks of replies', () => {
  it('find nothing in replies that only grow, or offer nothing', () => {
    const stream = streamOf([[0, 8192]], [reply(0, 0, 0), reply(8192, 8192, 0), reply(8192, 0, 0)]);
    expect(checkRepliesNeverDecrease(stream, 'walcast')).toEqual([]);
    expect(checkRepliesWithinSent(stream)).toEqual([]);
    expect(checkReplyEnds(stream)).toEqual([]);
  });

  it.each([
    ['write', reply(8192, 8192, 8192), reply(4096, 8192, 8192)],
    ['flush', reply(8192, 8192, 8192), reply(8192, 4096, 8192)],
    ['apply', reply(8192, 8192, 8192), reply(8192, 8192, 4096)],
  ])('find a %s position that goes back', (name, first, second) => {
    const stream = streamOf([[0, 8192]], [first, second]);
    expect(checkRepliesNeverDecrease(stream, 'walcast').join()).toContain(
      `${name} position went back`,
    );
  });

  it('find a position that goes back behind a "not offered"', () => {
    const stream = streamOf(
      [[0, 8192]],
      [reply(8192, 8192, 0), reply(8192, 0, 0), reply(8192, 4096, 0)],
    );
    expect(checkRepliesNeverDecrease(stream, 'walcast')).toHaveLength(1);
  });

  it('forgive a standby a write position that goes back, and nothing else', () => {
    const first = reply(8192, 8192, 8192);
    expect(
      checkRepliesNeverDecrease(streamOf([], [first, reply(8, 8192, 8192)]), 'standby'),
    ).toEqual([]);
    expect(
      checkRepliesNeverDecrease(streamOf([], [first, reply(8192, 8, 8192)]), 'standby'),
    ).toHaveLength(1);
  });

  it('find a position beyond what was sent', () => {
    const stream = streamOf([[0, 8192]], [{ ...reply(8192, 16384, 0), sentLsn: at(8192) }]);
    expect(checkRepliesWithinSent(stream)).toEqual([
      'flush position 0/3004000 was reported when only 0/3002000 had been sent (stream from 0/3000000, timeline 1)',
    ]);
    expect(checkRepliesWithinSent(stream, () => at(16384))).toEqual([]);
  });

  it('find a position inside a record', () => {
    expect(checkReplyEnds(streamOf([], [reply(8192, 100, 0)])).join()).toContain('inside a record');
  });

  it('find a flush position beyond what is durable', () => {
    const sample = { reply: reply(8192, 8192, 0), durableLsn: at(4096) };
    expect(checkFlushIsDurable([sample]).join()).toContain('durable');
    expect(checkFlushIsDurable([{ ...sample, durableLsn: at(8192) }])).toEqual([]);
  });
});

describe('the check against upstream', () => {
  it('allows what upstream stated before, in messages, keepalives or IDENTIFY_SYSTEM', () => {
    const upstream = ledgerOf(streamOf([[0, 8192]]));
    const downstream = ledgerOf(streamOf([[0, 8192]]));
    expect(checkNeverBeyondUpstream(downstream, upstream)).toEqual([]);
  });

  it('finds WAL that went downstream before upstream had it', () => {
    const downstream = ledgerOf(streamOf([[0, 8192]]));
    const upstream = ledgerOf(streamOf([[0, 8192]]));
    expect(checkNeverBeyondUpstream(downstream, upstream)).not.toEqual([]);
  });

  it('finds a keepalive that promises more than upstream has', () => {
    const upstream = ledgerOf(streamOf([[0, 8192]]));
    const stream = streamOf([[0, 8192]]);
    stream.keepalives.push({ ...seenNow(0), walEnd: at(8193), replyRequested: false });
    expect(checkNeverBeyondUpstream(ledgerOf(stream), upstream)).toHaveLength(1);
  });
});

describe('the check of bytes', () => {
  const digest = createHash('sha1').update('page').digest('hex');

  it('compares each piece of a page with the truth', async () => {
    const stream = streamOf([[0, 8192]]);
    stream.pages.push({ startLsn: at(0), endLsn: at(8192), digest });
    expect(await checkSameBytes(stream, () => digest)).toEqual([]);
    expect((await checkSameBytes(stream, () => 'other')).join()).toContain("not upstream's");
    expect((await checkSameBytes(stream, () => null)).join()).toContain('nothing to compare');
  });
});

describe('the check of everything', () => {
  it('finds each kind of fault in a ledger', () => {
    const stream = streamOf([[8, 100]], [reply(8192, 8192, 8192), reply(8192, 100, 8192)]);
    const ledger = ledgerOf(stream);
    ledger.connections[0]?.unreadable.push('a message d of 3 bytes');
    const violations = checkLedger(ledger, { reporter: 'walcast', upstreamEnds: new Set() });
    expect(violations).toHaveLength(5);
    expect(checkReadable(ledger)).toHaveLength(1);
  });

  it('knows the ends that upstream used', () => {
    expect(messageEnds(ledgerOf(streamOf([[0, 100]])))).toEqual(new Set([at(100)]));
  });
});

describe('the reader of START_REPLICATION', () => {
  it.each([
    ['START_REPLICATION 0/3000000 TIMELINE 1', { startLsn: at(0), timeline: 1, slot: null }],
    [
      'START_REPLICATION SLOT "a" 0/3000000 TIMELINE 2',
      { startLsn: at(0), timeline: 2, slot: 'a' },
    ],
    ['START_REPLICATION SLOT a PHYSICAL 0/3000000', { startLsn: at(0), timeline: null, slot: 'a' }],
  ])('understands %s', (sql, expected) => {
    expect(parseStart(sql)).toEqual(expected);
  });

  it('passes over logical ones and other commands', () => {
    expect(parseStart('START_REPLICATION SLOT "a" LOGICAL 0/0')).toBeNull();
    expect(parseStart('IDENTIFY_SYSTEM')).toBeNull();
  });
});

function at(offset: number): Lsn {
  return toLsn(BigInt(SEGMENT_START + offset));
}

function streamOf(
  ranges: readonly (readonly [number, number])[],
  replies: ReplyEntry[] = [],
): StreamLedger {
  return {
    startLsn: at(0),
    timeline: 1,
    slot: null,
    startedAt: seenNow(0),
    wal: ranges.map(([start, end]) => ({
      ...seenNow(0),
      startLsn: at(start),
      endLsn: at(end),
      walEnd: at(end),
    })),
    pages: [],
    replies,
    keepalives: [],
    feedback: [],
    end: null,
  };
}

function reply(write: number, flush: number, apply: number): ReplyEntry {
  const position = (offset: number): Lsn => (offset === 0 ? toLsn(0n) : at(offset));
  return {
    ...seenNow(0),
    writeLsn: position(write),
    flushLsn: position(flush),
    applyLsn: position(apply),
    replyRequested: false,
    sentLsn: at(8192),
  };
}

function ledgerOf(stream: StreamLedger): Ledger {
  const connection: ConnectionLedger = {
    id: 1,
    openedAt: seenNow(0),
    parameters: new Map(),
    commands: [],
    streams: [stream],
    identified: [],
    unreadable: [],
    closedAt: null,
    closedBy: null,
  };
  return { name: 'test', connections: [connection] };
}
