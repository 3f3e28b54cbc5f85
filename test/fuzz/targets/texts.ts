// Texts that people write: connection strings with their files, rules of access, users, the configuration.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../../../src/config/load.ts';
import { SETTINGS } from '../../../src/config/settings.ts';
import { readYamlLayer } from '../../../src/config/yaml-layer.ts';
import { conninfoWarnings } from '../../../src/pg/conninfo-warnings.ts';
import { completeOptions } from '../../../src/pg/conninfo-defaults.ts';
import type { FileLook } from '../../../src/pg/conninfo-defaults.ts';
import { CONNINFO_OPTIONS } from '../../../src/pg/conninfo-options.ts';
import { parseConninfoOptions } from '../../../src/pg/conninfo-syntax.ts';
import { conninfoOf, maskConninfo, parseConninfo } from '../../../src/pg/conninfo.ts';
import { findHbaRule, parseHba } from '../../../src/pg/hba.ts';
import type { HbaConnection, HbaSurroundings } from '../../../src/pg/hba.ts';
import { findMapProblem, parseIdent } from '../../../src/pg/ident.ts';
import { findPassword } from '../../../src/pg/password-file.ts';
import { checkRequireAuth } from '../../../src/pg/require-auth.ts';
import { readServiceFile } from '../../../src/pg/service-file.ts';
import { parseUserList } from '../../../src/pg/user-list.ts';
import { parseSynchronousStandbyNames, syncPriority } from '../../../src/syncrep/standby-names.ts';
import { say, sessionOf } from '../engine/session.ts';
import type { FuzzSession } from '../engine/session.ts';
import { requireThat } from '../engine/target.ts';
import type { FuzzTarget } from '../engine/target.ts';
import { textRun } from '../rig/text-run.ts';

/** Each text is an input of its own. */
export function texts(...list: string[]): FuzzSession[] {
  return list.map((text, index) => sessionOf([say(Buffer.from(text))], index));
}

const SECRET = 'TopSecretWord';

const CONNINFOS = texts(
  `host=127.0.0.1 port=5432 user=replicator password=${SECRET} sslmode=verify-full`,
  `host='a b' hostaddr=10.0.0.1,::1 port=1,2 passfile='/tmp/x y' application_name=it\\'s`,
  `postgresql://user:${SECRET}@host1:123,host2:456/db?sslmode=require&application_name=a%20b&target_session_attrs=any`,
  `postgres://%2Fvar%2Frun/dbname?user=x&password=${SECRET}`,
  'postgresql://[::1]:5432,[fe80::1%25eth0]/?connect_timeout=10&load_balance_hosts=random',
  'service=mine target_session_attrs=read-write channel_binding=require require_auth=scram-sha-256,!password',
  '[mine]\nhost=a\nport=5\n# comment\nuser = x\n[other]\nldap://x',
  `*:*:*:replicator:${SECRET}\nlocalhost:5432:replication:u\\:v:p\\\\w\n# c\n`,
  'sslcert=a sslkey=b sslrootcert=system ssl_min_protocol_version=TLSv1.2 keepalives=1 keepalives_idle=5 gssencmode=disable',
  'scram-sha-256,md5,none,!gss',
);

