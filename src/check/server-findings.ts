// Is a server that lets us in set up for us? Pure: what a probe was told in, findings out.
import { parseNumberWithUnit } from '../config/units.ts';
import type { TargetSessionAttrs } from '../pg/conninfo.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { formatPosition } from '../pg/timeline.ts';
import type { UpstreamIdentity } from '../walreceiver/ports.ts';
import { sessionMismatch } from '../walreceiver/session-attrs.ts';
import { errorFinding, okFinding, warningFinding } from './finding.ts';
import type { Finding, FindingCode } from './finding.ts';
import type { HostProbe } from './host-probe.ts';
import { grantReplication, loginFinding } from './login-findings.ts';
import { slotFindings } from './slot-findings.ts';
import { synchronousFindings } from './sync-findings.ts';
import type { SyncContext } from './sync-findings.ts';

/** What of the configuration, and of this machine, matters for what a server is told. */
export interface CheckContext extends SyncContext {
  readonly slot: string | null;
  /** A walcast holds the data directory, so the walsender and the slot of our name are probably its own. */
  readonly isRunning: boolean;
  /** Milliseconds since the Unix epoch. */
  readonly wallMs: number;
}

/** WAL that a server should keep beyond what it needs when there is no slot. */
const WAL_KEEP_BYTES_MIN = 1024 ** 3;

/** Walsenders for all that walcast may open. */
const WAL_SENDERS_MIN = 3;

/** A certificate that expires sooner is warned about. */
const CERTIFICATE_MS_MIN = 14 * 86_400_000;

/** What a server says before it looks at the password, or at the role. */
const HIDING: ReadonlySet<string> = new Set([
  SQLSTATE.tooManyConnections,
  SQLSTATE.invalidAuthorizationSpecification,
]);

/** What holds for the walreceiver's session as for any other of the same role. */
const HIDDEN: ReadonlySet<FindingCode> = new Set([
  'upstream.password',
  'upstream.password_missing',
  'upstream.role',
]);

/** All findings about one host. */
export function hostFindings(probe: HostProbe, context: CheckContext): Finding[] {
  const { failure, identity } = probe;
  const findings: Finding[] = [];
  if (failure !== null) findings.push(failureFinding(probe, failure, context));
  if (identity !== null) findings.push(...identityFindings(probe, identity));
  findings.push(...clientCertificateFindings(probe, context));
  findings.push(...hiddenFindings(probe));
  if (failure !== null && probe.sql === null) return findings;
  return [
    ...findings,
    ...attributeFindings(probe),
    ...slotFindings(probe, context),
    ...settingFindings(probe, context),
    ...synchronousFindings(probe, context),
    ...nameFindings(probe, context),
    ...(probe.sqlProblem === null ? [] : [noSql(probe, probe.sqlProblem.message)]),
  ];
}

/** When the walsender that is missing is the one our own process uses, nothing is wrong. */
function failureFinding(
  probe: HostProbe,
  failure: NonNullable<HostProbe['failure']>,
  { isRunning, applicationName }: CheckContext,
): Finding {
  const found = loginFinding(probe, failure);
  const hasOurs = probe.sql?.walSenders.some(
    (sender) => sender.applicationName === applicationName,
  );
  if (found.code !== 'upstream.max_wal_senders' || !isRunning || hasOurs !== true) return found;
  return {
    ...found,
    severity: 'warning',
    message: `${found.message}; one of them is the running walcast's own, so only reconnecting is at risk`,
  };
}

/**
 * A server whose walsenders are all in use, or whose pg_hba.conf has no line for us, says so before it looks at the
 * password; the SQL session got further.
 */
function hiddenFindings(probe: HostProbe): Finding[] {
  const { failure, sqlProblem } = probe;
  if (failure === null || sqlProblem === null || !HIDING.has(failure.code)) return [];
  const hidden = loginFinding(probe, sqlProblem);
  const isNew = hidden.code !== loginFinding(probe, failure).code;
  return isNew && HIDDEN.has(hidden.code) ? [hidden] : [];
}

