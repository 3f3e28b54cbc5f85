// Configurations with mistakes: at least one for every message that src/config has.

/** What is given, from every source. */
export interface ConfigCase {
  readonly name: string;
  readonly yaml?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  /** Written as on the command line, `--set` left out: `storage.directory=/x`. */
  readonly set?: readonly string[];
  /** Files beside walcast.yaml, by name; readable by their owner only. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** Names of files of which every user may read. */
  readonly readableByAll?: readonly string[];
  /** Another file than the one with `yaml`. */
  readonly file?: string;
  /** As a reload reads. */
  readonly isPlainOnly?: boolean;
}

const UPSTREAM = 'upstream: { conninfo: "host=pg-a user=replicator" }\n';

const LISTEN_65 = Array.from({ length: 65 }, (_, index) => `{ address: "*:${6000 + index}" }`);

/** In the order of the golden file. */
export const CONFIG_CASES: readonly ConfigCase[] = [
  { name: 'nothing given at all' },
  { name: 'no upstream in the file', yaml: 'log: { level: debug }\n' },
  { name: 'an empty file', yaml: '' },
  { name: 'a file of comments', yaml: '# nothing yet\n' },
  { name: 'a list instead of a map', yaml: '- upstream\n' },
  { name: 'a word instead of a map', yaml: 'upstream\n' },
  { name: 'no such file', file: 'missing.yaml' },
  { name: 'a file without a name', file: '' },
  { name: 'a directory instead of a file', file: '.' },
  { name: 'a device instead of a file, at a reload', file: '/dev/null', isPlainOnly: true },
  { name: 'a file that is no text', yaml: new Uint8Array([0xff, 0xfe, 0x61, 0x00]) },
  { name: 'a file that is too large', yaml: `#${'x'.repeat(64 * 1024)}` },
  { name: 'a file that is nested too deeply', yaml: 'a: ['.repeat(15_000) },
  { name: 'a tab for indentation', yaml: 'upstream:\n\tconninfo: host=a\n' },
  { name: 'a bracket that is not closed', yaml: `${UPSTREAM}listen: [ { address: "*:5432" }\n` },
  { name: 'a second document', yaml: `${UPSTREAM}---\n${UPSTREAM}` },
  { name: 'half of a file, as an editor may leave it', yaml: 'upstream:\n  conninfo: "host=pg-' },
  { name: 'keys that are misspelt, or in another place', yaml: misspelt() },
  { name: 'keys like nothing that exists', yaml: `${UPSTREAM}zzzzzzzz: 1\n? [ a ]\n: 1\n5: x\n` },
  { name: 'a key given twice', yaml: `${UPSTREAM}log: { level: info }\nlog: { level: warn }\n` },
  {
    name: 'a key that is not built yet',
    yaml: `${UPSTREAM}tunnel: all\n`,
  },
  {
    name: 'a key that is not built yet, elsewhere',
    env: { WALCAST_UPSTREAM_CONNINFO: 'host=a', WALCAST_TUNNEL: 'logical' },
    set: ['tunnel=all'],
  },
  {
    name: 'users of the console who have no such name, or are given twice',
    yaml: `${UPSTREAM}auth: { admin_users: [ ops, "a\\tb", ops, ${'é'.repeat(32)} ] }\n`,
  },
  {
    name: 'users of the console that are no list',
    yaml: `${UPSTREAM}auth: { admin_users: ops }\n`,
  },
  {
    name: 'URLs of Patroni that are no list',
    yaml: `upstream: { conninfo: host=pg-a, discovery: { patroni: "http://pg-a:8008" } }\n`,
  },
  {
    name: 'URLs of Patroni that cannot be asked',
    yaml: `upstream:
  conninfo: host=pg-a
  discovery:
    patroni:
      - pg-a:8008
      - ftp://pg-a
      - http://ops:geheim@pg-a:8008
      - https://geheim@pg-a
      - http://pg-a:8008/cluster?lag=1
      - http://pg-a:8008
      - http://pg-a:8008/cluster
      - http://${'a'.repeat(600)}
      - "http://[pg-a]"
`,
  },
  {
    name: 'more URLs of Patroni than there may be',
    set: [
      'upstream.conninfo=host=a',
      `upstream.discovery.patroni=${Array.from({ length: 17 }, (_, index) => `http://pg-${index}`).join(',')}`,
    ],
  },
  {
    name: 'discovery without a host',
    yaml: `upstream: { conninfo: user=a, discovery: { patroni: [ "http://a" ] } }\n`,
  },
  {
    name: 'a preference without discovery',
    set: ['upstream.conninfo=host=a', 'upstream.prefer=standby'],
  },
  {
    name: 'a preference for a zone without one',
    yaml: `upstream: { conninfo: host=pg-a, discovery: { patroni: [ "http://a" ] }, prefer: zone }\n`,
  },
  {
    name: 'a zone that is no word',
    yaml: `upstream: { conninfo: host=pg-a, discovery: { patroni: [ "http://a" ] }, prefer: zone, zone: "a b" }\n`,
  },
  {
    name: 'discovery and a connection string that contradict each other',
    yaml: `upstream:
  conninfo: host=pg-a target_session_attrs=read-write load_balance_hosts=random
  discovery: { patroni: [ "http://a" ] }
  prefer: standby
  zone: east
`,
  },
  {
    name: 'names of synchronous standbys that PostgreSQL would refuse',
    yaml: `${UPSTREAM}synchronous_standby_names: FIRST (a, b)\n`,
  },
  {
    name: 'a standby that has a key word for a name',
    yaml: `${UPSTREAM}synchronous_standby_names: "ANY 2 (a, first)"\n`,
  },
  {
    name: 'a quote that is not closed among names of synchronous standbys',
    env: { WALCAST_UPSTREAM_CONNINFO: 'host=a', WALCAST_SYNCHRONOUS_STANDBY_NAMES: '"a' },
  },
  {
    name: 'no synchronous standby at all',
    set: ['upstream.conninfo=host=a', 'synchronous_standby_names=0 (a, b)'],
  },
  {
    name: 'a star among names of synchronous standbys that YAML takes for its own',
    yaml: `${UPSTREAM}synchronous_standby_names: *\n`,
  },
  {
    name: 'a list of synchronous standbys',
    yaml: `${UPSTREAM}synchronous_standby_names: [ a, b ]\n`,
  },
  {
    name: 'names of synchronous standbys without an end',
    yaml: `${UPSTREAM}synchronous_standby_names: "${'a '.repeat(20_000)}"\n`,
  },
  {
    name: 'more synchronous standbys than there are names',
    yaml: `${UPSTREAM}synchronous_standby_names: "ANY 3 (a, b, A)"\n`,
  },
  { name: 'slots that are no list of names', yaml: `${UPSTREAM}slots: standby_a\n` },
  { name: 'slots that are no words', yaml: `${UPSTREAM}slots: [ a, 5 ]\n` },
  { name: 'slots of bad names', yaml: `${UPSTREAM}slots: [ Bad, a, b, a ]\n` },
  { name: 'slots of bad names, elsewhere', set: ['upstream.conninfo=host=a', 'slots=a,,a'] },
  {
    name: 'more slots than there may be',
    yaml: `${UPSTREAM}slots: [ a, b ]\nstorage: { max_replication_slots: 1 }\n`,
  },
  {
    name: 'a size below -1',
    yaml: `${UPSTREAM}storage: { max_slot_wal_keep_size: -2 }\n`,
  },
  { name: 'a quota of nothing', yaml: `${UPSTREAM}storage: { quota: 0 }\n` },
  { name: 'a quota below the window', yaml: `${UPSTREAM}storage: { quota: 512MB }\n` },
  { name: 'sections that are no sections', yaml: `${UPSTREAM}log: info\nstorage: [ directory ]\n` },
  {
    name: 'levels of the log',
    yaml: `${UPSTREAM}log: { levels: { walsneder: debug, wal: debgu, http: 3, tls: info, tls: warn } }\n`,
  },
  { name: 'a list for a level', yaml: `${UPSTREAM}log: { levels: { tls: [ info ] } }\n` },
  {
    name: 'levels of components that there are not',
    yaml: `${UPSTREAM}log: { levels: { planner: debug, wal: loud } }\n`,
    env: { WALCAST_LOG_LEVELS: 'planner=debug, wal=loud,wal=debug,wal=info' },
  },
  { name: 'levels that are no map', yaml: `${UPSTREAM}log: { levels: debug }\n` },
  { name: 'keys without a value', yaml: 'upstream: { conninfo: }\nlog: { level: }\nhttp:\n' },
  { name: 'values of the wrong kind', yaml: wrongKinds() },
  {
    name: 'lists of addresses',
    yaml: `${UPSTREAM}listen: [ {}, "*:1", { address: 5 }, { adress: "*:1" }, { address: localhost } ]\n`,
  },
  { name: 'an empty list of addresses', yaml: `${UPSTREAM}listen: []\n` },
  { name: 'too many addresses', yaml: `${UPSTREAM}listen: [ ${LISTEN_65.join(', ')} ]\n` },
  { name: 'addresses that are none', yaml: badAddresses() },
  {
    name: 'an address given twice',
    yaml: `${UPSTREAM}listen: [ { address: "*:1" }, { address: "*:1" } ]\n`,
  },
  {
    name: 'TLS of an address that is half, or no TLS',
    yaml: `${UPSTREAM}listen:
  - { address: "*:1", tls: { cert: server.crt } }
  - { address: "*:2", tls: on }
  - { address: "*:3", tls: { cert: a, key: "", crt: c, cert: b, ca: 5 } }
  - { address: /run/walcast, tls: { cert: a, key: b } }
`,
  },
  {
    name: 'client certificates that nobody could check',
    yaml: `${UPSTREAM}listen:
  - { address: "*:1", tls: { cert: a, key: b, client_cert: require } }
  - { address: "*:2", tls: { cert: a, key: b, crl: c } }
  - { address: "*:3", tls: { cert: a, key: b, ca: c, client_cert: required } }
`,
  },
  { name: 'half of the TLS of the HTTP port', yaml: `${UPSTREAM}http: { tls: { cert: a } }\n` },
  { name: 'an HTTP address that is none', yaml: `${UPSTREAM}http: { listen: localhost }\n` },
  { name: 'numbers that are none', yaml: badNumbers() },
  {
    name: 'numbers out of range',
    yaml: `${UPSTREAM}storage: { max_wal_senders: -1, wal_keep_size: 3PB }\nwal_sender_timeout: -5s\ndrain_timeout: 30d\n`,
  },
  {
    name: 'words that are none of the choices',
    yaml: `${UPSTREAM}storage: { verify: pages, forward: "yes" }\n`,
    env: { WALCAST_LOG_LEVEL: 'degub' },
  },
  {
    name: 'names that PostgreSQL would refuse',
    yaml: `upstream: { conninfo: host=a, slot: My-Slot, application_name: "größe" }\n`,
  },
  { name: 'an empty connection string', yaml: 'upstream: { conninfo: "" }\n' },
  {
    name: 'a connection string with an unknown option',
    yaml: 'upstream: { conninfo: "host=a usr=b password=geheim" }\n',
  },
  {
    name: 'a connection string that ends in the middle',
    env: { WALCAST_UPSTREAM_CONNINFO: "host=a password='geheim" },
  },
  { name: 'a URI with a bad port', set: ['upstream.conninfo=postgresql://u:geheim@h:port/'] },
  {
    name: 'a connection string in a file that is empty',
    yaml: 'upstream: { conninfo_file: conninfo }\n',
    files: { conninfo: '\n' },
  },
  {
    name: 'a connection string in a file that is missing',
    yaml: 'upstream: { conninfo_file: conninfo }\n',
  },
  {
    name: 'a connection string in a file, with a mistake',
    yaml: 'upstream: { conninfo_file: conninfo }\n',
    files: { conninfo: 'host=a password=geheim sslmode=on\n' },
  },
  {
    name: 'the same thing given twice in one place',
    yaml: 'upstream: { conninfo: host=a, conninfo_file: x }\nauth: { hba: "", hba_file: x }\n',
    files: { x: 'host=b\n' },
  },
  {
    name: 'names of files that are none',
    yaml: UPSTREAM,
    set: ['storage.directory=', 'auth.hba_file='],
  },
  {
    name: 'tokens that no header can carry',
    yaml: `${UPSTREAM}http: { token_file: token }\n`,
    files: { token: 'two words\n' },
  },
  {
    name: 'a token file that is empty',
    yaml: `${UPSTREAM}http: { token_file: token }\n`,
    files: { token: '\n' },
  },
  {
    name: 'inline access rules with mistakes',
    yaml: `${UPSTREAM}auth:\n  hba: |\n    host replication all 10.0.0.0/99 trust\n    host replication\n    hast replication all all trust\n`,
  },
  {
    name: 'an access rule from the environment',
    yaml: UPSTREAM,
    env: { WALCAST_AUTH_HBA: 'host replication all 10.0.0.0/8 hope' },
  },
  {
    name: 'a file of access rules with mistakes',
    yaml: `${UPSTREAM}auth: { hba_file: hba }\n`,
    files: { hba: '# rules\nlocal replication all\n' },
  },
  {
    name: 'wrong access rules in a folded block, where lines are not what they were',
    yaml: `${UPSTREAM}auth:\n  hba: >\n    host all all all trust\n\n    hast all all all trust\n`,
  },
  { name: 'a file of access rules that is missing', yaml: `${UPSTREAM}auth: { hba_file: hba }\n` },
  {
    name: 'access rules that name other files, which are not there, or wrong, or themselves',
    yaml: `${UPSTREAM}auth:
  hba: |
    include missing.conf
    include_if_exists missing.conf
    include_dir missing.d
    include_dir ""
    include wrong.conf
    include itself.conf
    host replication @missing all reject
`,
    files: {
      'wrong.conf': '# one\nhost all all all hope\n',
      'itself.conf': 'include itself.conf\n',
    },
  },
  {
    name: 'more files of access rules than there may be',
    yaml: `${UPSTREAM}auth: { hba_file: hba }\n`,
    files: { hba: 'include one\n'.repeat(101), one: '# nobody\n' },
  },
  {
    name: 'regular expressions that are none, or could take for ever',
    yaml: String.raw`${UPSTREAM}auth:
  hba: |
    host /^( all all reject
    host all "/a**" all reject
    host all /(a)\1 all reject
    host all /a{300} all reject
    host all /((a{99}){99}){99} all reject
    host all /(?:(?:(?:(?:(?:){99}){99}){99}){99}){99} all reject
    host all /((a+)+)+$ all reject
`.replaceAll('\\\\', '\\'),
  },
  {
    name: 'maps of names with mistakes',
    yaml: `${UPSTREAM}auth:\n  ident: |\n    certs\n    certs a,b c\n    certs /[ x\n    certs a +ops\n`,
  },
  {
    name: 'a file of maps with a mistake',
    yaml: `${UPSTREAM}auth: { ident_file: ident }\n`,
    files: { ident: '\n\nm a\n' },
  },
  { name: 'a file of maps that is missing', yaml: `${UPSTREAM}auth: { ident_file: ident }\n` },
  {
    name: 'a rule with a map that does not exist',
    yaml: `${UPSTREAM}auth: { hba: "hostssl all all all cert map=certs" }\n`,
  },
  {
    name: 'users that are no map',
    yaml: `${UPSTREAM}auth: { users: [ a ] }\n`,
  },
  {
    name: 'users with mistakes',
    yaml: `${UPSTREAM}auth:
  users:
    a: 5
    b: "two\\nlines"
    c: secret
    c: secret
`,
  },
  {
    name: 'users whose names and secrets are none',
    yaml: `${UPSTREAM}auth:
  users:
    "": secret
    ${'n'.repeat(64)}: secret
    "a\\tb": secret
    cut: "SCRAM-SHA-256$4096:c2FsdA==$secret"
    long: ${'secret'.repeat(400)}
`,
  },
  {
    name: 'a file of users with mistakes',
    yaml: `${UPSTREAM}auth: { users_file: users }\n`,
    files: { users: '; users\n"a" "secret"\n"a" "secret"\nb secret\n"c" "secret\n' },
  },
  {
    name: 'a file of users that everybody may read',
    yaml: `${UPSTREAM}auth: { users_file: users }\n`,
    files: { users: '"a" "secret"\n' },
    readableByAll: ['users'],
  },
  {
    name: 'users whose passwords are kept as they are',
    yaml: `${UPSTREAM}auth: { users: { ${['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name) => `${name}: secret`).join(', ')} } }\n`,
  },
  {
    name: 'a question about users that names none, in no database',
    yaml: `${UPSTREAM}auth: { auth_query: "SELECT usename, passwd FROM pg_shadow", auth_dbname: "" }\n`,
  },
  {
    name: 'times of authentication that are none',
    yaml: `${UPSTREAM}authentication_timeout: 0\nauth: { auth_cache_time: soon }\n`,
  },
  {
    name: 'a variable that is misspelt',
    env: {
      WALCAST_UPSTREAM_CONNINFO: 'host=a',
      WALCAST_STORAGE_DIRECTRY: '/x',
      WALCAST_ZZZZZZZZZ: '1',
    },
  },
  {
    name: 'flags for keys that are misspelt',
    yaml: UPSTREAM,
    set: ['storage.wal_keep_sise=1GB', 'wal_keep_size=1GB', 'zzzzzzzzz', '=x'],
  },
  { name: 'an alias of nothing', yaml: `${UPSTREAM}log: *nothing\n` },
  {
    name: 'too many aliases',
    yaml: `upstream: { conninfo: &v "host=a" }\nlisten: [ { &k address : "*:1" }, ${'{ *k : *v }, '.repeat(60)} ]\n`,
  },
  {
    name: 'files with secrets that everybody reads',
    yaml: `upstream: { conninfo_file: conninfo }\nhttp: { token_file: token }\n`,
    files: { conninfo: 'host=a password=geheim\n', token: 'geheimgeheimgeheim\n' },
    readableByAll: ['conninfo', 'token'],
  },
  {
    name: 'a configuration that everybody reads, with a password in it',
    yaml: `upstream: { conninfo: "host=a password=geheim" }\n`,
    readableByAll: ['walcast.yaml'],
  },
  {
    name: 'warnings: more rules that trust than are told one by one',
    yaml: `${UPSTREAM}auth: { hba_file: hba }\n`,
    files: { hba: 'host all all all trust\n'.repeat(23) },
  },
  {
    name: 'warnings: rules that trust, no checks, a short token',
    yaml: `upstream: { conninfo_file: conninfo }\nauth:\n  hba: |\n    host all all all trust\nstorage: { verify: off }\nhttp: { token_file: token }\n`,
    files: { conninfo: 'host=a\n', token: 'short\n' },
  },
];

function misspelt(): string {
  return `upstrem:
  conninfo: host=a
upstream:
  conninfo: host=a
  slto: x
storage: { wal_keep_sise: 1GB }
wal_keep_size: 1GB
directory: /x
log-level: debug
`;
}

function wrongKinds(): string {
  return `upstream: { conninfo: [ host=a ], slot: 5, wal_receiver_timeout: true }
listen: 127.0.0.1:5432
auth: { hba: [ host all all all trust ], hba_file: {} }
storage: { directory: 5, wal_keep_size: [ 1 ], max_wal_senders: many, max_replication_slots: true, verify: no, forward: {} }
drain_timeout: .nan
http: { listen: 9188 }
log: { format: 1 }
`;
}

function badAddresses(): string {
  const addresses = ['5432', '::1:5432', '*:65536', '/run/walcast:0', `/${'x'.repeat(120)}`];
  return `${UPSTREAM}listen: [ ${addresses.map((text) => `{ address: "${text}" }`).join(', ')} ]\n`;
}

function badNumbers(): string {
  return `${UPSTREAM}storage: { wal_keep_size: 10 gb, max_wal_senders: 5s, max_replication_slots: "010" }
wal_sender_timeout: 30 days
drain_timeout: "1e309"
`;
}
