// What does a regular expression say? PostgreSQL's "advanced" syntax in the C locale, without back references, looking
// ahead or behind, and embedded options: those are refused. (src/backend/regex/regcomp.c, regc_lex.c, regerrs.h)
import { CLASSES, isSpace, isWord, readCharacterEscape } from './name-pattern-characters.ts';
import type { CharacterTest } from './name-pattern-characters.ts';

/** Part of a pattern. */
export type PatternNode =
  | { readonly kind: 'take'; readonly takes: CharacterTest }
  | {
      readonly kind: 'assert';
      readonly holds: (before: number | null, after: number | null) => boolean;
    }
  | { readonly kind: 'sequence'; readonly parts: readonly PatternNode[] }
  | { readonly kind: 'either'; readonly branches: readonly PatternNode[] }
  | { readonly kind: 'group'; readonly inner: PatternNode; readonly isFirst: boolean }
  | {
      readonly kind: 'repeat';
      readonly inner: PatternNode;
      readonly least: number;
      /** Null: without an end. */
      readonly most: number | null;
      readonly isGreedy: boolean;
    };

/** Why a text is no pattern, in the words of regerrs.h where they fit. */
export class PatternError extends Error {}

/** Repetitions that can be asked for. (DUPMAX) */
const REPETITIONS_MAX = 255;

/** Groups within groups. */
const DEPTH_MAX = 50;

/** A pattern taken apart. */
export interface ParsedPattern {
  readonly root: PatternNode;
  readonly groups: number;
  /**
   * The first group is repeated, or some quantifier prefers the least: what the group takes of a name is then for more
   * rules to say than are kept here.
   */
  readonly isGroupUnsure: boolean;
}

/** Takes a pattern apart. Throws {@link PatternError}. */
export function parsePattern(text: string): ParsedPattern {
  return new PatternParser(text).parse();
}

class PatternParser {
  readonly #characters: readonly string[];
  #position = 0;
  #groups = 0;
  #depth = 0;
  #isGroupUnsure = false;

  constructor(text: string) {
    this.#characters = Array.from(text);
  }

