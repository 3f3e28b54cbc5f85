// Up to where has the upstream named WAL, and when is it known that it has no more?
import { describe, expect, test } from 'vitest';
import {
  UPSTREAM_WORD_INTERVAL_MS,
  UPSTREAM_WORD_PATIENCE_MS,
  UPSTREAM_WORD_SETTLE_MS,
} from '../../src/config/limits.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { UpstreamWord } from '../../src/relay/upstream-word.ts';
import { ManualClock } from '../support/manual-clock.ts';

const FIRST = toTimelineId(1);
const SECOND = toTimelineId(2);
const SWITCHED: TimelineHistory = {
  timeline: SECOND,
  ancestors: [{ timeline: FIRST, endLsn: toLsn(500n) }],
};

class Rig {
  readonly clock = new ManualClock();
  isMoving = true;
  /** When the upstream was asked. */
  readonly asked: number[] = [];
  readonly word: UpstreamWord = new UpstreamWord({
    clock: this.clock,
    isMoving: () => this.isMoving,
    ask: () => this.asked.push(this.clock.nowMs()),
  });

  /** An upstream on timeline 1 that has WAL up to `xlogPos`. */
  connect(xlogPos: bigint): void {
    const history = rootHistory(FIRST);
    this.word.startStream(FIRST, { timeline: FIRST, xlogPos: toLsn(xlogPos), history });
  }

  /** One that is on timeline 2, which began at 500. */
  connectSwitched(timeline = SECOND): void {
    const identity = { timeline: SECOND, xlogPos: toLsn(700n), history: SWITCHED };
    this.word.startStream(timeline, identity);
  }

  hear(walEnd: bigint, isKeepalive = false): void {
    this.word.heard(toLsn(walEnd), isKeepalive);
  }

  expects(lsn: bigint, sinceMs: number): boolean {
    return this.word.expects(toLsn(lsn), sinceMs);
  }

  /** The same for somebody who waits from now on, once the upstream has answered with `walEnd`. */
  expectsAnswered(lsn: bigint, walEnd: bigint): boolean {
    this.clock.advance(UPSTREAM_WORD_INTERVAL_MS);
    const sinceMs = this.clock.nowMs();
    if (this.expects(lsn, sinceMs)) this.hear(walEnd, true);
    this.clock.advance(UPSTREAM_WORD_SETTLE_MS);
    return this.expects(lsn, sinceMs);
  }
}

describe('WAL is expected', () => {
  test('up to where the upstream stood when it was identified, and not when nothing streams', () => {
    const rig = new Rig();
    rig.connect(1000n);
    expect(rig.expects(1000n, 0)).toBe(true);
    expect(rig.asked).toEqual([]);
    rig.isMoving = false;
    expect(rig.expects(1000n, 0)).toBe(false);
    expect(rig.expects(1001n, 0)).toBe(false);
    expect(rig.asked).toEqual([]);
  });

  test('up to the highest end that any message named', () => {
    const rig = new Rig();
    rig.connect(1000n);
    rig.hear(2000n);
    // A keepalive names what was sent, which is less.
    rig.hear(1500n, true);
    expect(rig.expects(2000n, 0)).toBe(true);
    expect(rig.expectsAnswered(2001n, 2000n)).toBe(false);
  });

  test('beyond that until the upstream has answered, and a moment longer', () => {
    const rig = new Rig();
    rig.connect(1000n);
    const sinceMs = rig.clock.nowMs();
    expect(rig.expects(1001n, sinceMs)).toBe(true);
    expect(rig.asked).toEqual([sinceMs]);
    rig.clock.advance(20);
    rig.hear(1000n);
    rig.clock.advance(UPSTREAM_WORD_SETTLE_MS);
    expect(rig.expects(1001n, sinceMs)).toBe(true);
    rig.hear(1000n, true);
    rig.clock.advance(UPSTREAM_WORD_SETTLE_MS - 1);
    expect(rig.expects(1001n, sinceMs)).toBe(true);
    rig.clock.advance(1);
    expect(rig.expects(1001n, sinceMs)).toBe(false);
    expect(rig.asked).toHaveLength(1);
  });

  test('when the answer, or what comes right behind it, names it', () => {
    const rig = new Rig();
    rig.connect(1000n);
    const sinceMs = rig.clock.nowMs();
    expect(rig.expects(1500n, sinceMs)).toBe(true);
    rig.hear(1000n, true);
    rig.hear(1500n);
    rig.clock.advance(10_000);
    expect(rig.expects(1500n, sinceMs)).toBe(true);
    expect(rig.expects(1501n, sinceMs)).toBe(false);
  });

  test('by everybody together with one question at a time', () => {
    const rig = new Rig();
    rig.connect(1000n);
    for (let waiting = 0; waiting < 1000; waiting += 1) rig.expects(2000n, rig.clock.nowMs());
    expect(rig.asked).toHaveLength(1);
    rig.clock.advance(UPSTREAM_WORD_INTERVAL_MS);
    const lateMs = rig.clock.nowMs();
    rig.expects(2000n, lateMs);
    expect(rig.asked).toHaveLength(1);
    // The answer to a question from before somebody came is none for him.
    rig.hear(1000n, true);
    rig.clock.advance(UPSTREAM_WORD_SETTLE_MS);
    expect(rig.expects(2000n, 0)).toBe(false);
    expect(rig.expects(2000n, lateMs)).toBe(true);
    expect(rig.asked).toHaveLength(2);
  });

  test('and a question that nobody answers is asked again', () => {
    const rig = new Rig();
    rig.connect(1000n);
    rig.expects(2000n, 0);
    rig.clock.advance(UPSTREAM_WORD_PATIENCE_MS - 1);
    rig.expects(2000n, 0);
    expect(rig.asked).toHaveLength(1);
    rig.clock.advance(1);
    expect(rig.expects(2000n, 0)).toBe(true);
    expect(rig.asked).toHaveLength(2);
  });
});

describe('another connection', () => {
  test('keeps what was named on the same timeline, also by a server that has less', () => {
    const rig = new Rig();
    rig.connect(1000n);
    rig.hear(2000n);
    rig.connect(1500n);
    expect(rig.expects(2000n, 0)).toBe(true);
    expect(rig.asked).toEqual([]);
    expect(rig.expectsAnswered(2001n, 1500n)).toBe(false);
  });

  test('is asked anew', () => {
    const rig = new Rig();
    rig.connect(1000n);
    const sinceMs = rig.clock.nowMs();
    rig.expects(2000n, sinceMs);
    rig.connect(1000n);
    // Its keepalive is no answer to a question that the last one got.
    rig.hear(1000n, true);
    rig.clock.advance(UPSTREAM_WORD_SETTLE_MS);
    expect(rig.expects(2000n, sinceMs)).toBe(true);
    expect(rig.asked).toHaveLength(2);
  });

  test('on another timeline counts only what is named there', () => {
    const rig = new Rig();
    rig.connect(1000n);
    rig.hear(2000n);
    rig.connectSwitched();
    expect(rig.expects(700n, 0)).toBe(true);
    expect(rig.expectsAnswered(701n, 700n)).toBe(false);
  });

  test('that streams a timeline it has left has WAL up to the switch point', () => {
    const rig = new Rig();
    rig.connectSwitched(FIRST);
    expect(rig.expects(500n, 0)).toBe(true);
    expect(rig.expectsAnswered(501n, 500n)).toBe(false);
  });
});
