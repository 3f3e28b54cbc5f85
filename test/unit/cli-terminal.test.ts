// Does `walcast status --watch` behave on a real terminal: does it fit, hear its keys, and leave the terminal as it was?
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { openTestPort } from '../support/http-port.ts';
import { requires } from '../support/requirements.ts';
import { SAMPLE_NOW_MS } from '../support/status-json.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/walcast.mjs', import.meta.url));

/** The terminal of util-linux's `script`, 60 columns wide and 24 lines high. */
class Terminal {
  shown = '';
  readonly end: Promise<number | null>;
  readonly #child: ReturnType<typeof spawn>;
  #wake: () => void = () => {};

  constructor(command: string) {
    const line = `stty cols 60 rows 24; ${command}; echo "exit $?"; stty -a`;
    this.#child = spawn('script', ['-qec', line, '/dev/null'], {
      env: { ...process.env, TERM: 'xterm', NO_COLOR: '' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.shown += text;
      this.#wake();
    });
    this.end = new Promise((resolve) => {
      this.#child.once('close', resolve);
    });
    void this.end.then(() => this.#wake());
  }

  async until(words: string): Promise<void> {
    while (!this.shown.includes(words)) {
      const isOver = await Promise.race([
        this.end.then(() => true),
        new Promise<boolean>((resolve) => {
          this.#wake = () => resolve(false);
        }),
      ]);
      if (isOver && !this.shown.includes(words)) throw new Error(`it ended with:\n${this.shown}`);
    }
  }

  type(keys: string): void {
    this.#child.stdin?.write(keys);
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }
}

requires('script').it.each([
  ['q', 'q'],
  ['Control-C', '\u0003'],
])('%s ends it with 0, and the terminal is as it was', { timeout: 30_000 }, async (_what, key) => {
  const clock = { ...systemClock, wallMs: () => SAMPLE_NOW_MS };
  const server = await openTestPort({ clock });
  onTestFinished(() => server.close());
  const terminal = new Terminal(
    `"${process.execPath}" "${PROGRAM}" status --watch --url ${server.url}`,
  );
  onTestFinished(() => terminal.close());
  await terminal.until('q: quit');
  const picture = terminal.shown;
  terminal.type('x');
  terminal.type(key);
  await terminal.until('\nexit 0');
  await terminal.end;
  expect(picture).toContain('\u001b[32mstreaming\u001b[0m');
  // oxlint-disable-next-line no-control-regex -- what steers the terminal takes no room
  const lines = picture.replaceAll(/\u001b\[[0-9;]*[A-Za-z]/g, '').split('\r\n');
  expect(lines).toHaveLength(24);
  expect(picture).toContain('standby_a');
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(60);
  expect(terminal.shown).toMatch(/[\n ]isig icanon /);
  expect(terminal.shown).toMatch(/ echo /);
});
