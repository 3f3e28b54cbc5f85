// A cursor over the words of one statement.
import { notSupported, ConsoleError } from './console-error.ts';
import { syntaxError } from './tokens.ts';
import type { Token } from './tokens.ts';

/** Reads words in order. */
export class TokenReader {
  readonly #tokens: readonly Token[];
  #position = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  /** The next word, not taken; null at the end. */
  peek(): Token | null {
    return this.#tokens[this.#position] ?? null;
  }

  /** Takes the next word, whatever it is. Throws 42601 at the end. */
  take(): Token {
    const token = this.peek();
    if (token === null) throw syntaxError('syntax error', '');
    this.#position += 1;
    return token;
  }

  /** All words that are left, not taken. */
  rest(): readonly Token[] {
    return this.#tokens.slice(this.#position);
  }

  /** Takes all that are left. */
  skipRest(): void {
    this.#position = this.#tokens.length;
  }

  /** Takes the words if they come next, all of them; keywords in lower case, or symbols. */
  accept(...words: readonly string[]): boolean {
    const isNext = words.every((word, index) => {
      const token = this.#tokens[this.#position + index];
      return token !== undefined && isKeyword(token, word);
    });
    if (isNext) this.#position += words.length;
    return isNext;
  }

  /** Takes one of the words if it comes next, and says which. */
  acceptOne(...words: readonly string[]): string | null {
    return words.find((word) => this.accept(word)) ?? null;
  }

  /** The word has to come next. */
  expect(word: string): void {
    if (!this.accept(word)) throw this.unexpected();
  }

  /** A name, quoted or not. */
  name(): string {
    const token = this.take();
    if (token.kind === 'word' || token.kind === 'name') return token.text;
    this.#position -= 1;
    throw this.unexpected();
  }

  /** Nothing more may come. */
  end(): void {
    if (this.peek() !== null) throw this.unexpected();
  }

  /** What to refuse the statement with at this place. */
  unexpected(): ConsoleError {
    const token = this.peek();
    return token === null
      ? syntaxError('syntax error', '')
      : notSupported(`What is not understood begins at "${token.text.slice(0, 100)}".`);
  }
}

function isKeyword(token: Token, word: string): boolean {
  return (token.kind === 'word' || token.kind === 'symbol') && token.text === word;
}
