// Which lines are written, when levels come from the configuration, of all or of a component, and from somebody who looks for something?
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openLog } from '../../src/base/log.ts';
import type { LogOptions, ProcessLog } from '../../src/base/log.ts';
import { DEFAULT_COMPONENT, LOG_LEVELS, LogLevels } from '../../src/base/log-levels.ts';
import type { LogLevel } from '../../src/base/log-levels.ts';
import { LOG_COMPONENTS } from '../../src/config/log-components.ts';
import { changeLogLevel } from '../../src/relay/log-level-change.ts';

function open(options: Partial<LogOptions> = {}): { log: ProcessLog; written: string[] } {
  const written: string[] = [];
  const destination = { write: (text: string) => void written.push(text) };
  const components = ['wal', 'walsender'];
  const base = { level: 'info', format: 'json', component: 'relay', components } as const;
  return { log: openLog({ ...base, destination, ...options }), written };
}

/** Component and message of each line. */
function said(written: readonly string[]): string[] {
  return written.map((line) => {
    const { component, msg } = JSON.parse(line) as { component: string; msg: string };
    return `${component}: ${msg}`;
  });
}

describe('a component', () => {
  test('that the configuration gives a level writes by it, all others by the one of all', () => {
    const { log, written } = open({ levels: new Map([['wal', 'debug']]) });
    for (const component of ['wal', 'walsender']) {
      log.child({ component }).debug('detail');
      log.child({ component }).info('news');
    }
    log.debug('detail');
    expect(said(written)).toEqual(['wal: detail', 'wal: news', 'walsender: news']);
  });

  test('can be quieter than all others', () => {
    const { log, written } = open({ levels: new Map([['wal', 'error']]) });
    log.child({ component: 'wal' }).warn('left out');
    log.child({ component: 'wal' }).error('told');
    expect(said(written)).toEqual(['wal: told']);
  });

  test('is named once on each line, the innermost', () => {
    const { log, written } = open();
    log.child({ component: 'wal', lsn: '0/1' }).child({ component: 'walsender' }).info('a', {
      lsn: '0/2',
    });
    log.info('b');
    expect(written[0]?.match(/"component"/g)).toHaveLength(1);
    expect(written[0]?.match(/"lsn"/g)).toHaveLength(1);
    expect(written.map((line) => JSON.parse(line))).toMatchObject([
      { component: 'walsender', lsn: '0/2', msg: 'a' },
      { component: 'relay', msg: 'b' },
    ]);
  });

  test('is changed while it runs, for logs that were made before, and given back', () => {
    const { log, written } = open();
    const child = log.child({ component: 'wal' });
    child.debug('1');
    expect(log.levels.set('wal', 'debug')).toBe(true);
    child.debug('2');
    log.levels.set('wal', null);
    child.debug('3');
    expect(said(written)).toEqual(['wal: 2']);
  });

  test('keeps what was set while it runs when the configuration is read again', () => {
    const { log, written } = open();
    log.levels.set('wal', 'debug');
    log.adjust({ level: 'error', format: 'json', levels: new Map([['wal', 'warn']]) });
    log.child({ component: 'wal' }).debug('still');
    log.levels.set('wal', null);
    log.child({ component: 'wal' }).info('left out');
    log.child({ component: 'wal' }).warn('as configured');
    expect(said(written)).toEqual(['wal: still', 'wal: as configured']);
  });

  test('that is not known, and a level that is not, are refused with those that there are', () => {
    const { log } = open();
    expect(log.levels.set('planner', 'debug')).toBe(false);
    expect(changeLogLevel(log.levels, 'planner', 'debug')).toEqual({
      sqlstate: '42704',
      message: '"planner" is no component of the log',
      hint: 'Components are default, wal, walsender.',
    });
    expect(changeLogLevel(log.levels, 'wal', 'loud')).toEqual({
      sqlstate: '22023',
      message: '"loud" is no level of the log',
      hint: 'Levels are debug, info, warn, error.',
    });
    expect(changeLogLevel(log.levels, 'x'.repeat(9_999), 'debug')?.message.length).toBeLessThan(
      120,
    );
    expect(log.levels.list().every(({ origin }) => origin === 'default')).toBe(true);
  });
});

describe('the level of all others', () => {
  test('can be set while it runs, and leaves alone who has one of his own', () => {
    const { log, written } = open({ levels: new Map([['wal', 'warn']]) });
    log.levels.set(DEFAULT_COMPONENT, 'debug');
    log.child({ component: 'walsender' }).debug('told');
    log.debug('told');
    log.child({ component: 'wal' }).info('left out');
    expect(said(written)).toEqual(['walsender: told', 'relay: told']);
    expect(log.levels.list()).toEqual([
      { component: 'default', level: 'debug', origin: 'runtime' },
      { component: 'wal', level: 'warn', origin: 'configuration' },
      { component: 'walsender', level: 'debug', origin: 'runtime' },
    ]);
  });
});

test('what somebody has just asked for is written whatever the levels are', () => {
  const { log, written } = open({ level: 'error', levels: new Map([['wal', 'error']]) });
  log.unfiltered().info('asked for');
  log.unfiltered().child({ component: 'wal' }).debug('this, too');
  log.info('left out');
  expect(said(written)).toEqual(['relay: asked for', 'wal: this, too']);
});

test('what is listed is what is written, whatever was set in whatever order', () => {
  const names = ['a', 'b', 'c'];
  const level = fc.constantFrom<LogLevel>(...LOG_LEVELS);
  const change = fc.tuple(fc.constantFrom('default', ...names), fc.option(level));
  const settings = fc.record({
    level,
    levels: fc.array(fc.tuple(fc.constantFrom(...names), level)).map((pairs) => new Map(pairs)),
  });
  fc.assert(
    fc.property(settings, fc.array(fc.oneof(change, settings)), (first, changes) => {
      const levels = new LogLevels(first, names);
      for (const next of changes) {
        if (Array.isArray(next)) levels.set(...next);
        else levels.adjust(next);
      }
      for (const { component, level: shown } of levels.list()) {
        const of = component === DEFAULT_COMPONENT ? null : component;
        const written = LOG_LEVELS.filter((name) => levels.isWritten(of, name));
        expect(written).toEqual(LOG_LEVELS.slice(LOG_LEVELS.indexOf(shown)));
      }
    }),
  );
});

test('the components that can have a level are those that the program names, and each is described', () => {
  const sources = fileURLToPath(new URL('../../src', import.meta.url));
  const files = readdirSync(sources, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const named = files.flatMap((name) =>
    [...readFileSync(join(sources, name), 'utf8').matchAll(/\bcomponent: '([^']+)'/g)].map(
      ([, component = '']) => component,
    ),
  );
  expect(files.length).toBeGreaterThan(100);
  expect([...new Set([...named, 'relay'])].toSorted()).toEqual([...LOG_COMPONENTS]);
  const page = readFileSync(new URL('../../docs/logging.md', import.meta.url), 'utf8');
  for (const component of LOG_COMPONENTS) expect(page).toContain(`| \`${component}\` |`);
});
