// The session to the upstream server, as a schema.
import { Type } from 'typebox';
import type { Static, TUnsafe } from 'typebox';
import type { UPSTREAM_DISCONNECT_REASONS } from '../status/status.ts';
import type { DiscoveryJson, UpstreamDetailJson, UpstreamJson } from './api-types.ts';
import {
  counts,
  flag,
  integer,
  list,
  lsn,
  nullableInteger,
  nullableNumber,
  nullableObject,
  nullableText,
  nullableTime,
  object,
  oneOf,
  positions,
  text,
} from './schema-words.ts';

const fields = {
  host: nullableText('The host in use, of those that may be; a directory for a Unix socket.'),
  port: nullableInteger('Its port.'),
  slot: nullableText('The replication slot in use there; null: none.'),
  state: text(
    'State of the session: disconnected, connecting, catchup, streaming or waiting_for_wal.',
  ),
  detail: nullableText('One sentence when it is not streaming: why, and what to do.'),
  received_lsn: lsn('End of the WAL that was received and checked.'),
  written_lsn: lsn('End of the WAL that was given to the disk.'),
  flushed_lsn: lsn('End of the WAL that is safe on our own disk.'),
  reported: positions('What the upstream was told last; null = not offered.'),
  server_lsn: lsn('End of WAL that the server reported last.'),
  lag_bytes: nullableInteger('server_lsn minus flushed_lsn.'),
  last_message_at: nullableTime('When the server was heard last.'),
};

const member = object(
  {
    name: text('Name of the member.'),
    role: oneOf(
      ['primary', 'standby_leader', 'standby'],
      'primary and standby_leader hold the leader lock.',
    ),
    state: text('State in the words of Patroni.'),
    rank: oneOf(
      ['preferred', 'other', 'behind', 'down'],
      'Worth as an upstream: wanted, as good as any other, on an older timeline than the leader, not running.',
    ),
    host: text('Where it is.'),
    port: integer('Its port.'),
    timeline: nullableInteger('The timeline it is on.'),
    lag: nullableInteger('Bytes behind the leader, when Patroni last looked.'),
    zone: nullableText('Its tag of that name.'),
  },
  'A server that Patroni names.',
);

const discoveryFields = {
  source: Type.Literal('patroni', { description: 'Who is asked.' }),
  scope: nullableText('Name of the cluster.'),
  last_answer_at: nullableTime('When there was an answer last.'),
  last_answer_from: nullableText('The URL that gave it.'),
  last_error: nullableText('Why the last round of all URLs had no answer; null when it had one.'),
  members: list(member, 'The servers, in the order in which they are tried.'),
};

const leftSlot = object(
  {
    host: text('Where it is.'),
    port: integer('Its port.'),
    slot: text('Its name.'),
    is_dropped_by_walcast: flag(
      'walcast made it, and drops it when the host is reached; another one is a person’s to drop.',
    ),
  },
  'A slot for walcast on a host that is not followed now: it keeps all WAL there.',
);

const REASONS: Readonly<Record<(typeof UPSTREAM_DISCONNECT_REASONS)[number], string>> = {
  eof: 'The server closed the connection.',
  timeout: 'It was silent for wal_receiver_timeout.',
  error: 'It reported an error, or sent what cannot be.',
  reload: 'Another upstream was configured, or chosen.',
  shutdown: 'walcast ended.',
  timeline_end: 'The timeline ended.',
};

const upstreamFields = object(fields, 'The session to the upstream server.');
const discoverySchema = object(discoveryFields, 'Where the hosts of the upstream come from.');
const detailFields = object(
  {
    ...fields,
    system_identifier: nullableText('As IDENTIFY_SYSTEM says it.'),
    server_version: nullableText('As the server says it.'),
    timeline: nullableInteger('The timeline that is streamed.'),
    tls: flag('The connection is encrypted.'),
    tls_version: nullableText('TLSv1.3; null without TLS.'),
    client_certificate_expires_at: nullableTime('End of the certificate that we show there.'),
    lag_seconds: nullableNumber(
      'Age of the oldest WAL that is known to be there and that our own disk does not have; 0 when it has everything, null while unknown.',
    ),
    received_bytes: integer('WAL received since the start of walcast.'),
    messages: counts(
      { wal: 'Messages with WAL.', keepalive: 'Keepalives.' },
      'Messages received since the start.',
    ),
    connects: counts(
      { success: 'Those that came to a stream.', failure: 'The others.' },
      'Attempts to connect since the start.',
    ),
    disconnects: counts(REASONS, 'Streams that ended since the start, by reason.'),
    discovery: nullableObject(
      discoveryFields,
      'Where the hosts come from; null: those of the connection string are all there are.',
    ),
    left_slots: list(leftSlot, 'Slots on hosts that were followed before and are not now.'),
  },
  'The session to the upstream server, and what it has been through since the start.',
);

/** As in the status. */
export const upstream: TUnsafe<UpstreamJson> = Type.Unsafe<UpstreamJson>(upstreamFields);
/** Answer of `/api/v1/upstream`. */
export const upstreamDetail: TUnsafe<UpstreamDetailJson> =
  Type.Unsafe<UpstreamDetailJson>(detailFields);
/** Part of it. */
export const discovery: TUnsafe<DiscoveryJson> = Type.Unsafe<DiscoveryJson>(discoverySchema);

// The compiler checks that the interfaces say the same as the schemas.
const agreement: readonly [
  Static<typeof upstreamFields> extends UpstreamJson ? true : never,
  Static<typeof detailFields> extends UpstreamDetailJson ? true : never,
  Static<typeof discoverySchema> extends DiscoveryJson ? true : never,
] = [true, true, true];
void agreement;
