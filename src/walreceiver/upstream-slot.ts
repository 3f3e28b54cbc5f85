// Our physical replication slot at the upstream: found, created, made anew when the server gave it up, dropped.
// (walsender.c:ReadReplicationSlot, CreateReplicationSlot, DropReplicationSlot)
import { OperationalError } from '../base/errors.ts';
import { INVALID_LSN, parseLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { invalidAnswer } from './upstream-command.ts';
import type { CommandRunner } from './upstream-command.ts';
import { printable, upstreamError } from './upstream-errors.ts';
import { valueText } from './upstream-query.ts';

/**
 * What to do about the slot. `use`: create it when it is missing. `recreate`: this server may be followed, and the slot
 * is of no use any more, so drop it first. `leave`: only look, because we do not know yet whether this server may be
 * followed at all.
 */
export interface SlotPlan {
  readonly name: string;
  readonly action: 'use' | 'recreate' | 'leave';
  /**
   * For `recreate`: restart_lsn of the one that is of no use, INVALID_LSN when it reserves nothing; one with another was made by
   * somebody since, and is used. Absent: whichever is there.
   */
  readonly uselessLsn?: Lsn;
  /** Seen on this server before; saves the failing CREATE on majors that cannot be asked. */
  readonly isKnown: boolean;
}

/** What was found or made. `restartLsn` is INVALID_LSN when it reserves nothing or the server cannot say. */
export interface PreparedSlot {
  readonly restartLsn: Lsn;
  readonly isCreated: boolean;
  /** There is none, or one that reserves nothing, and it was left as it is. */
  readonly isMissing: boolean;
}

/** (slot.c:CheckSlotRequirements) */
const NO_SLOTS_HINT =
  'Raise max_replication_slots on the upstream (with wal_level=replica or logical), or set upstream.slot to "".';

type FoundSlot = { readonly restartLsn: Lsn } | 'missing' | 'unknown';

/** `"name"` for a command. Throws {@link OperationalError} for a name no server accepts (slot.c:ReplicationSlotValidateName). */
export function quoteSlotName(name: string): string {
  if (/^[a-z0-9_]{1,63}$/.test(name)) return `"${name}"`;
  throw new OperationalError('INVALID_SLOT_NAME', `replication slot name "${name}" is not valid`, {
    hint: 'Slot names have 1 to 63 lower-case letters, numbers and underscores.',
  });
}

/** Carries out the plan. Rejects with a retryable {@link OperationalError} when the server refuses. */
export async function prepareSlot(
  runner: CommandRunner,
  facts: VersionFacts,
  plan: SlotPlan,
): Promise<PreparedSlot> {
  const found = facts.hasReadReplicationSlot ? await readSlot(runner, plan.name) : unread(plan);
  if (plan.action === 'leave') {
    const restartLsn = typeof found === 'object' ? found.restartLsn : INVALID_LSN;
    return { restartLsn, isCreated: false, isMissing: found === 'missing' };
  }
  if (typeof found === 'object' && !isUseless(found.restartLsn, plan)) {
    // One that reserves nothing was never used, or the server has given it up; such a one never reserves WAL again. But
    // it may be somebody else's, on a server that we shall not follow: it is not dropped before the gate has decided.
    const { restartLsn } = found;
    return { restartLsn, isCreated: false, isMissing: restartLsn === INVALID_LSN };
  }
  if (found === 'unknown' && plan.isKnown) {
    return { restartLsn: INVALID_LSN, isCreated: false, isMissing: false };
  }
  if (typeof found === 'object') await dropSlot(runner, plan.name);
  return createAndRead(runner, facts, plan.name);
}

/** Drops the slot; one that is gone already is fine. Resolves to the server's refusal, or null. */
export async function dropSlot(
  runner: CommandRunner,
  name: string,
): Promise<OperationalError | null> {
  const { error } = await runner.run(`DROP_REPLICATION_SLOT ${quoteSlotName(name)}`);
  if (error === null || error.sqlstate === SQLSTATE.undefinedObject) return null;
  return upstreamError(`the upstream did not drop replication slot "${name}"`, error);
}

function isUseless(restartLsn: Lsn, { action, uselessLsn = restartLsn }: SlotPlan): boolean {
  const isGone = restartLsn === INVALID_LSN;
  return action === 'recreate' && (isGone || restartLsn === uselessLsn);
}

function unread(plan: SlotPlan): FoundSlot {
  return plan.action === 'leave' && !plan.isKnown ? 'missing' : 'unknown';
}

async function createAndRead(
  runner: CommandRunner,
  facts: VersionFacts,
  name: string,
): Promise<PreparedSlot> {
  const isCreated = await createSlot(runner, facts, name);
  const found = facts.hasReadReplicationSlot ? await readSlot(runner, name) : 'unknown';
  const restartLsn = typeof found === 'object' ? found.restartLsn : INVALID_LSN;
  return { restartLsn, isCreated, isMissing: false };
}

/** False when somebody else has created it already. */
async function createSlot(
  runner: CommandRunner,
  facts: VersionFacts,
  name: string,
): Promise<boolean> {
  const options = facts.hasParenthesizedOptions ? '(RESERVE_WAL)' : 'RESERVE_WAL';
  const { error } = await runner.run(
    `CREATE_REPLICATION_SLOT ${quoteSlotName(name)} PHYSICAL ${options}`,
  );
  if (error === null) return true;
  if (error.sqlstate === SQLSTATE.duplicateObject) return false;
  const what = `the upstream did not create replication slot "${name}"`;
  const canHaveNone = error.sqlstate === SQLSTATE.objectNotInPrerequisiteState;
  throw upstreamError(what, error, canHaveNone ? NO_SLOTS_HINT : undefined);
}

async function readSlot(runner: CommandRunner, name: string): Promise<FoundSlot> {
  const outcome = await runner.run(`READ_REPLICATION_SLOT ${quoteSlotName(name)}`);
  if (outcome.error?.sqlstate === SQLSTATE.featureNotSupported) throw wrongType(name, 'logical');
  if (outcome.error !== null) {
    throw upstreamError(`the upstream did not read replication slot "${name}"`, outcome.error);
  }
  const answer = outcome.results.at(-1);
  const row = answer?.rows[0];
  if (answer?.rows.length !== 1 || row === undefined || row.length < 2) {
    throw invalidAnswer('READ_REPLICATION_SLOT', 'expected 1 row of 3 columns');
  }
  const type = valueText(row[0]);
  if (type === null) return 'missing';
  if (type !== 'physical') throw wrongType(name, type);
  const text = valueText(row[1]);
  const restartLsn = text === null ? INVALID_LSN : parseLsn(text);
  if (restartLsn === null) throw invalidAnswer('READ_REPLICATION_SLOT', `restart_lsn ${text}`);
  return { restartLsn };
}

function wrongType(name: string, type: string): OperationalError {
  return new OperationalError(
    SQLSTATE.objectNotInPrerequisiteState,
    `replication slot "${name}" of the upstream is a ${printable(type)} slot, not a physical one`,
    { isRetryable: true, hint: 'Give upstream.slot another name.' },
  );
}
