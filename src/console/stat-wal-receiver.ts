// pg_stat_wal_receiver, about walcast's own session to the upstream: the columns of PostgreSQL 15, whatever the upstream's
// major is. (system_views.sql, walreceiver.c:pg_stat_get_wal_receiver)
import type { RelayStatus, UpstreamStreamStatus } from '../status/status.ts';
import type { ConsoleSource } from './source.ts';
import { int4, lsn, text, time } from './view-columns.ts';
import { viewOf } from './view.ts';
import type { View } from './view.ts';

/** A stream that runs, and what is around it. */
interface Receiver {
  readonly pid: number;
  readonly status: RelayStatus;
  readonly stream: UpstreamStreamStatus;
  readonly conninfo: string | null;
}

/** One row while WAL streams in, and none otherwise, as on a standby whose walreceiver does not run. */
export const STAT_WAL_RECEIVER: View = viewOf<Receiver>(receivers, [
  int4('pid', ({ pid }) => pid),
  text('status', () => 'streaming'),
  lsn('receive_start_lsn', ({ stream }) => stream.startLsn),
  int4('receive_start_tli', ({ stream }) => stream.startTimeline),
  lsn('written_lsn', ({ status }) => status.store.writtenLsn),
  lsn('flushed_lsn', ({ status }) => status.store.flushedLsn),
  int4('received_tli', ({ status }) => status.store.timeline),
  time('last_msg_send_time', ({ stream }) => stream.lastSendAtMs),
  // Of the whole connection: before the first message of the stream there was one of the login.
  time('last_msg_receipt_time', ({ status }) => status.upstream.lastMessageAtMs),
  lsn('latest_end_lsn', ({ stream }) => stream.latestEndLsn),
  time('latest_end_time', ({ stream }) => stream.latestEndAtMs),
  text('slot_name', ({ status }) => status.upstream.slot),
  text('sender_host', ({ status }) => status.upstream.host),
  int4('sender_port', ({ status }) => status.upstream.port),
  // As it is configured, secrets masked.
  text('conninfo', ({ conninfo }) => conninfo),
]);

function receivers(inside: ConsoleSource): Receiver[] {
  const status = inside.status();
  const { stream } = status.upstream;
  if (stream === null) return [];
  const entry = inside.configuration().find(({ key }) => key === 'upstream.conninfo');
  return [{ pid: inside.pid, status, stream, conninfo: entry?.value ?? null }];
}
