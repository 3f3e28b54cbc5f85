// Is the state in the log when somebody asks for it, however little is logged and however much there is?
import { expect, test } from 'vitest';
import { openLog } from '../../src/base/log.ts';
import { StateDump } from '../../src/cli/state-dump.ts';
import { STATE_DUMP_INTERVAL_MS, STATE_DUMP_LINES_MAX } from '../../src/config/limits.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStatus } from '../support/relay-status.ts';

interface Line {
  readonly msg: string;
  readonly [field: string]: unknown;
}

function open(status: RelayStatus): { dump: StateDump; clock: ManualClock; lines: () => Line[] } {
  const written: string[] = [];
  const clock = new ManualClock();
  const log = openLog({
    level: 'error',
    format: 'json',
    component: 'relay',
    components: ['wal'],
    destination: { write: (text: string) => void written.push(text) },
  });
  log.levels.set('wal', 'debug');
  const source = { status: () => status };
  const dump = new StateDump({ source, log: log.unfiltered(), levels: log.levels, clock });
  return { dump, clock, lines: () => written.map((line) => JSON.parse(line) as Line) };
}

test('a line for each part has what the API shows of it, whatever the levels are', () => {
  const status = sampleStatus();
  const { dump, lines } = open(status);
  dump.write('received SIGUSR2');
  const texts = lines().map(({ msg }) => msg);
  for (const part of ['relay', 'upstream', 'store', 'sync', 'feedback', 'access']) {
    expect(texts).toContain(`state: ${part}`);
  }
  expect(texts.filter((text) => text === 'state: standby')).toHaveLength(status.standbys.length);
  expect(texts.filter((text) => text === 'state: slot')).toHaveLength(status.slots.length);
  expect(texts.at(-1)).toBe('received SIGUSR2: the state is written down above');
  const of = (part: string): Line | undefined =>
    lines().find(({ msg }) => msg === `state: ${part}`);
  expect(of('relay')).toMatchObject({ state: status.state, component: 'relay' });
  expect(of('upstream')).toMatchObject({ host: status.upstream.host });
  expect(of('upstream')).toHaveProperty('reported_flush');
  expect(of('log level set at run time')).toMatchObject({ level: 'info', set_level: 'debug' });
});

test('no line holds a list or an object', () => {
  const { dump, lines } = open(sampleStatus());
  dump.write('received SIGUSR2');
  for (const line of lines()) {
    for (const value of Object.values(line))
      expect(typeof value === 'object' && value !== null).toBe(false);
  }
});

test('a thousand standbys are some lines, and one that says how many more there are', () => {
  const [one] = sampleStatus().standbys;
  const standbys =
    one === undefined ? [] : Array.from({ length: 1_000 }, (_, pid) => ({ ...one, pid }));
  const { dump, lines } = open({ ...sampleStatus(), standbys });
  dump.write('received SIGUSR2');
  expect(lines().filter(({ msg }) => msg === 'state: standby')).toHaveLength(STATE_DUMP_LINES_MAX);
  expect(lines().find(({ msg }) => msg === 'state: standby: more than are shown')).toMatchObject({
    more: 1_000 - STATE_DUMP_LINES_MAX,
  });
});

test('who asks again and again gets one dump in a while, with how often it was asked for in vain', () => {
  const { dump, clock, lines } = open(sampleStatus());
  for (let count = 0; count < 100; count += 1) dump.write('received SIGUSR2');
  const before = lines().length;
  expect(lines().filter(({ msg }) => msg === 'state: relay')).toHaveLength(1);
  clock.advance(STATE_DUMP_INTERVAL_MS);
  dump.write('received SIGUSR2');
  expect(lines().at(-1)).toMatchObject({ left_out: 99 });
  expect(lines().length).toBe(2 * before);
});
