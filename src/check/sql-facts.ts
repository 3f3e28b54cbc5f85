// What only SQL can tell about an upstream: roles, slots with their owners, the other walsenders.
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
  /** Without our own session. */
  readonly walSenders: readonly WalSenderFact[];
}

/** Most walsenders that are looked at; a server has a few. */
const WAL_SENDERS_MAX = 1_000;

/** What an answer may hold. */
export const READ_LIMITS: QueryLimits = { rowsMax: WAL_SENDERS_MAX, bytesMax: 1024 * 1024 };

/** Asks. Rejects with OperationalError when the server refuses one of the statements. */
export async function askSqlFacts(
  runner: CommandRunner,
  { slot, exceptPid }: { slot: string | null; exceptPid: number },
): Promise<SqlFacts> {
  const [role] = await rowsOf(
    runner,
    'SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user',
  );
  const [count] = await rowsOf(runner, 'SELECT count(*) FROM pg_replication_slots');
  const walSenders = await rowsOf(
    runner,
    `SELECT pid, application_name FROM pg_stat_replication LIMIT ${WAL_SENDERS_MAX}`,
  );
  return {
    hasReplicationAttribute: role === undefined ? null : role[0] === 't',
    slotCount: Number(count?.[0] ?? 0),
    slot: slot === null ? null : await askSlot(runner, slot),
    walSenders: walSenders
      .map(([pid, name]) => ({ pid: pid ?? '', applicationName: name ?? '' }))
      .filter(({ pid }) => pid !== String(exceptPid)),
  };
}

/** `name` has only the characters of a slot name, which need no quoting. */
async function askSlot(runner: CommandRunner, name: string): Promise<SlotFacts | null> {
  const [row] = await rowsOf(
    runner,
    `SELECT slot_type, active_pid, restart_lsn, wal_status FROM pg_replication_slots WHERE slot_name = '${name}'`,
  );
  if (row === undefined) return null;
  const [type, activePid, restartLsn, walStatus] = row;
  return {
    type: type ?? '',
    activePid: activePid ?? null,
    restartLsn: restartLsn ?? null,
    walStatus: walStatus ?? null,
  };
}

async function rowsOf(runner: CommandRunner, sql: string): Promise<(string | null)[][]> {
  const answer = await answerOf(runner, sql);
  return (answer?.rows ?? []).map((row) => row.map((value) => valueText(value)));
}
