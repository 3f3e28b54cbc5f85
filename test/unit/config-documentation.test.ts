// Does docs/configuration.md say what the program does?
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { Value } from 'typebox/value';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { describeKeys, describeUnsupportedKeys } from '../../src/config/document.ts';
import { loadConfig } from '../../src/config/load.ts';
import { configFileSchema } from '../../src/config/file-schema.ts';
import { environmentName, SETTINGS, UNSUPPORTED_KEYS } from '../../src/config/settings.ts';
import { parseNumberWithUnit } from '../../src/config/units.ts';
import type { BaseUnit } from '../../src/config/units.ts';

const PAGE = fileURLToPath(new URL('../../docs/configuration.md', import.meta.url));

const SCHEMA = fileURLToPath(new URL('../../docs/walcast.schema.json', import.meta.url));

/** The page with its generated parts made anew. `WALCAST_TEST_UPDATE=1` writes it. */
function pageWithKeys(page: string): string {
  const fill = (text: string, name: string, content: string): string =>
    text.replace(
      new RegExp(`(<!-- ${name}: [^>]*-->)[\\s\\S]*(<!-- end of ${name} -->)`),
      (_all, begin: string, end: string) => `${begin}\n\n${content}\n\n${end}`,
    );
  return fill(fill(page, 'keys', describeKeys()), 'later', describeUnsupportedKeys());
}

test('the page lists every key as the table of keys has it', () => {
  const page = readFileSync(PAGE, 'utf8');
  const wanted = pageWithKeys(page);
  if (process.env['WALCAST_TEST_UPDATE'] === '1') writeFileSync(PAGE, wanted);
  else expect(page).toBe(wanted);
  for (const { path } of SETTINGS) expect(wanted).toContain(`### \`${path}\``);
  for (const path of UNSUPPORTED_KEYS) expect(wanted).toContain(path.split('.').at(-1));
});

test('the example of the page is a valid configuration', () => {
  const example = /```yaml\n([\s\S]*?)```/.exec(readFileSync(PAGE, 'utf8'))?.[1] ?? '';
  expect(Value.Check(configFileSchema(), parse(example))).toBe(true);
  const hba = parse(example).auth.hba;
  const loaded = loadConfig({
    flags: [
      { path: 'upstream.conninfo', text: parse(example).upstream.conninfo, flag: '--upstream' },
      { path: 'auth.hba', text: hba, flag: '--set' },
    ],
    env: {},
    file: null,
    workingDirectory: '/',
  });
  expect(loaded).toMatchObject({
    config: { hba: { rules: { rules: [{ method: 'scram-sha-256' }] } } },
  });
});

test('the schema of the file refuses what the loader refuses', () => {
  const schema = configFileSchema();
  expect(Value.Check(schema, { upstream: { conninfo: 'host=a' }, drain_timeout: 5 })).toBe(true);
  expect(Value.Check(schema, { upstrem: {} })).toBe(false);
  expect(Value.Check(schema, { upstream: { slto: 'x' } })).toBe(false);
  expect(Value.Check(schema, { log: { level: 'loud' } })).toBe(false);
  expect(Value.Check(schema, { upstream: { conninfo: 'host=a', conninfo_file: 'x' } })).toBe(false);
  expect(Value.Check(schema, { upstream: { slot: 'Upper' } })).toBe(false);
  expect(Value.Check(schema, { storage: { wal_keep_size: '10 gb' } })).toBe(false);
  expect(Value.Check(schema, { storage: { max_wal_senders: -1 } })).toBe(false);
});

test('the schema takes the numbers and units that the loader takes, and no others', () => {
  const schema = configFileSchema();
  const number = fc.constantFrom(
    '',
    '-',
    '+',
    '0',
    '00',
    '007',
    '1',
    '12',
    '0x1f',
    '0xg',
    '1.5',
    '.5',
    '5.',
    '1e2',
    '1e',
    '.',
  );
  const space = fc.constantFrom('', ' ', '  ');
  const unit = fc.constantFrom(
    '',
    'B',
    'kB',
    'MB',
    'mb',
    'GB',
    'TB',
    'us',
    'ms',
    's',
    'min',
    'h',
    'd',
    'x',
  );
  const key = fc.constantFrom<[string, string, BaseUnit | null]>(
    ['storage', 'wal_keep_size', 'MB'],
    ['upstream', 'wal_receiver_timeout', 'ms'],
    ['upstream', 'wal_receiver_status_interval', 's'],
    ['storage', 'max_wal_senders', null],
  );
  fc.assert(
    fc.property(
      key,
      fc.tuple(space, number, space, unit, space),
      ([section, name, base], parts) => {
        const text = parts.join('');
        const isTaken = 'value' in parseNumberWithUnit(text, base);
        expect([text, Value.Check(schema, { [section]: { [name]: text } })]).toEqual([
          text,
          isTaken,
        ]);
      },
    ),
    { numRuns: 2_000 },
  );
});

test('the schema says of every key what the table says', () => {
  const properties = JSON.parse(JSON.stringify(configFileSchema())).properties;
  for (const { path, isReloadable, description } of SETTINGS) {
    const [first = '', ...below] = path.split('.');
    let found = properties[first];
    for (const name of below) found = found.properties[name];
    expect([path, found]).toMatchObject([
      path,
      {
        description,
        'x-walcast-reload': isReloadable,
        'x-walcast-environment': environmentName(path),
      },
    ]);
  }
});

test('the published schema is the one of the program', () => {
  const wanted = `${JSON.stringify(configFileSchema(), null, 2)}\n`;
  if (process.env['WALCAST_TEST_UPDATE'] === '1') writeFileSync(SCHEMA, wanted);
  expect(JSON.parse(readFileSync(SCHEMA, 'utf8'))).toEqual(JSON.parse(wanted));
});

test('no two keys share an environment variable or a flag', () => {
  const names = SETTINGS.map(({ path }) => environmentName(path));
  expect(new Set(names).size).toBe(names.length);
  const flags = SETTINGS.flatMap(({ flag }) => (flag === null ? [] : [flag.name]));
  expect(new Set(flags).size).toBe(flags.length);
});
