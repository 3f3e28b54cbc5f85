// START_REPLICATION: from the command to CopyBothResponse, or to the answer that there is nothing left on that timeline.
// (walsender.c:StartReplication)
import { formatLsn, INVALID_LSN } from '../../pg/lsn.ts';
import { SQLSTATE } from '../../pg/sqlstate.ts';
import type { VersionFacts } from '../../pg/server-version.ts';
import {
  encodeCommandComplete,
  encodeDataRow,
  encodeRowDescription,
  int8Column,
  textColumn,
} from '../../wire/backend-messages.ts';
import type { CommandError, ReplicationCommand } from '../../wire/replication-command.ts';
import { USER_CANCEL } from '../session-messages.ts';
import { planStream } from '../stream-plan.ts';
import type { TimelineEnd } from '../stream-plan.ts';
import { done, failed, logicalRefusal } from './command.ts';
import type { CommandContext, CommandOutcome } from './command.ts';

type StartCommand = Extract<ReplicationCommand, { type: 'START_REPLICATION'; kind: 'physical' }>;

/**
 * The slot stays acquired when the outcome is a stream, and only then. A promise only where a slot is made first, or where
 * its holder is asked whether it lives; `signal` ends that wait.
 */
export function startReplication(
  command: Extract<ReplicationCommand, { type: 'START_REPLICATION' }>,
  context: CommandContext,
  signal: AbortSignal,
): CommandOutcome | Promise<CommandOutcome> {
  if (command.kind === 'logical') return failed(logicalRefusal(context.identity));
  if (context.isPaused()) return failed(PAUSED);
  const { slot, startLsn } = command;
  const refusalToStay = context.refusalToStay(slot);
  if (refusalToStay !== null) return failed(refusalToStay);
  const creating = slot === null ? null : context.slots.createForStart(slot, startLsn);
  if (creating === null) return takeSlot(command, context, signal);
  return creating.then((refusal) =>
    refusal === null ? takeSlot(command, context, signal) : failed(refusal),
  );
}

const PAUSED: CommandError = {
  sqlstate: SQLSTATE.objectNotInPrerequisiteState,
  message: 'walcast is paused: no new replication is started',
  hint: 'Try again after RESUME.',
};

/** Once the holder of the slot is known to be gone, what the slot says next is the answer. */
function takeSlot(
  command: StartCommand,
  context: CommandContext,
  signal: AbortSignal,
): CommandOutcome | Promise<CommandOutcome> {
  const { slot } = command;
  const outcome = beginStream(command, context);
  const isInUse = outcome.kind === 'error' && outcome.error.sqlstate === SQLSTATE.objectInUse;
  const asking = slot !== null && isInUse ? context.takeOver(slot, signal) : null;
  if (asking === null) return outcome;
  return asking.then((isFree) => {
    if (signal.aborted) return failed(USER_CANCEL);
    if (context.isPaused()) return failed(PAUSED);
    return isFree ? beginStream(command, context) : outcome;
  });
}

function beginStream(command: StartCommand, context: CommandContext): CommandOutcome {
  const { slot, startLsn } = command;
  const { slots, pid, feed, identity } = context;
  const plan = planStream(command, feed.history(), identity.facts);
  // Who finds nothing left there comes back for the next timeline: it is no other use of a lost slot than a stream is.
  const wantedLsn = plan.kind === 'refused' ? INVALID_LSN : startLsn;
  const refusal = slot === null ? null : slots.acquire(slot, pid, wantedLsn);
  if (refusal !== null) return failed(refusal);
  if (plan.kind === 'stream') {
    return { kind: 'stream', timeline: plan.timeline, startLsn, end: plan.end, slot };
  }
  if (slot !== null) slots.release(slot, pid);
  return plan.kind === 'refused'
    ? failed(plan.error)
    : done(...streamEndFrames(plan.end, identity.facts));
}

/**
 * What follows the end of a COPY: the next timeline and where it begins when this one is historic, then two
 * CommandCompletes, as receivers count on.
 */
export function streamEndFrames(end: TimelineEnd | null, facts: VersionFacts): Uint8Array[] {
  const frames: Uint8Array[] = [];
  if (end !== null) {
    frames.push(
      encodeRowDescription([int8Column('next_tli'), textColumn('next_tli_startpos')]),
      encodeDataRow([String(end.nextTimeline), formatLsn(end.endLsn, facts.padsLsnText)]),
    );
  }
  frames.push(encodeCommandComplete('START_STREAMING'), encodeCommandComplete('START_REPLICATION'));
  return frames;
}
