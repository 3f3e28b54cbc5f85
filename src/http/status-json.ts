// From the status of the parts to the JSON the API answers: the whole, and what has no file of its own.
import { findings } from '../health/findings.ts';
import type { Finding } from '../health/finding.ts';
import type { ConfigEntry } from '../status/actions.ts';
import type { RelayStatus } from '../status/status.ts';
import { accessJson } from './access-json.ts';
import { configurationJson } from './configuration-json.ts';
import type {
  ConfigEntryJson,
  FeedbackJson,
  FindingJson,
  StatusJson,
  SyncJson,
} from './api-types.ts';
import type { StatusChangeJson } from './event-types.ts';
import { nullableTimeText, reportedJson, timeText, xidText } from './json-words.ts';
import { absentStandbyJson, standbysJson } from './standby-json.ts';
import { storeJson } from './store-json.ts';
import { upstreamJson } from './upstream-json.ts';

export { standbyJson, standbysJson, walEnds } from './standby-json.ts';
export { deadWalJson, slotsJson, storeDetailJson } from './store-json.ts';
export { discoveryJson, upstreamDetailJson, upstreamLagBytes } from './upstream-json.ts';

/** The whole answer of `/api/v1/status`. `nowMs`: when the picture was taken, milliseconds since the Unix epoch. */
export function statusJson(status: RelayStatus, nowMs: number): StatusJson {
  return { ...relayJson(status, nowMs), standbys: standbysJson(status) };
}

/** The same without the standbys, of which there may be very many. */
export function relayJson(status: RelayStatus, nowMs: number): StatusChangeJson {
  return {
    version: status.version,
    system_identifier: status.systemIdentifier,
    server_version: status.serverVersion,
    timeline: status.timeline,
    state: status.state,
    detail: status.detail,
    paused: status.isPaused,
    started_at: timeText(status.startedAtMs),
    upstream: upstreamJson(status),
    store: storeJson(status),
    sync: syncJson(status),
    feedback: feedbackJson(status),
    absent_standbys: status.absentStandbys.map(absentStandbyJson),
    standby_events: {
      stalls: status.standbyTotals.stalls,
      takeovers: status.standbyTotals.takeovers,
    },
    access: accessJson(status, nullableTimeText),
    configuration: configurationJson(status, nullableTimeText),
    findings: findings(status, nowMs).map(findingJson),
  };
}

/** The answer of `/api/v1/sync`. */
export function syncJson({ sync, upstream }: RelayStatus): SyncJson {
  return {
    synchronous_standby_names: sync.synchronousStandbyNames,
    method: sync.method,
    required_standbys: sync.requiredStandbys,
    eligible_standbys: sync.eligibleStandbys,
    satisfied: sync.isSatisfied,
    since: nullableTimeText(sync.sinceMs),
    changes: sync.changes,
    unsatisfied_seconds: sync.unsatisfiedSeconds,
    confirmed: reportedJson(sync.confirmed),
    reported: reportedJson(upstream.reported),
    upstream:
      sync.upstream === null
        ? null
        : {
            synchronous_standby_names: sync.upstream.synchronousStandbyNames,
            membership: sync.upstream.membership,
            as_of: nullableTimeText(sync.upstream.asOfMs),
          },
    clash: sync.clash,
    alarms: sync.alarms,
  };
}

/** The answer of `/api/v1/config`, in the order of the documentation. */
export function configJson(entries: readonly ConfigEntry[]): ConfigEntryJson[] {
  return entries.map((entry) => ({
    key: entry.key,
    value: entry.value,
    default: entry.defaultValue,
    origin: entry.origin,
    place: entry.place,
    reloadable: entry.isReloadable,
    pending_restart: entry.isPendingRestart,
  }));
}

function feedbackJson({ feedback }: RelayStatus): FeedbackJson {
  // While it is off nobody looks who holds what: what was seen last is old.
  const { isOn } = feedback;
  return {
    hot_standby_feedback: isOn,
    xmin: xidText(feedback.xmin),
    catalog_xmin: xidText(feedback.catalogXmin),
    sent_at: nullableTimeText(feedback.sentAtMs),
    next_xid: xidText(feedback.nextXid),
    held_by: isOn ? feedback.heldBy : null,
    ignored: feedback.ignored,
    left_out: isOn ? feedback.leftOut : 0,
  };
}

function findingJson(finding: Finding): FindingJson {
  return {
    code: finding.code,
    severity: finding.severity,
    subject: finding.subject,
    message: finding.message,
    next_step: finding.nextStep,
    alert: finding.alert,
  };
}
