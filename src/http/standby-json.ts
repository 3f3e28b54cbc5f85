// Standbys, those that are here and those that were, as the API shows them.
import { INVALID_LSN, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type {
  AbsentStandbyStatus,
  RelayStatus,
  StandbyFeedbackStatus,
  StandbyStatus,
} from '../status/status.ts';
import type { AbsentStandbyJson, StandbyFeedbackJson, StandbyJson } from './api-types.ts';
import {
  lagBytes,
  lagSeconds,
  lsnText,
  nullableTimeText,
  timeText,
  xidText,
} from './json-words.ts';

/** Where WAL ends, ends exclusive. */
export interface WalEnds {
  /** Of the WAL that is known to exist. */
  readonly endLsn: Lsn;
  /** Of what is here. */
  readonly receivedLsn: Lsn;
}

/** Both of them, as `status` knows them. */
export function walEnds({ store, upstream }: RelayStatus): WalEnds {
  const { receivedLsn } = store;
  return { endLsn: maxLsn(upstream.serverLsn, receivedLsn), receivedLsn };
}

/** The answer of `/api/v1/standbys`, in the order of the sessions. */
export function standbysJson(status: RelayStatus): StandbyJson[] {
  const ends = walEnds(status);
  return status.standbys.map((standby) => standbyJson(standby, ends));
}

/** One of them. */
export function standbyJson(standby: StandbyStatus, { endLsn, receivedLsn }: WalEnds): StandbyJson {
  const { applyLsn, flushLsn, writeLsn, endToEndLag } = standby;
  const confirmed =
    [applyLsn, flushLsn, writeLsn].find((lsn) => lsn !== INVALID_LSN) ?? INVALID_LSN;
  return {
    pid: standby.pid,
    application_name: standby.applicationName,
    user: standby.user,
    client_addr: standby.clientAddr,
    client_port: standby.clientPort,
    state: standby.state,
    sync_state: standby.syncState,
    sync_priority: standby.syncPriority,
    slot_name: standby.slotName,
    timeline: standby.timeline,
    sent_lsn: lsnText(standby.sentLsn),
    write_lsn: lsnText(standby.writeLsn),
    flush_lsn: lsnText(standby.flushLsn),
    replay_lsn: lsnText(standby.applyLsn),
    write_lag: lagSeconds(endToEndLag.writeSeconds),
    flush_lag: lagSeconds(endToEndLag.flushSeconds),
    replay_lag: lagSeconds(endToEndLag.applySeconds),
    hop_write_lag: lagSeconds(standby.writeLagSeconds),
    hop_flush_lag: lagSeconds(standby.flushLagSeconds),
    hop_replay_lag: lagSeconds(standby.applyLagSeconds),
    replayed_commit_age: lagSeconds(standby.replayedCommitAgeSeconds),
    lag_bytes: lagBytes(confirmed, endLsn),
    hop_lag_bytes: lagBytes(confirmed, receivedLsn),
    feedback: standby.feedback === null ? null : standbyFeedbackJson(standby.feedback),
    clamped_replies: standby.clampedReplies,
    reply_time: nullableTimeText(standby.replyTimeMs),
    connected_at: timeText(standby.connectedAtMs),
    sent_bytes: standby.sentBytes,
    tls: standby.tlsVersion !== null,
    tls_version: standby.tlsVersion,
    stalled: standby.isStalled,
    name_shared: standby.isNameShared,
  };
}

/** One that is away. */
export function absentStandbyJson(absent: AbsentStandbyStatus): AbsentStandbyJson {
  return {
    application_name: absent.applicationName,
    user: absent.user,
    client_addr: absent.clientAddr,
    slot_name: absent.slotName,
    state: absent.isMaybeWedged ? 'wedged?' : 'away',
    how: absent.how,
    reason: absent.reason,
    left_at: timeText(absent.leftAtMs),
    timeline: absent.timeline,
    sent_lsn: lsnText(absent.sentLsn),
    write_lsn: lsnText(absent.writeLsn),
    flush_lsn: lsnText(absent.flushLsn),
    replay_lsn: lsnText(absent.applyLsn),
  };
}

function standbyFeedbackJson(feedback: StandbyFeedbackStatus): StandbyFeedbackJson {
  return {
    xmin: xidText(feedback.xmin),
    catalog_xmin: xidText(feedback.catalogXmin),
    state: feedback.state,
    xmin_age: feedback.xminAge,
  };
}
