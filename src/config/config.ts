// What the rest of the program is told by its configuration: every value resolved, in one unit a kind
// (bytes, milliseconds), with where it came from. How it is read and checked: load.ts; the keys: settings.ts.
import type { LogLevel } from '../base/log-levels.ts';
import type { Conninfo } from '../pg/conninfo.ts';
import type { HbaRules } from '../pg/hba.ts';
import type { IdentMaps } from '../pg/ident.ts';
import type { PasswordSecret } from '../pg/password-secret.ts';
import type { SyncPolicy } from '../syncrep/standby-names.ts';
import type { EffectiveValue } from './effective.ts';
import type { FilePlace } from './file-place.ts';

/** A TCP address. `host` is a name, an address without brackets, or `*` for every interface; port 0 = any free one. */
export interface TcpAddress {
  readonly kind: 'tcp';
  readonly host: string;
  readonly port: number;
}

/** A Unix-domain socket, named as PostgreSQL names it: `path` is `directory/.s.PGSQL.port`. */
export interface UnixAddress {
  readonly kind: 'unix';
  readonly directory: string;
  readonly port: number;
  readonly path: string;
}

/** `client_cert`: whether clients are asked for a certificate, and whether they have to show one. */
export const CLIENT_CERT_MODES = ['none', 'optional', 'require'] as const;
export type ClientCertMode = (typeof CLIENT_CERT_MODES)[number];

/** TLS on an address: names of PEM files, absolute. Their contents are read by whoever listens, again when they change. */
export interface ListenTls {
  readonly cert: string;
  readonly key: string;
  /** Authorities of client certificates; never null unless `clientCert` is `none`. */
  readonly ca: string | null;
  /** Revoked client certificates. */
  readonly crl: string | null;
  readonly clientCert: ClientCertMode;
}

/** A TCP address that standbys connect to. */
export interface TcpListenAddress extends TcpAddress {
  /** Null: no TLS is offered there. */
  readonly tls: ListenTls | null;
}

/** Where standbys connect. Unix-domain sockets have no TLS. */
export type ListenAddress = TcpListenAddress | UnixAddress;

/** Where a value came from, highest precedence first. */
export const ORIGINS = ['flag', 'environment', 'file', 'default'] as const;
export type Origin = (typeof ORIGINS)[number];

/** Access rules: at least one. `source` names them in messages (a path, or `auth.hba`). */
export interface HbaConfig {
  readonly source: string;
  readonly text: string;
  readonly rules: HbaRules;
}

/** `storage.verify`: which checks WAL passes before it is kept or sent. */
export const VERIFY_MODES = ['page', 'record', 'off'] as const;
export type VerifyMode = (typeof VERIFY_MODES)[number];

/** `storage.forward`: from when on WAL may be sent: received and checked, or flushed to our own disk. */
export const FORWARD_MODES = ['received', 'flushed'] as const;
export type ForwardMode = (typeof FORWARD_MODES)[number];

/** `upstream.prefer`: which of the discovered servers comes first. */
export const UPSTREAM_PREFERENCES = ['primary', 'standby', 'zone'] as const;
export type UpstreamPreference = (typeof UPSTREAM_PREFERENCES)[number];

/** What a key takes that is on or off. */
export const SWITCH_WORDS = ['off', 'on'] as const;

/** Where the upstream's hosts are learnt. */
export interface UpstreamDiscoveryConfig {
  /** REST addresses of Patroni, without credentials; one at least. */
  readonly urls: readonly string[];
  readonly preference:
    | { readonly kind: Exclude<UpstreamPreference, 'zone'> }
    | { readonly kind: 'zone'; readonly zone: string };
}

/** The session to the upstream server. */
export interface UpstreamConfig {
  /** libpq connection string, keyword or URI form; may hold a password: never log it. */
  readonly conninfo: string;
  /** The same, understood. Nothing was taken from the environment (PGUSER …). */
  readonly server: Conninfo;
  /** Physical slot there; null for none. */
  readonly slot: string | null;
  readonly applicationName: string;
  /** Null: the hosts of the connection string are all there are. */
  readonly discovery: UpstreamDiscoveryConfig | null;
  /** 0 = never. */
  readonly walReceiverTimeoutMs: number;
  /** 0 = only when a position moved or the server asked. */
  readonly walReceiverStatusIntervalMs: number;
  /** What standbys feed back about rows that they need is passed on. */
  readonly hotStandbyFeedback: boolean;
}

