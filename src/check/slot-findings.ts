// Can our replication slot at an upstream be used, or be made? Pure.
import { errorFinding, okFinding, warningFinding } from './finding.ts';
import type { Finding } from './finding.ts';
import type { HostProbe } from './host-probe.ts';
import type { CheckContext } from './server-findings.ts';
import type { SqlFacts } from './sql-facts.ts';

/** All about the slot on one host. */
export function slotFindings(probe: HostProbe, context: CheckContext): Finding[] {
  const name = context.slot;
  if (name === null) return [];
  const type = probe.sql?.slot?.type ?? probe.slotType;
  if (type !== null && type !== 'physical') return [wrongType(probe, name, type)];
  if (probe.sql !== null && probe.sql.slot !== null) {
    return existing(probe, { name, slot: probe.sql.slot, isRunning: context.isRunning });
  }
  if (type === null && probe.settings.get('max_replication_slots') === '0') {
    return [noSlots(probe, name)];
  }
  return probe.sql === null ? withoutSql(probe, name) : [missing(probe, probe.sql, name)];
}

/** (slot.c:CheckSlotRequirements) */
function noSlots({ subject }: HostProbe, name: string): Finding {
  return errorFinding('upstream.slots_full', {
    subject,
    message: `replication slot "${name}" cannot be created: the server has max_replication_slots = 0`,
    fix: 'Set max_replication_slots = 10 in postgresql.conf of the server and restart it, or set upstream.slot to ""',
  });
}

function wrongType({ subject }: HostProbe, name: string, type: string): Finding {
  return errorFinding('upstream.slot_logical', {
    subject,
    message: `replication slot "${name}" is a ${type} slot, not a physical one`,
    fix: `Set upstream.slot to another name, or drop it on the server if nobody needs it: SELECT pg_drop_replication_slot('${name}');`,
  });
}

/** Only what READ_REPLICATION_SLOT tells, where there is such a command. */
function withoutSql({ subject, identity, slotType }: HostProbe, name: string): Finding[] {
  if (identity === null) return [];
  if (slotType === 'physical')
    return [
      okFinding('upstream.slot', { subject, message: `replication slot "${name}" is there` }),
    ];
  const message = identity.facts.hasReadReplicationSlot
    ? `replication slot "${name}" is missing; walcast creates it, if max_replication_slots leaves room`
    : `replication slot "${name}" is created by walcast when it is missing, if max_replication_slots leaves room`;
  return [okFinding('upstream.slot', { subject, message })];
}

function missing({ subject, settings }: HostProbe, sql: SqlFacts, name: string): Finding {
  const max = Number(settings.get('max_replication_slots') ?? Number.NaN);
  if (sql.slotCount < max || Number.isNaN(max)) {
    const message = `replication slot "${name}" is missing; walcast creates it (${sql.slotCount} of ${max} slots are in use)`;
    return okFinding('upstream.slot', { subject, message });
  }
  return errorFinding('upstream.slots_full', {
    subject,
    message: `replication slot "${name}" is missing and cannot be created: all replication slots are in use (max_replication_slots = ${max})`,
    fix: `Drop a slot nobody uses (SELECT slot_name, active, restart_lsn FROM pg_replication_slots), raise max_replication_slots on the server and restart it, or set upstream.slot to ""`,
  });
}

function existing(
  { subject }: HostProbe,
  {
    name,
    slot,
    isRunning,
  }: { name: string; slot: NonNullable<SqlFacts['slot']>; isRunning: boolean },
): Finding[] {
  const begins = slot.restartLsn === null ? 'it reserves nothing yet' : `from ${slot.restartLsn}`;
  if (slot.walStatus === 'lost') return [lost(subject, name, slot)];
  if (slot.walStatus === 'unreserved') {
    return [
      warningFinding('upstream.slot_lost', {
        subject,
        message: `replication slot "${name}" has wal_status "unreserved": it fell behind by more than max_slot_wal_keep_size, and its WAL goes at the next checkpoint`,
        fix: 'Start walcast now, or raise max_slot_wal_keep_size on the server first',
      }),
    ];
  }
  if (slot.activePid !== null && !isRunning) {
    return [
      errorFinding('upstream.slot_in_use', {
        subject,
        message: `replication slot "${name}" is active for PID ${slot.activePid}, and no walcast holds the data directory`,
        fix: `Set upstream.slot to a name of its own for every walcast, or end that session on the server: SELECT pg_terminate_backend(${slot.activePid});`,
      }),
    ];
  }
  return [
    okFinding('upstream.slot', {
      subject,
      message: `replication slot "${name}" is there, ${begins}${slot.activePid === null ? '' : `, in use by PID ${slot.activePid}`}`,
    }),
  ];
}

/** (slot.c:ReportSlotInvalidation) */
function lost(subject: string, name: string, slot: NonNullable<SqlFacts['slot']>): Finding {
  const isIdle = slot.invalidationReason === 'idle_timeout';
  const setting = isIdle ? 'idle_replication_slot_timeout' : 'max_slot_wal_keep_size';
  const why = isIdle
    ? `nobody used it for longer than ${setting}`
    : `it fell behind by more than ${setting}`;
  return warningFinding('upstream.slot_lost', {
    subject,
    message: `replication slot "${name}" has wal_status "lost": ${why}, and the server has given up its WAL`,
    fix: `walcast drops it and creates it anew where its store can go on from what the server still has; where it cannot (state gap), bring the missing segments from an archive with "walcast store import", or begin anew with "walcast store reset". Raise ${setting} on the server`,
  });
}
