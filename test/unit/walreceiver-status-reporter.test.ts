// When do positions go upstream, though nothing moves any more: what was skipped, and what may have come too early?
import { setImmediate as nextTurn } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  UPSTREAM_STATUS_AGAIN_MS,
  UPSTREAM_STATUS_ROOM_MS,
  UPSTREAM_UNSENT_STATUS_BYTES_MAX,
} from '../../src/config/limits.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { StatusReporter } from '../../src/walreceiver/status-reporter.ts';
import { decodeStandbyStatusUpdate } from '../../src/wire/replication-messages.ts';
import { ManualClock } from '../support/manual-clock.ts';

let clock: ManualClock;
let flushed: bigint;
let pending: number;
let asked: number;
let sent: bigint[];
let reporter: StatusReporter;

beforeEach(() => {
  clock = new ManualClock();
  [flushed, pending, asked, sent] = [100n, 0, 0, []];
  const positions = (): ReturnType<typeof positionsOf> => {
    asked += 1;
    return positionsOf(flushed);
  };
  reporter = new StatusReporter({ positions }, clock);
});

function positionsOf(
  lsn: bigint,
): Record<'writeLsn' | 'flushLsn' | 'applyLsn', typeof INVALID_LSN> {
  return { writeLsn: toLsn(lsn), flushLsn: toLsn(lsn), applyLsn: INVALID_LSN };
}

function attach(): void {
  reporter.attach({
    write: ([frame]) => {
      // CopyData: letter and length, then the message.
      const update = decodeStandbyStatusUpdate((frame ?? new Uint8Array()).subarray(5));
      sent.push(update.flushLsn);
    },
    pendingBytes: () => pending,
    onSent: () => {},
  });
}

async function moveTo(lsn: bigint): Promise<void> {
  flushed = lsn;
  reporter.positionsMoved();
  await nextTurn();
}

describe('an update for which the socket has no room', () => {
  beforeEach(async () => {
    attach();
    sent = [];
    pending = UPSTREAM_UNSENT_STATUS_BYTES_MAX + 1;
    await moveTo(200n);
    expect(sent).toEqual([]);
  });

  it('goes out once there is room, though nothing moves any more', () => {
    const before = asked;
    clock.advance(10 * UPSTREAM_STATUS_ROOM_MS);
    // What is handed out counts as said.
    expect(asked).toBe(before);
    pending = 0;
    clock.advance(UPSTREAM_STATUS_ROOM_MS);
    expect(sent).toEqual([200n]);
    clock.advance(60_000);
    expect(sent).toEqual([200n]);
  });

  it('is not said to the next connection as an update of its own', () => {
    reporter.detach();
    pending = 0;
    clock.advance(60_000);
    expect(sent).toEqual([]);
    expect(clock.nextTimerMs()).toBeNull();
  });

  it('is not forgotten where it was an answer', () => {
    attach();
    reporter.send(false);
    expect(sent).toEqual([]);
    pending = 0;
    clock.advance(UPSTREAM_STATUS_ROOM_MS);
    expect(sent).toEqual([200n]);
  });
});

it('says its first positions once more where it is told to', () => {
  attach();
  reporter.repeatSoon();
  expect(sent).toEqual([100n]);
  clock.advance(UPSTREAM_STATUS_AGAIN_MS - 1);
  expect(sent).toEqual([100n]);
  clock.advance(1);
  expect(sent).toEqual([100n, 100n]);
  clock.advance(60_000);
  expect(sent).toEqual([100n, 100n]);
  reporter.repeatSoon();
  reporter.detach();
  attach();
  clock.advance(60_000);
  expect(sent).toEqual([100n, 100n, 100n]);
});
