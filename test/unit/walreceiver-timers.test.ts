// When a status update is due, and when a silent upstream is given up: with numbers instead of clocks.
import { describe, expect, it } from 'vitest';
import {
  QUIET_PING_MS,
  TIMEOUT_SECOND_LOOK_MS,
  UPSTREAM_SILENT_MS,
} from '../../src/config/limits.ts';
import { StreamTimers } from '../../src/walreceiver/stream-timers.ts';

const T = { receiverTimeoutMs: 60_000, statusIntervalMs: 10_000 };

describe('wal_receiver_timeout', () => {
  const quiet = { receiverTimeoutMs: 60_000, statusIntervalMs: 0 };

  it('asks once at half the time, gives up at the full time', () => {
    const timers = new StreamTimers(quiet, 0);
    expect(timers.nextDueAtMs()).toBe(30_000);
    expect(timers.due(29_999)).toBeNull();
    expect(timers.due(30_000)).toBe('ping');
    expect(timers.due(30_000)).toBeNull();
    expect(timers.nextDueAtMs()).toBe(60_000);
    expect(timers.due(59_999)).toBeNull();
    expect(timers.due(60_000)).toBeNull();
    expect(timers.nextDueAtMs()).toBe(60_000 + TIMEOUT_SECOND_LOOK_MS);
    expect(timers.due(60_000 + TIMEOUT_SECOND_LOOK_MS)).toBe('timeout');
  });

  it('reads what came in while we did not run, before silence counts', () => {
    const timers = new StreamTimers(quiet, 0);
    expect(timers.due(30_000)).toBe('ping');
    // Stopped for 90 s; the answer lies in the socket.
    expect(timers.due(121_000)).toBeNull();
    timers.received(121_001);
    expect(timers.due(121_000 + TIMEOUT_SECOND_LOOK_MS)).toBeNull();
    expect(timers.nextDueAtMs()).toBe(151_001);
  });

  it('asks a server that was never asked because we did not run, and gives it half the time to answer', () => {
    const timers = new StreamTimers(quiet, 0);
    timers.received(10_000);
    expect(timers.due(100_000)).toBe('ping');
    expect(timers.due(100_000)).toBeNull();
    expect(timers.nextDueAtMs()).toBe(130_000);
    expect(timers.due(129_999)).toBeNull();
    expect(timers.due(130_000)).toBeNull();
    expect(timers.due(130_000 + TIMEOUT_SECOND_LOOK_MS)).toBe('timeout');
  });

  it('counts from the receipt of data, and asks again in the next silence', () => {
    const timers = new StreamTimers(quiet, 0);
    expect(timers.due(30_000)).toBe('ping');
    timers.received(31_000);
    expect(timers.due(60_000)).toBeNull();
    expect(timers.due(61_000)).toBe('ping');
    expect(timers.due(91_000)).toBeNull();
    expect(timers.due(91_000 + TIMEOUT_SECOND_LOOK_MS)).toBe('timeout');
  });

  it('that a reload makes longer at the last moment counts anew, and nothing is looked at in haste', () => {
    const timeouts = { ...quiet };
    const timers = new StreamTimers(timeouts, 0);
    expect(timers.due(30_000)).toBe('ping');
    expect(timers.due(60_000)).toBeNull();
    timeouts.receiverTimeoutMs = 600_000;
    expect(timers.due(60_010)).toBe('ping');
    expect(timers.due(60_010)).toBeNull();
    expect(timers.nextDueAtMs()).toBe(60_010 + QUIET_PING_MS);
    expect(timers.due(599_999)).toBe('ping');
    expect(timers.nextDueAtMs()).toBe(600_000);
    expect(timers.due(600_000)).toBeNull();
    expect(timers.due(600_000 + TIMEOUT_SECOND_LOOK_MS)).toBe('timeout');
  });

  it('0 means never, but asks who is silent whether it is there, every half minute', () => {
    const timers = new StreamTimers({ receiverTimeoutMs: 0, statusIntervalMs: 0 }, 0);
    expect(timers.nextDueAtMs()).toBe(QUIET_PING_MS);
    expect(timers.due(QUIET_PING_MS - 1)).toBeNull();
    expect(timers.due(QUIET_PING_MS)).toBe('ping');
    expect(timers.due(QUIET_PING_MS)).toBeNull();
    expect(timers.nextDueAtMs()).toBe(2 * QUIET_PING_MS);
    expect(timers.due(1e12)).toBe('ping');
    expect(timers.due(1e12)).toBeNull();
    timers.received(1e12);
    expect(timers.nextDueAtMs()).toBe(1e12 + QUIET_PING_MS);
  });

  it('asks an idle server every half minute however long it may be silent, so that its last word is never old', () => {
    const timers = new StreamTimers({ receiverTimeoutMs: 600_000, statusIntervalMs: 0 }, 0);
    expect(timers.due(QUIET_PING_MS - 1)).toBeNull();
    expect(timers.due(QUIET_PING_MS)).toBe('ping');
    timers.received(QUIET_PING_MS + 10);
    expect(timers.due(2 * QUIET_PING_MS)).toBeNull();
    expect(timers.due(2 * QUIET_PING_MS + 10)).toBe('ping');
    expect(timers.nextDueAtMs()).toBe(3 * QUIET_PING_MS + 10);
    expect(QUIET_PING_MS).toBeLessThan(UPSTREAM_SILENT_MS);
  });

  it.each([0, 86_400_000])(
    'asks an idle server again and again where nothing else wakes us, with a timeout of %i ms',
    (receiverTimeoutMs) => {
      const timers = new StreamTimers({ receiverTimeoutMs, statusIntervalMs: 0 }, 0);
      let asked = 0;
      let heardAtMs = 0;
      let dueAtMs = timers.nextDueAtMs();
      // Bytes that arrive set no timer: the next look is the one that was planned.
      for (let looks = 0; looks < 20; looks++) {
        const nowMs = dueAtMs;
        expect(nowMs - heardAtMs).toBeLessThan(UPSTREAM_SILENT_MS);
        const isAsked = timers.due(nowMs) === 'ping';
        dueAtMs = timers.nextDueAtMs();
        expect(dueAtMs).toBeGreaterThan(nowMs);
        if (!isAsked) continue;
        asked++;
        heardAtMs = nowMs + 1;
        timers.received(heardAtMs);
      }
      expect(asked).toBeGreaterThanOrEqual(10);
    },
  );
});

