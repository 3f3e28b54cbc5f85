// The configuration files of a server made for demo and tests: small, quick to start, ready to replicate.

/** Settings by name; null takes one away again. Values are written quoted, whatever they are. */
export type ServerSettings = Readonly<Record<string, string | null>>;

/** The file that carries our settings; postgresql.conf includes it last. */
export const SETTINGS_FILE = 'walcast.conf';

/** Line that makes postgresql.conf read {@link SETTINGS_FILE}. */
export const INCLUDE_LINE: string = `include_if_exists '${SETTINGS_FILE}'`;

/** Everybody of this machine may connect, also for replication; nobody else can reach the port. */
export const TRUST_HBA: string = [
  'local all all trust',
  'local replication all trust',
  'host all all 127.0.0.1/32 trust',
  'host all all ::1/128 trust',
  'host replication all 127.0.0.1/32 trust',
  'host replication all ::1/128 trust',
  '',
].join('\n');

/** Settings every server of the demo and the tests starts from. Durable as in production: fsync stays on. */
export function defaultSettings(major: number): ServerSettings {
  return {
    listen_addresses: '127.0.0.1',
    fsync: 'on',
    shared_buffers: '16MB',
    huge_pages: 'off',
    max_connections: '50',
    wal_level: 'replica',
    max_wal_senders: '20',
    max_replication_slots: '20',
    hot_standby: 'on',
    wal_retrieve_retry_interval: '500ms',
    jit: 'off',
    logging_collector: 'off',
    log_destination: 'stderr',
    log_line_prefix: '%m [%p] %b %a ',
    log_replication_commands: 'on',
    lc_messages: 'C',
    timezone: 'UTC',
    log_timezone: 'UTC',
    // Worker processes for reading would be the larger part of a small server.
    ...(major >= 18 ? { io_method: 'sync' } : {}),
  };
}

/** The text of {@link SETTINGS_FILE}. */
export function renderSettings(settings: ServerSettings): string {
  const lines = Object.entries(settings).flatMap(([name, value]) =>
    value === null ? [] : [`${name} = '${value.replaceAll("'", "''")}'`],
  );
  return `${lines.join('\n')}\n`;
}

/** A libpq keyword/value string; values are quoted where they need it. Undefined ones are left out. */
export function renderConninfo(parameters: Readonly<Record<string, string | undefined>>): string {
  return Object.entries(parameters)
    .flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${conninfoValue(value)}`]))
    .join(' ');
}

function conninfoValue(value: string): string {
  if (/^[\w.:/@+-]+$/.test(value)) return value;
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