function identityFindings(probe: HostProbe, identity: UpstreamIdentity): Finding[] {
  const kind = identity.isInRecovery ? 'standby' : 'primary';
  const findings = [
    okFinding('upstream.identified', {
      subject: probe.subject,
      message:
        `PostgreSQL ${identity.serverVersion}, ${kind}, system identifier ${identity.systemIdentifier}, ` +
        `at ${formatPosition(identity.timeline, identity.xlogPos)}, ${probe.tlsVersion ?? 'no TLS'}`,
    }),
  ];
  if (identity.isInRecovery) {
    findings.push(
      okFinding('upstream.standby', {
        subject: probe.subject,
        message: 'the server is in recovery: walcast gets WAL as far as this standby has it',
      }),
    );
  }
  if (probe.tlsVersion === null && isRemote(probe.host.address)) {
    findings.push(
      warningFinding('upstream.clear_text', {
        subject: probe.subject,
        message: 'the session has no TLS: all WAL crosses the network as it is',
        fix: 'Set ssl = on on the server and sslmode=verify-full in upstream.conninfo, or keep the link inside a trusted network',
      }),
    );
  }
  return findings;
}

function clientCertificateFindings(probe: HostProbe, { wallMs }: CheckContext): Finding[] {
  const expiresAtMs = probe.clientCertificateExpiresAtMs;
  if (expiresAtMs === null || expiresAtMs - wallMs > CERTIFICATE_MS_MIN) return [];
  return [
    warningFinding('upstream.client_certificate', {
      subject: probe.subject,
      message: `our client certificate expires at ${new Date(expiresAtMs).toISOString()}`,
      fix: 'Renew the files of sslcert and sslkey; they are read anew for every connection',
    }),
  ];
}

function isRemote(address: string): boolean {
  return !/^(\/|@|127\.|::1$|localhost$)/.test(address);
}

/** Known from SQL even where the walreceiver's session failed for another reason. */
function attributeFindings({ subject, sql, failure, user }: HostProbe): Finding[] {
  if (sql?.hasReplicationAttribute !== false || failure?.code === SQLSTATE.insufficientPrivilege)
    return [];
  return [
    errorFinding('upstream.replication_attribute', {
      subject,
      message: `role "${user}" has no REPLICATION attribute`,
      fix: `Run on the server: ${grantReplication(user)}`,
    }),
  ];
}

function settingFindings(probe: HostProbe, context: CheckContext): Finding[] {
  const { subject, settings } = probe;
  const findings: Finding[] = [];
  const timeout = settings.get('wal_sender_timeout');
  if (timeout === '0') {
    findings.push(
      warningFinding('upstream.wal_sender_timeout', {
        subject,
        message:
          'wal_sender_timeout = 0: the server never notices that a connection of ours is dead, and our slot stays in use until TCP gives up',
        fix: "Run on the server: ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();",
      }),
    );
  }
  findings.push(...fewWalSenders(probe, context));
  findings.push(...(context.slot === null ? withoutSlot(probe) : withSlot(probe, context.slot)));
  return findings;
}

/** The stream takes one walsender; a base backup through walcast two, older WAL that is read through one. */
function fewWalSenders(
  { subject, settings, sql, failure }: HostProbe,
  context: CheckContext,
): Finding[] {
  const max = Number(settings.get('max_wal_senders') ?? Number.NaN);
  if (sql === null || failure !== null || Number.isNaN(max)) return [];
  const isOurs = ({ applicationName }: { applicationName: string }): boolean =>
    context.isRunning && applicationName === context.applicationName;
  const free = max - sql.walSenders.filter((sender) => !isOurs(sender)).length;
  if (free >= WAL_SENDERS_MIN) return [];
  return [
    warningFinding('upstream.max_wal_senders', {
      subject,
      message: `max_wal_senders = ${max} leaves ${free} for walcast: the stream takes one, a base backup through walcast two more, reading older WAL through one more`,
      fix: `Raise max_wal_senders above ${max} in postgresql.conf of the server and restart it`,
    }),
  ];
}

function withoutSlot({ subject, settings }: HostProbe): Finding[] {
  const kept = settings.get('wal_keep_size');
  const bytes = kept === undefined ? null : sizeOf(kept);
  if (bytes === null || bytes >= WAL_KEEP_BYTES_MIN) return [];
  return [
    warningFinding('upstream.wal_keep_size', {
      subject,
      message: `upstream.slot is "" and the server has wal_keep_size = ${kept}: an interruption longer than that loses WAL, and the store has to begin anew`,
      fix: "Set upstream.slot, or run on the server: ALTER SYSTEM SET wal_keep_size = '4GB'; SELECT pg_reload_conf();",
    }),
  ];
}

