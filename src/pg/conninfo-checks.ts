// Would libpq refuse these options, and in which words? And which of them ask for what walcast cannot do?
// (src/interfaces/libpq/fe-connect.c: pqConnectOptions2, PQconnectPoll; texts of PostgreSQL 18)
import { parseIpAddress } from './ip-address.ts';
import { MASK } from './conninfo-options.ts';
import type { ConninfoError, ConninfoOptions } from './conninfo-options.ts';
import { isUnixSocketPath, listOf, parseInteger } from './conninfo-values.ts';
import { checkRequireAuth } from './require-auth.ts';

/**
 * Whether all options are there (`complete`), or only those of a connection string, to which a service file and the
 * environment may add: then nothing is refused that they could still put right.
 */
export type ConninfoExtent = 'given' | 'complete';

type Check = (options: ConninfoOptions, extent: ConninfoExtent) => ConninfoError | null;

/** Hosts of one string; libpq has no limit. */
const HOSTS_MAX = 64;

/** Bytes of a Unix socket's path. (sockaddr_un.sun_path without the terminator) */
const SOCKET_PATH_BYTES_MAX = 107;

const SCRAM_KEY_BYTES = 32;
const TLS_VERSIONS: readonly string[] = ['tlsv1', 'tlsv1.1', 'tlsv1.2', 'tlsv1.3'];
const PROTOCOL_VERSIONS: readonly string[] = ['3.0', '3.2', 'latest'];

/** Values of sslmode, weakest first. */
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

/** sslmode with its default: the roots of this machine are of use only where the host name is checked, too. */
export function effectiveSslMode(options: ConninfoOptions): string {
  const preset = options.get('sslrootcert') === 'system' ? 'verify-full' : 'prefer';
  return options.get('sslmode') ?? preset;
}

/** In libpq's order, so that of several mistakes the same one is told. */
const CHECKS: readonly Check[] = [
  checkZeroBytes,
  checkHostCounts,
  checkPortCount,
  (options) => {
    const list = options.get('require_auth') ?? '';
    return list === '' ? null : checkRequireAuth(list);
  },
  oneOf('channel_binding', CHANNEL_BINDINGS),
  oneOf('sslmode', SSL_MODES),
  oneOf('sslnegotiation', ['postgres', 'direct']),
  checkWeakSslMode,
  checkTlsVersions,
  oneOf('sslcertmode', ['disable', 'allow', 'require']),
  oneOf('gssencmode', ['disable', 'prefer', 'require']),
  checkGssEncryption,
  oneOf('target_session_attrs', TARGET_SESSION_ATTRS),
  checkScramKeys,
  oneOf('load_balance_hosts', ['disable', 'random']),
  oneOf('min_protocol_version', PROTOCOL_VERSIONS),
  oneOf('max_protocol_version', PROTOCOL_VERSIONS),
  checkProtocolRange,
  checkHosts,
  checkKeepalives,
  (options) => checkNumber(options, 'connect_timeout'),
  checkAbilities,
];

/** The first reason not to use these options, in libpq's words where libpq has one; null when there is none. */
export function checkConninfoOptions(
  options: ConninfoOptions,
  extent: ConninfoExtent,
): ConninfoError | null {
  for (const check of CHECKS) {
    const problem = check(options, extent);
    if (problem !== null) return problem;
  }
  return null;
}

/** True when every host is a Unix socket, as far as they are named. */
function hasOnlyUnixSockets(options: ConninfoOptions): boolean {
  const hosts = listOf(options.get('host'));
  const addresses = listOf(options.get('hostaddr'));
  if (hosts.length === 0) return false;
  return hosts.every((host, index) => (addresses[index] ?? '') === '' && isUnixSocketPath(host));
}

function oneOf(keyword: string, words: readonly string[]): Check {
  return (options) => {
    const value = options.get(keyword);
    if (value === undefined || words.includes(value)) return null;
    return { error: `invalid ${keyword} value: "${value}"`, keyword };
  };
}

/** No C string, and no startup packet, can hold one. */
function checkZeroBytes(options: ConninfoOptions): ConninfoError | null {
  for (const [keyword, value] of options) {
    if (value.includes('\0')) {
      return { error: `connection option "${keyword}" contains a zero byte`, keyword };
    }
  }
  return null;
}

function checkHostCounts(options: ConninfoOptions): ConninfoError | null {
  const names = listOf(options.get('host')).length;
  const addresses = listOf(options.get('hostaddr')).length;
  if (names > 0 && addresses > 0 && names !== addresses) {
    return {
      error: `could not match ${names} host names to ${addresses} hostaddr values`,
      keyword: 'hostaddr',
    };
  }
  if (Math.max(names, addresses) <= HOSTS_MAX) return null;
  return { error: `more than ${HOSTS_MAX} hosts in connection string`, keyword: 'host' };
}

