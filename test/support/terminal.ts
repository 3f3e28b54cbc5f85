// A program on a terminal of its own, as a person sees it: shows, types, and waits for what comes.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/base/clock.ts';

const TERMINAL = fileURLToPath(new URL('terminal.py', import.meta.url));

/** So long nothing takes that a test waits for. */
const PATIENCE_MS = 60_000;

/** Where and as whom it runs. */
export interface TerminalOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: { readonly uid: number; readonly gid: number } | null;
}

/** Needs `python3`. */
export class Terminal {
  /** Everything shown so far, without what steers the terminal. */
  shown = '';
  /** The exit code; null when a signal ended it. */
  readonly end: Promise<number | null>;
  readonly #child: ChildProcess;
  #seen = 0;
  #wake: () => void = () => {};

  constructor(program: string, args: readonly string[], options: TerminalOptions) {
    const { cwd, env = {}, user = null } = options;
    this.#child = spawn('python3', [TERMINAL, program, ...args], {
      cwd,
      env: { PATH: process.env['PATH'] ?? '', TERM: 'xterm', HOME: cwd, ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
      ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
    });
    let raw = '';
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      raw += text;
      // oxlint-disable-next-line no-control-regex -- what steers the terminal
      this.shown = raw.replaceAll(/\u001b\[[0-9;?]*[A-Za-z]/g, '').replaceAll('\r\n', '\n');
      this.#wake();
    });
    this.end = new Promise((resolve) => {
      this.#child.once('close', resolve);
    });
    void this.end.then(() => this.#wake());
  }

  /** Waits until `words` are shown, behind those that were waited for before. */
  async until(words: string): Promise<void> {
    let isLate = false;
    const timer = systemClock.setTimer(PATIENCE_MS, () => {
      isLate = true;
      this.#wake();
    });
    try {
      await this.#until(words, () => isLate);
    } finally {
      timer.cancel();
    }
  }

  async #until(words: string, isLate: () => boolean): Promise<void> {
    for (;;) {
      const at = this.shown.indexOf(words, this.#seen);
      if (at >= 0) {
        this.#seen = at + words.length;
        return;
      }
      const isOver = await Promise.race([
        this.end.then(() => true),
        new Promise<boolean>((resolve) => {
          this.#wake = () => resolve(false);
        }),
      ]);
      if (isLate()) throw new Error(`nothing like "${words}" for long:\n${this.shown}`);
      if (isOver && this.shown.indexOf(words, this.#seen) < 0) {
        throw new Error(`it ended without "${words}":\n${this.shown}`);
      }
    }
  }

  /** Waits for a question and answers it with a line. */
  async answer(question: string, line = ''): Promise<void> {
    await this.until(question);
    this.type(`${line}\r`);
  }

  type(keys: string): void {
    this.#child.stdin?.write(keys);
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }
}
