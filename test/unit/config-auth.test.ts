// Keys of TLS, users, maps and limits: what they come to, how they are shown, and that no secret is.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Value } from 'typebox/value';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { configTemplate } from '../../src/cli/config-template.ts';
import type { Config } from '../../src/config/config.ts';
import { configFileSchema } from '../../src/config/file-schema.ts';
import { loadConfig } from '../../src/config/load.ts';
import { printConfig } from '../../src/config/print.ts';
import { formatConfigError } from '../../src/config/problem.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { planReload, planSecrets } from '../../src/relay/reload-plan.ts';
import { configEntries } from '../../src/relay/reload-words.ts';

const UPSTREAM = 'upstream: { conninfo: host=a }\n';
const SECRET = `SCRAM-SHA-256$4096:c2FsdA==$${'A'.repeat(43)}=:${'B'.repeat(43)}=`;

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-config-auth-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function write(name: string, text: string): void {
  writeFileSync(join(directory, name), text);
  chmodSync(join(directory, name), 0o600);
}

function load(yaml: string, env: Readonly<Record<string, string>> = {}): Config {
  write('walcast.yaml', yaml);
  const file = 'walcast.yaml';
  const loaded = loadConfig({ flags: [], env, file, workingDirectory: directory });
  if ('config' in loaded) return loaded.config;
  throw new Error(loaded.errors.map(formatConfigError).join('\n'));
}

describe('listen', () => {
  test('has TLS by address, with absolute names; authorities alone ask for a certificate', () => {
    const { listen } = load(`${UPSTREAM}listen:
  - { address: "*:1", tls: { cert: a.crt, key: /k/a.key } }
  - { address: "*:2", tls: { cert: b, key: c, ca: d, crl: e } }
  - { address: "*:3", tls: { cert: b, key: c, ca: d, client_cert: require } }
  - { address: "*:4", tls: { cert: b, key: c, ca: d, client_cert: none } }
  - { address: "*:5" }
  - { address: /run/walcast }
`);
    const tls = listen.map((address) => (address.kind === 'tcp' ? address.tls : 'unix'));
    const own = { cert: join(directory, 'b'), key: join(directory, 'c'), ca: join(directory, 'd') };
    expect(tls).toEqual([
      { cert: join(directory, 'a.crt'), key: '/k/a.key', ca: null, crl: null, clientCert: 'none' },
      { ...own, crl: join(directory, 'e'), clientCert: 'optional' },
      { ...own, crl: null, clientCert: 'require' },
      { ...own, crl: null, clientCert: 'none' },
      null,
      'unix',
    ]);
  });

  test('is shown with its TLS, and the print means the same', () => {
    const text = `${UPSTREAM}listen: [ { address: "*:1" }, { address: "*:2", tls: { cert: "a b", key: k } } ]\nhttp: { tls: { cert: c, key: k } }\n`;
    const config = load(text);
    const printed = printConfig(config);
    expect(printed).toContain(
      `  - address: "*:2"\n    tls: { cert: ${join(directory, 'a b')}, key: ${join(directory, 'k')} }\n`,
    );
    expect([...Value.Errors(configFileSchema(), parse(printed))]).toEqual([]);
    const again = load(printed);
    for (const { path } of SETTINGS) {
      expect([path, again.values.get(path)?.meaning]).toEqual([
        path,
        config.values.get(path)?.meaning,
      ]);
    }
    expect(again.listen).toEqual(config.listen);
    expect(again.http.tls).toEqual(config.http.tls);
    const entry = configEntries(config, []).find(({ key }) => key === 'listen');
    expect(entry?.value).toBe(
      `[ { address: "*:1" }, { address: "*:2", tls: { cert: "${directory}/a b", key: "${directory}/k" } } ]`,
    );
  });

  test('with other TLS waits for a restart', () => {
    const before = load(`${UPSTREAM}listen: [ { address: "*:1", tls: { cert: a, key: b } } ]\n`);
    const after = load(`${UPSTREAM}listen: [ { address: "*:1", tls: { cert: a, key: c } } ]\n`);
    const plan = planReload(before, after);
    expect([plan.changed, plan.pendingRestart]).toEqual([[], ['listen']]);
    expect(plan.next.listen).toBe(before.listen);
  });
});

