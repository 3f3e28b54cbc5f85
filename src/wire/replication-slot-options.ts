// May these options be given to a replication slot, and what do they mean? Checked after the grammar, as the server does.
// (src/backend/replication/walsender.c: parseCreateReplSlotOptions, ParseAlterReplSlotOptions; commands/define.c)
import type { VersionFacts } from '../pg/server-version.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { CommandRefusal, syntaxError } from './replication-scanner.ts';

/** What was written behind an option's name: a word or text, a number, or nothing. */
export interface SlotOptionValue {
  readonly text: string | null;
  readonly number: number | null;
}

/** One option, its name as the server folds it. */
export interface SlotOption {
  readonly name: string;
  readonly value: SlotOptionValue;
}

/** Nothing was written behind the name. */
export const NO_VALUE: SlotOptionValue = { text: null, number: null };

const SNAPSHOT_ACTIONS = ['export', 'nothing', 'use'];

/** Checks the options of CREATE_REPLICATION_SLOT; returns whether WAL is to be reserved at once. */
export function checkSlotOptions(
  options: readonly SlotOption[],
  kind: 'physical' | 'logical',
  facts: VersionFacts,
): boolean {
  let reserveWal = false;
  const seen = new Set<string>();
  for (const { name, value } of options) {
    const kindOfOption = slotOptionKind(name, facts);
    if (seen.has(name) || kindOfOption !== kind)
      throw syntaxError('conflicting or redundant options');
    seen.add(name);
    if (name === 'snapshot') checkSnapshotAction(value);
    else if (name === 'reserve_wal') reserveWal = booleanOf(name, value);
    else booleanOf(name, value);
  }
  return reserveWal;
}

function slotOptionKind(name: string, facts: VersionFacts): 'physical' | 'logical' {
  if (name === 'reserve_wal') return 'physical';
  if (name === 'snapshot' || name === 'two_phase') return 'logical';
  if (name === 'failover' && facts.hasAlterReplicationSlot) return 'logical';
  throw unrecognizedOption(name);
}

function checkSnapshotAction(value: SlotOptionValue): void {
  const action = value.number === null ? value.text : String(value.number);
  if (action === null) throw syntaxError('snapshot requires a parameter');
  if (SNAPSHOT_ACTIONS.includes(action)) return;
  throw new CommandRefusal({
    sqlstate: SQLSTATE.invalidParameterValue,
    message: `unrecognized value for CREATE_REPLICATION_SLOT option "snapshot": "${action}"`,
  });
}

/** Checks the options of ALTER_REPLICATION_SLOT. */
export function checkAlterOptions(options: readonly SlotOption[], facts: VersionFacts): void {
  const seen = new Set<string>();
  for (const { name, value } of options) {
    const isKnown = name === 'failover' || (name === 'two_phase' && facts.altersTwoPhase);
    if (!isKnown) throw unrecognizedOption(name);
    if (seen.has(name)) throw syntaxError('conflicting or redundant options');
    seen.add(name);
    booleanOf(name, value);
  }
}

/** defGetBoolean: no value means true. */
function booleanOf(name: string, value: SlotOptionValue): boolean {
  if (value === NO_VALUE) return true;
  if (value.number === 0 || value.number === 1) return value.number === 1;
  const text = value.text?.toLowerCase();
  if (text === 'true' || text === 'on') return true;
  if (text === 'false' || text === 'off') return false;
  throw syntaxError(`${name} requires a Boolean value`);
}

function unrecognizedOption(name: string): CommandRefusal {
  return new CommandRefusal({
    sqlstate: SQLSTATE.internalError,
    message: `unrecognized option: ${name}`,
  });
}
