// Does a name match a regular expression of an access rule or of a map of names? PostgreSQL's "advanced" syntax, without
// what would need to go back in the text: no pattern, however it is written, takes longer than its size times the length
// of the name. As in a server to which nobody has connected yet no encoding is known: a character is a byte, so that `.` is
// half of an "ä". (src/backend/regex; hba.c:regcomp_auth_token, regexec_auth_token)
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

/** Where a pattern matched: what the first group took, as {@link bytesAsText} has it; null when it took no part. */
export interface NameMatch {
  readonly group: string | null;
}

/** Characters of a pattern at most. */
export const PATTERN_CHARACTERS_MAX = 1_000;

/** Bytes of a name that is looked at; a longer one matches no pattern. Names of users are cut to 63. */
export const MATCHED_NAME_BYTES_MAX = 1_000;

/** The bytes of a text, each of them a character. Two texts are the same when their bytes are. */
export function bytesAsText(text: string): string {
  return Buffer.from(text).toString('latin1');
}

/** Reads a pattern, without the slash before it; the problem is in PostgreSQL's words where it has any. */
export function readNamePattern(text: string): NamePattern | { readonly problem: string } {
  if (text.length > PATTERN_CHARACTERS_MAX) return { problem: 'regular expression is too complex' };
  try {
    const { root, groups, isGroupUnsure } = parsePattern(bytesAsText(text));
    return { text, program: compilePattern(root), hasGroup: groups > 0, isGroupUnsure };
  } catch (error) {
    if (error instanceof PatternError) return { problem: error.message };
    throw error;
  }
}

/** The leftmost longest match anywhere in `name`; null for none. */
export function matchName(pattern: NamePattern, name: string): NameMatch | null {
  const bytes = Buffer.from(name);
  if (bytes.length > MATCHED_NAME_BYTES_MAX) return null;
  const best = new Search(pattern.program, bytes).run();
  if (best === null) return null;
  const hasGroup = best.groupStart >= 0 && best.groupEnd >= 0;
  return { group: hasGroup ? bytes.toString('latin1', best.groupStart, best.groupEnd) : null };
}

/** Ways through the program: where each stands, and where its match and the first group begin and end. No place twice. */
class Threads {
  count = 0;
  readonly at: Int32Array;
  readonly start: Int32Array;
  readonly groupStart: Int32Array;
  readonly groupEnd: Int32Array;

  constructor(size: number) {
    this.at = new Int32Array(size);
    this.start = new Int32Array(size);
    this.groupStart = new Int32Array(size);
    this.groupEnd = new Int32Array(size);
  }

  push(at: number, start: number, group: { groupStart: number; groupEnd: number }): void {
    this.at[this.count] = at;
    this.start[this.count] = start;
    this.groupStart[this.count] = group.groupStart;
    this.groupEnd[this.count] = group.groupEnd;
    this.count += 1;
  }
}

interface Best {
  readonly start: number;
  readonly groupStart: number;
  readonly groupEnd: number;
}

const NO_GROUP = { groupStart: -1, groupEnd: -1 } as const;

/** All ways at once, a character at a time: those of higher preference first, no two at one place. */
class Search {
  readonly #program: readonly Instruction[];
  readonly #characters: Uint8Array;
  readonly #seen: Int32Array;
  #best: Best | null = null;

  constructor(program: readonly Instruction[], characters: Uint8Array) {
    this.#program = program;
    this.#characters = characters;
    this.#seen = new Int32Array(program.length).fill(-1);
  }

  run(): Best | null {
    let current = new Threads(this.#program.length);
    let next = new Threads(this.#program.length);
    const begun = new Threads(1);
    for (let position = 0; position <= this.#characters.length; position += 1) {
      next.count = 0;
      // Those under way began earlier, and are preferred.
      for (let index = 0; index < current.count; index += 1) {
        this.#follow(current.at[index] ?? 0, position, { from: current, index, found: next });
      }
      if (this.#best === null) {
        begun.count = 0;
        begun.push(0, position, NO_GROUP);
        this.#follow(0, position, { from: begun, index: 0, found: next });
      }
      this.#step(next, position);
      [current, next] = [next, current];
      if (current.count === 0 && this.#best !== null) break;
    }
    return this.#best;
  }

  /** Takes the character at `position`: ways that cannot are gone. */
  #step(threads: Threads, position: number): void {
    const character = this.#characters[position];
    const latest = this.#best?.start ?? Number.POSITIVE_INFINITY;
    const { at, start, groupStart, groupEnd } = threads;
    let kept = 0;
    for (let index = 0; index < threads.count; index += 1) {
      const place = at[index] ?? 0;
      const instruction = this.#program[place];
      const isLate = (start[index] ?? 0) > latest;
      if (character === undefined || isLate || instruction?.kind !== 'take') continue;
      if (!instruction.takes(character)) continue;
      at[kept] = place + 1;
      start[kept] = start[index] ?? 0;
      groupStart[kept] = groupStart[index] ?? 0;
      groupEnd[kept] = groupEnd[index] ?? 0;
      kept += 1;
    }
    threads.count = kept;
  }

  /** Goes on from `at` without taking a character, until every way stands before one. Preferred ways come first. */
  #follow(
    at: number,
    position: number,
    { from, index, found }: { from: Threads; index: number; found: Threads },
  ): void {
    const start = from.start[index] ?? 0;
    const begin = {
      groupStart: from.groupStart[index] ?? -1,
      groupEnd: from.groupEnd[index] ?? -1,
    };
    const waiting: { at: number; group: typeof begin }[] = [{ at, group: begin }];
    for (let now = waiting.pop(); now !== undefined; now = waiting.pop()) {
      let { at: place, group } = now;
      while (this.#seen[place] !== position) {
        this.#seen[place] = position;
        const instruction = this.#program[place];
        if (instruction === undefined) break;
        if (instruction.kind === 'take') {
          found.push(place, start, group);
          break;
        }
        if (instruction.kind === 'match') {
          // Of matches that begin at one place the longest counts, and it is found last.
          if (this.#best === null || this.#best.start === start) this.#best = { start, ...group };
          break;
        }
        if (instruction.kind === 'assert' && !this.#holds(instruction.holds, position)) break;
        if (instruction.kind === 'split') waiting.push({ at: instruction.other, group });
        if (instruction.kind === 'group') group = groupAt(group, instruction.isEnd, position);
        place = placeBehind(instruction, place);
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

function placeBehind(instruction: Instruction, place: number): number {
  if (instruction.kind === 'jump') return instruction.to;
  return instruction.kind === 'split' ? instruction.first : place + 1;
}

function groupAt(
  group: { groupStart: number; groupEnd: number },
  isEnd: boolean,
  position: number,
): { groupStart: number; groupEnd: number } {
  return isEnd
    ? { groupStart: group.groupStart, groupEnd: position }
    : { groupStart: position, groupEnd: -1 };
}
