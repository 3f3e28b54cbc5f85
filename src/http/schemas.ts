// The JSON API as schemas: what fastify checks and serializes by. Field names are part of the contract with scripts.
import { Type } from 'typebox';
import type { Static, TSchema } from 'typebox';
import {
  RELAY_STATES,
  STANDBY_DEPARTURES,
  STANDBY_DISCONNECT_REASONS,
  STANDBY_FEEDBACK_STATES,
  SYNC_STATES,
  UPSTREAM_DISCONNECT_REASONS,
  WALSENDER_STATES,
} from '../status/status.ts';
import type {
  ConfigEntryJson,
  DeadWalJson,
  DrainJson,
  ErrorJson,
  FeedbackJson,
  PauseJson,
  ProbeJson,
  ReloadJson,
  SlotJson,
  SlotRequestJson,
  StandbyJson,
  StatusJson,
  StoreDetailJson,
  SyncJson,
  UpstreamDetailJson,
  VersionJson,
} from './api-types.ts';
import { access } from './access-json.ts';
import {
  closed,
  counts,
  lsn,
  nullableEnum,
  nullableInteger,
  nullableNumber,
  nullableObject,
  nullableText,
  nullableTime,
  positions,
  time,
  xid,
} from './schema-words.ts';

const relayState = Type.Enum([...RELAY_STATES]);
/** pg_replication_slots.invalidation_reason, as far as physical slots have one. */
const INVALIDATION_REASONS = ['wal_removed', 'idle_timeout'] as const;

const upstreamFields = {
  host: nullableText,
  port: nullableInteger,
  slot: nullableText,
  state: Type.String(),
  detail: nullableText,
  received_lsn: lsn,
  written_lsn: lsn,
  flushed_lsn: lsn,
  reported: positions,
  server_lsn: lsn,
  lag_bytes: nullableInteger,
  last_message_at: nullableTime,
};

const upstream = Type.Object(upstreamFields, closed);

const discovery = Type.Object(
  {
    source: Type.Literal('patroni'),
    scope: nullableText,
    last_answer_at: nullableTime,
    last_answer_from: nullableText,
    last_error: nullableText,
    members: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          role: Type.Enum(['primary', 'standby_leader', 'standby']),
          state: Type.String(),
          rank: Type.Enum(['preferred', 'other', 'behind', 'down']),
          host: Type.String(),
          port: Type.Integer(),
          timeline: nullableInteger,
          lag: nullableInteger,
          zone: nullableText,
        },
        closed,
      ),
    ),
  },
  closed,
);

const leftSlot = Type.Object(
  {
    host: Type.String(),
    port: Type.Integer(),
    slot: Type.String(),
    is_dropped_by_walcast: Type.Boolean(),
  },
  closed,
);

const upstreamDetail = Type.Object(
  {
    ...upstreamFields,
    system_identifier: nullableText,
    server_version: nullableText,
    timeline: nullableInteger,
    tls: Type.Boolean(),
    tls_version: nullableText,
    client_certificate_expires_at: nullableTime,
    lag_seconds: nullableNumber,
    received_bytes: Type.Integer(),
    messages: counts(['wal', 'keepalive']),
    connects: counts(['success', 'failure']),
    disconnects: counts(UPSTREAM_DISCONNECT_REASONS),
    discovery: nullableObject(discovery),
    left_slots: Type.Array(leftSlot),
  },
  closed,
);

const storeFields = {
  oldest_lsn: lsn,
  flushed_lsn: lsn,
  size_bytes: Type.Integer(),
  segments: Type.Integer(),
  limit_bytes: nullableInteger,
  near_limit: Type.Boolean(),
};

const store = Type.Object(storeFields, closed);

const deadWal = Type.Object(
  {
    files: Type.Integer(),
    bytes: Type.Integer(),
    acknowledged: nullableObject(
      Type.Object(
        {
          timeline: Type.Integer(),
          switch_lsn: lsn,
          reported_flush_lsn: lsn,
          bytes: Type.Integer(),
        },
        closed,
      ),
    ),
  },
  closed,
);

