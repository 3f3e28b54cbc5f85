// Which lines of a file of rules or maps are wrong, and is it more than is looked at?
import type { HbaLine } from './hba-tokens.ts';
import type { HbaWord } from './hba-words.ts';

/** What is wrong with one line. */
export interface HbaError {
  /** The file it stands in; empty when the text that was read has no name. */
  readonly source: string;
  readonly line: number;
  readonly text: string;
  readonly message: string;
}

/** Wrong lines that are told; what stands behind them is not looked at any more. */
const ERRORS_MAX = 100;

/** Steps of all patterns of a file: every connection may make all of them be matched. */
const PATTERN_STEPS_ALL_MAX = 10_000;

/** Has each line read; `read` says what is wrong with it, null for nothing. */
export function readLines(
  lines: readonly HbaLine[],
  read: (line: HbaLine) => string | null,
): HbaError[] {
  const errors: HbaError[] = [];
  for (const line of lines) {
    const message = read(line);
    if (message === null) continue;
    const { source, number, text } = line;
    errors.push({ source, line: number, text, message });
    if (errors.length >= ERRORS_MAX || message === TOO_COMPLEX) break;
  }
  return errors;
}

/** What all patterns of a file come to. */
export class PatternBudget {
  #left: number = PATTERN_STEPS_ALL_MAX;

  /** Null while it is no more than may be. */
  spend(words: readonly HbaWord[]): string | null {
    for (const { pattern } of words) this.#left -= pattern?.program.length ?? 0;
    return this.#left < 0 ? TOO_COMPLEX : null;
  }
}

const TOO_COMPLEX = 'regular expressions are too complex, all of them together';
