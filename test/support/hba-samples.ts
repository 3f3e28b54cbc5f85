// Lines of pg_hba.conf and pg_ident.conf, right ones and wrong ones, for us and for a real server.
import fc from 'fast-check';

/** Each is one line of a file; none names a file that is there. */
export const HBA_LINES: readonly string[] = [
  'host',
  'host all',
  'host all all',
  'host all all all',
  'host all all 10.0.0.1',
  'host all all 10.0.0.1 255.0.0.0',
  'hosts all all all trust',
  'host,local all all all trust',
  'local all',
  'local all all',
  'local all all reject',
  'local all all reject reject',
  '"host" all all all trust',
  'host all all all "trust"',
  'host "all" "all" "samehost" trust',
  'host all all a,b trust',
  'host all all 10.0.0.0/33 trust',
  'host all all 10.0.0.0/-1 trust',
  'host all all 10.0.0.0/ trust',
  'host all all ::/129 trust',
  'host all all ::1/128 trust',
  'host all all 10.0.0.0/8/8 trust',
  'host all all db.example.com trust',
  'host all all .example.com trust',
  'host all all .example.com/8 trust',
  'host all all 10.0.0.0 255.0.0.0,255.0.0.0 trust',
  'host all all 10.0.0.0 ffff:: trust',
  'host all all all trust,reject',
  'host all all all trusty',
  'host all all all TRUST',
  'host all all all cert',
  'hostssl all all all cert',
  'hostssl all all all cert map=m clientname=DN',
  'hostssl all all all cert clientcert=verify-ca',
  'hostssl all all all cert clientcert=verify-full',
  'hostssl all all all trust clientcert=verify-ca',
  'hostssl all all all trust clientcert=1',
  'hostssl all all all trust clientname=cn',
  'host all all all trust clientcert=verify-ca',
  'hostnossl all all all trust clientname=CN',
  'host all all all trust map=m',
  'host all all all scram-sha-256 map',
  'host all all all scram-sha-256 krb_realm=a',
  'host all all all scram-sha-256 include_realm=1',
  'host all all all md5 compat_realm=1',
  'host all all all md5 ldapserver=a',
  'host all all all md5 radiusservers=a',
  'host all all all md5 pamservice=a',
  'host all all all md5 Map=m',
  'host all all all md5 "a b=c d"',
  'host all all all md5 =',
  'host /^a all all trust',
  'host all /^(a all trust',
  'host /( all all trust',
  'host all "/^a, b$" all trust',
  'host all "/[" all trust',
  'host all a, b , c trust',
  'host all a,, b all trust',
  'host all all all trust # comment',
  'host all a#b all trust',
  'host all @ all trust',
  'host all "@a" all trust',
  'include',
  'include_dir a b c',
  'host replication,all anne,"bert x" all reject',
];

/** What a server says and we say otherwise: what it does not know, or what we do not carry out. */
const OTHERWISE: readonly (readonly [line: RegExp, ours: string])[] = [
  // The server refuses these, too, but only its log says why.
  // What looks like an address and is none would be the name of a host that nobody has.
  [/clientcert=1/, 'invalid value for clientcert: "1"'],
  [/clientname=cn/, 'invalid value for clientname: "cn"'],
  [/10\.0\.0\.0\/8\/8/, 'invalid CIDR mask in address "10.0.0.0/8/8"'],
];

/** What we have to say of a line, given what a server of the newest kind says; null: nothing. */
export function hbaProblems(line: string, theirs: string | null): string | null {
  const other = OTHERWISE.find(([pattern]) => pattern.test(line));
  if (other !== undefined) return other[1];
  if (theirs === null) return null;
  // PostgreSQL adds what the resolver says, and before 18 there was no OAuth.
  return theirs
    .replace(/^(invalid IP (?:address|mask) "[^"]*"): .*/, '$1')
    .replace(/gssapi, sspi, and cert$/, 'gssapi, sspi, cert, and oauth');
}

/** The same for pg_ident.conf. */
export const IDENT_LINES: readonly string[] = [
  'm',
  'm a',
  'm a b',
  'm a b c',
  'm,n a b',
  'm a,b c',
  'm a b,c',
  'm /( b',
  'm /^a$ /[',
  String.raw`m /^(.*)@x$ \1`,
  String.raw`m /^a$ \1`,
  'm "a b" "c, d"',
  '# m',
  'm a all',
];

const WORDS = {
  type: ['host', 'host', 'host', 'hostssl', 'hostnossl'],
  database: [
    'all',
    'replication',
    'sameuser',
    'walcast',
    '/^wal',
    '"all"',
    '/t$',
    'anne,replication',
  ],
  user: ['all', 'anne', 'bert', '"all"', '/^[ab]', '/^..r', 'anne, bert', '"/^all$"', 'postgres'],
  address: [
    'all',
    '127.0.0.1/32',
    '127.0.0.2/32',
    '127.0.0.0/24',
    '127.1.0.0 255.255.0.0',
    '::1/128',
    'samehost',
    'samenet',
    'localhost',
    'LOCALHOST',
    '.localhost',
    '.host',
    '10.0.0.0/8',
  ],
} as const;

/** Rules that trust or reject, the same ones for the same seed; nobody is told in by mistake who is told out before. */
export function randomRules(seed: number): string {
  const line = fc
    .tuple(
      fc.constantFrom(...WORDS.type),
      fc.constantFrom(...WORDS.database),
      fc.constantFrom(...WORDS.user),
      fc.constantFrom(...WORDS.address),
      fc.constantFrom('trust', 'reject'),
    )
    .map((words) => words.join(' '));
  return `${fc.sample(line, { numRuns: 8, seed }).join('\n')}\n`;
}