const storeDetail = Type.Object(
  {
    ...storeFields,
    timeline: nullableInteger,
    received_lsn: lsn,
    written_lsn: lsn,
    segments_removed: Type.Integer(),
    segments_removed_by_limit: Type.Integer(),
    slots_invalidated: counts(INVALIDATION_REASONS),
    memory_bytes: Type.Integer(),
    memory_bytes_max: Type.Integer(),
    read_bytes: counts(['memory', 'disk', 'upstream']),
    rejected: counts(['upstream', 'disk']),
    errors: counts(['open', 'write', 'fsync', 'read', 'remove']),
    read_through: counts(['connections', 'connections_max']),
    repairs: counts(['repaired', 'failed']),
    dead: deadWal,
  },
  closed,
);

const slot = Type.Object(
  {
    slot_name: Type.String(),
    slot_type: Type.Literal('physical'),
    temporary: Type.Boolean(),
    active: Type.Boolean(),
    active_pid: nullableInteger,
    xmin: xid,
    catalog_xmin: xid,
    restart_lsn: lsn,
    wal_status: nullableEnum(['reserved', 'extended', 'unreserved', 'lost']),
    safe_wal_size: nullableInteger,
    invalidation_reason: nullableEnum(INVALIDATION_REASONS),
    inactive_since: nullableTime,
    retained_bytes: nullableInteger,
  },
  closed,
);

const slots = Type.Array(slot);

const slotRequest = Type.Object(
  {
    name: Type.String({
      description: 'lower case letters, digits and underscores, 63 at most',
    }),
    reserve_wal: Type.Optional(
      Type.Boolean({ description: 'keep WAL from now on, not only from the first use on' }),
    ),
  },
  closed,
);

const configEntry = Type.Object(
  {
    key: Type.String(),
    value: nullableText,
    default: nullableText,
    origin: Type.Enum(['flag', 'environment', 'file', 'default']),
    place: nullableText,
    reloadable: Type.Boolean(),
    pending_restart: Type.Boolean(),
  },
  closed,
);

const configuration = Type.Array(configEntry);

const reload = Type.Object(
  { changed: Type.Array(Type.String()), pending_restart: Type.Array(Type.String()) },
  closed,
);

const drain = Type.Object({ state: Type.Literal('draining') }, closed);

const pause = Type.Object({ paused: Type.Boolean() }, closed);

const sync = Type.Object(
  {
    synchronous_standby_names: Type.String(),
    method: nullableEnum(['priority', 'quorum']),
    required_standbys: Type.Integer(),
    eligible_standbys: Type.Integer(),
    satisfied: Type.Boolean(),
    since: nullableTime,
    changes: Type.Integer(),
    unsatisfied_seconds: Type.Number(),
    confirmed: positions,
    reported: positions,
    upstream: nullableObject(
      Type.Object(
        {
          synchronous_standby_names: Type.String(),
          membership: Type.Enum(['named', 'any', 'none']),
          as_of: nullableTime,
        },
        closed,
      ),
    ),
    clash: nullableText,
    alarms: Type.Array(Type.String()),
  },
  closed,
);

const feedback = Type.Object(
  {
    hot_standby_feedback: Type.Boolean(),
    xmin: xid,
    catalog_xmin: xid,
    sent_at: nullableTime,
    next_xid: xid,
    held_by: nullableText,
    ignored: counts(['future', 'past']),
    left_out: Type.Integer(),
  },
  closed,
);

const standbyFeedback = Type.Object(
  {
    xmin: xid,
    catalog_xmin: xid,
    state: Type.Enum([...STANDBY_FEEDBACK_STATES]),
    xmin_age: nullableInteger,
  },
  closed,
);

const standby = Type.Object(
  {
    pid: Type.Integer(),
    application_name: Type.String(),
    user: Type.String(),
    client_addr: nullableText,
    client_port: nullableInteger,
    state: Type.Enum([...WALSENDER_STATES]),
    sync_state: Type.Enum([...SYNC_STATES]),
    sync_priority: Type.Integer(),
    slot_name: nullableText,
    timeline: nullableInteger,
    sent_lsn: lsn,
    write_lsn: lsn,
    flush_lsn: lsn,
    replay_lsn: lsn,
    write_lag: nullableNumber,
    flush_lag: nullableNumber,
    replay_lag: nullableNumber,
    hop_write_lag: nullableNumber,
    hop_flush_lag: nullableNumber,
    hop_replay_lag: nullableNumber,
    replayed_commit_age: nullableNumber,
    lag_bytes: nullableInteger,
    hop_lag_bytes: nullableInteger,
    feedback: nullableObject(standbyFeedback),
    clamped_replies: Type.Integer(),
    reply_time: nullableTime,
    connected_at: time,
    tls: Type.Boolean(),
    tls_version: nullableText,
    stalled: Type.Boolean(),
    name_shared: Type.Boolean(),
  },
  closed,
);