function feedConninfo(bytes: Buffer, variant: number): void {
  const text = bytes.toString(variant % 4 === 0 ? 'latin1' : 'utf8');
  const masked = maskConninfo(text);
  const parsed = parseConninfo(text);
  if (!('error' in parsed)) {
    const options = parseConninfoOptions(text);
    const password =
      'error' in options ? undefined : (options as ReadonlyMap<string, string>).get('password');
    const isHidden =
      password !== SECRET || !masked.includes(SECRET) || text.split(SECRET).length > 2;
    requireThat(isHidden, `the password stands in "${masked}"`);
  }
  const options = parseConninfoOptions(text);
  if (!('error' in options)) {
    conninfoWarnings(options as ReadonlyMap<string, string>);
    const surroundings = {
      env: { PGSERVICE: 'mine', PGPASSWORD: SECRET, HOME: '/nowhere' },
      homeDirectory: '/nowhere',
      readFile: (): FileLook => ({ kind: 'file', text, mode: 0o600 }),
    };
    const completed = completeOptions(options as ReadonlyMap<string, string>, surroundings);
    if (!('error' in completed)) conninfoOf(completed.options, 'complete');
  }
  readServiceFile(text, { service: 'mine', path: 'pg_service.conf' });
  findPassword(text, {
    hosts: ['localhost', 'a'],
    port: 5432,
    database: 'replication',
    user: 'replicator',
  });
  checkRequireAuth(text);
}

/** Connection strings, service files, password files. */
export const CONNINFO: FuzzTarget = {
  name: 'conninfo',
  about: 'connection strings, service files, password files, require_auth',
  weight: 2,
  seeds: (recorded) => [...CONNINFOS, ...recorded],
  words: [
    ...CONNINFO_OPTIONS.keys(),
    ..."= ' \\ %20 %00 %zz postgresql:// @ : / ? & # [ ] , verify-full prefer any true *".split(
      ' ',
    ),
    '=x ',
  ],
  events: [],
  open: () => textRun(feedConninfo),
};

const SCRAM =
  'SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0$EkDXOxHBmgKxFrrNJYwKCb3CLuFnMmVCuBvWSvbKMM0=:oJDTjhGUYrCLXBcjBw8gYjXLMDcJsSBbRKUFz1fSjSY=';

const RULES = texts(
  'local all all trust\nhost replication,walcast all 127.0.0.1/32 scram-sha-256\nhostssl all all ::1/128 cert map=m clientcert=verify-full\n',
  'host all +group,"all",u 10.0.0.0 255.255.255.0 md5 # c\nhostnossl sameuser,samerole all samenet reject\nhost all all samehost trust',
  'host replication /^rep.*$ .example.com scram-sha-256\nhost "replication" a,b db.example.com trust clientname=DN clientcert=1 \\\n map=x',
  '@file all all trust\ninclude x\ninclude_if_exists "y z"\ninclude_dir d\nhost all all all trust',
  'm /^(.*)@example\\.com$ \\1\nm "CN=x,O=y" all\nm /^x$ /^y.*$ # c\nm a +role\n',
  `"user" "${SCRAM}"\n"md5user" "md59be2ea4f0d9b7e9d4c3fb1b0a2b3c4d5"\n"plain""quote" "p""w"\n; comment\n"only"\n`,
  'FIRST 2 (a, "b c", *)',
  'ANY 1 (s1, s2), s3',
  '*',
);

const CONNECTIONS: readonly HbaConnection[] = [
  {
    isLocal: true,
    isEncrypted: false,
    address: null,
    user: 'u',
    database: '',
    isReplication: true,
  },
  {
    isLocal: false,
    isEncrypted: false,
    address: '127.0.0.1',
    user: 'replicator',
    database: '',
    isReplication: true,
  },
  {
    isLocal: false,
    isEncrypted: true,
    address: '::1',
    user: 'ops',
    database: 'walcast',
    isReplication: false,
  },
  {
    isLocal: false,
    isEncrypted: true,
    address: 'fe80::1%eth0',
    user: 'a\nb',
    database: 'ops',
    isReplication: false,
  },
];

