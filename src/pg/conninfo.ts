// What does a connection string mean? Hosts, credentials and settings as a session uses them.
// (src/interfaces/libpq/fe-connect.c: pqConnectOptions2)
import {
  CHANNEL_BINDINGS,
  checkConninfoOptions,
  effectiveSslMode,
  SSL_MODES,
  TARGET_SESSION_ATTRS,
} from './conninfo-checks.ts';
import type {
  ChannelBinding,
  ConninfoExtent,
  SslMode,
  TargetSessionAttrs,
} from './conninfo-checks.ts';
import type { ConninfoError, ConninfoOptions } from './conninfo-options.ts';
import { parseConninfoOptions } from './conninfo-syntax.ts';
import { choice, listOf, nonEmpty, parseInteger } from './conninfo-values.ts';

export { CHANNEL_BINDINGS, SSL_MODES, TARGET_SESSION_ATTRS } from './conninfo-checks.ts';
export type { ChannelBinding, SslMode, TargetSessionAttrs } from './conninfo-checks.ts';
export { maskConninfo } from './conninfo-syntax.ts';
export type { ConninfoError } from './conninfo-options.ts';

/** Values of ssl_min_protocol_version that can be had; with an older one 1.2 is the minimum. */
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
  /** What was given, option by option: a service file and the environment add to it before it is used. */
  readonly given: ConninfoOptions;
}

const DEFAULT_HOST = 'localhost';
const DEFAULT_PORT = 5432;

/**
 * Reads a connection string of either form. Takes nothing from the environment, and refuses nothing that the environment
 * or a service file could still put right. The error is libpq's where libpq has one.
 */
export function parseConninfo(text: string): Conninfo | ConninfoError {
  const options = parseConninfoOptions(text);
  return 'error' in options ? options : conninfoOf(options, 'given');
}

/** What options mean, or why they cannot be used; `extent` says whether anything may still be added to them. */
export function conninfoOf(
  options: ConninfoOptions,
  extent: ConninfoExtent,
): Conninfo | ConninfoError {
  const problem = checkConninfoOptions(options, extent);
  if (problem !== null) return problem;
  const timeout = options.get('connect_timeout');
  return {
    hosts: hostList(options),
    user: nonEmpty(options.get('user')),
    password: nonEmpty(options.get('password')),
    database: nonEmpty(options.get('dbname')),
    applicationName: nonEmpty(
      options.get('application_name') ?? options.get('fallback_application_name'),
    ),
    connectTimeoutSeconds: timeout === undefined ? null : parseInteger(timeout),
    tls: tlsOf(options),
    channelBinding: choice(CHANNEL_BINDINGS, options.get('channel_binding'), 'prefer'),
    requireAuth: nonEmpty(options.get('require_auth')),
    targetSessionAttrs: choice(TARGET_SESSION_ATTRS, options.get('target_session_attrs'), 'any'),
    loadBalanceHosts: choice(['disable', 'random'], options.get('load_balance_hosts'), 'disable'),
    keepalive: {
      isOn: parseInteger(options.get('keepalives') ?? '1') !== 0,
      idleMs: Math.max(0, parseInteger(options.get('keepalives_idle') ?? '0') ?? 0) * 1_000,
    },
    requirePeer: nonEmpty(options.get('requirepeer')),
    passfile: nonEmpty(options.get('passfile')),
    options: nonEmpty(options.get('options')),
    given: options,
  };
}

function tlsOf(options: ConninfoOptions): ConninfoTls {
  return {
    mode: choice(SSL_MODES, effectiveSslMode(options), 'prefer'),
    negotiation: choice(['postgres', 'direct'], options.get('sslnegotiation'), 'postgres'),
    rootCert: nonEmpty(options.get('sslrootcert')),
    crl: nonEmpty(options.get('sslcrl')),
    crlDirectory: nonEmpty(options.get('sslcrldir')),
    cert: nonEmpty(options.get('sslcert')),
    key: nonEmpty(options.get('sslkey')),
    keyPassword: nonEmpty(options.get('sslpassword')),
    certMode: choice(['disable', 'allow', 'require'], options.get('sslcertmode'), 'allow'),
    sni: (options.get('sslsni') ?? '1').startsWith('1'),
    minVersion: tlsVersion(options.get('ssl_min_protocol_version')) ?? 'TLSv1.2',
    maxVersion: tlsVersion(options.get('ssl_max_protocol_version')),
  };
}

/** libpq compares without regard to case. */
function tlsVersion(text: string | undefined): TlsVersion | null {
  switch (text?.toLowerCase()) {
    case 'tlsv1.2':
      return 'TLSv1.2';
    case 'tlsv1.3':
      return 'TLSv1.3';
    default:
      return null;
  }
}

function hostList(options: ConninfoOptions): readonly ConninfoHost[] {
  const names = listOf(options.get('host'));
  const addresses = listOf(options.get('hostaddr'));
  const ports = listOf(options.get('port'));
  const count = Math.max(names.length, addresses.length, 1);
  return Array.from({ length: count }, (_, index) => {
    const hostaddr = nonEmpty(addresses[index]);
    const port = nonEmpty(ports.length === 1 ? ports[0] : ports[index]);
    return {
      host: nonEmpty(names[index]) ?? hostaddr ?? DEFAULT_HOST,
      hostaddr,
      port: port === null ? DEFAULT_PORT : (parseInteger(port) ?? DEFAULT_PORT),
    };
  });
}
