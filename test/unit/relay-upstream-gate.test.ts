// Which upstream may be followed, and from where (positions.md events; invariant I9).
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { formatLsn, INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentStartOf, toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { parseTimelineHistory, rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { decideFollow, openUpstreamGate } from '../../src/relay/upstream-gate.ts';
import type { GateParts, GateStore, StoredWal } from '../../src/relay/upstream-gate.ts';
import type { StartDecision, UpstreamIdentity } from '../../src/walreceiver/ports.ts';

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
    isRelay: false,
    segmentSize: SEGMENT,
    parameters: new Map(),
    settings: new Map(),
    history: rootHistory(toTimelineId(1)),
    historyFile: null,
    histories: new Map(),
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
  history: rootHistory(toTimelineId(1)),
  oldestLsn: lsn('0/3000000'),
  receivedLsn: lsn('0/4ABC000'),
  isFull: false,
};

class MemoryStore implements GateStore {
  calls: string[] = [];
  held: StoredWal | null = null;
  failure: () => void = () => {};

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
    this.failure();
    this.calls.push(`history ${timeline}`);
  }

  async switchTimeline(next: TimelineHistory, switchLsn: Lsn): Promise<void> {
    this.calls.push(`switch to ${next.timeline} at ${formatLsn(switchLsn)}`);
    if (this.held === null) throw new Error('an empty store');
    const nextLsn = segmentStartOf(switchLsn, SEGMENT);
    this.held = {
      ...this.held,
      timeline: next.timeline,
      history: next,
      nextLsn,
      receivedLsn: switchLsn,
    };
  }
}

const PARTS: GateParts = {
  log: silentLog,
  mayFollow: () => true,
  onSwitched: () => {},
  onDiskFailed: () => {},
};

/** An upstream whose newest history is `file`, with the files of the timelines between 1 and its own. */
function promoted(
  timeline: number,
  file: string,
  overrides: Partial<UpstreamIdentity> = {},
): UpstreamIdentity {
  const lines = file.split('\n').filter((line) => line !== '');
  const own = history(timeline, file);
  const ids = [...own.ancestors.map((entry) => entry.timeline), own.timeline];
  const histories = new Map(
    ids
      .filter((id) => id > 1)
      .map((id) => [id, Buffer.from(lines.slice(0, ids.indexOf(id)).join('\n\n'))]),
  );
  return upstream({ timeline: own.timeline, history: own, histories, ...overrides });
}

