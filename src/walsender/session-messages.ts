// Which messages, and how long ones, does a session take in each of its phases, and what does it say to others?
import { TUNNEL_MESSAGE_BYTES_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import {
  FRONTEND_DATA_LENGTH_MAX,
  FRONTEND_SMALL_LENGTH_MAX,
  frontendLengthMax,
  invalidFrontendType,
} from '../wire/frontend-messages.ts';
import type { CommandError } from '../wire/replication-command.ts';

/** Which part of the session incoming bytes belong to. */
export type SessionPhase = 'startup' | 'command' | 'stream' | 'tunnel' | 'console' | 'closed';

const LETTER_COPY_DATA = 0x64;
const LETTER_COPY_FAIL = 0x66;
/** CopyDone. */
export const LETTER_COPY_DONE = 0x63;
/** Terminate. */
export const LETTER_TERMINATE = 0x58;

/** Messages a standby may send while it is streamed to. */
const STREAMED: readonly number[] = [LETTER_COPY_DATA, LETTER_COPY_DONE, LETTER_TERMINATE];

/** Messages that go through a tunnel. */
export const TUNNELLED: readonly number[] = [LETTER_COPY_DATA, LETTER_COPY_DONE, LETTER_COPY_FAIL];

/** Query, Parse, Bind: what may be long on the console. */
const CONSOLE_LONG: ReadonlySet<number> = new Set([0x51, 0x50, 0x42]);

/** The longest length word a message of `type` may have; 0 = there is no such message in this phase. */
export function sessionLengthMax(phase: SessionPhase, type: number): number {
  if (phase === 'stream') return STREAMED.includes(type) ? frontendLengthMax(type) : 0;
  if (phase === 'console' && CONSOLE_LONG.has(type)) return FRONTEND_DATA_LENGTH_MAX;
  if (phase === 'console') return Math.min(frontendLengthMax(type), FRONTEND_SMALL_LENGTH_MAX);
  // Outside of a tunnel, too: what is under way when an upload fails is skipped, and has the size of an upload's pieces.
  if (type === LETTER_COPY_DATA) return TUNNEL_MESSAGE_BYTES_MAX;
  // In the middle of an answer nobody can be told that there is no such type: it waits, as every other message does.
  if (phase === 'tunnel') return frontendLengthMax(type) || FRONTEND_SMALL_LENGTH_MAX;
  return frontendLengthMax(type);
}

/**
 * What a message is refused with that does not belong into this phase, whatever its length. (walsender.c:ProcessRepliesIfAny,
 * postgres.c:SocketBackend)
 */
export function invalidMessageType(phase: SessionPhase, type: number): CommandError {
  // As in C, the text ends where a NUL stands for the letter.
  const letter = type === 0 ? '' : `${String.fromCharCode(type)}"`;
  return {
    sqlstate: SQLSTATE.protocolViolation,
    message:
      phase === 'stream' ? `invalid standby message type "${letter}` : invalidFrontendType(type),
  };
}

/** What a CancelRequest does to a statement. (postgres.c:ProcessInterrupts) */
export const USER_CANCEL: CommandError = {
  sqlstate: SQLSTATE.queryCanceled,
  message: 'canceling statement due to user request',
};
