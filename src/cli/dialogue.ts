// How does a command ask a person one question after another? Lines from the terminal of standard input, in order, none lost.
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';

/** Questions to the person at the terminal, one at a time. */
export interface Dialogue {
  /** Shows `question` and resolves to the line typed, without its end; null once the terminal is closed (Control-D). */
  ask(question: string): Promise<string | null>;
  /** The same, without what is typed being shown. */
  askSecret(question: string): Promise<string | null>;
  /** Gives the terminal back. Must be called, also after a failure. */
  close(): void;
}

/** The terminal. */
export interface DialogueTerminal {
  readonly input: NodeJS.ReadableStream;
  /** Where questions are written. `columns`: its width, where it is known. */
  readonly output: NodeJS.WritableStream & { readonly columns?: number };
  /** Control-C was pressed: no signal comes of it, because keys are read one by one. */
  onInterrupt(): void;
}

/** Answers typed ahead at most; what is pasted beyond them is lost. */
const LINES_AHEAD_MAX = 100;

/** Begins to read the terminal. Lines that were typed before a question is asked answer it. */
export function openDialogue(terminal: DialogueTerminal): Dialogue {
  return new TerminalDialogue(terminal);
}

class TerminalDialogue implements Dialogue {
  readonly #terminal: DialogueTerminal;
  readonly #lines: ReturnType<typeof createInterface>;
  readonly #ahead: string[] = [];
  #answer: ((line: string | null) => void) | null = null;
  #isEchoing = false;
  #isClosed = false;

  constructor(terminal: DialogueTerminal) {
    this.#terminal = terminal;
    const { input, output } = terminal;
    const echo = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        if (this.#isEchoing) output.write(chunk);
        done();
      },
    });
    // Where lines are wrapped is counted from it.
    Object.defineProperty(echo, 'columns', { get: () => output.columns });
    this.#lines = createInterface({ input, output: echo, terminal: true, historySize: 0 });
    this.#lines.on('line', (line) => this.#take(line));
    this.#lines.on('SIGINT', () => {
      output.write('\n');
      terminal.onInterrupt();
    });
    this.#lines.once('close', () => {
      this.#isClosed = true;
      this.#settle(null);
    });
  }

  ask(question: string): Promise<string | null> {
    return this.#ask(question, false);
  }

  askSecret(question: string): Promise<string | null> {
    return this.#ask(question, true);
  }

  close(): void {
    this.#lines.close();
  }

  #ask(question: string, isSecret: boolean): Promise<string | null> {
    const { output } = this.#terminal;
    const ahead = this.#ahead.shift();
    if (ahead !== undefined) {
      output.write(`${question}${isSecret ? '' : ahead}\n`);
      return Promise.resolve(ahead);
    }
    if (this.#isClosed) return Promise.resolve(null);
    return new Promise((resolve) => {
      this.#answer = (line) => {
        if (isSecret || line === null) output.write('\n');
        resolve(line);
      };
      this.#isEchoing = true;
      this.#lines.setPrompt(question);
      this.#lines.prompt();
      this.#isEchoing = !isSecret;
    });
  }

  #take(line: string): void {
    if (this.#answer !== null) this.#settle(line);
    else if (this.#ahead.length < LINES_AHEAD_MAX) this.#ahead.push(line);
  }

  #settle(line: string | null): void {
    const answer = this.#answer;
    this.#answer = null;
    this.#isEchoing = false;
    answer?.(line);
  }
}
