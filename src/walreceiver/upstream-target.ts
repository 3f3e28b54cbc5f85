// Where the upstream is and as whom to log in: a libpq connection string with its defaults filled in.
import type {
  ChannelBinding,
  Conninfo,
  ConninfoHost,
  ConninfoKeepalive,
  ConninfoTls,
  TargetSessionAttrs,
} from '../pg/conninfo.ts';

/** One entry of the host list. */
export interface UpstreamHost {
  /** As given: a name, a numeric address, or the directory of a Unix socket (starts with `/`). For messages and status. */
  readonly host: string;
  /** Where to connect: hostaddr where it is given, else `host`. */
  readonly address: string;
  readonly port: number;
  /** Password for this host; null when none is known. Never logged. */
  readonly password: string | null;
}

/** A connection string, resolved. */
export interface UpstreamTarget {
  /** Tried in order; never empty. */
  readonly hosts: readonly UpstreamHost[];
  readonly user: string;
  /** How to do TLS; files with their defaults (`~/.postgresql/…`) filled in where they exist. */
  readonly tls: ConninfoTls;
  /** libpq's require_auth, or null when it is not given. */
  readonly requireAuth: string | null;
  readonly channelBinding: ChannelBinding;
  readonly targetSessionAttrs: TargetSessionAttrs;
  readonly loadBalanceHosts: 'disable' | 'random';
  readonly keepalive: ConninfoKeepalive;
  readonly requirePeer: string | null;
  /** For connection and login together; 0 = no limit. */
  readonly connectTimeoutMs: number;
  /** Startup parameters to send besides user, database, replication and application_name (`options` …). */
  readonly parameters: ReadonlyMap<string, string>;
}

/** What a connection string leaves to its surroundings. */
export interface TargetDefaults {
  /** User where the string names none. */
  readonly user: string;
  /** Password where the string gives none: environment, password file. */
  readonly passwordFor: (host: ConninfoHost, user: string) => string | null;
}

/** libpq never waits less than this. (fe-connect.c:PQconnectdbParams) */
const CONNECT_TIMEOUT_SECONDS_MIN = 2;

/** Fills in what `conninfo` does not say. */
export function upstreamTarget(conninfo: Conninfo, defaults: TargetDefaults): UpstreamTarget {
  const user = conninfo.user ?? defaults.user;
  const seconds = conninfo.connectTimeoutSeconds ?? 0;
  return {
    hosts: conninfo.hosts.map((entry) => ({
      host: entry.host,
      address: entry.hostaddr ?? entry.host,
      port: entry.port,
      password: conninfo.password ?? defaults.passwordFor(entry, user),
    })),
    user,
    tls: conninfo.tls,
    requireAuth: conninfo.requireAuth,
    channelBinding: conninfo.channelBinding,
    targetSessionAttrs: conninfo.targetSessionAttrs,
    loadBalanceHosts: conninfo.loadBalanceHosts,
    keepalive: conninfo.keepalive,
    requirePeer: conninfo.requirePeer,
    connectTimeoutMs: seconds <= 0 ? 0 : Math.max(CONNECT_TIMEOUT_SECONDS_MIN, seconds) * 1_000,
    parameters: new Map(conninfo.options === null ? [] : [['options', conninfo.options]]),
  };
}
