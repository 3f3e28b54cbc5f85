// Is what a session sent counted once, whether it is there at a scrape, has left since, or came and went between two?
import { expect, test } from 'vitest';
import { APPLICATION_NAMES_MAX, METRICS_REUSE_MS } from '../../src/config/limits.ts';
import { openMetrics } from '../../src/metrics/registry.ts';
import type { StandbyStatus } from '../../src/status/status.ts';
import { SessionCounts } from '../../src/walsender/session-counts.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';

/** Scrapes of sessions that count as those of walcast do. */
function sessions() {
  const clock = new ManualClock();
  const counts = new SessionCounts();
  const there = new Map<number, StandbyStatus>();
  const { standbyTotals } = sampleStatus();
  const metrics = openMetrics({
    source: {
      status: () =>
        sampleStatus({
          standbys: [...there.values()],
          standbyTotals: { ...standbyTotals, ...counts.totals() },
          slots: [],
        }),
    },
    clock,
  });
  return {
    counts,
    /** It streams, and has sent so much. */
    stream: (pid: number, applicationName: string, sentBytes: number): void => {
      if (!there.has(pid)) counts.streamBegan(applicationName);
      there.set(pid, sampleStandby({ pid, applicationName, sentBytes, sendBlockedSeconds: 0 }));
    },
    end: (pid: number, sentBytes: number): void => {
      const name = there.get(pid)?.applicationName ?? '';
      there.delete(pid);
      counts.ended(name, { sentBytes, blockedSeconds: sentBytes / 1000 });
    },
    read: async (family: string, standby: string): Promise<string | undefined> => {
      clock.advance(METRICS_REUSE_MS);
      const { body } = await metrics.render();
      const series = `walcast_${family}{standby="${standby}"} `;
      return body
        .split('\n')
        .find((line) => line.startsWith(series))
        ?.slice(series.length);
    },
  };
}

const SENT = 'standby_sent_bytes_total';

test('what a session sends between the last scrape and its end is counted', async () => {
  const { stream, end, read } = sessions();
  stream(1, 'a', 100);
  stream(2, 'a', 1_000);
  expect(await read(SENT, 'a')).toBe('1100');
  end(1, 150);
  expect(await read(SENT, 'a')).toBe('1150');
  expect(await read('standby_send_blocked_seconds_total', 'a')).toBe('0.15');
  stream(2, 'a', 1_001);
  expect(await read(SENT, 'a')).toBe('1151');
  end(2, 1_001);
  expect(await read(SENT, 'a')).toBe('1151');
});

test('so is one that came and went between two scrapes', async () => {
  const { stream, end, read } = sessions();
  expect(await read(SENT, 'a')).toBe(undefined);
  stream(1, 'a', 0);
  end(1, 70);
  expect(await read(SENT, 'a')).toBe('70');
});

test('of names that are not told apart any more nothing is counted twice', async () => {
  const { counts, stream, end, read } = sessions();
  for (let index = 0; index < APPLICATION_NAMES_MAX; index++) counts.streamBegan(`s${index}`);
  stream(1, 'late', 500);
  expect(await read(SENT, '_other')).toBe('500');
  end(1, 700);
  expect(await read(SENT, '_other')).toBe('700');
  stream(2, 'later', 30);
  expect(await read(SENT, '_other')).toBe('730');
});
