// What does a connection string mean? Hosts, credentials and settings as a session uses them.
// (src/interfaces/libpq/fe-connect.c: pqConnectOptions2)
import { parseConninfoOptions } from './conninfo-syntax.ts';
import type { ConninfoError } from './conninfo-syntax.ts';

export { maskConninfo } from './conninfo-syntax.ts';
export type { ConninfoError } from './conninfo-syntax.ts';

/** Values of sslmode. */
export const SSL_MODES = [
  'disable',
  'allow',
  'prefer',
  'require',
  'verify-ca',
  'verify-full',
] as const;
export type SslMode = (typeof SSL_MODES)[number];

/** Values of target_session_attrs. */
export const TARGET_SESSION_ATTRS = [
  'any',
  'read-write',
  'read-only',
  'primary',
  'standby',
  'prefer-standby',
] as const;
export type TargetSessionAttrs = (typeof TARGET_SESSION_ATTRS)[number];

/** Values of channel_binding. */
export const CHANNEL_BINDINGS = ['disable', 'prefer', 'require'] as const;
export type ChannelBinding = (typeof CHANNEL_BINDINGS)[number];

/** Values of ssl_min_protocol_version that can be had; older ones than 1.2 are refused. */
export type TlsVersion = 'TLSv1.2' | 'TLSv1.3';

/** Everything a connection string says about TLS. Paths are as written; null = not given. */
export interface ConninfoTls {
  readonly mode: SslMode;
  /** `direct`: no SSLRequest, the handshake comes first, with ALPN. */
  readonly negotiation: 'postgres' | 'direct';
  /** A path, or `system` for the trusted roots of this machine. */
  readonly rootCert: string | null;
  readonly crl: string | null;
  readonly crlDirectory: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  readonly keyPassword: string | null;
  readonly certMode: 'disable' | 'allow' | 'require';
  readonly sni: boolean;
  readonly minVersion: TlsVersion;
  readonly maxVersion: TlsVersion | null;
}

/** TCP keepalive and the like, as far as a runtime can set them. Milliseconds; 0 = the system's default. */
export interface ConninfoKeepalive {
  readonly isOn: boolean;
  readonly idleMs: number;
}

/** One server of the list. */
export interface ConninfoHost {
  /** A name or address; what starts with `/` or `@` is the directory (or abstract name) of a Unix socket. */
  readonly host: string;
  /** Where to connect instead of resolving `host`; null when not given. */
  readonly hostaddr: string | null;
  readonly port: number;
}

/** A connection string, understood. Null = not given. */
export interface Conninfo {
  /** At least one. */
  readonly hosts: readonly ConninfoHost[];
  readonly user: string | null;
  readonly password: string | null;
  readonly database: string | null;
  readonly applicationName: string | null;
  /** 0 or less = no limit. */
  readonly connectTimeoutSeconds: number | null;
  readonly sslmode: SslMode;
  readonly tls: ConninfoTls;
  readonly channelBinding: ChannelBinding;
  /** require_auth as written; null = not given. */
  readonly requireAuth: string | null;
  readonly targetSessionAttrs: TargetSessionAttrs;
  readonly loadBalanceHosts: 'disable' | 'random';
  readonly keepalive: ConninfoKeepalive;
  /** User name that the owner of a Unix socket must have; null = anybody. */
  readonly requirePeer: string | null;
  /** Password file as written; null = `~/.pgpass`. */
  readonly passfile: string | null;
  readonly options: string | null;
  /** Every other option that was given, by keyword. */
  readonly others: ReadonlyMap<string, string>;
}

const DEFAULT_HOST = 'localhost';
const DEFAULT_PORT = 5432;
const HOSTS_MAX = 64;
const INT_MAX = 2 ** 31 - 1;

const UNDERSTOOD: ReadonlySet<string> = new Set([
  'host',
  'hostaddr',
  'port',
  'user',
  'password',
  'dbname',
  'application_name',
  'connect_timeout',
  'sslmode',
  'options',
]);

/** Options that take one of a few words. */
const CHOICES: ReadonlyMap<string, readonly string[]> = new Map([
  [
    'target_session_attrs',
    ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'],
  ],
  ['load_balance_hosts', ['disable', 'random']],
  ['channel_binding', ['disable', 'prefer', 'require']],
  ['sslnegotiation', ['postgres', 'direct']],
]);

/** Options that take a whole number. */
const NUMBERS: readonly string[] = [
  'keepalives',
  'keepalives_idle',
  'keepalives_interval',
  'keepalives_count',
  'tcp_user_timeout',
];

