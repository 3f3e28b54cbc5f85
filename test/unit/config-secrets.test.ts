// Does a complaint about a configuration repeat a password that stands where the mistake is?
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { FlagValue } from '../../src/config/named-layers.ts';
import { loadConfig } from '../../src/config/load.ts';
import { formatConfigError } from '../../src/config/problem.ts';

const UPSTREAM = 'upstream: { conninfo: host=a }';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-complaints-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function write(name: string, content: string): void {
  writeFileSync(join(directory, name), content, { mode: 0o600 });
}

/** Everything that is said of a configuration; throws when nothing is. */
function complaints(yaml: string, flags: readonly FlagValue[] = []): string {
  write('walcast.yaml', yaml);
  const loaded = loadConfig({
    flags,
    env: {},
    file: join(directory, 'walcast.yaml'),
    workingDirectory: directory,
  });
  if (!('errors' in loaded)) throw new Error('nothing is wrong with it');
  return loaded.errors.map(formatConfigError).join('\n');
}

describe('a password that YAML takes for something else', () => {
  test.each([
    '*geheim',
    '*geh eim',
    '!geheim',
    '!geh eim',
    '!geheim!x y',
    '!!geheim x',
    '!<geheim',
    '!<geheim> {}',
    '!geheim! x',
    '!!seq {geheim: eim}',
    '&geheim *geheim',
    '@geheim',
    '`geheim',
    '%geheim',
    '|geheim',
    '>geheim',
    '{geheim',
    '[geheim',
    '} geheim',
    '] geheim',
    '"geheim',
    "'geheim",
    '"geh" eim',
    '"\\geheim"',
    '"\\ugeheim"',
    '"\\xgeheim"',
    'geheim: eim: eim',
    '"geh\neim',
  ])('is not repeated: %s', (password) => {
    expect(complaints(`${UPSTREAM}\nauth:\n  users:\n    repl: ${password}\n`)).not.toMatch(
      /geh|eim/,
    );
    expect(complaints(`upstream:\n  conninfo: ${password}\n`)).not.toMatch(/geh|(?<!geh)eim/);
  });
});

describe('a password where a connection string is mistyped', () => {
  test.each([
    'geheim',
    'geh eim=',
    'host=a password=geh eim',
    'host=a password=geh eim=3',
    'host=a sslpassword=geh eim=3',
    "host=a password='geheim",
    "host=a password='geh'eim'",
    'mysql://u:geheim@h/',
    'postgres:/u:geheim@h',
    'postgresql:u:geheim@h/?sslmode=disable',
    'u:geheim@h',
    'postgresql://u:geheim%zz@h/',
    'postgresql://u@h/?password=geh&eim',
    'postgresql://u@h/?password=geh&eim=3',
    'postgresql://u@h/?password=geh&e%zzeim=3',
    'postgresql://u@h/?password=geh=eim',
  ])('is not repeated: %s', (conninfo) => {
    write('conninfo', conninfo);
    expect(complaints('upstream: { conninfo_file: conninfo }')).not.toMatch(/geh|eim/);
    const flag = { path: 'upstream.conninfo', text: conninfo, flag: '--set' };
    expect(complaints('{}', [flag])).not.toMatch(/geh|eim/);
  });
});

describe('a list of users', () => {
  const SECRET = `SCRAM-SHA-256$4096:${'geheim'.repeat(4)}$${'geheim'.repeat(7)}=:${'geheim'.repeat(7)}=`;

  test.each([
    ['with names and secrets the other way round', `"${SECRET}" "repl"`],
    ['without its quotes', 'repl geheim'],
    ['with one quote', '"repl" "geheim'],
    ['with a secret that was cut', '"repl" "SCRAM-SHA-256$geheim"'],
  ])('%s is not repeated', (_what, line) => {
    write('users', `${line}\n`);
    expect(complaints(`${UPSTREAM}\nauth: { users_file: users }\n`)).not.toMatch(/geh|eim/);
  });
});

test.each([
  ['"anne" "geheim"', 'invalid connection type "anne"'],
  ['local all all ldap ldapbindpasswd=geheim ldapserver=a', 'ldapbindpasswd=…'],
  ['local all all ldap "ldapbindpasswd=ge heim"', 'ldapbindpasswd=…'],
  ['local all all radius radiussecrets="geheim"', 'radiussecrets=…'],
  [`md5${'0123456789abcdef'.repeat(2)} anne`, 'invalid connection type'],
])('a line of rules that is none (%s) does not show it', (line, told) => {
  write('rules', `${line}\n`);
  const said = complaints(`${UPSTREAM}\nauth: { hba_file: rules }\n`);
  expect(said).toContain(told);
  expect(said).not.toMatch(/geheim|heim/);
});