describe('an empty store', () => {
  it('begins at the start of the segment that holds the slot’s restart_lsn', async () => {
    const store = new MemoryStore();
    const decision = await openUpstreamGate(store, PARTS).decide(
      upstream({ slotRestartLsn: lsn('0/3000028') }),
    );
    expect(decision).toEqual({ kind: 'start', timeline: 1, startLsn: lsn('0/3000000') });
    expect(store.calls).toEqual(['initialize 3000000']);
  });

  it('begins at the segment of the upstream’s position when no slot reserves WAL', async () => {
    const decision = await openUpstreamGate(new MemoryStore(), PARTS).decide(upstream());
    expect(decision).toMatchObject({ kind: 'start', startLsn: lsn('0/5000000') });
  });

  it('does not begin before the segment in which the timeline begins', async () => {
    const decision = await openUpstreamGate(new MemoryStore(), PARTS).decide(
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
    await openUpstreamGate(store, PARTS).decide(
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
      'a fork before the first byte stored',
      { timeline: toTimelineId(2), history: history(2, '1\t0/2FFFFF8\tx\n') },
      'left timeline 1 at 0/2FFFFF8',
    ],
    ['a primary that lost WAL', { xlogPos: lsn('0/4000000') }, 'lost WAL'],
  ])('is diverged from %s and changes nothing', async (_name, overrides, text) => {
    const store = new MemoryStore();
    store.held = STORED;
    const decision = await openUpstreamGate(store, PARTS).decide(upstream(overrides));
    expect(decision).toMatchObject({ kind: 'hold', state: 'diverged' });
    expect(decision.kind === 'hold' && decision.detail).toContain(text);
    expect(store.calls).toEqual([]);
  });

  it('refuses an old primary that came back on a lower timeline', () => {
    const decision = decideFollow({ ...STORED, timeline: toTimelineId(2) }, upstream());
    expect(decision).toMatchObject({ kind: 'hold', state: 'diverged' });
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

  it('waits for another walcast that is behind us, whatever it says about recovery', () => {
    const behind = { isInRecovery: false, isRelay: true, xlogPos: lsn('0/4000000') };
    expect(decideFollow(STORED, upstream(behind))).toMatchObject({
      kind: 'hold',
      state: 'waiting',
    });
  });

  it('takes no overlap that is yet to be compared for its end', () => {
    const stored = { ...STORED, nextLsn: lsn('0/4000000') };
    const behind = upstream({ xlogPos: lsn('0/4ABBFF8') });
    expect(decideFollow(stored, behind)).toMatchObject({ kind: 'hold', state: 'diverged' });
  });

  it.each([
    ['was begun elsewhere', '1\t0/4000000\tx\n', '1 left at 0/3000000'],
    ['has one ancestor more', '1\t0/3000000\tx\n2\t0/3500000\tx\n', '2 left at 0/3500000'],
  ])('is diverged from a timeline of the same number that %s', (_name, theirs, text) => {
    const stored = {
      ...STORED,
      timeline: toTimelineId(3),
      history: history(3, '1\t0/3000000\tx\n'),
    };
    for (const timeline of [3, 4]) {
      const file = timeline === 3 ? theirs : `${theirs}3\t0/4A00000\tx\n`;
      const other = upstream({
        timeline: toTimelineId(timeline),
        history: history(timeline, file),
      });
      const decision = decideFollow(stored, other);
      expect(decision).toMatchObject({ kind: 'hold', state: 'diverged' });
      expect(decision.kind === 'hold' && decision.detail).toContain(text);
    }
  });
});

describe('an upstream that left our timeline', () => {
  async function decide(
    identity: UpstreamIdentity,
    parts: Partial<GateParts> = {},
    store = new MemoryStore(),
  ): Promise<{ decision: StartDecision; store: MemoryStore; switches: Lsn[] }> {
    store.held ??= STORED;
    const switches: Lsn[] = [];
    const onSwitched = (switchLsn: Lsn): number => switches.push(switchLsn);
    const gate = openUpstreamGate(store, { ...PARTS, onSwitched, ...parts });
    return { decision: await gate.decide(identity), store, switches };
  }

  it.each([
    ['before our end', '0/4000100', '0/4000000'],
    ['in the middle of what may be half a record', '0/4ABBF00', '0/4000000'],
    ['exactly at our end', '0/4ABC000', '0/4000000'],
    ['exactly at our first byte', '0/3000000', '0/3000000'],
    ['at the start of a segment', '0/4000000', '0/4000000'],
  ])('%s is followed from the segment of the switch point on', async (_name, at, startLsn) => {
    const { decision, store, switches } = await decide(promoted(2, `1\t${at}\tx\n`));
    expect(decision).toEqual({ kind: 'start', timeline: 2, startLsn: lsn(startLsn) });
    expect(store.calls).toEqual(['history 2', `switch to 2 at ${at}`, 'update']);
    expect(switches).toEqual([lsn(at)]);
  });

  it('behind our end is streamed on our own timeline up to there first', async () => {
    const { decision, store } = await decide(promoted(2, '1\t0/4ABC008\tx\n'));
    expect(decision).toEqual({ kind: 'start', timeline: 1, startLsn: STORED.nextLsn });
    expect(store.calls).toEqual(['update']);
  });

  it('leaves no way back to the server that stayed behind, as long as the store is on the way there', async () => {
    const store = new MemoryStore();
    store.held = STORED;
    const gate = openUpstreamGate(store, PARTS);
    const next = promoted(2, '1\t0/4ABC008\tx\n');
    expect(await gate.decide(next)).toMatchObject({ kind: 'start', timeline: 1 });
    const old = await gate.decide(upstream());
    expect(old).toMatchObject({ kind: 'hold', state: 'diverged' });
    expect(old.kind === 'hold' && old.detail).toContain('behind timeline 2 of a server');
    expect(await gate.decide(next)).toMatchObject({ kind: 'start', timeline: 1 });
  });

  it('is not followed when the end has to stay where it is since its history file was kept', async () => {
    const store = new MemoryStore();
    let isQuiet = false;
    store.failure = () => {
      isQuiet = true;
    };
    const identity = promoted(2, '1\t0/4000100\tx\n');
    const { decision } = await decide(identity, { mayFollow: () => !isQuiet }, store);
    expect(decision).toMatchObject({ kind: 'hold', state: 'waiting' });
    expect(store.calls).toEqual(['history 2']);
  });

  it('several times while walcast was off is followed one timeline at a time', async () => {
    const file = '1\t0/4000100\tx\n\n3\t0/4200000\tx\n\n5\t0/4300000\tx\n';
    const { decision, store } = await decide(promoted(6, file));
    expect(decision).toEqual({ kind: 'start', timeline: 3, startLsn: lsn('0/4000000') });
    expect(store.calls).toEqual(['history 3', 'switch to 3 at 0/4000100', 'update']);
  });

  it('several times at one place is followed at once', async () => {
    const file = '1\t0/4000100\tx\n\n2\t0/4000100\tx\n\n3\t0/4000100\tx\n';
    const { decision, store, switches } = await decide(promoted(4, file));
    expect(decision).toEqual({ kind: 'start', timeline: 4, startLsn: lsn('0/4000000') });
    expect(store.calls.filter((call) => call.startsWith('switch'))).toHaveLength(3);
    expect(switches).toHaveLength(3);
  });

  it('is followed whether it is in recovery or not', async () => {
    for (const isInRecovery of [true, false]) {
      const identity = promoted(2, '1\t0/4000100\tx\n', { isInRecovery });
      expect((await decide(identity)).decision).toMatchObject({ kind: 'start', timeline: 2 });
    }
  });

  it('is followed by a store that has no room for WAL: it needs little, and may need it to go on', async () => {
    const store = new MemoryStore();
    store.held = { ...STORED, isFull: true };
    const { decision } = await decide(promoted(2, '1\t0/4000100\tx\n'), {}, store);
    expect(store.calls).toEqual(['history 2', 'switch to 2 at 0/4000100']);
    expect(decision).toMatchObject({ kind: 'hold', state: 'full' });
  });

  it('is not followed while the end has to stay where it is', async () => {
    const identity = promoted(2, '1\t0/4000100\tx\n');
    const { decision, store } = await decide(identity, { mayFollow: () => false });
    expect(decision).toMatchObject({ kind: 'hold', state: 'waiting' });
    expect(store.calls).toEqual([]);
  });

  it('ends the program, with the reason, when its history file cannot be kept', async () => {
    const store = new MemoryStore();
    store.failure = () => {
      throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO' });
    };
    const failures: string[] = [];
    const onDiskFailed = (error: Error): number => failures.push(error.message);
    const { decision } = await decide(promoted(2, '1\t0/4000100\tx\n'), { onDiskFailed }, store);
    expect(decision).toMatchObject({ kind: 'hold', state: 'failed' });
    expect(failures).toEqual([expect.stringContaining('EIO: i/o error, fsync')]);
    expect(store.calls).toEqual([]);
  });

  it('is left to the next start by a store that was given up during the switch', async () => {
    const store = new MemoryStore();
    store.switchTimeline = async () => {};
    const { decision, switches } = await decide(promoted(2, '1\t0/4000100\tx\n'), {}, store);
    expect(decision).toMatchObject({ kind: 'hold', state: 'waiting' });
    expect(switches).toEqual([]);
  });

  it('is asked again when there are more history files than are fetched at once', async () => {
    const identity = promoted(2, '1\t0/4000100\tx\n', { histories: new Map() });
    const { decision, store } = await decide(identity);
    expect(decision).toMatchObject({ kind: 'hold', state: 'waiting' });
    expect(store.calls).toEqual([]);
  });

  it('makes us wait, full, when there is no space for its history file', async () => {
    const store = new MemoryStore();
    store.failure = () => {
      throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    };
    const { decision } = await decide(promoted(2, '1\t0/4000100\tx\n'), {}, store);
    expect(decision).toMatchObject({ kind: 'hold', state: 'full' });
    expect(store.calls).toEqual([]);
  });
});
