// What is wrong with standbys: with those that are there, and with those that should be?
import { ageText, secondsText, sizeText } from '../base/human-text.ts';
import {
  METRICS_STANDBYS_MAX,
  PLACES_TAKEN_RATIO,
  STANDBY_LAGGING_BYTES,
  STANDBY_LAGGING_SECONDS,
  STANDBY_MISSING_MS,
} from '../config/limits.ts';
import { formatLsn, INVALID_LSN, lsnDistance, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { AbsentStandbyStatus, RelayStatus, StandbyStatus } from '../status/status.ts';
import type { Finding } from './finding.ts';
import { finding, told } from './told.ts';

/** Of standbys, one finding a standby and matter. */
export function standbyMatters(status: RelayStatus, nowMs: number): Finding[] {
  return [
    ...laggingMatters(status),
    ...missingMatters(status, nowMs),
    ...feedbackMatters(status),
    ...sharedNames(status),
    ...crowdMatters(status),
  ];
}

const nameOf = ({ applicationName }: { readonly applicationName: string }): string =>
  applicationName;

function laggingMatters(status: RelayStatus): Finding[] {
  const endLsn = maxLsn(status.upstream.serverLsn, status.store.receivedLsn);
  const bytesOf = (standby: StandbyStatus): number => {
    const position = positionOf(standby);
    return position === INVALID_LSN || position >= endLsn ? 0 : lsnDistance(position, endLsn);
  };
  const secondsOf = ({ endToEndLag: lag }: StandbyStatus): number =>
    lag.applySeconds ?? lag.flushSeconds ?? lag.writeSeconds ?? 0;
  const stalled = status.standbys.filter(({ isStalled }) => isStalled);
  const lagging = status.standbys.filter(
    (standby) =>
      !standby.isStalled &&
      secondsOf(standby) > STANDBY_LAGGING_SECONDS &&
      bytesOf(standby) > STANDBY_LAGGING_BYTES,
  );
  const worstFirst = (a: StandbyStatus, b: StandbyStatus): number => bytesOf(b) - bytesOf(a);
  return [
    ...told({
      code: 'standby_stalled',
      severity: 'warning',
      alert: 'WalcastStandbyLagging',
      of: stalled.toSorted(worstFirst),
      subject: nameOf,
      message: (one) =>
        `standby ${one.applicationName} has confirmed nothing more for a minute although there is WAL for it: it is ${positionText(one, bytesOf(one))}`,
      nextStep: ({ applicationName }) =>
        `Look at ${applicationName}: a stopped process, a full disk, a paused or conflicting replay; its log says which.`,
      others: 'standbys are stalled',
    }),
    ...told({
      code: 'standby_lagging',
      severity: 'warning',
      alert: 'WalcastStandbyLagging',
      of: lagging.toSorted(worstFirst),
      subject: nameOf,
      message: (one) =>
        `standby ${one.applicationName} is at ${formatLsn(positionOf(one))}, ${sizeText(bytesOf(one))} and ${secondsText(secondsOf(one))} behind the upstream`,
      nextStep: ({ applicationName }) =>
        `Compare its sent, flush and replay positions to see which step is slow; a long query on ${applicationName} or recovery_min_apply_delay holds replay back.`,
      others: 'standbys lag',
    }),
  ];
}

/** What a receiver that never replays has flushed counts, and what one has written that does not say that either. */
function positionOf({ applyLsn, flushLsn, writeLsn }: StandbyStatus): Lsn {
  return [applyLsn, flushLsn, writeLsn].find((lsn) => lsn !== INVALID_LSN) ?? INVALID_LSN;
}

function positionText(standby: StandbyStatus, bytes: number): string {
  const position = positionOf(standby);
  if (position === INVALID_LSN) return 'at no known position';
  return `at ${formatLsn(position)}, ${sizeText(bytes)} behind`;
}

/** A standby that is expected, by its slot or by name, and away. */
interface Missing {
  readonly name: string;
  /** Milliseconds since the Unix epoch: since when at the latest. */
  readonly sinceMs: number;
  readonly slot: string | null;
  /** Bytes of WAL that its slot keeps. */
  readonly keptBytes: number;
  readonly isExpected: boolean;
  /** Its name is connected: only the slot is not used. */
  readonly isThere: boolean;
}

function missingMatters(status: RelayStatus, nowMs: number): Finding[] {
  const wedged = status.absentStandbys.filter(({ isMaybeWedged }) => isMaybeWedged);
  const missing = missingStandbys(status);
  const isLong = ({ sinceMs, isExpected }: Missing): boolean =>
    isExpected && nowMs - sinceMs >= STANDBY_MISSING_MS;
  const parts = {
    subject: ({ name }: Missing): string => name,
    message: (one: Missing): string => missingText(one, nowMs),
  };
  return [
    ...told<AbsentStandbyStatus>({
      code: 'standby_wedged',
      severity: 'warning',
      alert: 'WalcastStandbyMissing',
      of: wedged,
      subject: nameOf,
      message: ({ applicationName, leftAtMs }) =>
        `standby ${applicationName} left ${ageText(nowMs - leftAtMs)} ago with WAL it had received and not replayed, and is not back (wedged?)`,
      nextStep: ({ applicationName }) =>
        `Read the log of ${applicationName}: where its recovery found a record wrong, it has to be restarted by hand.`,
      others: 'standbys are not back (wedged?)',
    }),
    ...told({
      code: 'standby_missing',
      severity: 'warning',
      alert: 'WalcastStandbyMissing',
      of: missing.filter(isLong),
      ...parts,
      nextStep: ({ slot, name }) =>
        slot === null
          ? `Bring ${name} back, or take its name out of synchronous_standby_names.`
          : `Bring it back, or drop its slot with "walcast slots drop ${slot}" so that no WAL is kept for it.`,
      others: 'standbys are missing',
    }),
    ...told({
      code: 'standby_away',
      severity: 'info',
      alert: null,
      of: missing.filter((one) => !isLong(one)),
      ...parts,
      nextStep: ({ isThere, slot }) =>
        isThere && slot !== null
          ? `Set primary_slot_name = '${slot}' there, or drop the slot with "walcast slots drop ${slot}" so that no WAL is kept for it.`
          : 'Nothing, if it is being restarted or was taken away on purpose.',
      others: 'standbys are away',
    }),
  ];
}

function missingText(missing: Missing, nowMs: number): string {
  const { name, sinceMs, slot, keptBytes, isThere } = missing;
  if (isThere && slot !== null) {
    return `slot ${slot} has not been used for ${ageText(nowMs - sinceMs)}, although a standby ${name} is connected; it keeps ${sizeText(keptBytes)}`;
  }
  const kept = slot === null ? '' : `; slot ${slot} keeps ${sizeText(keptBytes)} for it`;
  return `standby ${name} has not been connected for ${ageText(nowMs - sinceMs)}${kept}`;
}

/** By slots that nobody uses, by who left, by the names of the policy; each standby once, who is missing longest first. */
function missingStandbys(status: RelayStatus): Missing[] {
  const { slots, absentStandbys, store, sync } = status;
  const listed = new Set(sync.names.map((name) => name.toLowerCase()));
  // Who left last comes first there, and counts.
  const ownerOf = new Map(
    absentStandbys.toReversed().map((absent) => [absent.slotName, absent] as const),
  );
  const connected = new Set(status.standbys.map((one) => one.applicationName.toLowerCase()));
  const known = new Set(connected);
  const missing: Missing[] = [];
  for (const { name: slot, temporary, activePid, ...rest } of slots) {
    // What is to be done about a lost one is another matter.
    if (temporary || activePid !== null || rest.invalidationReason !== null) continue;
    const owner = ownerOf.get(slot);
    const name = owner?.applicationName ?? slot;
    known.add(name.toLowerCase());
    if (owner?.isMaybeWedged === true) continue;
    const sinceMs = owner?.leftAtMs ?? rest.inactiveSinceMs ?? status.startedAtMs;
    const isKept = rest.restartLsn !== INVALID_LSN && rest.restartLsn < store.receivedLsn;
    const keptBytes = isKept ? lsnDistance(rest.restartLsn, store.receivedLsn) : 0;
    const isThere = connected.has(name.toLowerCase());
    missing.push({ name, sinceMs, slot, keptBytes, isExpected: !isThere, isThere });
  }
  const add = (name: string, sinceMs: number): void => {
    if (known.has(name.toLowerCase())) return;
    known.add(name.toLowerCase());
    const isExpected = listed.has(name.toLowerCase());
    missing.push({ name, sinceMs, slot: null, keptBytes: 0, isExpected, isThere: false });
  };
  for (const { applicationName, leftAtMs, isMaybeWedged } of absentStandbys) {
    if (isMaybeWedged) known.add(applicationName.toLowerCase());
    add(applicationName, leftAtMs);
  }
  for (const name of sync.names) add(name, status.startedAtMs);
  return missing.toSorted((a, b) => a.sinceMs - b.sinceMs);
}

function feedbackMatters({ standbys, feedback }: RelayStatus): Finding[] {
  if (!feedback.isOn) return [];
  const inState = (state: string): StandbyStatus[] =>
    standbys.filter((standby) => standby.feedback?.state === state);
  return [
    ...told({
      code: 'feedback_left_out',
      severity: 'warning',
      alert: null,
      of: inState('too_old'),
      subject: nameOf,
      message: ({ applicationName, feedback: own }) =>
        `what hot_standby_feedback of ${applicationName} asks for is left out: it holds ${own?.xminAge ?? 'too many'} transactions, more than max_feedback_xmin_age`,
      nextStep: ({ applicationName }) =>
        `End the oldest query or transaction on ${applicationName}: it may be cancelled by a replay conflict now.`,
      others: 'standbys hold the horizon too far back',
    }),
    ...told({
      code: 'feedback_invalid',
      severity: 'warning',
      alert: null,
      of: inState('invalid'),
      subject: nameOf,
      message: ({ applicationName }) =>
        `hot_standby_feedback of ${applicationName} names a transaction id that cannot be; what it said before counts`,
      nextStep: ({ applicationName }) =>
        `Look whether ${applicationName} is a standby of this cluster; if it is, restart its walreceiver.`,
      others: 'standbys send feedback that cannot be',
    }),
  ];
}

/** Two servers of one name may satisfy a policy that meant two places. */
function sharedNames({ standbys, sync }: RelayStatus): Finding[] {
  const listed = new Set(sync.names.map((name) => name.toLowerCase()));
  const isListed = (name: string): boolean => listed.has(name.toLowerCase());
  const shared = [...new Set(standbys.filter((one) => one.isNameShared).map(nameOf))];
  const tell = (names: readonly string[], severity: Finding['severity']): Finding[] =>
    told({
      code: 'shared_name',
      severity,
      alert: null,
      of: names,
      subject: (name) => name,
      message: (name) => `several standbys stream under the application_name ${name}`,
      nextStep: () =>
        'Give each an application_name of its own in primary_conninfo, or set cluster_name there.',
      others: 'names are shared by several standbys',
    });
  return [
    ...tell(shared.filter(isListed), 'warning'),
    ...tell(
      shared.filter((name) => !isListed(name)),
      'info',
    ),
  ];
}

function crowdMatters({ standbys, standbyTotals }: RelayStatus): Finding[] {
  const found: Finding[] = [];
  const { connectionsMax } = standbyTotals;
  if (standbys.length >= connectionsMax * PLACES_TAKEN_RATIO) {
    found.push(
      finding({
        code: 'places_taken',
        severity: 'warning',
        subject: null,
        message: `${standbys.length} of ${connectionsMax} places for standbys (storage.max_wal_senders) are taken`,
        nextStep: 'Raise storage.max_wal_senders: who comes when all are taken is refused.',
        alert: null,
      }),
    );
  }
  // The names are only needed where there may be too many of them.
  if (standbys.length <= METRICS_STANDBYS_MAX) return found;
  const names = new Set(standbys.map(nameOf)).size;
  if (names <= METRICS_STANDBYS_MAX) return found;
  found.push(
    finding({
      code: 'metrics_folded',
      severity: 'info',
      subject: null,
      message: `the metrics name ${METRICS_STANDBYS_MAX} standbys; ${names - METRICS_STANDBYS_MAX} more are folded into standby="_other"`,
      nextStep: 'Take their figures from /api/v1/standbys or from the console, which name all.',
      alert: 'WalcastSeriesCapReached',
    }),
  );
  return found;
}
