// Does a name match a regular expression of an access rule or of a map of names? PostgreSQL's "advanced" syntax, without
// what would need to go back in the text: no pattern, however it is written, takes longer than its size times the length
// of the name. (src/backend/regex; hba.c:regcomp_auth_token, regexec_auth_token)
import { compilePattern } from './name-pattern-program.ts';
import type { Instruction } from './name-pattern-program.ts';
import { parsePattern, PatternError } from './name-pattern-syntax.ts';

/** A pattern that can be matched. */
export interface NamePattern {
  readonly text: string;
  readonly program: readonly Instruction[];
  /** True when it has a first group. */
  readonly hasGroup: boolean;
  /** True when PostgreSQL may say that the first group took something else than we do. */
  readonly isGroupUnsure: boolean;
}

/** Where a pattern matched: what the first group took; null when it took no part. */
export interface NameMatch {
  readonly group: string | null;
}

/** Characters of a pattern at most. */
export const PATTERN_CHARACTERS_MAX = 1_000;

/** Characters of a name that is looked at; a longer one matches no pattern. Names of users are cut to 63 bytes. */
export const MATCHED_NAME_CHARACTERS_MAX = 1_000;

/** Reads a pattern, without the slash before it; the problem is in PostgreSQL's words where it has any. */
export function readNamePattern(text: string): NamePattern | { readonly problem: string } {
  if (text.length > PATTERN_CHARACTERS_MAX) return { problem: 'regular expression is too complex' };
  try {
    const { root, groups, isGroupUnsure } = parsePattern(text);
    return { text, program: compilePattern(root), hasGroup: groups > 0, isGroupUnsure };
  } catch (error) {
    if (error instanceof PatternError) return { problem: error.message };
    throw error;
  }
}

/** One way through the program: where it stands, and where its match and the first group begin and end. */
interface Thread {
  readonly at: number;
  readonly start: number;
  readonly groupStart: number;
  readonly groupEnd: number;
}

/** The leftmost longest match anywhere in `name`; null for none. */
export function matchName(pattern: NamePattern, name: string): NameMatch | null {
  const characters = Array.from(name, (character) => character.codePointAt(0) ?? 0);
  if (characters.length > MATCHED_NAME_CHARACTERS_MAX) return null;
  const search = new Search(pattern.program, characters);
  const best = search.run();
  if (best === null) return null;
  const hasGroup = best.groupStart >= 0 && best.groupEnd >= 0;
  const group = hasGroup
    ? String.fromCodePoint(...characters.slice(best.groupStart, best.groupEnd))
    : null;
  return { group };
}

/** All ways at once, a character at a time: those of higher preference first, no two at one place. */
class Search {
  readonly #program: readonly Instruction[];
  readonly #characters: readonly number[];
  readonly #seen: Int32Array;
  #best: Thread | null = null;

  constructor(program: readonly Instruction[], characters: readonly number[]) {
    this.#program = program;
    this.#characters = characters;
    this.#seen = new Int32Array(program.length).fill(-1);
  }

  run(): Thread | null {
    let current: Thread[] = [];
    for (let position = 0; position <= this.#characters.length; position += 1) {
      const next: Thread[] = [];
      // Those under way began earlier, and are preferred.
      for (const thread of current) this.#follow(thread, position, next);
      if (this.#best === null) {
        this.#follow({ at: 0, start: position, groupStart: -1, groupEnd: -1 }, position, next);
      }
      current = this.#step(next, position);
      if (current.length === 0 && this.#best !== null) break;
    }
    return this.#best;
  }

  /** Where the threads are once they have taken the character at `position`. */
  #step(threads: readonly Thread[], position: number): Thread[] {
    const character = this.#characters[position];
    if (character === undefined) return [];
    const best = this.#best;
    return threads.flatMap((thread) => {
      const instruction = this.#program[thread.at];
      const isLate = best !== null && thread.start > best.start;
      const takes = instruction?.kind === 'take' && instruction.takes(character);
      return !isLate && takes ? [{ ...thread, at: thread.at + 1 }] : [];
    });
  }

  /** Goes on from `thread` without taking a character, until every way stands before one. */
  #follow(thread: Thread, position: number, found: Thread[]): void {
    const waiting: Thread[] = [thread];
    for (let now = waiting.pop(); now !== undefined; now = waiting.pop()) {
      if (this.#seen[now.at] === position) continue;
      this.#seen[now.at] = position;
      const instruction = this.#program[now.at];
      if (instruction === undefined) continue;
      switch (instruction.kind) {
        case 'take':
          found.push(now);
          break;
        case 'match':
          // Of matches that begin at one place the longest counts, and it is found last.
          if (this.#best === null || this.#best.start === now.start) this.#best = now;
          break;
        case 'jump':
          waiting.push({ ...now, at: instruction.to });
          break;
        case 'split':
          waiting.push({ ...now, at: instruction.other }, { ...now, at: instruction.first });
          break;
        case 'group':
          waiting.push(
            instruction.isEnd
              ? { ...now, at: now.at + 1, groupEnd: position }
              : { ...now, at: now.at + 1, groupStart: position, groupEnd: -1 },
          );
          break;
        case 'assert':
          if (this.#holds(instruction.holds, position)) waiting.push({ ...now, at: now.at + 1 });
          break;
      }
    }
  }

  #holds(
    holds: (before: number | null, after: number | null) => boolean,
    position: number,
  ): boolean {
    return holds(this.#characters[position - 1] ?? null, this.#characters[position] ?? null);
  }
}
