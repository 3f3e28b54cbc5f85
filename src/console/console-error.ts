// What is a statement refused with?
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { CommandError } from '../wire/replication-command.ts';

/** Where people find what there is. */
export const CONSOLE_HINT = 'SHOW HELP lists what the console understands.';

/** Ends a statement with an ERROR; the session goes on. Never leaves this room. */
export class ConsoleError extends Error {
  readonly fields: CommandError;

  constructor(fields: CommandError) {
    super(fields.message);
    this.fields = fields;
  }
}

/** 0A000 for everything that a server would do and the console does not; `detail` says what it was. */
export function notSupported(detail: string): ConsoleError {
  return new ConsoleError({
    sqlstate: SQLSTATE.featureNotSupported,
    message: "this statement is not supported by walcast's console",
    detail,
    hint: CONSOLE_HINT,
  });
}
