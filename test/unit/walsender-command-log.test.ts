// Is each replication command in the log where somebody wants that, and can a client fill the log with them?
import { describe, expect, test } from 'vitest';
import { ADMITTED_LOG_LINES, REFUSAL_TEXT_MAX } from '../../src/config/limits.ts';
import { CommandLog } from '../../src/walsender/command-log.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { LogRecord } from '../support/wal-senders-fixture.ts';

const IDENTIFY = 'info received replication command: IDENTIFY_SYSTEM {}';

describe('a replication command', () => {
  test("is a line of information where that is configured, in PostgreSQL's words, else one for who looks for something", () => {
    const log = new LogRecord();
    const settings = { logReplicationCommands: true };
    const commands = new CommandLog(new ManualClock(), () => settings);
    commands.received(log, 'a', 'IDENTIFY_SYSTEM');
    settings.logReplicationCommands = false;
    commands.received(log, 'a', 'IDENTIFY_SYSTEM');
    expect(log.lines).toEqual([IDENTIFY, IDENTIFY.replace('info', 'debug')]);
  });

  test('is shortened', () => {
    const log = new LogRecord();
    const commands = new CommandLog(new ManualClock(), () => ({ logReplicationCommands: true }));
    commands.received(log, 'a', 'x'.repeat(1_000_000));
    expect(log.lines[0]?.length).toBeLessThan(REFUSAL_TEXT_MAX + 100);
  });

  test('that is sent again and again fills no log, and hides nobody else', () => {
    const log = new LogRecord();
    const clock = new ManualClock();
    const commands = new CommandLog(clock, () => ({ logReplicationCommands: true }));
    for (let count = 0; count < 10_000; count += 1) commands.received(log, 'flood', 'SHOW a');
    expect(log.lines).toHaveLength(ADMITTED_LOG_LINES.keyLinesMax);
    commands.received(log, 'other', 'IDENTIFY_SYSTEM');
    const leftOut = 10_000 - ADMITTED_LOG_LINES.keyLinesMax;
    expect(log.lines.at(-1)).toBe(IDENTIFY.replace('{}', `{"left_out":${leftOut}}`));
  });
});

describe('what streams say', () => {
  test('is bounded for each who causes it, and troubles are not hidden by beginnings and ends', () => {
    const log = new LogRecord();
    const clock = new ManualClock();
    const commands = new CommandLog(clock, () => ({ logReplicationCommands: false }));
    const { keyLinesMax, windowMs } = ADMITTED_LOG_LINES;
    const flood = commands.ofStreams(log, 'flood').child({ slot: 's' });
    for (let count = 0; count < 1_000; count += 1) flood.info('starts');
    flood.warn('trouble');
    flood.error('bad');
    flood.debug('more');
    commands.ofStreams(log, 'other').info('starts');
    clock.advance(windowMs);
    flood.info('starts');
    expect(log.lines.slice(0, keyLinesMax)).toEqual(
      Array.from({ length: keyLinesMax }, () => 'info starts {"slot":"s"}'),
    );
    expect(log.lines.slice(keyLinesMax)).toEqual([
      'warn trouble {"slot":"s"}',
      'error bad {"slot":"s"}',
      'debug more {"slot":"s"}',
      `info starts {"left_out":${1_000 - keyLinesMax}}`,
      'info starts {"slot":"s"}',
    ]);
  });
});
