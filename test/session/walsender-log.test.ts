// Can a client that was let in fill the log by beginning and ending streams as fast as it can?
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ADMITTED_LOG_LINES } from '../../src/config/limits.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { message, query } from '../support/raw-client.ts';
import { Fixture } from '../support/wal-senders-fixture.ts';

let fixture: Fixture;

beforeEach(async () => {
  fixture = await Fixture.start({ clock: new ManualClock() });
});

afterEach(() => fixture.close());

it('streams that begin and end again and again are so many lines, and how many were left out', async () => {
  const { client } = await fixture.standby();
  const streams = ADMITTED_LOG_LINES.keyLinesMax;
  for (let count = 0; count < streams; count += 1) {
    client.send(query('START_REPLICATION 0/1234000 TIMELINE 1'), message('c'));
    await client.answer();
  }
  const lines = fixture.log.lines.filter((line) => /standby (starts|stops) streaming/.test(line));
  expect(lines[0]).toContain('standby starts streaming');
  expect(lines[1]).toContain('standby stops streaming');
  expect(lines.length).toBeGreaterThan(streams / 2);
  expect(lines.length).toBeLessThanOrEqual(streams);
});