const standbys = Type.Array(standby);

const absentStandby = Type.Object(
  {
    application_name: Type.String(),
    user: Type.String(),
    client_addr: nullableText,
    slot_name: nullableText,
    state: Type.Enum(['away', 'wedged?']),
    how: Type.Enum([...STANDBY_DEPARTURES]),
    reason: Type.Enum([...STANDBY_DISCONNECT_REASONS]),
    left_at: time,
    timeline: nullableInteger,
    sent_lsn: lsn,
    write_lsn: lsn,
    flush_lsn: lsn,
    replay_lsn: lsn,
  },
  closed,
);

const status = Type.Object(
  {
    version: Type.String(),
    system_identifier: nullableText,
    server_version: nullableText,
    timeline: nullableInteger,
    state: relayState,
    detail: nullableText,
    paused: Type.Boolean(),
    started_at: time,
    upstream,
    store,
    sync,
    feedback,
    standbys,
    absent_standbys: Type.Array(absentStandby),
    standby_events: counts(['stalls', 'takeovers']),
    access,
  },
  closed,
);

const version = Type.Object(
  {
    version: Type.String(),
    revision: nullableText,
    node_version: Type.String(),
    postgresql_majors: Type.Array(Type.Integer()),
  },
  closed,
);

const probe = Type.Object(
  { status: Type.Enum(['ok', 'unavailable']), state: relayState, reason: nullableText },
  closed,
);

const error = Type.Object(
  {
    error: Type.String(),
    detail: Type.Optional(Type.String()),
    hint: Type.Optional(Type.String()),
    sqlstate: Type.Optional(Type.String()),
    problems: Type.Optional(Type.Array(Type.String())),
  },
  closed,
);

/** One schema an answer or body, by name; `/openapi.json` shows them under these names. */
export const SCHEMAS: Readonly<
  Record<
    | 'status'
    | 'upstream'
    | 'upstreamDetail'
    | 'discovery'
    | 'standby'
    | 'standbys'
    | 'slot'
    | 'slots'
    | 'slotRequest'
    | 'store'
    | 'storeDetail'
    | 'deadWal'
    | 'sync'
    | 'feedback'
    | 'access'
    | 'version'
    | 'configEntry'
    | 'configuration'
    | 'reload'
    | 'drain'
    | 'pause'
    | 'probe'
    | 'error',
    TSchema
  >
> = {
  status,
  upstream,
  upstreamDetail,
  discovery,
  standby,
  standbys,
  slot,
  slots,
  slotRequest,
  store,
  storeDetail,
  deadWal,
  sync,
  feedback,
  access,
  version,
  configEntry,
  configuration,
  reload,
  drain,
  pause,
  probe,
  error,
};

// The compiler checks that the interfaces say the same as the schemas.
type Agrees<A, B> = [A] extends [B] ? true : never;
const agreement: readonly [
  Agrees<Static<typeof status>, StatusJson>,
  Agrees<Static<typeof upstreamDetail>, UpstreamDetailJson>,
  Agrees<Static<typeof standbys>, StandbyJson[]>,
  Agrees<Static<typeof slots>, SlotJson[]>,
  Agrees<Static<typeof slotRequest>, SlotRequestJson>,
  Agrees<Static<typeof storeDetail>, StoreDetailJson>,
  Agrees<Static<typeof deadWal>, DeadWalJson>,
  Agrees<Static<typeof sync>, SyncJson>,
  Agrees<Static<typeof feedback>, FeedbackJson>,
  Agrees<Static<typeof version>, VersionJson>,
  Agrees<Static<typeof configuration>, ConfigEntryJson[]>,
  Agrees<Static<typeof reload>, ReloadJson>,
  Agrees<Static<typeof drain>, DrainJson>,
  Agrees<Static<typeof pause>, PauseJson>,
  Agrees<Static<typeof probe>, ProbeJson>,
  Agrees<Static<typeof error>, ErrorJson>,
] = [
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
];
void agreement;
