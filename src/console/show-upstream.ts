// SHOW UPSTREAM: the session to the server that WAL comes from.
import type { RelayStatus } from '../status/status.ts';
import { lagBytes } from './show-standbys.ts';
import { bool, int4, int8, lsn, seconds, text, texts, time } from './view-columns.ts';
import { viewOf } from './view.ts';
import type { View } from './view.ts';

/** One row, whatever state it is in. */
export const SHOW_UPSTREAM: View = viewOf<RelayStatus>(
  (inside) => [inside.status()],
  [
    text('host', ({ upstream }) => upstream.host),
    int4('port', ({ upstream }) => upstream.port),
    text('state', ({ upstream }) => upstream.state),
    text('held_state', ({ upstream }) => upstream.heldState),
    text('detail', ({ upstream }) => upstream.detail),
    int8('timeline', ({ upstream }) => upstream.timeline),
    lsn('server_lsn', ({ upstream }) => upstream.serverLsn),
    lsn('received_lsn', ({ store }) => store.receivedLsn),
    lsn('written_lsn', ({ store }) => store.writtenLsn),
    lsn('flushed_lsn', ({ store }) => store.flushedLsn),
    lsn('reported_write_lsn', ({ upstream }) => upstream.reported.writeLsn),
    lsn('reported_flush_lsn', ({ upstream }) => upstream.reported.flushLsn),
    lsn('reported_replay_lsn', ({ upstream }) => upstream.reported.applyLsn),
    int8('lag_bytes', upstreamLagBytes),
    seconds('lag', (status) =>
      upstreamLagBytes(status) === null ? null : status.upstreamDelay.lagSeconds,
    ),
    text('slot_name', ({ upstream }) => upstream.slot),
    text('system_identifier', ({ upstream }) => upstream.systemIdentifier),
    text('server_version', ({ upstream }) => upstream.serverVersion),
    time('last_msg_receipt_time', ({ upstream }) => upstream.lastMessageAtMs),
    int8('received_bytes', ({ upstream }) => upstream.receivedBytes),
    text('tls', ({ upstream }) => upstream.tlsVersion),
    bool('hot_standby_feedback', ({ feedback }) => feedback.isOn),
    text('discovery', ({ upstream }) => upstream.discovery?.source ?? null),
    texts('members', ({ upstream }) => upstream.discovery?.members.map(({ name }) => name) ?? null),
  ],
);

/** Bytes that the upstream is known to have and our own disk has not. */
function upstreamLagBytes({ upstream, store }: RelayStatus): number | null {
  return lagBytes(store.flushedLsn, upstream.serverLsn);
}
