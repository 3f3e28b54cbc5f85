// What is wrong with commits that wait for standbys?
import { ageText } from '../base/human-text.ts';
import { SYNC_UNSATISFIED_MS } from '../config/limits.ts';
import type { RelayStatus, SyncStatus } from '../status/status.ts';
import type { Finding } from './finding.ts';
import { finding, namesText, splitAdvice } from './told.ts';

/** Of synchronous_standby_names, ours and the upstream's. */
export function syncMatters(status: RelayStatus, nowMs: number): Finding[] {
  return [...policyMatters(status, nowMs), ...clashMatters(status), ...alarmMatters(status.sync)];
}

function policyMatters(status: RelayStatus, nowMs: number): Finding[] {
  const { sync } = status;
  // Who drains lets its standbys go, and commits wait for the next name of the upstream's list.
  if (sync.method === null || status.isDraining) return [];
  const missing = missingNames(status);
  const names = missing.length === 0 ? '' : ` (missing: ${namesText(missing)})`;
  const there = `${sync.eligibleStandbys} ${sync.eligibleStandbys === 1 ? 'is' : 'are'} there${names}`;
  if (!sync.isSatisfied) {
    const ageMs = nowMs - sync.sinceMs;
    return [
      finding({
        code: 'sync_unsatisfied',
        severity: ageMs >= SYNC_UNSATISFIED_MS ? 'critical' : 'warning',
        subject: sync.synchronousStandbyNames,
        message: `too few standbys for synchronous_standby_names: ${sync.requiredStandbys} needed, ${there}, for ${ageText(ageMs)} by now; commits that wait for walcast stand still`,
        nextStep:
          'Bring a standby of the list back, or change synchronous_standby_names and reload: commits go on at once.',
        alert: 'WalcastSyncUnsatisfied',
      }),
    ];
  }
  const found = unaskedMatters(sync);
  if (missing.length === 0 || sync.eligibleStandbys > sync.requiredStandbys) return found;
  return [
    ...found,
    finding({
      code: 'sync_no_spare',
      severity: 'info',
      subject: sync.synchronousStandbyNames,
      message: `no standby to spare for synchronous_standby_names: ${sync.requiredStandbys} needed, ${there}; with one less commits stand still`,
      nextStep: 'Bring those back that are missing.',
      alert: null,
    }),
  ];
}

/** Names of the list that no streaming standby bears. */
function missingNames({ sync, standbys }: RelayStatus): string[] {
  const there = new Set(
    standbys
      .filter(({ state }) => state === 'streaming')
      .map(({ applicationName }) => applicationName.toLowerCase()),
  );
  return sync.names.filter((name) => !there.has(name.toLowerCase()));
}

/** A policy of ours that no commit of the upstream asks about. */
function unaskedMatters({ upstream, synchronousStandbyNames }: SyncStatus): Finding[] {
  if (upstream?.membership !== 'none') return [];
  return [
    finding({
      code: 'sync_not_asked',
      severity: 'info',
      subject: synchronousStandbyNames,
      message:
        'no commit waits for walcast: synchronous_standby_names of the upstream does not name it',
      nextStep:
        'Name upstream.application_name in synchronous_standby_names of the upstream if commits are to wait.',
      alert: null,
    }),
  ];
}

function clashMatters({ sync, upstream }: RelayStatus): Finding[] {
  if (sync.clash === null) return [];
  const [message, nextStep] = splitAdvice(
    sync.clash,
    'Set upstream.application_name to a name of its own.',
  );
  // Where members of a cluster are known the name is one of theirs; else it may be meant so.
  const severity = upstream.discovery === null ? 'info' : 'warning';
  return [finding({ code: 'sync_clash', severity, subject: null, message, nextStep, alert: null })];
}

function alarmMatters({ alarms }: SyncStatus): Finding[] {
  return alarms.map((alarm) => {
    const [message, nextStep] = splitAdvice(alarm, 'See docs/synchronous-replication.md.');
    return finding({
      code: 'sync_alarm',
      severity: 'warning',
      subject: null,
      message,
      nextStep,
      alert: null,
    });
  });
}
