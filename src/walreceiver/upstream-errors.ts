// What is said when the upstream refuses or fails: an ErrorResponse with its own text and SQLSTATE, and what to do next.
import { withoutControls } from '../base/controls.ts';
import { OperationalError } from '../base/errors.ts';
import { UPSTREAM_TEXT_CHARACTERS_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { ReceivedError } from '../wire/upstream-messages.ts';

const HINTS: ReadonlyMap<string, string> = new Map([
  [
    SQLSTATE.invalidPassword,
    'Check user and password of upstream.conninfo; walcast tries again by itself.',
  ],
  [
    SQLSTATE.invalidAuthorizationSpecification,
    "Add a line to the upstream's pg_hba.conf, such as: host replication <user> <this host>/32 scram-sha-256",
  ],
  [
    SQLSTATE.insufficientPrivilege,
    'Give the role the REPLICATION attribute: ALTER ROLE <user> REPLICATION.',
  ],
  [
    SQLSTATE.tooManyConnections,
    'Raise max_wal_senders (or max_connections) on the upstream; replication needs wal_level=replica or logical there.',
  ],
  [
    SQLSTATE.configurationLimitExceeded,
    'Raise max_replication_slots on the upstream, drop a slot nobody uses, or set upstream.slot to "".',
  ],
  [
    SQLSTATE.objectInUse,
    'Another session holds the slot: a second walcast with the same slot name, or our own last session until its wal_sender_timeout ends.',
  ],
  [
    SQLSTATE.objectNotInPrerequisiteState,
    'Give upstream.slot another name, or drop the slot of that name on the upstream.',
  ],
  [
    SQLSTATE.cannotConnectNow,
    'The server is starting, stopping or recovering; walcast tries again.',
  ],
]);

/**
 * An {@link OperationalError} whose code is the server's SQLSTATE. Always retryable: what a server refuses now, somebody
 * may allow there later. `what` is the beginning of the sentence; `nextStep` is for a code that says too little alone.
 */
export function upstreamError(
  what: string,
  fields: ReceivedError,
  nextStep?: string,
): OperationalError {
  const detail = fields.detail === null ? '' : ` (${printable(fields.detail)})`;
  const hint =
    nextStep ??
    HINTS.get(fields.sqlstate) ??
    (fields.hint === null ? undefined : printable(fields.hint));
  return new OperationalError(
    fields.sqlstate,
    `${what}: ${printable(fields.message)}${detail} [SQLSTATE ${printable(fields.sqlstate)}]`,
    { isRetryable: true, ...(hint === undefined ? {} : { hint }) },
  );
}

/** A peer's text for our own messages: one line, bounded, without control characters. */
export function printable(text: string): string {
  return withoutControls(text.slice(0, UPSTREAM_TEXT_CHARACTERS_MAX));
}

/** The server ended the stream with COPY 0 (walsender.c:WalSndDone). */
export function serverShutdown(): OperationalError {
  return new OperationalError(
    'UPSTREAM_SHUTDOWN',
    'the upstream ended the stream because it is shutting down',
    { isRetryable: true },
  );
}

/** See stopping-standby.ts. */
export function standbyShutdown(): OperationalError {
  return new OperationalError(
    'UPSTREAM_SHUTDOWN',
    'the upstream, a standby, is shutting down, and would wait for ever to have its last WAL confirmed',
    { isRetryable: true },
  );
}

/** What a server said behind the last byte of a timeline makes no sense. */
export function badTimelineEnd(timeline: TimelineId, why: string): OperationalError {
  return new OperationalError(
    'INVALID_UPSTREAM_ANSWER',
    `invalid answer of the upstream at the end of timeline ${timeline}: ${printable(why)}`,
    { isRetryable: true },
  );
}

/** A drain keeps the end of WAL where it is. */
export function endedWhileStopping(timeline: TimelineId): OperationalError {
  return new OperationalError(
    'UPSTREAM_TIMELINE_END',
    `the upstream ended timeline ${timeline}; walcast is stopping and follows after its next start`,
    { isRetryable: true },
  );
}

/** Nothing came for `timeoutMs`. */
export function silence(timeoutMs: number): OperationalError {
  return new OperationalError(
    'UPSTREAM_TIMEOUT',
    `terminating the stream: nothing came from the upstream for ${timeoutMs} ms (wal_receiver_timeout)`,
    { isRetryable: true },
  );
}