function checkPortCount(options: ConninfoOptions, extent: ConninfoExtent): ConninfoError | null {
  const ports = listOf(options.get('port')).length;
  const hosts = Math.max(
    listOf(options.get('host')).length,
    listOf(options.get('hostaddr')).length,
    1,
  );
  if (ports <= 1 || ports === hosts) return null;
  if (extent === 'given' && !options.has('host') && !options.has('hostaddr')) return null;
  return {
    error: `could not match ${ports} port numbers to ${hosts} hosts`,
    keyword: 'port',
  };
}

function checkWeakSslMode(options: ConninfoOptions, extent: ConninfoExtent): ConninfoError | null {
  if (extent === 'given' && !options.has('sslmode')) return null;
  const mode = effectiveSslMode(options);
  const isWeak = mode === 'disable' || mode === 'allow' || mode === 'prefer';
  if (options.get('sslnegotiation') === 'direct' && isWeak) {
    return {
      error: `weak sslmode "${mode}" may not be used with sslnegotiation=direct (use "require", "verify-ca", or "verify-full")`,
      keyword: 'sslmode',
    };
  }
  if (options.get('sslrootcert') !== 'system' || mode === 'verify-full') return null;
  return {
    error: `weak sslmode "${mode}" may not be used with sslrootcert=system (use "verify-full")`,
    keyword: 'sslmode',
  };
}

function checkTlsVersions(options: ConninfoOptions): ConninfoError | null {
  const minimum = (options.get('ssl_min_protocol_version') ?? 'TLSv1.2').toLowerCase();
  const maximum = (options.get('ssl_max_protocol_version') ?? '').toLowerCase();
  for (const keyword of ['ssl_min_protocol_version', 'ssl_max_protocol_version']) {
    const value = options.get(keyword) ?? '';
    if (value !== '' && !TLS_VERSIONS.includes(value.toLowerCase())) {
      return { error: `invalid "${keyword}" value: "${value}"`, keyword };
    }
  }
  const keyword = 'ssl_max_protocol_version';
  if (maximum === '') return null;
  if (minimum !== '' && TLS_VERSIONS.indexOf(minimum) > TLS_VERSIONS.indexOf(maximum)) {
    return { error: 'invalid SSL protocol version range', keyword };
  }
  if (TLS_VERSIONS.indexOf(maximum) >= TLS_VERSIONS.indexOf('tlsv1.2')) return null;
  return {
    error: `ssl_max_protocol_version="${options.get(keyword)}" is below TLSv1.2, the oldest that walcast speaks (use "TLSv1.2" or "TLSv1.3")`,
    keyword,
  };
}

function checkGssEncryption(options: ConninfoOptions): ConninfoError | null {
  if (options.get('gssencmode') !== 'require') return null;
  return {
    error:
      'gssencmode value "require" invalid when GSSAPI support is not compiled in (use "disable", and sslmode for encryption)',
    keyword: 'gssencmode',
  };
}

function checkScramKeys(options: ConninfoOptions): ConninfoError | null {
  for (const name of ['client', 'server']) {
    const keyword = `scram_${name}_key`;
    const value = options.get(keyword);
    if (value === undefined) continue;
    const isBase64 = /^[A-Za-z0-9+/]*={0,2}$/.test(value) && value.length % 4 === 0;
    const length = Buffer.from(value, 'base64').length;
    if (!isBase64) return { error: `invalid SCRAM ${name} key`, keyword };
    if (length !== SCRAM_KEY_BYTES) {
      return { error: `invalid SCRAM ${name} key length: ${length}`, keyword };
    }
  }
  return null;
}

function checkProtocolRange(options: ConninfoOptions): ConninfoError | null {
  const version = (name: string): number => (options.get(name) === '3.0' ? 0 : 2);
  const minimum = options.has('min_protocol_version') ? version('min_protocol_version') : 0;
  const maximum = options.has('max_protocol_version') ? version('max_protocol_version') : 2;
  if (minimum <= maximum) return null;
  return {
    error: '"min_protocol_version" is greater than "max_protocol_version"',
    keyword: 'min_protocol_version',
  };
}

function checkHosts(options: ConninfoOptions): ConninfoError | null {
  const names = listOf(options.get('host'));
  const addresses = listOf(options.get('hostaddr'));
  const ports = listOf(options.get('port'));
  const count = Math.max(names.length, addresses.length, ports.length, 1);
  for (let index = 0; index < count; index += 1) {
    const port = ports.length === 1 ? ports[0] : ports[index];
    const address = addresses[index] ?? '';
    const name = names[index] ?? '';
    const problem =
      checkPort(port ?? '', options) ??
      checkAddress(address, name, port ?? '') ??
      checkName(address, name);
    if (problem !== null) return problem;
  }
  return null;
}