/** Reads a connection string of either form. Takes nothing from the environment. */
export function parseConninfo(text: string): Conninfo | ConninfoError {
  const options = parseConninfoOptions(text);
  if ('error' in options) return options;
  const hosts = hostList(options);
  if ('error' in hosts) return hosts;
  const sslmode = chooseSslMode(options.get('sslmode'));
  const timeout = options.get('connect_timeout');
  const problem =
    (sslmode === null ? invalidValue('sslmode', options.get('sslmode') ?? '') : null) ??
    checkOthers(options) ??
    checkNumber('connect_timeout', timeout);
  if (problem !== null) return { error: problem };
  return {
    hosts,
    user: nonEmpty(options.get('user')),
    password: nonEmpty(options.get('password')),
    database: nonEmpty(options.get('dbname')),
    applicationName:
      nonEmpty(options.get('application_name')) ??
      nonEmpty(options.get('fallback_application_name')),
    connectTimeoutSeconds: timeout === undefined ? null : parseInteger(timeout),
    sslmode: sslmode ?? 'prefer',
    tls: tlsOf(options, sslmode ?? 'prefer'),
    channelBinding: choice(CHANNEL_BINDINGS, options.get('channel_binding'), 'prefer'),
    requireAuth: nonEmpty(options.get('require_auth')),
    targetSessionAttrs: choice(TARGET_SESSION_ATTRS, options.get('target_session_attrs'), 'any'),
    loadBalanceHosts: choice(['disable', 'random'], options.get('load_balance_hosts'), 'disable'),
    keepalive: {
      isOn: options.get('keepalives') !== '0',
      idleMs: Math.max(0, parseInteger(options.get('keepalives_idle') ?? '0') ?? 0) * 1_000,
    },
    requirePeer: nonEmpty(options.get('requirepeer')),
    passfile: nonEmpty(options.get('passfile')),
    options: nonEmpty(options.get('options')),
    others: new Map([...options].filter(([name]) => !UNDERSTOOD.has(name))),
  };
}

function tlsOf(options: ReadonlyMap<string, string>, mode: SslMode): ConninfoTls {
  const minimum = options.get('ssl_min_protocol_version');
  const maximum = options.get('ssl_max_protocol_version');
  return {
    mode,
    negotiation: choice(['postgres', 'direct'], options.get('sslnegotiation'), 'postgres'),
    rootCert: nonEmpty(options.get('sslrootcert')),
    crl: nonEmpty(options.get('sslcrl')),
    crlDirectory: nonEmpty(options.get('sslcrldir')),
    cert: nonEmpty(options.get('sslcert')),
    key: nonEmpty(options.get('sslkey')),
    keyPassword: nonEmpty(options.get('sslpassword')),
    certMode: choice(['disable', 'allow', 'require'], options.get('sslcertmode'), 'allow'),
    sni: options.get('sslsni') !== '0',
    minVersion: choice(['TLSv1.2', 'TLSv1.3'], minimum, 'TLSv1.2'),
    maxVersion: maximum === 'TLSv1.2' || maximum === 'TLSv1.3' ? maximum : null,
  };
}

/** The word of `words` that was given; `fallback` when none was. */
function choice<T extends string>(words: readonly T[], given: string | undefined, fallback: T): T {
  return words.find((word) => word === given) ?? fallback;
}

function hostList(options: ReadonlyMap<string, string>): readonly ConninfoHost[] | ConninfoError {
  const names = listOf(options.get('host'));
  const addresses = listOf(options.get('hostaddr'));
  const count = addresses.length > 0 ? addresses.length : Math.max(1, names.length);
  if (names.length > 0 && names.length !== count) {
    return { error: `could not match ${names.length} host names to ${count} hostaddr values` };
  }
  if (count > HOSTS_MAX) return { error: `more than ${HOSTS_MAX} hosts in connection string` };
  const ports = listOf(options.get('port'));
  if (ports.length > 1 && ports.length !== count) {
    return { error: `could not match ${ports.length} port numbers to ${count} hosts` };
  }
  const hosts: ConninfoHost[] = [];
  for (let index = 0; index < count; index += 1) {
    const port = parsePort((ports.length === 1 ? ports[0] : ports[index]) ?? '');
    if (typeof port !== 'number') return port;
    const hostaddr = nonEmpty(addresses[index]);
    hosts.push({ host: nonEmpty(names[index]) ?? hostaddr ?? DEFAULT_HOST, hostaddr, port });
  }
  return hosts;
}

function listOf(value: string | undefined): string[] {
  return value === undefined || value === '' ? [] : value.split(',');
}

function parsePort(text: string): number | ConninfoError {
  if (text === '') return DEFAULT_PORT;
  const port = parseInteger(text);
  if (port === null) return { error: invalidInteger('port', text) };
  return port >= 1 && port <= 65_535 ? port : { error: `invalid port number: "${text}"` };
}

function chooseSslMode(value: string | undefined): SslMode | null {
  return SSL_MODES.find((mode) => mode === (value ?? 'prefer')) ?? null;
}

function checkOthers(options: ReadonlyMap<string, string>): string | null {
  for (const [name, choices] of CHOICES) {
    const value = options.get(name);
    if (value !== undefined && !choices.includes(value)) return invalidValue(name, value);
  }
  for (const name of NUMBERS) {
    const problem = checkNumber(name, options.get(name));
    if (problem !== null) return problem;
  }
  return null;
}

function checkNumber(name: string, value: string | undefined): string | null {
  return value === undefined || parseInteger(value) !== null ? null : invalidInteger(name, value);
}

/** parse_int_param: a decimal number with white space around it. */
function parseInteger(text: string): number | null {
  const match = /^[ \t\n\v\f\r]*([+-]?[0-9]{1,10})[ \t\n\v\f\r]*$/.exec(text);
  const value = match === null ? Number.NaN : Number(match[1]);
  return Math.abs(value) <= INT_MAX ? value : null;
}

function invalidInteger(name: string, text: string): string {
  return `invalid integer value "${text}" for connection option "${name}"`;
}

function invalidValue(name: string, text: string): string {
  return `invalid ${name} value: "${text}"`;
}

function nonEmpty(text: string | undefined): string | null {
  return text === undefined || text === '' ? null : text;
}
