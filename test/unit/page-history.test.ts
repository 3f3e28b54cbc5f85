// Is what the charts of the status page draw what was seen, and nothing else?
import { describe, expect, test } from 'vitest';
import { History, HISTORY_SAMPLES, LAG_SERIES_MAX } from '../../page/history.ts';
import type { Picture } from '../../page/picture.ts';
import { samplePicture } from '../support/page-picture.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';

const START_MS = 1_800_000_000_000;

interface Seen {
  /** Seconds into it at which walcast was started. */
  readonly started?: number;
  readonly second: number;
  readonly received?: number;
  /** Sent bytes by pid. */
  readonly sent?: Readonly<Record<number, number>>;
  /** Replay lag in seconds by pid. */
  readonly lag?: Readonly<Record<number, number>>;
}

function pictureAt({ second, started = 0, received = 0, sent = {}, lag = {} }: Seen): Picture {
  const pids = [...new Set([...Object.keys(sent), ...Object.keys(lag)].map(Number))];
  return samplePicture(
    {
      startedAtMs: START_MS + started * 1_000,
      upstream: { ...sampleStatus().upstream, receivedBytes: received },
      standbys: pids.map((pid) => {
        const seconds = lag[pid] ?? 0;
        return sampleStandby({
          pid,
          applicationName: `standby_${pid}`,
          sentBytes: sent[pid] ?? 0,
          endToEndLag: { writeSeconds: seconds, flushSeconds: seconds, applySeconds: seconds },
        });
      }),
    },
    START_MS + second * 1_000,
  );
}

function historyOf(seen: readonly (Seen | null)[]): History {
  const history = new History();
  seen.forEach((one, second) => {
    history.sample(one === null ? null : pictureAt(one), START_MS + second * 1_000);
  });
  return history;
}

describe('the history', () => {
  test('is empty when the page is opened', () => {
    const history = new History();
    expect(history.length).toBe(0);
    expect(history.seconds).toBe(0);
    expect(history.times()).toEqual([]);
    expect(history.rates()).toEqual({ received: [], sent: [] });
    expect(history.worst(5)).toEqual([]);
    expect(history.flow).toEqual({ receivedRate: null, sentRate: null });
  });

  test('knows no rate before the second event: counters alone are none', () => {
    const history = historyOf([{ second: 0, received: 5e9, sent: { 1: 7e9 } }]);
    expect(history.rates()).toEqual({ received: [null], sent: [null] });
  });

  test('takes rates by the clock of walcast, not by when they came in', () => {
    const history = historyOf([
      { second: 0, received: 1_000, sent: { 1: 500 } },
      { second: 2, received: 5_000, sent: { 1: 6_500 } },
    ]);
    expect(history.flow).toEqual({ receivedRate: 2_000, sentRate: 3_000 });
  });

  test('holds a rate for a moment without an event, and then takes it for nothing', () => {
    const same: Seen = { second: 1, received: 2_000 };
    const history = historyOf([{ second: 0, received: 0 }, same, same, same, same]);
    expect(history.rates().received).toEqual([null, 2_000, 2_000, 0, 0]);
  });

  test('has a gap where there was no connection, and no rate across it', () => {
    const history = historyOf([
      { second: 0, received: 0, lag: { 1: 2 } },
      { second: 1, received: 100, lag: { 1: 3 } },
      null,
      { second: 3, received: 9_000, lag: { 1: 4 } },
      { second: 4, received: 9_200, lag: { 1: 5 } },
    ]);
    expect(history.rates().received).toEqual([null, 100, null, null, 200]);
    expect(history.worst(1)[0]?.values).toEqual([2, 3, null, 4, 5]);
  });

  test('knows no rate across a restart of walcast: its counters begin anew', () => {
    const history = historyOf([
      { second: 0, received: 9_000 },
      { second: 1, started: 1, received: 100 },
      { second: 2, started: 1, received: 150 },
      { second: 3, started: 3, received: 500 },
    ]);
    expect(history.rates().received).toEqual([null, null, 50, null]);
  });

  test('counts all of what a new session was sent, and nothing of one that is gone', () => {
    const history = historyOf([
      { second: 0, sent: { 1: 1_000, 2: 1_000 } },
      { second: 1, sent: { 2: 1_500, 3: 40 } },
    ]);
    expect(history.flow.sentRate).toBe(540);
  });

  test('begins anew when the clock of this machine goes back', () => {
    const history = new History();
    history.sample(pictureAt({ second: 0 }), START_MS);
    history.sample(pictureAt({ second: 1 }), START_MS - 60_000);
    expect(history.times()).toEqual([START_MS / 1_000 - 60]);
  });

  test('goes back five minutes and no further', () => {
    const history = historyOf(
      Array.from({ length: HISTORY_SAMPLES + 20 }, (_, second) => ({
        second,
        received: second * 10,
        lag: { 1: second },
      })),
    );
    const times = history.times();
    expect(times).toHaveLength(HISTORY_SAMPLES);
    expect(history.seconds).toBe(HISTORY_SAMPLES);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(times.at(-1)).toBe(START_MS / 1_000 + HISTORY_SAMPLES + 19);
    expect(history.worst(1)[0]?.values[0]).toBe(20);
    expect(history.worst(1)[0]?.values.at(-1)).toBe(HISTORY_SAMPLES + 19);
  });
});

