// A walcast of its own process, as a user would start it: configuration file, log on standard error, signals.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import type { Workspace } from './postgres-workspace.ts';

/** How a process ended. */
export interface ProcessEnd {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** What to start. */
export interface WalcastProcessOptions {
  /** Unique in the workspace: the folder of its configuration. */
  readonly name: string;
  /** The configuration file's text. Ports may be 0: the real ones are read from the log. */
  readonly configuration: string;
  /** Environment of the process besides ours. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Further arguments of node itself, before the program. */
  readonly nodeArguments?: readonly string[];
  /** A program with its arguments that replaces itself by ours, in another place for instance. */
  readonly wrapper?: readonly string[];
}

const START_TIMEOUT_MS = 30_000;
const LOG_LINES_MAX = 20_000;
const POLL_MS = 50;

/** The compiled program; the sources themselves do not run on every Node.js walcast supports. */
const PROGRAM = fileURLToPath(new URL('../../dist/program/main.js', import.meta.url));

/** A started walcast. */
export class WalcastProcess {
  readonly pid: number;
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #waiters = new Set<() => void>();
  #end: ProcessEnd | null = null;

  constructor(child: ChildProcess, pid: number) {
    this.#child = child;
    this.pid = pid;
    this.ended = new Promise((resolve) => {
      // 'close' comes after the last line of the log; 'exit' may come before it.
      child.once('close', (exitCode, signal) => {
        this.#end = { exitCode, signal };
        resolve(this.#end);
        this.#wake();
      });
    });
    for (const stream of [child.stderr, child.stdout]) {
      if (stream !== null)
        createInterface({ input: stream }).on('line', (line) => this.#take(line));
    }
  }

  /** Null while it runs. */
  get end(): ProcessEnd | null {
    return this.#end;
  }

  /** The log so far, a line an entry. */
  get log(): readonly string[] {
    return this.#lines;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#end === null) this.#child.kill(signal);
  }

  /** Ends it with `signal` and waits; SIGKILL follows after `timeoutMs`. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 45_000): Promise<ProcessEnd> {
    this.signal(signal);
    const timer = systemClock.setTimer(timeoutMs, () => this.signal('SIGKILL'));
    try {
      return await this.ended;
    } finally {
      timer.cancel();
    }
  }

  /** The first log line from `from` on that matches. Rejects with OperationalError when the process ends or time is up. */
  async waitForLog(
    pattern: RegExp,
    { from = 0, timeoutMs = START_TIMEOUT_MS }: { from?: number; timeoutMs?: number } = {},
  ): Promise<string> {
    const deadline = systemClock.nowMs() + timeoutMs;
    for (;;) {
      const found = this.#lines.slice(from).find((line) => pattern.test(line));
      if (found !== undefined) return found;
      if (this.#end !== null)
        throw this.#failure(`walcast ended (exit code ${this.#end.exitCode})`);
      const leftMs = deadline - systemClock.nowMs();
      if (leftMs <= 0) throw this.#failure(`no line ${String(pattern)} in ${timeoutMs} ms`);
      await this.#change(leftMs);
    }
  }

  #change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiters.delete(done);
        timer.cancel();
        resolve();
      };
      const timer = systemClock.setTimer(timeoutMs, done);
      this.#waiters.add(done);
    });
  }

  #take(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > LOG_LINES_MAX) this.#lines.shift();
    this.#wake();
  }

  #wake(): void {
    for (const waiter of this.#waiters) waiter();
  }

  #failure(what: string): OperationalError {
    return new OperationalError(
      'WALCAST_PROCESS',
      `${what}; its last lines:\n${this.#lines.slice(-15).join('\n')}`,
    );
  }
}

/** Starts `walcast run` with a configuration of its own. Resolves once the process exists. */
export async function spawnWalcast(
  workspace: Workspace,
  options: WalcastProcessOptions,
): Promise<WalcastProcess> {
  const file = join(workspace.directory, `${options.name}.yaml`);
  await writeFile(file, options.configuration, { mode: 0o600 });
  const node = [process.execPath, ...(options.nodeArguments ?? [])];
  const [program, ...args] = [...(options.wrapper ?? []), ...node, PROGRAM, 'run', '-c', file];
  const child = spawn(program, args, {
    cwd: workspace.directory,
    env: { ...process.env, ...options.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A session of its own: a Ctrl-C at the terminal reaches us, and we end it in order.
    detached: true,
  });
  const walcast = await new Promise<WalcastProcess>((resolve, reject) => {
    child.once('error', reject);
    child.once('spawn', () => resolve(new WalcastProcess(child, child.pid ?? 0)));
  });
  workspace.onClose(async () => {
    await walcast.stop();
  });
  return walcast;
}

/** The port standbys connect to, and the URL of the HTTP port, as the log names them. */
export async function listeningAt(walcast: WalcastProcess): Promise<{ port: number; url: string }> {
  const url = /"url":"([^"]+)"/.exec(await walcast.waitForLog(/"msg":"HTTP port is open"/))?.[1];
  const port = /"port":(\d+)/.exec(await walcast.waitForLog(/"msg":"listening for standbys"/))?.[1];
  if (url === undefined || port === undefined) {
    throw new OperationalError('WALCAST_PROCESS', 'the log names no port; is log.format json?');
  }
  return { port: Number(port), url };
}

/** GET `path` of the HTTP port until it answers 200. Rejects with OperationalError that quotes the last answer. */
export async function waitUntilReady(
  walcast: WalcastProcess,
  url: string,
  { timeoutMs = START_TIMEOUT_MS, clock = systemClock }: { timeoutMs?: number; clock?: Clock } = {},
): Promise<void> {
  const deadline = clock.nowMs() + timeoutMs;
  let answer = 'nothing';
  while (clock.nowMs() < deadline && walcast.end === null) {
    try {
      const response = await fetch(`${url}/readyz`);
      answer = await response.text();
      if (response.status === 200) return;
    } catch (error) {
      answer = String(error);
    }
    await new Promise<void>((resolve) => clock.setTimer(POLL_MS, resolve));
  }
  throw new OperationalError(
    'WALCAST_NOT_READY',
    `walcast is not ready (${answer}); its last lines:\n${walcast.log.slice(-15).join('\n')}`,
  );
}
