// The one table of configuration keys: name, type, unit, default, whether a reload can change it, what it is for.
// The file's schema (file-schema.ts), the environment names, the flags and docs/configuration.md are all made from it.
import { Type } from 'typebox';
import type { TSchema } from 'typebox';
import { LOG_LEVELS } from '../base/log-levels.ts';
import {
  FORWARD_MODES,
  LOG_FORMAT_WORDS,
  SWITCH_WORDS,
  UPSTREAM_PREFERENCES,
  VERIFY_MODES,
} from './config.ts';
import { CONFIGURED_SLOTS_MAX, DISCOVERY_URLS_MAX, LISTEN_ADDRESSES_MAX } from './limits.ts';
import type { BaseUnit } from './units.ts';

/**
 * How a value is read. `rules` is text of several lines; `addresses` is a list of `{address: …}`, `names` and `urls` of words;
 * `users` is a map of names to secrets, outside the file lines of a user list; `levels` one of components to levels, outside
 * the file words such as `wal=debug`.
 */
export type SettingKind =
  | 'text'
  | 'path'
  | 'rules'
  | 'size'
  | 'duration'
  | 'integer'
  | 'choice'
  | 'address'
  | 'addresses'
  | 'names'
  | 'urls'
  | 'levels'
  | 'users';

/** One key. */
export interface Setting {
  /** Dotted path in the file. */
  readonly path: string;
  readonly kind: SettingKind;
  /** What the file may hold there, as far as its type goes. */
  readonly schema: TSchema;
  /** What a bare number counts; null for what has no unit. */
  readonly unit: BaseUnit | null;
  /** Bounds, inclusive, in `unit`. */
  readonly minimum: number;
  readonly maximum: number;
  readonly choices: readonly string[];
  /** What a text has to match; null for any. */
  readonly pattern: string | null;
  /** As it would be written; null when there is none. */
  readonly defaultText: string | null;
  readonly isReloadable: boolean;
  /** Never printed. */
  readonly isSecret: boolean;
  /** Command-line name without dashes, and what stands for its value in help; null: only through `--set`. */
  readonly flag: { readonly name: string; readonly placeholder: string } | null;
  readonly description: string;
}

type Parts = Pick<Setting, 'description'> & Partial<Omit<Setting, 'path' | 'kind' | 'schema'>>;

const INT_MAX = 2 ** 31 - 1;

/** MAX_BACKENDS: what PostgreSQL bounds max_wal_senders and max_replication_slots by. */
const BACKENDS_MAX = 0x3ffff;

/** As PostgreSQL names slots; empty for none. (slot.c:ReplicationSlotValidateName) */
export const SLOT_NAME: string = '^[a-z0-9_]{0,63}$';

/** Name of a user, of which PostgreSQL takes 63 bytes. */
export const USER_NAME: string = String.raw`^[^\u0000-\u001f\u007f]{1,63}$`;

/** Name of a zone, as a member's tag has it. */
export const ZONE_NAME: string = String.raw`^[\x21-\x7e]{1,63}$`;

/** What PostgreSQL leaves as it is of an application_name. (guc.c: pg_clean_ascii) */
export const APPLICATION_NAME: string = String.raw`^[\x20-\x7e]{1,63}$`;

function schemaOf(kind: SettingKind, choices: readonly string[], description: string): TSchema {
  switch (kind) {
    case 'text':
    case 'rules':
    case 'address':
      return Type.String({ description });
    case 'path':
      return Type.String({ minLength: 1, description });
    case 'size':
    case 'duration':
    case 'integer':
      return Type.Union([Type.Number(), Type.String({ minLength: 1 })], { description });
    case 'choice':
      return Type.Enum([...choices], { description });
    case 'addresses':
      return Type.Array(
        Type.Object({ address: Type.String({ minLength: 1 }) }, { additionalProperties: false }),
        { minItems: 1, maxItems: LISTEN_ADDRESSES_MAX, description },
      );
    case 'levels':
    case 'users':
      return Type.Record(Type.String(), Type.String(), { description });
    case 'names':
      return Type.Array(Type.String({ minLength: 1 }), {
        maxItems: CONFIGURED_SLOTS_MAX,
        description,
      });
    case 'urls':
      return Type.Array(Type.String({ minLength: 1 }), {
        maxItems: DISCOVERY_URLS_MAX,
        description,
      });
  }
}