function withSlot({ subject, settings }: HostProbe, slot: string): Finding[] {
  const findings: Finding[] = [];
  const most = settings.get('max_slot_wal_keep_size');
  if (most === '-1') {
    findings.push(
      warningFinding('upstream.max_slot_wal_keep_size', {
        subject,
        message: `max_slot_wal_keep_size = -1: while walcast is away, slot "${slot}" keeps WAL on the server until its disk is full`,
        fix: "Bound it on the server: ALTER SYSTEM SET max_slot_wal_keep_size = '64GB'; SELECT pg_reload_conf(); and alarm on a lost slot",
      }),
    );
  }
  const idle = settings.get('idle_replication_slot_timeout');
  if (idle !== undefined && idle !== '0') {
    findings.push(
      warningFinding('upstream.idle_replication_slot_timeout', {
        subject,
        message: `idle_replication_slot_timeout = ${idle}: the server gives up slot "${slot}" when walcast is away for so long`,
        fix: "Make it longer than any outage you plan for, or run on the server: ALTER SYSTEM SET idle_replication_slot_timeout = '0'; SELECT pg_reload_conf();",
      }),
    );
  }
  return findings;
}

function sizeOf(text: string): number | null {
  const parsed = parseNumberWithUnit(text, 'B');
  return 'value' in parsed ? parsed.value : null;
}

function nameFindings({ subject, sql }: HostProbe, context: CheckContext): Finding[] {
  const { applicationName, isRunning } = context;
  const same = sql?.walSenders.filter((sender) => sender.applicationName === applicationName) ?? [];
  if (same.length <= (isRunning ? 1 : 0)) return [];
  const pids = same.map(({ pid }) => pid).join(', ');
  return [
    warningFinding('upstream.application_name', {
      subject,
      message: `the server has ${same.length === 1 ? 'a walsender' : `${same.length} walsenders`} for application_name "${applicationName}" already (pid ${pids})`,
      fix: 'If it is another walcast, give one of them another upstream.application_name and another upstream.slot',
    }),
  ];
}

function noSql({ subject }: HostProbe, why: string): Finding {
  return okFinding('upstream.sql', {
    subject,
    message: `no SQL session for a closer look (${why}); walcast needs none; other walsenders, and whose the slot is and whether its WAL is still there, were not looked at`,
  });
}

/** Hosts of one list must be one cluster: the one that others follow, and those that followed it. */
export function clusterFindings(probes: readonly HostProbe[]): Finding[] {
  const [first, ...others] = probes.filter(({ identity }) => identity !== null);
  if (first?.identity === undefined || first.identity === null) return [];
  const { systemIdentifier } = first.identity;
  return others.flatMap(({ subject, identity }) => {
    if (identity === null || identity.systemIdentifier === systemIdentifier) return [];
    return [
      errorFinding('upstream.other_cluster', {
        subject,
        message: `system identifier ${identity.systemIdentifier} is not that of ${first.subject} (${systemIdentifier}): these are different clusters`,
        fix: 'Name only the servers of one cluster in upstream.conninfo',
      }),
    ];
  });
}

/** A list in which no server is of the wanted kind is of no use; one of another kind waits for its turn. */
export function sessionKindFindings(
  probes: readonly HostProbe[],
  wanted: TargetSessionAttrs,
): Finding[] {
  const mismatches = probes.flatMap(({ subject, identity }) => {
    const mismatch = identity === null ? null : kindMismatch(identity, wanted);
    return identity === null || mismatch === null ? [] : [{ subject, identity, mismatch }];
  });
  const isNoneLeft = probes.every(
    ({ identity }) => identity === null || kindMismatch(identity, wanted) !== null,
  );
  return mismatches.map(({ subject, identity, mismatch }) => {
    const message = `${mismatch} (target_session_attrs=${wanted})`;
    if (isNoneLeft) {
      const fix = kindFix(identity, wanted);
      return errorFinding('upstream.target_session_attrs', { subject, message, fix });
    }
    const text = { subject, message: `${message}: not followed while that is so` };
    return okFinding('upstream.target_session_attrs', text);
  });
}

function kindFix({ isInRecovery }: UpstreamIdentity, wanted: TargetSessionAttrs): string {
  if (wanted === 'read-write' && !isInRecovery) {
    return 'Set target_session_attrs=primary: this one is, and default_transaction_read_only = on is no matter for WAL';
  }
  return 'Name the server that is of that kind, too, or set target_session_attrs=any';
}

function kindMismatch(identity: UpstreamIdentity, wanted: TargetSessionAttrs): string | null {
  // A standby will do where there is nothing better.
  if (wanted === 'prefer-standby') return null;
  const isReadOnlyByDefault = identity.settings.get('default_transaction_read_only') === 'on';
  const { isInRecovery } = identity;
  return sessionMismatch(wanted, { isInRecovery, isReadOnly: isInRecovery || isReadOnlyByDefault });
}
