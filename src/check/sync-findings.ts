// Do commits of a server wait for walcast, and if so, for whom behind it? Pure: settings of both sides in, findings out.
import { syncMembershipIn } from '../syncrep/standby-names.ts';
import type { SyncPolicy } from '../syncrep/standby-names.ts';
import { okFinding, warningFinding } from './finding.ts';
import type { Finding } from './finding.ts';
import type { HostProbe } from './host-probe.ts';

/** What of the configuration decides for whom commits wait. */
export interface SyncContext {
  readonly applicationName: string;
  readonly policy: SyncPolicy | null;
}

/** What the two settings of one name, the server's and walcast's own, come to together. A standby knows no such commits. */
export function synchronousFindings(probe: HostProbe, context: SyncContext): Finding[] {
  const names = probe.settings.get('synchronous_standby_names');
  if (names === undefined || probe.identity?.isInRecovery === true) return [];
  const { subject } = probe;
  const { applicationName, policy } = context;
  const membership = syncMembershipIn(names, applicationName);
  if (membership === 'none') return policy === null ? [] : [idlePolicy(subject, names, context)];
  const how =
    membership === 'named'
      ? `names "${applicationName}"`
      : `is matched by "${applicationName}" like by any other name`;
  if (policy !== null) {
    return [
      okFinding('upstream.synchronous_standby_names', {
        subject,
        message: `synchronous_standby_names = '${names}' ${how}: commits then wait for the standbys behind walcast that its own synchronous_standby_names = '${shown(policy)}' chooses`,
      }),
    ];
  }
  return [
    waitsForDisk({ subject, names, how }),
    ...waitsForEver(probe, { names, applicationName }),
  ];
}

function waitsForDisk(parts: { subject: string; names: string; how: string }): Finding {
  return warningFinding('upstream.synchronous_standby_names', {
    subject: parts.subject,
    message: `synchronous_standby_names = '${parts.names}' ${parts.how}: commits then wait until walcast has flushed their WAL to its own disk, not until a standby behind it has it`,
    fix: `If they shall wait for standbys behind walcast, name those in walcast's own synchronous_standby_names. If they shall not wait, run on the server: ALTER SYSTEM SET synchronous_standby_names = '…' with the names of the standbys that commits shall wait for, SELECT pg_reload_conf(); or set upstream.application_name to a name that is not listed`,
  });
}

function waitsForEver(
  { subject, settings }: HostProbe,
  { names, applicationName }: { names: string; applicationName: string },
): Finding[] {
  if (settings.get('synchronous_commit') !== 'remote_apply') return [];
  return [
    warningFinding('upstream.remote_apply', {
      subject,
      message: `synchronous_commit = remote_apply, and synchronous_standby_names = '${names}' counts "${applicationName}": walcast applies nothing and reports no such position, so commits that wait for it wait for ever`,
      fix: "Name the standbys behind walcast that have to apply in its own synchronous_standby_names; or run on the server: ALTER SYSTEM SET synchronous_commit = 'on'; SELECT pg_reload_conf(); or take our name out of synchronous_standby_names",
    }),
  ];
}

/** A policy that no commit waits for still decides what our slot keeps: it follows what the chosen standbys have. */
function idlePolicy(
  subject: string,
  names: string,
  { applicationName, policy }: SyncContext,
): Finding {
  return warningFinding('upstream.sync_policy', {
    subject,
    message: `synchronous_standby_names = '${names}' of the server does not name "${applicationName}": no commit waits for what walcast's own synchronous_standby_names = '${shown(policy)}' chooses`,
    fix: `Run on the server: ALTER SYSTEM SET synchronous_standby_names = '…' with "${applicationName}" among the names, SELECT pg_reload_conf(); or leave synchronous_standby_names of walcast empty`,
  });
}

const SHOWN_LENGTH_MAX = 200;

function shown(policy: SyncPolicy | null): string {
  return (policy?.text ?? '').slice(0, SHOWN_LENGTH_MAX);
}
