// What a session says about itself, as pg_stat_replication would. (walsender.c:pg_stat_get_wal_senders)
import type { Log } from '../base/log.ts';
import type { AcceptedConnection } from '../net/connection.ts';
import { formatLsn, INVALID_LSN } from '../pg/lsn.ts';
import type { EndToEndLag, SentTotals, StandbyDeparture, StandbyStatus } from '../status/status.ts';
import type { AdmittedSession } from './admission.ts';
import type { StreamEnd } from './stream-host.ts';
import type { WalStream } from './wal-stream.ts';

/** NAMEDATALEN - 1: as much of a name as the view shows. */
const SHOWN_NAME_LENGTH_MAX = 63;

const NO_LAG: EndToEndLag = { writeSeconds: null, flushSeconds: null, applySeconds: null };

/** What a session knows of its own status; the rest is seen by looking at all of them together. */
export type SessionStatus = Omit<
  StandbyStatus,
  'isStalled' | 'isNameShared' | 'syncState' | 'syncPriority'
>;

/**
 * A status made for whoever asked, with what only those know who look at all sessions together as it is for one alone: they
 * set it in place. With a crowd, a copy of each would cost several times what all the rest does.
 */
export type StandbyDraft = {
  -readonly [Name in keyof StandbyStatus]: StandbyStatus[Name];
};

/** Puts a session's status together. */
export function sessionStatus(parts: {
  readonly pid: number;
  readonly admitted: AdmittedSession;
  readonly connection: AcceptedConnection;
  readonly connectedAtMs: number;
  readonly slot: string | null;
  readonly stream: WalStream | null;
  readonly sent: SentTotals;
  readonly isBackup: boolean;
}): StandbyDraft {
  const { admitted, connection, stream } = parts;
  const positions = stream?.positions;
  return {
    pid: parts.pid,
    applicationName: admitted.settings.applicationName.slice(0, SHOWN_NAME_LENGTH_MAX),
    user: admitted.user,
    clientAddr: connection.peer.address,
    clientPort: connection.peer.port,
    tlsVersion: connection.tls?.protocol ?? null,
    state: stream?.state ?? (parts.isBackup ? 'backup' : 'startup'),
    slotName: parts.slot,
    timeline: stream?.timeline ?? null,
    sentLsn: positions?.sentLsn ?? INVALID_LSN,
    writeLsn: positions?.writeLsn ?? INVALID_LSN,
    flushLsn: positions?.flushLsn ?? INVALID_LSN,
    applyLsn: positions?.applyLsn ?? INVALID_LSN,
    writeLagSeconds: positions?.lagSeconds('write') ?? null,
    flushLagSeconds: positions?.lagSeconds('flush') ?? null,
    applyLagSeconds: positions?.lagSeconds('apply') ?? null,
    endToEndLag: stream?.endToEndLag() ?? NO_LAG,
    replayedCommitAgeSeconds: stream?.replayedCommitAge() ?? null,
    replyTimeMs: stream?.report.replyTimeMs ?? null,
    lastReplyAtMs: stream?.report.lastReplyAtMs ?? null,
    connectedAtMs: parts.connectedAtMs,
    sentBytes: parts.sent.sentBytes,
    sendQueueBytes: connection.pendingBytes(),
    sendBlockedSeconds: parts.sent.blockedSeconds,
    clampedReplies: stream?.report.clampedReplies ?? 0,
    feedback: stream?.report.feedback() ?? null,
    isStalled: false,
    isNameShared: false,
    syncState: 'async',
    syncPriority: 0,
  };
}

/** What is to be remembered of two streams of one session: the later one, unless the standby said nothing in it. */
export function lastHeard(
  earlier: SessionStatus | null,
  later: SessionStatus | null,
): SessionStatus | null {
  return later?.lastReplyAtMs === null && earlier !== null ? earlier : later;
}

/** What a connection that closed by itself says about the client; `errorCode` as ECONNRESET, or null. */
export function departureOf(errorCode: string | null): StandbyDeparture {
  if (errorCode === null) return 'closed';
  // The kernel gave up on packets that nobody answered.
  return errorCode === 'ETIMEDOUT' || errorCode === 'EHOSTUNREACH' ? 'timeout' : 'reset';
}

/** One line for the end of a stream. */
export function logStreamEnd(log: Log, end: StreamEnd, stream: WalStream | null): void {
  const positions = stream?.positions ?? null;
  const fields = {
    sent_lsn: positions === null ? null : formatLsn(positions.sentLsn),
    flush_lsn: positions === null ? null : formatLsn(positions.flushLsn),
  };
  if (end.kind === 'error') {
    log.warn('streaming ended with an error', { ...fields, error: end.error.message });
  } else if (end.kind === 'close') {
    log.warn(end.text, fields);
  } else if (end.kind === 'drained' && !end.isConfirmed) {
    log.warn('drain ends without the confirmation of a standby', {
      sent_lsn: fields.sent_lsn,
      confirmed_lsn: positions === null ? null : formatLsn(positions.confirmedLsn),
    });
  } else {
    log.info('standby stops streaming', { ...fields, how: end.kind });
  }
}