describe('the worst', () => {
  test('are those that lag most in the last minute, with their values as they were', () => {
    const history = historyOf([
      { second: 0, lag: { 1: 0.01, 2: 40, 3: 4 } },
      { second: 1, lag: { 1: 0.01, 2: 41, 3: 4 } },
    ]);
    expect(history.worst(2)).toEqual([
      { pid: 2, name: 'standby_2', values: [40, 41] },
      { pid: 3, name: 'standby_3', values: [4, 4] },
    ]);
  });

  test('keep their places while they lag alike', () => {
    const history = historyOf([{ second: 0, lag: { 3: 0.004, 1: 0.0041, 2: 0.0043 } }]);
    const names = history.worst(3).map(({ name }) => name);
    expect(names).toEqual(['standby_1', 'standby_2', 'standby_3']);
  });

  test('one that has left stays for five minutes, and is forgotten then', () => {
    const history = historyOf([
      { second: 0, lag: { 1: 9, 2: 1 } },
      ...Array.from({ length: HISTORY_SAMPLES - 1 }, (_, index) => ({
        second: index + 1,
        lag: { 2: 1 },
      })),
    ]);
    expect(history.worst(5)).toHaveLength(2);
    history.sample(pictureAt({ second: 900, lag: { 2: 1 } }), START_MS + 900_000);
    expect(history.worst(5).map(({ pid }) => pid)).toEqual([2]);
  });

  test('another standby under the pid of one before, after a restart, has a line of its own', () => {
    const history = historyOf([{ second: 0, lag: { 1: 9 } }]);
    const renamed = samplePicture({
      standbys: [sampleStandby({ pid: 1, applicationName: 'other' })],
    });
    history.sample(renamed, START_MS + 1_000);
    expect(history.worst(5).map(({ name }) => name)).toEqual(['standby_1', 'other']);
  });

  test('those that come and go all the time are forgotten sooner, and none that is there', () => {
    const history = new History();
    for (let round = 0; round < 5; round++) {
      const lag = Object.fromEntries(
        Array.from({ length: 600 }, (_, index) => [round * 600 + index, 1]),
      );
      history.sample(pictureAt({ second: round, lag }), START_MS + round * 1_000);
      expect(history.seriesCount).toBeLessThanOrEqual(LAG_SERIES_MAX);
    }
    expect(history.worst(10_000).filter(({ values }) => values.at(-1) !== null)).toHaveLength(600);
  });
});

test('while the machine slept nothing was seen, and nothing is drawn', () => {
  const history = historyOf([
    { second: 0, received: 0 },
    { second: 1, received: 1_000 },
  ]);
  history.sample(pictureAt({ second: 100, received: 9_000 }), START_MS + 100_000);
  history.sample(pictureAt({ second: 101, received: 9_500 }), START_MS + 101_000);
  expect(history.rates().received).toEqual([null, 1_000, null, null, 500]);
});
