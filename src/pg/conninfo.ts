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
    options: nonEmpty(options.get('options')),
    others: new Map([...options].filter(([name]) => !UNDERSTOOD.has(name))),
  };
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
