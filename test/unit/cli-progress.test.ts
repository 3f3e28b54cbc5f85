// Is a long work shown on a terminal, quiet elsewhere, and silent when it is short?
import { describe, expect, test } from 'vitest';
import type { Log } from '../../src/base/log.ts';
import { CatchupProgress } from '../../src/cli/catchup-progress.ts';
import { ProgressLine, progressText, Speedometer, timeText } from '../../src/cli/progress-line.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import type { RelayState, RelayStatus } from '../../src/status/status.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStatus } from '../support/relay-status.ts';

const MB = 1024 ** 2;

function lineOn(isTerminal: boolean): {
  clock: ManualClock;
  line: ProgressLine;
  shown: () => string;
} {
  const clock = new ManualClock();
  let text = '';
  const line = new ProgressLine(
    { clock, isTerminal, write: (part) => (text += part) },
    'wal verify',
  );
  return { clock, line, shown: () => text };
}

describe('the line of a work', () => {
  test.each([true, false])(
    'what is over within a second shows nothing (terminal: %s)',
    (isTerminal) => {
      const { clock, line, shown } = lineOn(isTerminal);
      clock.advance(999);
      line.update({ doneBytes: 10, totalBytes: 100 });
      line.end();
      clock.advance(60_000);
      expect(shown()).toBe('');
      expect(clock.nextTimerMs()).toBeNull();
    },
  );

  test('a terminal has one line that is written over, and taken away', () => {
    const { clock, line, shown } = lineOn(true);
    line.update({ doneBytes: 25 * MB, totalBytes: 100 * MB });
    clock.advance(1000);
    expect(shown()).toBe('\r\u001b[2Kwal verify  25%  25.0 MB/s  ETA 0:03  25.0 MB of 100 MB\r');
    line.update({ doneBytes: 50 * MB, totalBytes: 100 * MB });
    clock.advance(1000);
    expect(shown().split('\r\u001b[2K').at(-1)).toBe(
      'wal verify  50%  25.0 MB/s  ETA 0:02  50.0 MB of 100 MB\r',
    );
    line.end();
    expect(shown().endsWith('\r\u001b[2K')).toBe(true);
    expect(shown()).not.toContain('\n');
  });

  test('elsewhere there is a line every ten seconds', () => {
    const { clock, line, shown } = lineOn(false);
    line.update({ doneBytes: 100 * MB, totalBytes: 1000 * MB });
    clock.advance(9_999);
    expect(shown()).toBe('');
    clock.advance(1);
    line.update({ doneBytes: 600 * MB, totalBytes: 1000 * MB });
    clock.advance(10_000);
    expect(shown()).toBe(
      'wal verify  10%  10.0 MB/s  ETA 1:30  100 MB of 1000 MB\n' +
        'wal verify  60%  50.0 MB/s  ETA 0:08  600 MB of 1000 MB\n',
    );
    line.end();
    expect(shown()).not.toContain('\u001b');
  });

  test('a work of nothing is done, and an unknown speed has no end', () => {
    expect(progressText(0, 0, 0)).toBe('100%  0.0 MB/s  ETA -  0 B of 0 B');
    expect(progressText(200, 100, 1)).toContain('100%');
    expect(new Speedometer().bytesPerSecond()).toBe(0);
  });

  test.each([
    [0, '0:00'],
    [7.2, '0:08'],
    [125, '2:05'],
    [3723, '1:02:03'],
    [1e9, '99:00:00'],
  ])('%d seconds are %s', (seconds, text) => {
    expect(timeText(seconds)).toBe(text);
  });
});

describe('a catch-up', () => {
  interface Line {
    readonly message: string;
    readonly fields: unknown;
  }

  function watched(isTerminal: boolean): {
    clock: ManualClock;
    lines: Line[];
    shown: () => string;
    be: (state: RelayState, received: number, server: number) => void;
    stop: () => void;
  } {
    const clock = new ManualClock();
    const lines: Line[] = [];
    let text = '';
    const log: Log = {
      debug() {},
      info: (message, fields) => void lines.push({ message, fields }),
      warn() {},
      error() {},
      child: () => log,
    };
    let status: RelayStatus = sampleStatus({ state: 'connecting' });
    const progress = new CatchupProgress({
      source: { status: () => status },
      clock,
      log,
      terminal: isTerminal ? (part) => (text += part) : null,
    });
    return {
      clock,
      lines,
      shown: () => text,
      be: (state, received, server) => {
        const { store, upstream } = sampleStatus();
        status = sampleStatus({
          state,
          store: { ...store, receivedLsn: toLsn(BigInt(received * MB)) },
          upstream: { ...upstream, serverLsn: toLsn(BigInt(server * MB)) },
        });
      },
      stop: () => progress.stop(),
    };
  }

  test('on a terminal has percent of what was missing at first, speed, time left and lag', () => {
    const { clock, be, shown, lines, stop } = watched(true);
    be('catchup', 100, 300);
    clock.advance(1000);
    expect(shown()).toBe('');
    be('catchup', 150, 310);
    clock.advance(1000);
    expect(shown()).toBe('\r\u001b[2Kcatching up  25%  50.0 MB/s  ETA 0:04  lag 160 MB\r');
    be('catchup', 305, 320);
    clock.advance(1000);
    expect(shown()).toContain('catching up  100%  102.5 MB/s  ETA 0:01  lag 15.0 MB');
    be('streaming', 320, 320);
    clock.advance(1000);
    expect(shown().endsWith('\r\u001b[2K')).toBe(true);
    expect(lines).toEqual([
      {
        message: 'caught up with the upstream',
        fields: { lsn: '0/14000000', bytes: 220 * MB, seconds: 3 },
      },
    ]);
    stop();
    expect(clock.nextTimerMs()).toBeNull();
  });

  test('elsewhere is a log line every ten seconds, with its end', () => {
    const { clock, be, lines, stop } = watched(false);
    be('catchup', 0, 1000);
    clock.advance(1000);
    for (let second = 1; second <= 20; second++) {
      be('catchup', second * 10, 1000);
      clock.advance(1000);
    }
    be('streaming', 1000, 1000);
    clock.advance(1000);
    expect(lines.map(({ message }) => message)).toEqual([
      'catching up with the upstream',
      'catching up with the upstream',
      'caught up with the upstream',
    ]);
    expect(lines[0]?.fields).toEqual({
      percent: 10,
      speed: '10.0 MB/s',
      eta: '1:30',
      lag_bytes: 900 * MB,
      lsn: '0/6400000',
    });
    stop();
  });

  test.each([true, false])(
    'that is over within a second shows nothing (terminal: %s)',
    (isTerminal) => {
      const { clock, be, lines, shown } = watched(isTerminal);
      be('catchup', 0, 1000);
      clock.advance(1000);
      be('streaming', 1000, 1000);
      clock.advance(60_000);
      expect([shown(), lines]).toEqual(['', []]);
    },
  );

  test('that is cut short is taken away without a word, and the next one begins anew', () => {
    const { clock, be, lines, shown } = watched(true);
    be('catchup', 0, 1000);
    clock.advance(1000);
    be('catchup', 500, 1000);
    clock.advance(1000);
    be('connecting', 500, 1000);
    clock.advance(1000);
    expect(shown().endsWith('\r\u001b[2K')).toBe(true);
    expect(lines).toEqual([]);
    be('catchup', 500, 1500);
    clock.advance(1000);
    be('catchup', 600, 1500);
    clock.advance(1000);
    expect(shown()).toContain('catching up  10%  100.0 MB/s');
  });
});
