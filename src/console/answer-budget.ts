// How much may one message to the console cost? What it looks at holds up the event loop for every standby, and its answers
// take memory until the client has read them.
import {
  CONSOLE_ANSWER_BYTES_MAX,
  CONSOLE_COLUMNS_MAX,
  CONSOLE_ROW_BYTES_MAX,
  CONSOLE_VALUES_MAX,
} from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { ConsoleError } from './console-error.ts';

/** What is left to the message that is being answered. All its statements share it. */
export class AnswerBudget {
  #values = 0;
  #bytes = 0;
  /** The most rows that one statement looked at: the bounds grow with the number of standbys. */
  #rows = 0;

  /** A message begins. */
  begin(): void {
    this.#values = 0;
    this.#bytes = 0;
    this.#rows = 0;
  }

  /**
   * `rows` rows are about to be looked at, and `width` values of each; `isGrowing`: there are as many as standbys or slots.
   * Throws ConsoleError 54000.
   */
  look(rows: number, width: number, isGrowing: boolean): void {
    if (isGrowing) this.#rows = Math.max(this.#rows, rows);
    this.#values += rows * width;
    if (this.#values > Math.max(CONSOLE_VALUES_MAX, this.#rows * CONSOLE_COLUMNS_MAX)) {
      throw tooLarge('one query may not ask for so many values here');
    }
  }

  /** A row of so many bytes is about to be answered. Throws ConsoleError 54000. */
  answer(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > Math.max(CONSOLE_ANSWER_BYTES_MAX, this.#rows * CONSOLE_ROW_BYTES_MAX)) {
      throw tooLarge('the answer of one query may not be so long here');
    }
  }
}

function tooLarge(message: string): ConsoleError {
  return new ConsoleError({ sqlstate: SQLSTATE.programLimitExceeded, message });
}
