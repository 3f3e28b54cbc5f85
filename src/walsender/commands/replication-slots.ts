// READ_, CREATE_, DROP_ and ALTER_REPLICATION_SLOT: physical slots only. (walsender.c)
import { formatLsn, INVALID_LSN } from '../../pg/lsn.ts';
import { SQLSTATE } from '../../pg/sqlstate.ts';
import { timelineOfLsn } from '../../pg/timeline.ts';
import {
  encodeCommandComplete,
  encodeDataRow,
  encodeRowDescription,
  int8Column,
  textColumn,
} from '../../wire/backend-messages.ts';
import type { ReplicationCommand } from '../../wire/replication-command.ts';
import type { SlotPosition } from '../ports.ts';
import { done, failed, logicalRefusal } from './command.ts';
import type { CommandContext, CommandOutcome } from './command.ts';

type CommandOf<T extends ReplicationCommand['type']> = Extract<ReplicationCommand, { type: T }>;

/** One row; of NULLs for a slot that does not exist, which is no error. */
export function readReplicationSlot(
  command: CommandOf<'READ_REPLICATION_SLOT'>,
  context: CommandContext,
): CommandOutcome {
  const slot = context.slots.read(command.slot);
  const row = slot === null ? [null, null, null] : ['physical', ...restartOf(slot, context)];
  return done(
    encodeRowDescription([
      textColumn('slot_type'),
      textColumn('restart_lsn'),
      int8Column('restart_tli'),
    ]),
    encodeDataRow(row),
    encodeCommandComplete('READ_REPLICATION_SLOT'),
  );
}

/** Where the slot's WAL begins, and the timeline that place lies on. (walsender.c: tliOfPointInHistory) */
function restartOf({ restartLsn }: SlotPosition, context: CommandContext): (string | null)[] {
  if (restartLsn === INVALID_LSN) return [null, null];
  const timeline = timelineOfLsn(context.feed.history(), restartLsn);
  return [formatLsn(restartLsn, context.identity.facts.padsLsnText), String(timeline)];
}

/** A physical slot has no consistent point, no snapshot and no plugin. */
export async function createReplicationSlot(
  command: CommandOf<'CREATE_REPLICATION_SLOT'>,
  context: CommandContext,
): Promise<CommandOutcome> {
  if (command.kind === 'logical') return failed(logicalRefusal(context.identity));
  const refusal = await context.slots.create({
    name: command.slot,
    temporary: command.temporary,
    reserveWal: command.reserveWal,
    pid: context.pid,
  });
  if (refusal !== null) return failed(refusal);
  const zero = formatLsn(INVALID_LSN, context.identity.facts.padsLsnText);
  return done(
    encodeRowDescription([
      textColumn('slot_name'),
      textColumn('consistent_point'),
      textColumn('snapshot_name'),
      textColumn('output_plugin'),
    ]),
    encodeDataRow([command.slot, zero, null, null]),
    encodeCommandComplete('CREATE_REPLICATION_SLOT'),
  );
}

/** With WAIT a slot in use is waited for, until `signal` says otherwise. */
export async function dropReplicationSlot(
  command: CommandOf<'DROP_REPLICATION_SLOT'>,
  context: CommandContext,
  signal: AbortSignal,
): Promise<CommandOutcome> {
  const { slot, wait } = command;
  const refusal = await context.slots.drop(slot, { wait, pid: context.pid, signal });
  return refusal === null ? done(encodeCommandComplete('DROP_REPLICATION_SLOT')) : failed(refusal);
}

/** All of its options are for logical slots. (slot.c:ReplicationSlotAlter) */
export function alterReplicationSlot(
  command: CommandOf<'ALTER_REPLICATION_SLOT'>,
  context: CommandContext,
): CommandOutcome {
  const refusal = context.slots.acquire(command.slot, context.pid);
  if (refusal !== null) return failed(refusal);
  context.slots.release(command.slot, context.pid);
  return failed({
    sqlstate: SQLSTATE.featureNotSupported,
    message: 'cannot use ALTER_REPLICATION_SLOT with a physical replication slot',
  });
}
