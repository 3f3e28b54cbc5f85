// Which upstream may be followed, and from where (positions.md events; invariant I9).
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { parseTimelineHistory, rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { decideFollow, openUpstreamGate } from '../../src/relay/upstream-gate.ts';
import type { GateStore, StoredWal } from '../../src/relay/upstream-gate.ts';
import type { UpstreamIdentity } from '../../src/walreceiver/ports.ts';

const SEGMENT = toSegmentSize(16 << 20);

function lsn(text: string): Lsn {
  const parsed = parseLsn(text);
  if (parsed === null) throw new Error(`not an LSN: ${text}`);
  return parsed;
}

function history(timeline: number, file: string): TimelineHistory {
  const parsed = parseTimelineHistory(toTimelineId(timeline), file);
  if (typeof parsed === 'string') throw new Error(parsed);
  return parsed;
}

function upstream(overrides: Partial<UpstreamIdentity> = {}): UpstreamIdentity {
  return {
    systemIdentifier: '7000000000000000001',
    timeline: toTimelineId(1),
    xlogPos: lsn('0/5000100'),
    serverVersion: '18.4',
    facts: versionFacts(18),
    isInRecovery: false,
    segmentSize: SEGMENT,
    parameters: new Map(),
    settings: new Map(),
    history: rootHistory(toTimelineId(1)),
    historyFile: null,
    slotRestartLsn: INVALID_LSN,
    ...overrides,
  };
}

const STORED: StoredWal = {
  systemIdentifier: '7000000000000000001',
  major: 18,
  segmentSize: SEGMENT,
  timeline: toTimelineId(1),
  nextLsn: lsn('0/4ABC000'),
  flushedLsn: lsn('0/4ABBF00'),
  isFull: false,
};

class MemoryStore implements GateStore {
  calls: string[] = [];
  held: StoredWal | null = null;

  stored(): StoredWal | null {
    return this.held;
  }

  async initialize(_identity: UpstreamIdentity, startLsn: Lsn): Promise<void> {
    this.calls.push(`initialize ${startLsn.toString(16)}`);
  }

  async update(): Promise<void> {
    this.calls.push('update');
  }

  async storeHistoryFile(timeline: number): Promise<void> {
    this.calls.push(`history ${timeline}`);
  }
}

describe('an empty store', () => {
  it('begins at the start of the segment that holds the slot’s restart_lsn', async () => {
    const store = new MemoryStore();
    const decision = await openUpstreamGate(store, silentLog).decide(
      upstream({ slotRestartLsn: lsn('0/3000028') }),
    );
    expect(decision).toEqual({ kind: 'start', timeline: 1, startLsn: lsn('0/3000000') });
    expect(store.calls).toEqual(['initialize 3000000']);
  });

  it('begins at the segment of the upstream’s position when no slot reserves WAL', async () => {
    const decision = await openUpstreamGate(new MemoryStore(), silentLog).decide(upstream());
    expect(decision).toMatchObject({ kind: 'start', startLsn: lsn('0/5000000') });
  });

  it('does not begin before the segment in which the timeline begins', async () => {
    const decision = await openUpstreamGate(new MemoryStore(), silentLog).decide(
      upstream({
        timeline: toTimelineId(2),
        history: history(2, '1\t0/5000100\tx\n'),
        historyFile: Buffer.from('1\t0/5000100\tx\n'),
        slotRestartLsn: lsn('0/3000028'),
      }),
    );
    expect(decision).toMatchObject({ kind: 'start', startLsn: lsn('0/5000000') });
  });

  it('keeps the history file before it becomes the store of a later timeline', async () => {
    const store = new MemoryStore();
    await openUpstreamGate(store, silentLog).decide(
      upstream({
        timeline: toTimelineId(2),
        history: history(2, '1\t0/3000000\tno recovery target specified\n'),
        historyFile: Buffer.from('1\t0/3000000\tno recovery target specified\n'),
      }),
    );
    expect(store.calls).toEqual(['history 2', 'initialize 5000000']);
  });
});

describe('a store that holds WAL', () => {
  it('goes on at its own end on its own timeline', () => {
    expect(decideFollow(STORED, upstream())).toEqual({
      kind: 'start',
      timeline: 1,
      startLsn: STORED.nextLsn,
    });
  });

  it('asks its own timeline of an upstream that left it later', () => {
    const decision = decideFollow(
      STORED,
      upstream({ timeline: toTimelineId(2), history: history(2, '1\t0/5000000\tx\n') }),
    );
    expect(decision).toEqual({ kind: 'start', timeline: 1, startLsn: STORED.nextLsn });
  });

  it.each([
    ['another system identifier', { systemIdentifier: '42' }, 'system identifier differs'],
    ['another major', { facts: versionFacts(17) }, 'PostgreSQL 17'],
    ['another segment size', { segmentSize: toSegmentSize(1 << 20) }, 'wal_segment_size'],
    [
      'a history without our timeline',
      { timeline: toTimelineId(3), history: history(3, '2\t0/5000000\tx\n') },
      'not in the history',
    ],
    [
      'a fork before our end',
      { timeline: toTimelineId(2), history: history(2, '1\t0/4000000\tx\n') },
      'left timeline 1 at 0/4000000',
    ],
    ['a primary that lost WAL', { xlogPos: lsn('0/4000000') }, 'lost WAL'],
  ])('is diverged from %s and changes nothing', async (_name, overrides, text) => {
    const store = new MemoryStore();
    store.held = STORED;
    const decision = await openUpstreamGate(store, silentLog).decide(upstream(overrides));
    expect(decision).toMatchObject({ kind: 'hold', state: 'diverged' });
    expect(decision.kind === 'hold' && decision.detail).toContain(text);
    expect(store.calls).toEqual([]);
  });

  it('refuses an old primary that came back on a lower timeline', () => {
    const decision = decideFollow({ ...STORED, timeline: toTimelineId(2) }, upstream());
    expect(decision).toMatchObject({ kind: 'hold', state: 'diverged' });
  });

  it('waits when it holds half a record beyond the switch point, which is no divergence', () => {
    const decision = decideFollow(
      STORED,
      upstream({ timeline: toTimelineId(2), history: history(2, '1\t0/4ABBF00\tx\n') }),
    );
    expect(decision).toMatchObject({ kind: 'hold', state: 'waiting' });
  });

  it('waits while it has no room', () => {
    expect(decideFollow({ ...STORED, isFull: true }, upstream())).toMatchObject({
      kind: 'hold',
      state: 'full',
    });
  });

  it('waits for a standby that is behind us', () => {
    const decision = decideFollow(
      STORED,
      upstream({ isInRecovery: true, xlogPos: lsn('0/4000000') }),
    );
    expect(decision).toMatchObject({ kind: 'hold', state: 'waiting' });
  });
});
