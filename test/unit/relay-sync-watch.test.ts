// Is every change between enough standbys and too few told and counted once, and the time without enough of them?
import { beforeEach, expect, it } from 'vitest';
import { OTHERS_LOG_LINES } from '../../src/config/limits.ts';
import { SyncWatch } from '../../src/relay/sync-watch.ts';
import { parseSynchronousStandbyNames } from '../../src/syncrep/standby-names.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { LogRecord } from '../support/wal-senders-fixture.ts';

let clock: ManualClock;
let log: LogRecord;
let watch: SyncWatch;

beforeEach(() => {
  clock = new ManualClock();
  log = new LogRecord();
  watch = new SyncWatch(clock, log);
});

/** `text` empty: no policy. */
function look(text: string, isSatisfied: boolean): void {
  const policy = parseSynchronousStandbyNames(text);
  watch.look({ isSatisfied, eligible: isSatisfied ? 1 : 0, positions: null }, policy);
}

function levels(): string[] {
  return log.lines.map((line) => line.split(' ', 1)[0] ?? '');
}

it('says nothing without a policy', () => {
  look('', true);
  clock.advance(1_000);
  look('', true);
  expect(log.lines).toEqual([]);
  expect(watch).toMatchObject({ changes: 0, unsatisfiedSeconds: 0 });
});

it('begins without enough of them, which is no change, and counts the time from then on', () => {
  look('a', false);
  expect(watch.changes).toBe(0);
  clock.advance(2_000);
  expect(watch.unsatisfiedSeconds).toBe(2);
  look('a', false);
  look('a', true);
  look('a', true);
  expect(watch.changes).toBe(1);
  clock.advance(5_000);
  expect(watch.unsatisfiedSeconds).toBe(2);
  expect(watch.sinceMs).toBe(clock.wallMs() - 5_000);
  look('a', false);
  clock.advance(500);
  expect(watch).toMatchObject({ changes: 2, unsatisfiedSeconds: 2.5 });
  expect(levels()).toEqual(['info', 'info', 'warn']);
});

it('says so where another policy changes nothing else', () => {
  look('a', true);
  look('b', true);
  look('', true);
  expect(watch.changes).toBe(0);
  expect(log.lines).toHaveLength(2);
  look('c', false);
  expect(watch.changes).toBe(1);
});

it('makes no trouble of standbys that are sent away', () => {
  look('a', true);
  watch.ending();
  look('a', false);
  expect(levels()).toEqual(['info']);
  expect(watch.changes).toBe(1);
});

it('bounds the lines that a standby can cause which takes its word back again and again, and counts all the same', () => {
  look('a', false);
  for (let round = 0; round < 1_000; round += 1) look('a', round % 2 === 0);
  expect(watch.changes).toBe(1_000);
  expect(log.lines).toHaveLength(OTHERS_LOG_LINES.linesMax);
  clock.advance(OTHERS_LOG_LINES.windowMs);
  look('a', true);
  expect(log.lines.at(-1)).toContain(`"left_out":${1_001 - OTHERS_LOG_LINES.linesMax}`);
});