/** The WAL store and what it serves. */
export interface StorageConfig {
  /** Absolute path. */
  readonly directory: string;
  readonly walKeepSizeBytes: number;
  /** Null = no bound. */
  readonly maxSlotWalKeepSizeBytes: number | null;
  /** For everything in the store; null = no bound. */
  readonly quotaBytes: number | null;
  readonly maxWalSenders: number;
  readonly maxReplicationSlots: number;
  readonly verify: VerifyMode;
  readonly forward: ForwardMode;
}

/** `auth_query`: a question to the upstream about a user. */
export interface AuthQueryConfig {
  /** SQL; `$1` is the name of the user. Columns by position: name, secret, valid until, may replicate. */
  readonly text: string;
  /** The database it is asked in. */
  readonly database: string;
  /** How long an answer counts. */
  readonly cacheMs: number;
}

/** Who may log in and how that is shown. Access rules: {@link HbaConfig}. */
export interface AuthConfig {
  readonly identMaps: IdentMaps;
  /** From the file or from the configuration; empty without either. */
  readonly users: ReadonlyMap<string, PasswordSecret>;
  /** Named there with an empty secret: no password lets them in, and the upstream is not asked about them. */
  readonly usersWithoutSecret: ReadonlySet<string>;
  /** Who may use the changing commands of the console; empty: nobody. */
  readonly adminUsers: ReadonlySet<string>;
  /** Null: the upstream is not asked. */
  readonly query: AuthQueryConfig | null;
  /** From the first byte of a connection to the end of its authentication. */
  readonly timeoutMs: number;
}

/** TLS of the HTTP port: names of PEM files, absolute. */
export interface HttpTls {
  readonly cert: string;
  readonly key: string;
  /** Not null: clients have to show a certificate of one of these authorities. */
  readonly ca: string | null;
}

/** The HTTP port. */
export interface HttpConfig {
  /** Null: no HTTP port. */
  readonly listen: TcpAddress | null;
  /** What a request that changes something has to show; null when none was given. Never logged. */
  readonly token: string | null;
  /** Opens `/wal` and nothing else; null when none was given. Never logged. */
  readonly walToken: string | null;
  /** Null: HTTP without TLS. */
  readonly tls: HttpTls | null;
}

/** What `log.format` takes; `auto` is text on a terminal, and JSON elsewhere. */
export const LOG_FORMAT_WORDS = ['auto', 'json', 'text'] as const;

/** What is logged, and how. */
export interface LogConfig {
  readonly level: LogLevel;
  readonly format: (typeof LOG_FORMAT_WORDS)[number];
  /** Of components that have a level of their own. */
  readonly levels: ReadonlyMap<string, LogLevel>;
}

/** A configuration that passed every check. Immutable; a reload makes a new one. */
export interface Config {
  readonly upstream: UpstreamConfig;
  readonly listen: readonly ListenAddress[];
  /** Null when no rules were given: then no TCP port is opened. */
  readonly hba: HbaConfig | null;
  readonly auth: AuthConfig;
  readonly storage: StorageConfig;
  /** Connections of clients from one address at one time; null = no limit of its own. */
  readonly maxConnectionsPerAddress: number | null;
  readonly logConnections: boolean;
  readonly logDisconnections: boolean;
  readonly logReplicationCommands: boolean;
  /** Which standbys have to confirm WAL before it is confirmed to the upstream; null: our own disk is enough. */
  readonly syncPolicy: SyncPolicy | null;
  /** 0 = never. */
  readonly walSenderTimeoutMs: number;
  /** 0 = never. */
  readonly idleReplicationSlotTimeoutMs: number;
  /** Physical slots that always exist. */
  readonly slots: readonly string[];
  readonly autoCreateSlots: boolean;
  /** Transaction ids; null = no bound. */
  readonly maxFeedbackXminAge: bigint | null;
  readonly drainTimeoutMs: number;
  readonly http: HttpConfig;
  readonly log: LogConfig;
  /** Every key as it is shown, by its path (`storage.directory`), in the order of the documentation. */
  readonly values: ReadonlyMap<string, EffectiveValue>;
  /** What is allowed but should be looked at; logged at start. */
  readonly warnings: readonly string[];
  /** Absolute names of the files that were read for a key, `include`d ones too, by its path. */
  readonly namedFiles: ReadonlyMap<string, readonly string[]>;
  /** Where every name that was followed to read it led, by absolute name: the configuration file's, those that keys name, `include`d ones. */
  readonly places: ReadonlyMap<string, FilePlace>;
}