describe('users', () => {
  test('come from the file of the configuration, another file, or the environment', () => {
    const lines = `"anne" "${SECRET}"\n"bert" "md5${'0'.repeat(32)}"\n`;
    write('users', lines);
    const inline = load(`${UPSTREAM}auth: { users: { anne: "${SECRET}", 'b "c"': pencil } }\n`);
    expect([...inline.auth.users].map(([name, { kind }]) => [name, kind])).toEqual([
      ['anne', 'scram'],
      ['b "c"', 'plain'],
    ]);
    const byFile = load(`${UPSTREAM}auth: { users_file: users }\n`);
    const byVariable = load(UPSTREAM, { WALCAST_AUTH_USERS: lines });
    expect([...byFile.auth.users.keys()]).toEqual(['anne', 'bert']);
    expect(byVariable.auth.users).toEqual(byFile.auth.users);
    expect(load(UPSTREAM).auth.users.size).toBe(0);
  });

  test('with an empty secret are known, and have none', () => {
    write('users', `"anne" "${SECRET}"\n"bert" ""\n`);
    const byFile = load(`${UPSTREAM}auth: { users_file: users }\n`);
    const inline = load(`${UPSTREAM}auth: { users: { anne: "${SECRET}", bert: "" } }\n`);
    for (const { auth } of [byFile, inline]) {
      expect([...auth.users.keys()]).toEqual(['anne']);
      expect([...auth.usersWithoutSecret]).toEqual(['bert']);
    }
    write('users', `"anne" ""\n"bert" "${SECRET}"\n`);
    const changed = planSecrets(byFile, load(`${UPSTREAM}auth: { users_file: users }\n`));
    expect(changed.changed).toEqual(['auth.users_file']);
    expect([...changed.next.auth.usersWithoutSecret]).toEqual(['anne']);
  });

  test('are shown by name only, and what is printed lets nobody in', () => {
    const config = load(`${UPSTREAM}auth: { users: { anne: "${SECRET}", bert: pencil } }\n`);
    const printed = printConfig(config);
    const entries = JSON.stringify(configEntries(config, []));
    expect(printed).toContain('    # anne: ***\n    # bert: ***\n');
    expect(entries).toContain(String.raw`{ \"anne\": \"***\", \"bert\": \"***\" }`);
    expect(`${printed}${entries}`).not.toMatch(/pencil|SCRAM/);
    expect(load(printed).auth.users.size).toBe(0);
  });

  test('of another secret are a change', () => {
    const before = load(`${UPSTREAM}auth: { users: { anne: a } }\n`);
    const after = load(`${UPSTREAM}auth: { users: { anne: b } }\n`);
    expect(planReload(before, after).changed).toEqual(['auth.users']);
  });

  test('are asked for upstream where there is a question', () => {
    expect(load(UPSTREAM).auth.query).toBeNull();
    const text = 'SELECT * FROM walcast_auth($1)';
    const { auth } = load(
      `${UPSTREAM}auth: { auth_query: "${text}", auth_dbname: app, auth_cache_time: 5min }\n`,
    );
    expect(auth.query).toEqual({ text, database: 'app', cacheMs: 300_000 });
  });
});

describe('rules', () => {
  const text = `${UPSTREAM}auth: { hba_file: conf/hba, ident: "m /^(.*)@x$ \\\\1" }\n`;

  test('bring the files with them that they name: a change of any is a change', () => {
    mkdirSync(join(directory, 'conf'));
    write('conf/hba', 'include_if_exists more\nhost all @names all reject\n');
    write('conf/names', 'anne\n');
    const before = load(text);
    const names = ['conf/hba', 'conf/more', 'conf/names'].map((name) => join(directory, name));
    expect(before.namedFiles.get('auth.hba_file')).toEqual(names);
    expect(before.hba?.rules.rules).toHaveLength(1);
    write('conf/names', 'bert\n');
    const renamed = load(text);
    expect(planReload(before, renamed).changed).toEqual(['auth.hba_file']);
    write('conf/more', 'host all all all trust\n');
    const after = load(text);
    expect(planReload(renamed, after).changed).toEqual(['auth.hba_file']);
    expect(after.hba?.rules.rules[0]).toMatchObject({
      source: join(directory, 'conf/more'),
      method: 'trust',
    });
    expect(after.warnings).toEqual([expect.stringContaining('conf/more, line 1: "trust"')]);
    expect(after.auth.identMaps.lines).toMatchObject([{ map: 'm', source: 'auth.ident' }]);
  });

  test('in the configuration itself name files beside it', () => {
    write('names', 'anne bert\n');
    const config = load(`${UPSTREAM}auth: { hba: "host all @names all reject" }\n`);
    expect(config.hba?.rules.rules[0]?.users.map((word) => word.text)).toEqual(['anne', 'bert']);
    write('names', 'carl\n');
    const next = load(`${UPSTREAM}auth: { hba: "host all @names all reject" }\n`);
    expect(planReload(config, next).changed).toEqual(['auth.hba']);
  });
});

test('limits and the audit trail have defaults that keep others out and say who came', () => {
  expect(load(UPSTREAM)).toMatchObject({
    auth: { timeoutMs: 60_000 },
    maxConnectionsPerAddress: null,
    logConnections: true,
    logDisconnections: false,
    http: { walToken: null, tls: null },
  });
  expect(
    load(
      `${UPSTREAM}authentication_timeout: 5s\nmax_connections_per_address: 7\nlog_connections: off\nlog_disconnections: on\n`,
    ),
  ).toMatchObject({
    auth: { timeoutMs: 5_000 },
    maxConnectionsPerAddress: 7,
    logConnections: false,
    logDisconnections: true,
  });
});

describe('a configuration to begin with', () => {
  test('is valid, with the users that were given', () => {
    const template = configTemplate(
      new Map([
        ['upstream.conninfo', ['host=a']],
        ['auth.users', [`"anne" "${SECRET}"\n"b ""c""" "pencil"`]],
      ]),
    );
    expect([...Value.Errors(configFileSchema(), parse(template))]).toEqual([]);
    const { auth } = load(template);
    expect([...auth.users.keys()]).toEqual(['anne', 'b "c"']);
  });

  test('shows the pair of the HTTP port below one key', () => {
    const text = configTemplate(new Map([['upstream.conninfo', ['host=a']]]));
    const section = text.slice(text.indexOf('# http:'));
    const live = section.replaceAll(/^( *)# ((?: *)(?:http|tls|cert|key|ca):)/gm, '$1$2');
    expect(live.match(/tls:/g)).toHaveLength(1);
    expect(parse(live).http.tls).toEqual({
      cert: '/etc/walcast/cert',
      key: '/etc/walcast/key',
      ca: '/etc/walcast/ca',
    });
  });
});

test('rules without number that let anybody in are not all warned about', () => {
  write('rules', 'host all all all trust\n'.repeat(40_000));
  const { warnings } = load(`${UPSTREAM}auth: { hba_file: rules }\n`);
  expect(warnings).toHaveLength(21);
  expect(warnings.at(-1)).toBe(
    '39980 more rules let anybody in who reaches the TCP port ("trust")',
  );
});
