// What does a message outside COPY call for? Pure: messages in, what to do out.
// (src/backend/tcop/postgres.c:PostgresMain, forbidden_in_wal_sender)
import type { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { CommandError } from '../wire/replication-command.ts';
import {
  FatalProtocolViolation,
  invalidFrontendType,
  malformedSync,
} from '../wire/frontend-messages.ts';
import type { FrontendMessage } from '../wire/frontend-messages.ts';

/** What to do with a message. */
export type CommandAction =
  | { readonly kind: 'none' }
  | { readonly kind: 'query'; readonly sql: string }
  | { readonly kind: 'ready' }
  /** ERROR; `isReady`: ReadyForQuery follows at once. */
  | { readonly kind: 'error'; readonly error: CommandError; readonly isReady: boolean }
  | { readonly kind: 'fatal'; readonly error: CommandError }
  | { readonly kind: 'terminate' };

const NONE: CommandAction = { kind: 'none' };

/** A session between commands. Remembers only whether it skips everything up to the next Sync. */
export class CommandPhase {
  #isSkippingToSync = false;

  onMessage(message: FrontendMessage): CommandAction {
    switch (message.type) {
      case 'Terminate':
        return { kind: 'terminate' };
      case 'Sync':
        this.#isSkippingToSync = false;
        return message.isWellFormed ? { kind: 'ready' } : this.onViolation(malformedSync());
      case 'PasswordOrSasl':
        return fatal(invalidFrontendType('p'.charCodeAt(0)));
      default:
        return this.#isSkippingToSync ? NONE : this.#onActive(message);
    }
  }

  /** A message that could not be read. */
  onViolation(violation: ProtocolViolation): CommandAction {
    if (violation instanceof FatalProtocolViolation) return fatal(violation.message);
    if (this.#isSkippingToSync) return NONE;
    return {
      kind: 'error',
      error: { sqlstate: violation.code, message: violation.message },
      isReady: true,
    };
  }

  #onActive(
    message: Exclude<FrontendMessage, { type: 'Terminate' | 'Sync' | 'PasswordOrSasl' }>,
  ): CommandAction {
    switch (message.type) {
      case 'Query':
        return { kind: 'query', sql: message.sql };
      case 'ExtendedQuery':
        // After an error in the extended protocol nothing is answered before Sync, not even with ReadyForQuery.
        this.#isSkippingToSync = true;
        return {
          kind: 'error',
          error: violation('extended query protocol not supported in a replication connection'),
          isReady: false,
        };
      case 'FunctionCall':
        return {
          kind: 'error',
          error: violation('fastpath function calls not supported in a replication connection'),
          isReady: true,
        };
      // What is left of a COPY that failed is ignored; so is Flush, we never hold anything back.
      case 'CopyData':
      case 'CopyDone':
      case 'CopyFail':
      case 'Flush':
        return NONE;
      default:
        return message satisfies never;
    }
  }
}

function violation(message: string): CommandError {
  return { sqlstate: SQLSTATE.protocolViolation, message };
}

function fatal(message: string): CommandAction {
  return { kind: 'fatal', error: violation(message) };
}
