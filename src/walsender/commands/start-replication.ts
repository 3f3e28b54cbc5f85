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
import type { ReplicationCommand } from '../../wire/replication-command.ts';
import { planStream } from '../stream-plan.ts';
import type { TimelineEnd } from '../stream-plan.ts';
import { done, failed, logicalRefusal } from './command.ts';
import type { CommandContext, CommandOutcome } from './command.ts';

/** The slot stays acquired when the outcome is a stream, and only then. A promise only where a slot is made first. */
export function startReplication(
  command: Extract<ReplicationCommand, { type: 'START_REPLICATION' }>,
  context: CommandContext,
): CommandOutcome | Promise<CommandOutcome> {
  if (command.kind === 'logical') return failed(logicalRefusal(context.identity));
  if (context.isPaused) {
    return failed({
      sqlstate: SQLSTATE.objectNotInPrerequisiteState,
      message: 'walcast is paused: no new replication is started',
      hint: 'Try again after RESUME.',
    });
  }
  const { slot, startLsn } = command;
  const creating = slot === null ? null : context.slots.createForStart(slot, startLsn);
  if (creating === null) return beginStream(command, context);
  return creating.then((refusal) =>
    refusal === null ? beginStream(command, context) : failed(refusal),
  );
}

function beginStream(
  command: Extract<ReplicationCommand, { type: 'START_REPLICATION'; kind: 'physical' }>,
  context: CommandContext,
): CommandOutcome {
  const { slot, startLsn } = command;
  const { slots, pid, feed, identity } = context;
  const plan = planStream(command, feed.history(), identity.facts);
  const wantedLsn = plan.kind === 'stream' ? startLsn : INVALID_LSN;
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
