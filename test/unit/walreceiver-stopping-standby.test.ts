// Which questions of a server mean that it stops and waits for us in vain?
import { beforeEach, expect, it } from 'vitest';
import {
  UPSTREAM_STOP_ASKS_MIN,
  UPSTREAM_STOP_GAP_MS,
  UPSTREAM_STOP_MS,
} from '../../src/config/limits.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { StoppingStandby } from '../../src/walreceiver/stopping-standby.ts';
import type { AskedAt } from '../../src/walreceiver/stopping-standby.ts';

const END = toLsn(5000n);
const BEFORE = toLsn(4900n);

let standby: StoppingStandby;
let nowMs: number;

beforeEach(() => {
  standby = new StoppingStandby();
  nowMs = 1_000;
});

function asked(at: Partial<AskedAt> = {}): boolean {
  return standby.asked({ serverLsn: END, nextLsn: END, reported: reported(BEFORE), ...at }, nowMs);
}

function reported(flushLsn: Lsn, writeLsn: Lsn = flushLsn): AskedAt['reported'] {
  return { writeLsn, flushLsn, applyLsn: INVALID_LSN };
}

/** As often and as long as it takes, all but the last time. */
function askedAtLength(at: Partial<AskedAt> = {}): void {
  const sinceMs = nowMs;
  for (let count = 0; count <= UPSTREAM_STOP_ASKS_MIN; count += 1) {
    asked(at);
    nowMs = sinceMs + (UPSTREAM_STOP_MS * count) / UPSTREAM_STOP_ASKS_MIN;
  }
}

it('is left alone when it asks again and again for what does not come', () => {
  askedAtLength();
  nowMs -= 1;
  expect(asked()).toBe(false);
  nowMs += 1;
  expect(asked()).toBe(true);
});

it('is judged by what is written where no flush position is offered', () => {
  const at = { reported: reported(INVALID_LSN, BEFORE) };
  askedAtLength(at);
  expect(asked(at)).toBe(true);
  expect(asked({ reported: reported(INVALID_LSN, END) })).toBe(false);
});

it('is not left alone for a few questions, however long they take', () => {
  for (let count = 0; count < UPSTREAM_STOP_ASKS_MIN; count += 1) {
    expect(asked()).toBe(false);
    nowMs += UPSTREAM_STOP_GAP_MS - 1;
  }
});

it('is not left alone when it asks now and then whether we live, however often', () => {
  for (let count = 0; count < 10 * UPSTREAM_STOP_ASKS_MIN; count += 1) {
    expect(asked()).toBe(false);
    nowMs += UPSTREAM_STOP_GAP_MS;
  }
});

it('is not left alone while it is confirmed, has more for us, or goes on', () => {
  const confirmed = { reported: reported(END) };
  askedAtLength(confirmed);
  expect(asked(confirmed)).toBe(false);
  const ahead = { nextLsn: BEFORE };
  askedAtLength(ahead);
  expect(asked(ahead)).toBe(false);
  askedAtLength();
  const next = toLsn(5008n);
  expect(asked({ serverLsn: next, nextLsn: next })).toBe(false);
});