/** True for the kinds whose value is a list of items. */
export function isListKind(kind: SettingKind): boolean {
  return kind === 'addresses' || kind === 'users' || isWordListKind(kind);
}

/** True for lists of words, which may be empty. */
export function isWordListKind(kind: SettingKind): boolean {
  return kind === 'names' || kind === 'urls' || kind === 'levels';
}

function setting(path: string, kind: SettingKind, parts: Parts): Setting {
  return {
    path,
    kind,
    schema: schemaOf(kind, parts.choices ?? [], parts.description),
    unit: null,
    minimum: 0,
    maximum: INT_MAX,
    choices: [],
    pattern: null,
    defaultText: null,
    isReloadable: false,
    isSecret: false,
    flag: null,
    ...parts,
  };
}

function flag(name: string, placeholder: string): Setting['flag'] {
  return { name, placeholder };
}

/** Every key that is honoured, in the order of the documentation. */
export const SETTINGS: readonly Setting[] = [
  setting('upstream.conninfo', 'text', {
    isReloadable: true,
    isSecret: true,
    flag: flag('upstream', 'CONNINFO'),
    description:
      'The server to receive WAL from: a libpq connection string in keyword or URI form. Needs a user with the REPLICATION attribute. Several hosts are tried in turn.',
  }),
  setting('upstream.conninfo_file', 'path', {
    isReloadable: true,
    description:
      'A file that holds the connection string, for one with a password in it. Read again when it changes; refused when others may read it.',
  }),
  setting('upstream.slot', 'text', {
    pattern: SLOT_NAME,
    isReloadable: true,
    defaultText: 'walcast',
    flag: flag('slot', 'NAME'),
    description:
      'Physical replication slot on the upstream, created when missing; "" for none. Without one the upstream may remove WAL that has not been fetched yet.',
  }),
  setting('upstream.application_name', 'text', {
    pattern: APPLICATION_NAME,
    isReloadable: true,
    defaultText: 'walcast',
    description:
      "Our name in the upstream's pg_stat_replication and in its synchronous_standby_names. One written in the connection string counts when this key is not set.",
  }),
  setting('upstream.discovery.patroni', 'urls', {
    isReloadable: true,
    defaultText: '',
    description:
      'REST addresses of Patroni, 16 at most, such as `http://pg-a:8008`: the servers that its `GET /cluster` names take the place of the hosts of the connection string, which count until it has answered. docs/discovery.md.',
  }),
  setting('upstream.prefer', 'choice', {
    isReloadable: true,
    choices: UPSTREAM_PREFERENCES,
    defaultText: 'primary',
    description:
      'Which of the discovered servers comes first: the `primary` (the leader), a `standby`, or one of our own `zone`. The others are the fall-back; a preferred one is never waited for, and gone back to when it has been there for a while. Without discovery the order of the hosts in the connection string counts, and its target_session_attrs.',
  }),
  setting('upstream.zone', 'text', {
    pattern: ZONE_NAME,
    isReloadable: true,
    description:
      'Our zone, for `prefer: zone`: servers whose tag `zone` in Patroni says the same come first.',
  }),
  setting('upstream.wal_receiver_timeout', 'duration', {
    isReloadable: true,
    unit: 'ms',
    defaultText: '60s',
    description:
      'A connection on which the upstream has sent nothing for this long is given up and made again; 0 for never.',
  }),
  setting('upstream.wal_receiver_status_interval', 'duration', {
    isReloadable: true,
    unit: 's',
    maximum: Math.floor(INT_MAX / 1000),
    defaultText: '10s',
    description:
      'Longest time between two reports of our positions to the upstream; 0 for reports only when a position moved or the upstream asks.',
  }),
  setting('upstream.hot_standby_feedback', 'choice', {
    isReloadable: true,
    choices: SWITCH_WORDS,
    defaultText: 'on',
    description:
      'Whether the upstream is told which rows standbys still need: the oldest that any standby with `hot_standby_feedback` or any replication slot here holds, once per `wal_receiver_status_interval`, and at once when one appears. With `off` what was told before is taken back.',
  }),
  setting('listen', 'addresses', {
    defaultText: '0.0.0.0:5432',
    flag: flag('listen', 'HOST:PORT'),
    description:
      'Where standbys connect: a list of `{address: HOST:PORT}`; `*` is every interface, `/directory` is a Unix-domain socket there. TCP ports are opened only when there are access rules. TLS is offered where an item has `tls: {cert: FILE, key: FILE}` (PEM); with `ca: FILE` clients are asked for a certificate, `client_cert: require` refuses those that show none (`none` asks nobody), `crl: FILE` names revoked ones. The files are read again when they change.',
  }),
  setting('auth.hba_file', 'path', {
    isReloadable: true,
    flag: flag('hba-file', 'FILE'),
    description:
      'Access rules, in the syntax of pg_hba.conf. The first line that matches decides; no match is a refusal. A reload counts for connections that come afterwards.',
  }),
  setting('auth.hba', 'rules', {
    isReloadable: true,
    description:
      'The same rules as a block of lines in this file; only one of the two may be given.',
  }),
  setting('auth.ident_file', 'path', {
    isReloadable: true,
    description:
      'Maps of the names in client certificates to users, in the syntax of pg_ident.conf, for rules with `map=`.',
  }),
  setting('auth.ident', 'rules', {
    isReloadable: true,
    description:
      'The same maps as a block of lines in this file; only one of the two may be given.',
  }),
  setting('auth.users_file', 'path', {
    isReloadable: true,
    description:
      'Users and their secrets, in the format of PgBouncer: `"name" "secret"`, one a line. A secret is what `pg_authid.rolpassword` holds (`SCRAM-SHA-256$…`, `md5…`) or a password. `walcast scram` makes one. Read again when it changes; refused when others may read it.',
  }),
  setting('auth.users', 'users', {
    isReloadable: true,
    isSecret: true,
    description:
      'The same users as a map of names to secrets in this file; only one of the two may be given. Outside the file: lines as in a file of users.',
  }),
  setting('auth.auth_query', 'text', {
    isReloadable: true,
    defaultText: '',
    description:
      'A question to the upstream about a user whom neither of the two names, so that passwords need not be kept twice: SQL with `$1` for the name, answered by name, secret, and if there are such columns `valid until` and `may replicate`. It is asked as the user of `upstream.conninfo`; let it call a function that is SECURITY DEFINER. "" for never.',
  }),
  setting('auth.auth_dbname', 'text', {
    isReloadable: true,
    defaultText: 'postgres',
    description: 'The database of the upstream that `auth.auth_query` is asked in.',
  }),
  setting('auth.auth_cache_time', 'duration', {
    isReloadable: true,
    unit: 's',
    maximum: Math.floor(INT_MAX / 1000),
    defaultText: '60s',
    description:
      'How long an answer of the upstream about a user counts before it is asked again. While it cannot be asked, an older one does.',
  }),
  setting('auth.admin_users', 'names', {
    isReloadable: true,
    pattern: USER_NAME,
    defaultText: '',
    description:
      'Who may use those commands of the console that change something (`RELOAD`, `PAUSE`, `KILL`, `SHUTDOWN`, …): names of users, as they log in. Everybody else may only look.',
  }),
  setting('authentication_timeout', 'duration', {
    isReloadable: true,
    unit: 's',
    minimum: 1,
    maximum: 600,
    defaultText: '1min',
    description:
      'Longest time from the first byte of a connection to the end of its authentication; nothing that a client sends makes it longer.',
  }),
  setting('max_connections_per_address', 'integer', {
    isReloadable: true,
    maximum: BACKENDS_MAX,
    defaultText: '0',
    description:
      'Connections of clients from one address at most, of one /64 network for IPv6; 0 for no limit of its own.',
  }),
  setting('log_connections', 'choice', {
    isReloadable: true,
    choices: SWITCH_WORDS,
    defaultText: 'on',
    description:
      "Whether each connection is logged: where it is from, who logged in and how, in PostgreSQL's words. Refusals are logged either way.",
  }),
  setting('log_disconnections', 'choice', {
    isReloadable: true,
    choices: SWITCH_WORDS,
    defaultText: 'off',
    description: 'Whether the end of each connection is logged, with how long it lasted.',
  }),
  setting('log_replication_commands', 'choice', {
    isReloadable: true,
    choices: SWITCH_WORDS,
    defaultText: 'off',
    description:
      "Whether each replication command of a client is logged, in PostgreSQL's words; else only where the level of `walsender` is `debug`.",
  }),
  setting('storage.directory', 'path', {
    defaultText: '/var/lib/walcast',
    flag: flag('data', 'DIR'),
    description:
      'Where WAL and state are kept. Created when missing; belongs to one walcast at a time.',
  }),
  setting('storage.wal_keep_size', 'size', {
    isReloadable: true,
    unit: 'MB',
    defaultText: '1GB',
    description: 'WAL that is kept for standbys without a slot, counted back from the newest.',
  }),
  setting('storage.max_slot_wal_keep_size', 'size', {
    isReloadable: true,
    unit: 'MB',
    minimum: -1,
    defaultText: '64GB',
    description:
      'WAL that replication slots may keep, counted back from the newest; -1 for no bound. A slot that would need more is lost: its standby has to find the WAL elsewhere, or is made anew.',
  }),
  setting('storage.quota', 'size', {
    isReloadable: true,
    unit: 'MB',
    minimum: -1,
    defaultText: '-1',
    description:
      'Disk space for everything in the store, dead WAL of left timelines included; -1 for no bound of its own: the store is then as large as max_slot_wal_keep_size and wal_keep_size make it. When it is reached the window of wal_keep_size is cut first, then slots are lost, the one furthest behind first. Never removed: WAL that is not on our disk whole, what a start after a crash needs, dead WAL (`walcast store release` does that).',
  }),
  setting('storage.max_wal_senders', 'integer', {
    isReloadable: true,
    maximum: BACKENDS_MAX,
    defaultText: '1000',
    description:
      'Connected standbys at most. A place is kept for each name in `slots` and `synchronous_standby_names` that is not there: a client of another application_name has such a place only while it streams with one of `slots`.',
  }),
  setting('storage.max_replication_slots', 'integer', {
    isReloadable: true,
    maximum: BACKENDS_MAX,
    defaultText: '1000',
    description: 'Replication slots at most that standbys may create here.',
  }),
  setting('storage.verify', 'choice', {
    choices: VERIFY_MODES,
    defaultText: 'record',
    description:
      'What WAL is checked for before it is kept or sent: `record` its page headers, the chain of record headers and the CRC of every record, `page` the same without most of the CRCs, `off` only that it is contiguous.',
  }),
  setting('storage.forward', 'choice', {
    choices: FORWARD_MODES,
    defaultText: 'received',
    description:
      'When WAL is sent on: as soon as it is `received` and checked, or once it is `flushed` to our own disk. What is acknowledged to the upstream as flushed is on our own disk either way.',
  }),
  setting('synchronous_standby_names', 'text', {
    isReloadable: true,
    defaultText: '',
    description:
      'Which standbys behind walcast have to confirm WAL before it is confirmed to the upstream, in the grammar of PostgreSQL: `FIRST 2 (a, b, c)`, `ANY 1 (*)`, a list of names. Commits of an upstream whose own synchronous_standby_names names walcast then wait for those standbys, at the level they ask for. While too few of them stream, walcast counts as no synchronous standby at all. "" for none: what walcast has flushed to its own disk is confirmed. A reload counts at once.',
  }),
  setting('max_feedback_xmin_age', 'integer', {
    isReloadable: true,
    minimum: -1,
    defaultText: '-1',
    description:
      'A standby or slot that holds rows back by more transactions than this is left out of the feedback: its queries may be cancelled, so that the upstream can clean up. -1 for no bound.',
  }),
  setting('wal_sender_timeout', 'duration', {
    isReloadable: true,
    unit: 'ms',
    defaultText: '60s',
    description:
      'A standby that has sent nothing for this long is disconnected; 0 for never. A reload counts for streams that begin afterwards.',
  }),
  setting('idle_replication_slot_timeout', 'duration', {
    isReloadable: true,
    unit: 's',
    defaultText: '0',
    description:
      'A replication slot that keeps WAL and that nobody has used for this long is lost; 0 for never. The time counts from our start for a slot that was not used since.',
  }),
  setting('slots', 'names', {
    isReloadable: true,
    defaultText: '',
    description:
      'Physical replication slots that always exist, and keep WAL from the beginning. One that is dropped is made anew; one that is taken out of this list stays until it is dropped.',
  }),
  setting('auto_create_slots', 'choice', {
    isReloadable: true,
    choices: SWITCH_WORDS,
    defaultText: 'off',
    description:
      'With `on`, START_REPLICATION with the name of a slot that does not exist creates it. Whoever may replicate can then make WAL be kept.',
  }),
  setting('drain_timeout', 'duration', {
    isReloadable: true,
    unit: 's',
    maximum: Math.floor(INT_MAX / 1000),
    defaultText: '30s',
    description:
      'Longest time after SIGTERM that standbys are given to confirm what was sent to them.',
  }),
  setting('http.listen', 'address', {
    defaultText: '127.0.0.1:9188',
    flag: flag('http', 'HOST:PORT'),
    description: 'Where probes, metrics and the JSON API are served; "" for nowhere.',
  }),
  setting('http.token_file', 'path', {
    isReloadable: true,
    description:
      'A file that holds the token which requests that change something have to show (`Authorization: Bearer …`): printable ASCII characters without spaces, 1024 at most. Read again when it changes; refused when others may read it.',
  }),
  setting('http.wal_token_file', 'path', {
    isReloadable: true,
    description:
      'A file that holds the token that opens `/wal` and nothing else, for `restore_command`; written as the one above, and as soon in effect.',
  }),
  setting('http.tls.cert', 'path', {
    description:
      'Certificate (PEM, with its chain) of the HTTP port, which then takes TLS only. Read again when it changes.',
  }),
  setting('http.tls.key', 'path', {
    description: 'The private key of that certificate.',
  }),
  setting('http.tls.ca', 'path', {
    description:
      'Authorities (PEM) of client certificates: whoever asks for more than probes, metrics and `/openapi.json` then has to show a certificate of one of them.',
  }),
  setting('log.level', 'choice', {
    isReloadable: true,
    choices: LOG_LEVELS,
    defaultText: 'info',
    flag: flag('log-level', 'LEVEL'),
    description: 'Lines below this level are left out.',
  }),
  setting('log.levels', 'levels', {
    isReloadable: true,
    defaultText: '',
    description:
      'Levels of components that have one of their own, such as `{ walsender: debug, http: warn }`; docs/logging.md names them all. `LOG LEVEL` on the console and `POST /api/v1/log` change them until the next restart.',
  }),
  setting('log.format', 'choice', {
    isReloadable: true,
    choices: LOG_FORMAT_WORDS,
    defaultText: 'auto',
    flag: flag('log-format', 'FORMAT'),
    description:
      'One JSON object a line, or text for people; `auto` is text where standard error, to which it goes, is a terminal.',
  }),
];

/** Keys that are planned and refused for now, so that nobody believes in a protection that is not there. */
export const UNSUPPORTED_KEYS: readonly string[] = ['tunnel'];

/** Of planned keys, the values that ask for nothing but what this version does; they are taken, all others refused. */
const NEUTRAL_VALUES: ReadonlyMap<string, readonly (string | number | boolean)[]> = new Map([
  ['tunnel', ['off', false]],
]);

/** The values of a planned key that are taken; none for a key of which every value is refused. */
export function neutralValues(path: string): readonly (string | number | boolean)[] {
  return NEUTRAL_VALUES.get(path) ?? [];
}

/** The setting of that path, or null. */
export function settingOf(path: string): Setting | null {
  return SETTINGS.find((entry) => entry.path === path) ?? null;
}

/** `WALCAST_` and the path: the environment variable that sets it. */
export function environmentName(path: string): string {
  return `WALCAST_${path.toUpperCase().replaceAll('.', '_')}`;
}