function checkPort(text: string, options: ConninfoOptions): ConninfoError | null {
  if (text === '') return null;
  const port = parseInteger(text);
  if (port === null) {
    // In a URI, what stands before a slash in a password that should have been percent-encoded is read as a port.
    const isPassword = options.get('dbname')?.includes('@') === true;
    return { error: invalidInteger('port', isPassword ? MASK : text), keyword: 'port' };
  }
  if (port >= 1 && port <= 65_535) return null;
  return { error: `invalid port number: "${text}"`, keyword: 'port' };
}

function checkAddress(address: string, name: string, port: string): ConninfoError | null {
  if (address !== '') {
    if (isNumericAddress(address)) return null;
    return {
      error: `could not parse network address "${address}": Name or service not known`,
      keyword: 'hostaddr',
    };
  }
  if (!isUnixSocketPath(name)) return null;
  const path = `${name}/.s.PGSQL.${port === '' ? 5432 : (parseInteger(port) ?? 0)}`;
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return null;
  return {
    error: `Unix-domain socket path "${path}" is too long (maximum ${SOCKET_PATH_BYTES_MAX} bytes)`,
    keyword: 'host',
  };
}

/** No host is called so: in a URI it is the end of a password with an `@` that should have been percent-encoded. */
function checkName(address: string, name: string): ConninfoError | null {
  if (address !== '' || isUnixSocketPath(name) || !name.includes('@')) return null;
  return {
    error: `could not translate host name "${MASK}" to address: Name or service not known`,
    keyword: 'host',
  };
}

/** What getaddrinfo takes with AI_NUMERICHOST: also a zone, and the shortened forms of IPv4 (inet_aton). */
function isNumericAddress(text: string): boolean {
  const zoned = /^([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)%[^%\s]+$/.exec(text);
  if (parseIpAddress(zoned?.[1] ?? text) !== null) return true;
  const parts = text.split('.');
  if (parts.length > 4) return false;
  const isNumber = (part: string): boolean =>
    /^(?:0[xX][0-9A-Fa-f]+|0[0-7]*|[1-9][0-9]*)$/.test(part);
  if (!parts.every(isNumber)) return false;
  const numbers = parts.map((part) => Number(/^0[0-7]+$/.test(part) ? `0o${part}` : part));
  const last = numbers.pop() ?? 0;
  return numbers.every((number) => number <= 255) && last < 256 ** (5 - parts.length);
}

/** libpq looks at them only where it sets them: on TCP connections, and the times only while keepalives are on. */
function checkKeepalives(options: ConninfoOptions): ConninfoError | null {
  if (hasOnlyUnixSockets(options)) return null;
  const switchProblem = checkNumber(options, 'keepalives');
  if (switchProblem !== null) return switchProblem;
  if (parseInteger(options.get('keepalives') ?? '1') === 0) return null;
  for (const name of ['idle', 'interval', 'count']) {
    const problem = checkNumber(options, `keepalives_${name}`);
    if (problem !== null) return problem;
  }
  return checkNumber(options, 'tcp_user_timeout');
}

function checkNumber(options: ConninfoOptions, keyword: string): ConninfoError | null {
  const value = options.get(keyword);
  if (value === undefined || parseInteger(value) !== null) return null;
  return { error: invalidInteger(keyword, value), keyword };
}

/** What libpq can do and walcast cannot. */
function checkAbilities(options: ConninfoOptions, extent: ConninfoExtent): ConninfoError | null {
  const minimum = options.get('min_protocol_version') ?? '3.0';
  if (minimum !== '3.0') {
    return {
      error: `min_protocol_version="${minimum}" asks for more than protocol 3.0, which is what walcast speaks (leave it out)`,
      keyword: 'min_protocol_version',
    };
  }
  const key = ['scram_client_key', 'scram_server_key'].find((name) => options.has(name));
  if (key !== undefined) {
    return {
      error: `${key} cannot be used by walcast (give the password, or a password file, instead)`,
      keyword: key,
    };
  }
  const hosts = listOf(options.get('host'));
  const hasSocket = hosts.some(isUnixSocketPath) && (extent === 'complete' || options.has('host'));
  if ((options.get('requirepeer') ?? '') === '' || !hasSocket) return null;
  return {
    error:
      'requirepeer parameter is not supported on this platform (leave it out: the permissions of the socket directory do its work)',
    keyword: 'requirepeer',
  };
}

function invalidInteger(name: string, text: string): string {
  return `invalid integer value "${text}" for connection option "${name}"`;
}
