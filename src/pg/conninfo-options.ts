// Which options does a connection string know, and which environment variable stands in for each?
// (src/interfaces/libpq/fe-connect.c: PQconninfoOptions, as of PostgreSQL 18)

/** Keyword, and the environment variable that gives its default; null = none. */
const TABLE: readonly (readonly [keyword: string, variable: string | null])[] = [
  ['service', 'PGSERVICE'],
  // PostgreSQL 19; older ones have the environment variable only.
  ['servicefile', 'PGSERVICEFILE'],
  ['user', 'PGUSER'],
  ['password', 'PGPASSWORD'],
  ['passfile', 'PGPASSFILE'],
  ['channel_binding', 'PGCHANNELBINDING'],
  ['connect_timeout', 'PGCONNECT_TIMEOUT'],
  ['dbname', 'PGDATABASE'],
  ['host', 'PGHOST'],
  ['hostaddr', 'PGHOSTADDR'],
  ['port', 'PGPORT'],
  ['client_encoding', 'PGCLIENTENCODING'],
  ['options', 'PGOPTIONS'],
  ['application_name', 'PGAPPNAME'],
  ['fallback_application_name', null],
  ['keepalives', null],
  ['keepalives_idle', null],
  ['keepalives_interval', null],
  ['keepalives_count', null],
  ['tcp_user_timeout', null],
  ['sslmode', 'PGSSLMODE'],
  ['sslnegotiation', 'PGSSLNEGOTIATION'],
  ['sslcompression', 'PGSSLCOMPRESSION'],
  ['sslcert', 'PGSSLCERT'],
  ['sslkey', 'PGSSLKEY'],
  ['sslkeylogfile', null],
  ['sslcertmode', 'PGSSLCERTMODE'],
  ['sslpassword', null],
  ['sslrootcert', 'PGSSLROOTCERT'],
  ['sslcrl', 'PGSSLCRL'],
  ['sslcrldir', 'PGSSLCRLDIR'],
  ['sslsni', 'PGSSLSNI'],
  ['requirepeer', 'PGREQUIREPEER'],
  ['require_auth', 'PGREQUIREAUTH'],
  ['min_protocol_version', 'PGMINPROTOCOLVERSION'],
  ['max_protocol_version', 'PGMAXPROTOCOLVERSION'],
  ['ssl_min_protocol_version', 'PGSSLMINPROTOCOLVERSION'],
  ['ssl_max_protocol_version', 'PGSSLMAXPROTOCOLVERSION'],
  ['gssencmode', 'PGGSSENCMODE'],
  ['krbsrvname', 'PGKRBSRVNAME'],
  ['gsslib', 'PGGSSLIB'],
  ['gssdelegation', 'PGGSSDELEGATION'],
  ['replication', null],
  ['target_session_attrs', 'PGTARGETSESSIONATTRS'],
  ['load_balance_hosts', 'PGLOADBALANCEHOSTS'],
  ['scram_client_key', null],
  ['scram_server_key', null],
  ['oauth_issuer', null],
  ['oauth_client_id', null],
  ['oauth_client_secret', null],
  ['oauth_scope', null],
];

/** The environment variable of every option, null where there is none. What is no key here is no option. */
export const CONNINFO_OPTIONS: ReadonlyMap<string, string | null> = new Map(TABLE);

/** Options whose value is never shown. */
export const SECRET_OPTIONS: ReadonlySet<string> = new Set([
  'password',
  'sslpassword',
  'scram_client_key',
  'scram_server_key',
  'oauth_client_secret',
]);

/** What stands for a value that is not shown. */
export const MASK: string = '***';

/** Options by keyword, as given or as completed. */
export type ConninfoOptions = ReadonlyMap<string, string>;

/** What libpq would say about a connection string it cannot use. */
export interface ConninfoError {
  readonly error: string;
  /** The option whose value is at fault, where one is. */
  readonly keyword?: string;
}

/** Carries libpq's text out of the nested readers of a connection string; never leaves them. */
export class ConninfoSyntaxFailure extends Error {}

/**
 * Stores an option under the name it has today. False when there is none of that name. (conninfo_storeval)
 */
export function storeOption(options: Map<string, string>, name: string, value: string): boolean {
  if (name === 'requiressl') {
    options.set('sslmode', value.startsWith('1') ? 'require' : 'prefer');
    return true;
  }
  if (!CONNINFO_OPTIONS.has(name)) return false;
  options.set(name, value);
  return true;
}