const SURROUNDINGS: HbaSurroundings = {
  localAddresses: [
    { address: '127.0.0.1', netmask: '255.0.0.0' },
    { address: '::1', netmask: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff' },
  ],
  names: { nameOf: async () => 'db.example.com', addressesOf: async () => ['127.0.0.1'] },
};

function feedRules(bytes: Buffer): void {
  const text = bytes.toString();
  const rules = parseHba(text);
  if ('rules' in rules) {
    for (const connection of CONNECTIONS) void findHbaRule(rules, connection, SURROUNDINGS);
  } else {
    for (const { line, message } of rules)
      requireThat(line >= 1 && message !== '', 'a mistake without a place or a text');
  }
  const maps = parseIdent(text);
  if ('lines' in maps) {
    for (const systemUser of ['a', 'me@example.com', 'x'.repeat(60)])
      findMapProblem(maps, { map: 'm', systemUser, user: 'a' });
  }
  const list = parseUserList(text);
  if (!('users' in list))
    for (const { line } of list) requireThat(line >= 1, 'a mistake without a place');
  const policy = parseSynchronousStandbyNames(text);
  syncPriority(policy, 'a');
}

/** Who may come in. */
export const ACCESS: FuzzTarget = {
  name: 'access',
  about: 'rules of pg_hba.conf, maps of pg_ident.conf, lists of users, synchronous_standby_names',
  weight: 2,
  seeds: (recorded) => [...RULES, ...recorded],
  words: (
    'local host hostssl hostnossl hostgssenc all replication sameuser samerole samegroup samehost samenet trust reject md5 cert scram-sha-256 ' +
    'map= clientcert= clientname= verify-ca verify-full DN CN 0.0.0.0/0 ::/0 /33 /-1 255.255.255.0 255.0.255.0 "all" /^ $ ( [ \\1 @ include include_dir + FIRST ANY ( ) * SCRAM-SHA-256$ : $ = md5'
  ).split(' '),
  events: [],
  open: () => textRun(feedRules),
};

const PAGE = readFileSync(new URL('../../../../docs/configuration.md', import.meta.url), 'utf8');

function configSeeds(): FuzzSession[] {
  const blocks = [...PAGE.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, block = '']) => block);
  return texts(
    ...blocks,
    'upstream:\n  conninfo: host=127.0.0.1 user=r\nlisten:\n  - address: 127.0.0.1:5433\n    tls: { cert: a, key: b, client_cert: optional }\n',
    'upstream: {conninfo: "host=a"}\nauth:\n  hba: |\n    host replication all all scram-sha-256\n  users: {a: secret}\n',
    'a: &x [1, 2]\nb: *x\n? {c: d}\n: !!binary aGk=\n<<: {e: f}\n',
    '%YAML 1.2\n---\nupstream: !!str 5\n...\n---\nx: 1\n',
  );
}

/** A configuration file that is there, and holds nothing. */
const directory = mkdtempSync(join(tmpdir(), 'walcast-fuzz-'));
const file = join(directory, 'walcast.yaml');
writeFileSync(file, '\n');
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));

function feedConfig(bytes: Buffer): void {
  const text = bytes.toString();
  const loaded = loadConfig({
    flags: [],
    env: {},
    file,
    workingDirectory: directory,
    isPlainOnly: true,
    readYaml: (_text, source) => readYamlLayer(text, source),
  });
  if ('config' in loaded) return;
  const lines = text.split(/\r\n|\r|\n/).length;
  for (const { place, message } of loaded.errors) {
    requireThat(message !== '', 'a mistake without a text');
    if (place.line === undefined || place.line === null) continue;
    requireThat(place.line >= 1 && place.line <= lines, `line ${place.line} of ${lines}`);
  }
}

/** The configuration file. */
export const CONFIG: FuzzTarget = {
  name: 'config',
  about: 'the configuration file',
  weight: 1,
  seeds: (recorded) => [...configSeeds(), ...recorded],
  words: [
    ...new Set(SETTINGS.flatMap(({ path }) => path.split('.'))),
    ...': - { } [ ] | > & * ! !!str ~ null true 60s 4GB 16MB -1 .inf # % @ " \' \\ ? << --- ...'.split(
      ' ',
    ),
    '\n  ',
    '\t',
    '\n',
  ],
  events: [],
  open: () => textRun(feedConfig),
};