describe('wal_receiver_status_interval', () => {
  it('is counted from the last update, whatever caused it', () => {
    const timers = new StreamTimers(T, 0);
    expect(timers.nextDueAtMs()).toBe(10_000);
    timers.statusSent(4_000);
    expect(timers.due(10_000)).toBeNull();
    expect(timers.due(14_000)).toBe('status');
  });
});

describe('a paused stream', () => {
  it('tells the server every second that we live, and takes silence for no sign', () => {
    const timers = new StreamTimers({ receiverTimeoutMs: 2_000, statusIntervalMs: 10_000 }, 0);
    timers.paused(0);
    expect(timers.nextDueAtMs()).toBe(1_000);
    for (let now = 1_000; now <= 30_000; now += 1_000) {
      expect(timers.due(now)).toBe('status');
      timers.statusSent(now);
      expect(timers.due(now)).toBeNull();
    }
  });

  it('is given up after a minute without a byte on the disk', () => {
    const timers = new StreamTimers(T, 0);
    timers.paused(5_000);
    timers.statusSent(64_500);
    expect(timers.due(64_999)).toBeNull();
    expect(timers.due(65_000)).toBe('full');
  });

  it('is not given up while bytes reach the disk', () => {
    const timers = new StreamTimers(T, 0);
    timers.paused(5_000);
    timers.progressed(60_000);
    timers.statusSent(119_500);
    expect(timers.due(119_999)).toBeNull();
    expect(timers.due(120_000)).toBe('full');
  });

  it('gives the server the full time again once it is read', () => {
    const timers = new StreamTimers({ receiverTimeoutMs: 2_000, statusIntervalMs: 0 }, 0);
    timers.paused(0);
    expect(timers.isPaused).toBe(true);
    timers.resumed(50_000);
    expect(timers.isPaused).toBe(false);
    expect(timers.due(50_999)).toBeNull();
    expect(timers.due(51_000)).toBe('ping');
    expect(timers.due(52_000)).toBeNull();
    expect(timers.due(52_000 + TIMEOUT_SECOND_LOOK_MS)).toBe('timeout');
  });
});
