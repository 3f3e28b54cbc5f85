// Which code carries out a command? (walsender.c:exec_replication_command)
import { assertNever } from '../../base/errors.ts';
import type { ReplicationCommand } from '../../wire/replication-command.ts';
import { failed } from './command.ts';
import type { CommandContext, CommandOutcome } from './command.ts';
import { identifySystem } from './identify-system.ts';
import {
  alterReplicationSlot,
  createReplicationSlot,
  dropReplicationSlot,
  readReplicationSlot,
} from './replication-slots.ts';
import { show } from './show.ts';
import { startReplication } from './start-replication.ts';
import { timelineHistory } from './timeline-history.ts';

/** Runs one command. A promise only where something has to be waited for; `signal` ends a wait for other sessions. */
export function runCommand(
  command: ReplicationCommand,
  context: CommandContext,
  signal: AbortSignal,
): CommandOutcome | Promise<CommandOutcome> {
  switch (command.type) {
    case 'IDENTIFY_SYSTEM':
      return identifySystem(context);
    case 'SHOW':
      return show(command.name, context);
    case 'TIMELINE_HISTORY':
      return timelineHistory(command.timeline, context);
    case 'READ_REPLICATION_SLOT':
      return readReplicationSlot(command, context);
    case 'CREATE_REPLICATION_SLOT':
      return createReplicationSlot(command, context);
    case 'DROP_REPLICATION_SLOT':
      return dropReplicationSlot(command, context, signal);
    case 'ALTER_REPLICATION_SLOT':
      return alterReplicationSlot(command, context);
    case 'START_REPLICATION':
      return startReplication(command, context, signal);
    case 'BASE_BACKUP':
    case 'UPLOAD_MANIFEST': {
      const refusal = context.refusalToStay(null);
      return refusal === null ? { kind: 'tunnel', command: command.type } : failed(refusal);
    }
    default:
      return assertNever(command, 'replication command');
  }
}
