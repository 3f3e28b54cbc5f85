// The JSON API as schemas: what fastify checks and serializes by. Field names are part of the contract with scripts.
import { Type } from 'typebox';
import type { Static, TSchema } from 'typebox';
import { RELAY_STATES, WALSENDER_STATES } from '../status/status.ts';
import type { ErrorJson, ProbeJson, StandbyJson, StatusJson, VersionJson } from './api-types.ts';

const nullableText = Type.Union([Type.String(), Type.Null()]);
const nullableInteger = Type.Union([Type.Integer(), Type.Null()]);
const nullableNumber = Type.Union([Type.Number(), Type.Null()]);
const lsn = Type.Union([Type.String({ pattern: '^[0-9A-F]{1,8}/[0-9A-F]{1,8}$' }), Type.Null()]);
const time = Type.String({ format: 'date-time' });
const nullableTime = Type.Union([time, Type.Null()]);
const relayState = Type.Enum([...RELAY_STATES]);
const closed = { additionalProperties: false };

const upstream = Type.Object(
  {
    host: nullableText,
    port: nullableInteger,
    slot: nullableText,
    state: Type.String(),
    detail: nullableText,
    received_lsn: lsn,
    written_lsn: lsn,
    flushed_lsn: lsn,
    reported: Type.Object({ write: lsn, flush: lsn, apply: lsn }, closed),
    server_lsn: lsn,
    lag_bytes: nullableInteger,
    last_message_at: nullableTime,
  },
  closed,
);

const store = Type.Object(
  { oldest_lsn: lsn, flushed_lsn: lsn, size_bytes: Type.Integer(), segments: Type.Integer() },
  closed,
);

const sync = Type.Object(
  { synchronous_standby_names: Type.String(), satisfied: Type.Boolean() },
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
    sync_state: Type.Literal('async'),
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
    lag_bytes: nullableInteger,
    reply_time: nullableTime,
    connected_at: time,
    tls: Type.Boolean(),
  },
  closed,
);

const standbys = Type.Array(standby);

const status = Type.Object(
  {
    version: Type.String(),
    system_identifier: nullableText,
    server_version: nullableText,
    timeline: nullableInteger,
    state: relayState,
    detail: nullableText,
    started_at: time,
    upstream,
    store,
    sync,
    standbys,
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

const error = Type.Object({ error: Type.String() }, closed);

/** One schema an answer, by name. */
export const SCHEMAS: Readonly<
  Record<'status' | 'standbys' | 'version' | 'probe' | 'error', TSchema>
> = { status, standbys, version, probe, error };

// The compiler checks that the interfaces say the same as the schemas.
type Agrees<A, B> = [A] extends [B] ? true : never;
const agreement: readonly [
  Agrees<Static<typeof status>, StatusJson>,
  Agrees<Static<typeof standbys>, StandbyJson[]>,
  Agrees<Static<typeof version>, VersionJson>,
  Agrees<Static<typeof probe>, ProbeJson>,
  Agrees<Static<typeof error>, ErrorJson>,
] = [true, true, true, true, true];
void agreement;