  parse(): ParsedPattern {
    if (this.#looksAt('***')) {
      if (this.#looksAt('***=')) return { root: this.#literal(), groups: 0, isGroupUnsure: false };
      if (!this.#looksAt('***:')) throw new PatternError('quantifier operand invalid');
      this.#position += 4;
    }
    if (/^\(\?[A-Za-z]/.test(this.#rest()))
      throw new PatternError('embedded options cannot be used');
    const root = this.#either();
    if (this.#position < this.#characters.length) {
      throw new PatternError('parentheses () not balanced');
    }
    return { root, groups: this.#groups, isGroupUnsure: this.#isGroupUnsure };
  }

  /** All that follows the director stands for itself. */
  #literal(): PatternNode {
    const parts = this.#characters.slice(4).map((character) => takeOnly(codeOf(character)));
    return { kind: 'sequence', parts };
  }

  #either(): PatternNode {
    const branches = [this.#sequence()];
    while (this.#next() === '|') {
      this.#position += 1;
      branches.push(this.#sequence());
    }
    const [only] = branches;
    return branches.length === 1 && only !== undefined ? only : { kind: 'either', branches };
  }

  #sequence(): PatternNode {
    const parts: PatternNode[] = [];
    for (;;) {
      const character = this.#next();
      if (character === null || character === '|' || character === ')') break;
      const hasFirstGroup = this.#groups > 0;
      const atom = this.#atom(character);
      const node = this.#quantified(atom);
      if (node !== atom && !hasFirstGroup && this.#groups > 0) this.#isGroupUnsure = true;
      parts.push(node);
    }
    return { kind: 'sequence', parts };
  }

  #atom(character: string): PatternNode {
    this.#position += 1;
    switch (character) {
      case '(':
        return this.#group();
      case '[':
        return this.#bracketOrWordEdge();
      case '.':
        return { kind: 'take', takes: () => true };
      case '^':
        return { kind: 'assert', holds: (before) => before === null };
      case '$':
        return { kind: 'assert', holds: (_before, after) => after === null };
      case '\\':
        return this.#escape();
      case '*':
      case '+':
      case '?':
        throw new PatternError('quantifier operand invalid');
      case '{':
        if (/^\d/.test(this.#rest())) throw new PatternError('quantifier operand invalid');
        return takeOnly(codeOf(character));
      default:
        return takeOnly(codeOf(character));
    }
  }

  #group(): PatternNode {
    const isPlain = this.#next() !== '?';
    if (!isPlain) {
      if (!this.#looksAt('?:')) {
        const isLook = /^\?(?:[=!]|<[=!])/.test(this.#rest());
        throw new PatternError(
          isLook ? 'looking ahead or behind cannot be used' : 'quantifier operand invalid',
        );
      }
      this.#position += 2;
    }
    if (isPlain) this.#groups += 1;
    const isFirst = isPlain && this.#groups === 1;
    this.#depth += 1;
    if (this.#depth > DEPTH_MAX) throw new PatternError('regular expression is too complex');
    const inner = this.#either();
    this.#depth -= 1;
    if (this.#next() !== ')') throw new PatternError('parentheses () not balanced');
    this.#position += 1;
    return { kind: 'group', inner, isFirst };
  }

  #quantified(atom: PatternNode): PatternNode {
    const range = atom.kind === 'assert' ? null : this.#quantifier();
    let node = atom;
    if (range !== null) {
      const isGreedy = this.#next() !== '?';
      if (!isGreedy) {
        this.#position += 1;
        this.#isGroupUnsure = true;
      }
      node = { kind: 'repeat', inner: atom, ...range, isGreedy };
    }
    // Whatever it says, a second one has nothing to repeat.
    const isAgain =
      (atom.kind === 'assert' || range !== null) && /^(?:[*+?]|\{\d)/.test(this.#rest());
    if (isAgain) throw new PatternError('quantifier operand invalid');
    return node;
  }

  #quantifier(): { least: number; most: number | null } | null {
    const character = this.#next();
    if (character === '*' || character === '+' || character === '?') {
      this.#position += 1;
      return { least: character === '+' ? 1 : 0, most: character === '?' ? 1 : null };
    }
    if (character !== '{' || !/^\{\d/.test(this.#rest())) return null;
    const match = /^\{(\d+)(,(\d*))?/.exec(this.#rest());
    const [whole = '', leastText = '', comma, mostText = ''] = match ?? [];
    const least = Number(leastText);
    const most = comma === undefined ? least : mostText === '' ? null : Number(mostText);
    if (least > REPETITIONS_MAX || (most !== null && (most > REPETITIONS_MAX || most < least))) {
      throw new PatternError('invalid repetition count(s)');
    }
    this.#position += whole.length;
    if (this.#next() === null) throw new PatternError('braces {} not balanced');
    if (this.#next() !== '}') throw new PatternError('invalid repetition count(s)');
    this.#position += 1;
    return { least, most };
  }

  #escape(): PatternNode {
    const character = this.#next();
    if (character === null) throw new PatternError('invalid escape \\ sequence');
    const shorthand = SHORTHANDS.get(character);
    if (shorthand !== undefined) {
      this.#position += 1;
      return { kind: 'take', takes: shorthand };
    }
    const edge = EDGES.get(character);
    if (edge !== undefined) {
      this.#position += 1;
      return { kind: 'assert', holds: edge };
    }
    const number = /^[1-9]\d*/.exec(this.#rest())?.[0];
    // Several digits that name no group are an octal number.
    if (number !== undefined && (number.length === 1 || Number(number) <= this.#groups)) {
      throw new PatternError('back references cannot be used');
    }
    return takeOnly(this.#characterEscape());
  }

  /** The character that what follows a backslash stands for. */
  #characterEscape(): number {
    const escape = readCharacterEscape(this.#rest());
    if (escape === null) throw new PatternError('invalid escape \\ sequence');
    this.#position += escape.length;
    return escape.code;
  }

  #bracketOrWordEdge(): PatternNode {
    for (const [word, holds] of BRACKET_EDGES) {
      if (!this.#looksAt(word)) continue;
      this.#position += Array.from(word).length;
      return { kind: 'assert', holds };
    }
    return { kind: 'take', takes: this.#bracket() };
  }

  #bracket(): CharacterTest {
    const isNegated = this.#next() === '^';
    if (isNegated) this.#position += 1;
    const tests: CharacterTest[] = [];
    for (let isFirst = true; isFirst || this.#next() !== ']'; isFirst = false) {
      tests.push(this.#bracketItem(isFirst));
    }
    this.#position += 1;
    return rememberLast((code) => tests.some((test) => test(code)) !== isNegated);
  }

  #bracketItem(isFirst: boolean): CharacterTest {
    const special = this.#bracketSpecial();
    if (special !== null) return special;
    const from = this.#bracketEnd(isFirst);
    if (this.#next() !== '-' || this.#looksAt('-]')) return (code) => code === from;
    this.#position += 1;
    if (this.#next() === '[' && /^\[[:=]/.test(this.#rest())) {
      throw new PatternError('invalid character range');
    }
    const to = this.#bracketEnd(true);
    if (to < from) throw new PatternError('invalid character range');
    return (code) => code >= from && code <= to;
  }

  /** A class, or an escape that stands for one; null for a single character. */
  #bracketSpecial(): CharacterTest | null {
    const rest = this.#rest();
    const named = /^\[([:=])(.*?)\1\]/s.exec(rest);
    if (named !== null) {
      this.#position += Array.from(named[0]).length;
      return named[1] === ':' ? classTest(named[2] ?? '') : equivalents(named[2] ?? '');
    }
    if (/^\[[:=]/.test(rest)) {
      throw new PatternError('brackets [] not balanced');
    }
    const shorthand = rest.startsWith('\\')
      ? SHORTHANDS.get(this.#characters[this.#position + 1] ?? '')
      : undefined;
    if (shorthand === undefined) return null;
    this.#position += 2;
    return shorthand;
  }

  #bracketEnd(canBeBracket: boolean): number {
    const character = this.#next();
    if (character === null) throw new PatternError('brackets [] not balanced');
    const collating = /^\[\.(.*?)\.\]/s.exec(this.#rest());
    if (collating !== null) {
      const element = Array.from(collating[1] ?? '');
      if (element.length !== 1) throw new PatternError('invalid collating element');
      this.#position += Array.from(collating[0]).length;
      return codeOf(element[0] ?? '');
    }
    if (this.#looksAt('[.')) throw new PatternError('brackets [] not balanced');
    this.#position += 1;
    if (character === '\\') return this.#characterEscape();
    const isStray = character === '-' && !canBeBracket && !this.#looksAt(']');
    if (isStray) throw new PatternError('invalid character range');
    return codeOf(character);
  }

  #next(): string | null {
    return this.#characters[this.#position] ?? null;
  }

  #looksAt(word: string): boolean {
    return this.#rest().startsWith(word);
  }

  #rest(): string {
    return this.#characters.slice(this.#position, this.#position + REST_MAX).join('');
  }
}

/** A repeated bracket is asked about one character many times over: each of its items only once. */
function rememberLast(test: CharacterTest): CharacterTest {
  let lastCode = -1;
  let last = false;
  return (code) => {
    if (code !== lastCode) {
      lastCode = code;
      last = test(code);
    }
    return last;
  };
}

/** As far as anything looks ahead. */
const REST_MAX = 64;

function takeOnly(wanted: number): PatternNode {
  return { kind: 'take', takes: (code) => code === wanted };
}

function codeOf(character: string): number {
  return character.codePointAt(0) ?? 0;
}

function classTest(name: string): CharacterTest {
  const test = CLASSES.get(name);
  if (test === undefined) throw new PatternError('invalid character class');
  return test;
}

/** In the C locale a character is equivalent to itself only. */
function equivalents(text: string): CharacterTest {
  const element = Array.from(text);
  if (element.length !== 1) throw new PatternError('invalid collating element');
  const wanted = codeOf(element[0] ?? '');
  return (code) => code === wanted;
}

const isDigit: CharacterTest = (code) => code >= 0x30 && code <= 0x39;

const SHORTHANDS: ReadonlyMap<string, CharacterTest> = new Map([
  ['d', isDigit],
  ['D', (code: number) => !isDigit(code)],
  ['s', isSpace],
  ['S', (code: number) => !isSpace(code)],
  ['w', isWord],
  ['W', (code: number) => !isWord(code)],
]);

type Edge = (before: number | null, after: number | null) => boolean;

const isWordBegin: Edge = (before, after) => !isWordOrNull(before) && isWordOrNull(after);
const isWordEnd: Edge = (before, after) => isWordOrNull(before) && !isWordOrNull(after);
const isWordEdge: Edge = (before, after) => isWordOrNull(before) !== isWordOrNull(after);

function isWordOrNull(code: number | null): boolean {
  return code !== null && isWord(code);
}

const EDGES: ReadonlyMap<string, Edge> = new Map<string, Edge>([
  ['A', (before) => before === null],
  ['Z', (_before, after) => after === null],
  ['m', isWordBegin],
  ['M', isWordEnd],
  ['y', isWordEdge],
  ['Y', (before, after) => !isWordEdge(before, after)],
]);

const BRACKET_EDGES: ReadonlyMap<string, Edge> = new Map([
  ['[:<:]]', isWordBegin],
  ['[:>:]]', isWordEnd],
]);
