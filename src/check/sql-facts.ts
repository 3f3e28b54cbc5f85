// What only SQL can tell about an upstream: roles, slots with their owners, the other walsenders.
import { CHECK_ANSWER_BYTES_MAX, CHECK_ROWS_MAX } from '../config/limits.ts';
import { answerOf } from '../walreceiver/upstream-command.ts';
import type { CommandRunner } from '../walreceiver/upstream-command.ts';
import { valueText } from '../walreceiver/upstream-query.ts';
import type { QueryLimits } from '../walreceiver/upstream-query.ts';

/** Our slot, in the words of pg_replication_slots. */
export interface SlotFacts {
  readonly type: string;
  readonly activePid: string | null;
  readonly restartLsn: string | null;
  readonly walStatus: string | null;
  /** Why it is lost, where the major tells (17 and later): `wal_removed`, `idle_timeout` … */
  readonly invalidationReason: string | null;
}

/** A walsender of the server. */
export interface WalSenderFact {
  readonly pid: string;
  readonly applicationName: string;
}

/** The answers. */
export interface SqlFacts {
  /** Null when the server does not say. */
  readonly hasReplicationAttribute: boolean | null;
  readonly slotCount: number;
  /** Null when there is none of our name, or none is used. */
  readonly slot: SlotFacts | null;
  /** Without those of checks. */
  readonly walSenders: readonly WalSenderFact[];
}

/** What an answer may hold. */
export const READ_LIMITS: QueryLimits = {
  rowsMax: CHECK_ROWS_MAX,
  bytesMax: CHECK_ANSWER_BYTES_MAX,
};

/** application_name is cut behind so many bytes. (NAMEDATALEN) */
const NAME_BYTES_MAX = 63;

/** What a check calls its own sessions, so that no other check takes them for a walcast. */
export function checkName(applicationName: string): string {
  const suffix = ' check';
  return `${applicationName.slice(0, NAME_BYTES_MAX - suffix.length)}${suffix}`;
}

/** Asks; walsenders called `except` do not count. Rejects with OperationalError when the server refuses a statement. */
export async function askSqlFacts(
  runner: CommandRunner,
  { slot, except }: { slot: string | null; except: string },
): Promise<SqlFacts> {
  const [role] = await rowsOf(
    runner,
    'SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user',
  );
  const [count] = await rowsOf(runner, 'SELECT count(*) FROM pg_replication_slots');
  const walSenders = await rowsOf(
    runner,
    `SELECT pid, application_name FROM pg_stat_replication LIMIT ${CHECK_ROWS_MAX}`,
  );
  return {
    hasReplicationAttribute: role === undefined ? null : role[0] === 't',
    slotCount: Number(count?.[0] ?? 0),
    slot: slot === null ? null : await askSlot(runner, slot),
    walSenders: walSenders
      .filter(([, name]) => name !== except)
      .map(([pid, name]) => ({ pid: pid ?? '', applicationName: name ?? '' })),
  };
}

/** `name` has only the characters of a slot name, which need no quoting. */
async function askSlot(runner: CommandRunner, name: string): Promise<SlotFacts | null> {
  const [row] = await rowsOf(
    runner,
    `SELECT slot_type, active_pid, restart_lsn, wal_status, to_jsonb(s) ->> 'invalidation_reason' FROM pg_replication_slots s WHERE slot_name = '${name}'`,
  );
  if (row === undefined) return null;
  const [type, activePid, restartLsn, walStatus, invalidationReason] = row;
  return {
    type: type ?? '',
    activePid: activePid ?? null,
    restartLsn: restartLsn ?? null,
    walStatus: walStatus ?? null,
    invalidationReason: invalidationReason ?? null,
  };
}

async function rowsOf(runner: CommandRunner, sql: string): Promise<(string | null)[][]> {
  const answer = await answerOf(runner, sql);
  return (answer?.rows ?? []).map((row) => row.map((value) => valueText(value)));
}
