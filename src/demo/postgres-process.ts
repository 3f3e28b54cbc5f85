// One running `postgres`: its log as it is written, its end as it happens, and every process that belongs to it.
import { closeSync, openSync, writeSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import type { ChildProcess } from 'node:child_process';
import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { OperationalError, errorText, systemErrorCode } from '../base/errors.ts';
import { runCommand, spawnCommand } from './postgres-user.ts';
import type { CommandOptions } from './postgres-user.ts';

const LOG_CHARS_KEPT_MAX = 8 << 20;
/** Between two looks, growing with the time waited so far: what takes long is not looked at a hundred times a second. */
const POLL_MS_MIN = 10;
const POLL_MS_MAX = 100;
const POLLS_PER_WAIT = 8;

/** What a server, or several runs of it one after the other, wrote to its log. Positions only grow. */
export class ServerLog {
  readonly #file: number;
  readonly #listeners = new Set<() => void>();
  #text = '';
  #dropped = 0;

  /** Appends to the file `path` as well. */
  constructor(path: string) {
    this.#file = openSync(path, 'a', 0o644);
  }

  /** Where the next line will start; hand it to `wait` or `textFrom` to look only at what comes later. */
  mark(): number {
    return this.#dropped + this.#text.length;
  }

  append(chunk: string): void {
    writeSync(this.#file, chunk);
    this.#text += chunk;
    const excess = this.#text.length - LOG_CHARS_KEPT_MAX;
    if (excess > 0) {
      this.#text = this.#text.slice(excess);
      this.#dropped += excess;
    }
    for (const listener of this.#listeners) listener();
  }

  /** What was written since `mark`, as far as it is kept (8 Mi characters). */
  textFrom(mark: number): string {
    return this.#text.slice(Math.max(0, mark - this.#dropped));
  }

  /** The last lines, for an error message. */
  tail(lineCount: number): string {
    return this.#text.trimEnd().split('\n').slice(-lineCount).join('\n');
  }

  /** Calls `listener` after every addition. Returns the way to stop it. */
  onAppend(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** How a `postgres` ended. */
export interface ServerExit {
  readonly exitCode: number | null;
  readonly signal: string | null;
}

/** A postmaster that was started and what is known about it. */
export class ServerProcess {
  readonly pid: number;
  /** Settles when the postmaster and all that could write to its log are gone and the log has been read. Never rejects. */
  readonly exited: Promise<ServerExit>;
  #exit: ServerExit | null = null;

  constructor(child: ChildProcess, log: ServerLog) {
    if (child.pid === undefined)
      throw new OperationalError('SPAWN_FAILED', 'postgres did not start');
    this.pid = child.pid;
    child.stdin?.destroy();
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (chunk: string) => log.append(chunk));
    }
    child.once('exit', (exitCode, signal) => {
      this.#exit = { exitCode, signal };
    });
    this.exited = new Promise((resolve) => {
      child.once('close', (exitCode, signal) => resolve({ exitCode, signal }));
    });
  }

  /** How it ended; null while it runs. */
  get exit(): ServerExit | null {
    return this.#exit;
  }

  /** Sends a signal to the postmaster; does nothing when it is gone. */
  signal(name: NodeJS.Signals): void {
    if (this.#exit === null) signalProcess(this.pid, name);
  }

  /** The postmaster and its children of this moment. */
  async pids(): Promise<number[]> {
    return [this.pid, ...(await childrenOf(this.pid))];
  }
}

/** Starts `postgres`. Rejects with OperationalError when the program cannot be started at all. */
export async function startServer(
  file: string,
  args: readonly string[],
  options: CommandOptions & { log: ServerLog },
): Promise<ServerProcess> {
  const child = spawnCommand(file, args, options);
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) =>
      reject(new OperationalError('SPAWN_FAILED', `${file} did not start: ${errorText(error)}`)),
    );
  });
  return new ServerProcess(child, options.log);
}

/**
 * Resolves with the match once the log written since `from` matches. Rejects with OperationalError after `timeoutMs`,
 * or at once when the process that could write it has ended.
 */
export function waitForLog(
  log: ServerLog,
  pattern: RegExp,
  options: { from: number; timeoutMs: number; process?: ServerProcess; clock?: Clock },
): Promise<RegExpExecArray> {
  return new Promise((resolve, reject) => {
    const settle = (action: () => void): void => {
      timer.cancel();
      stop();
      action();
    };
    const fail = (why: string): void =>
      settle(() => {
        const text = `${why} while waiting for ${pattern} in its log; it ended with:\n${log.tail(15)}`;
        reject(new OperationalError('SERVER_LOG', text));
      });
    const look = (): void => {
      const match = pattern.exec(log.textFrom(options.from));
      if (match !== null) settle(() => resolve(match));
    };
    const stop = log.onAppend(look);
    const timer = (options.clock ?? systemClock).setTimer(options.timeoutMs, () =>
      fail(`${options.timeoutMs} ms passed`),
    );
    void options.process?.exited.then((exit) => {
      look();
      fail(`postgres ended (exit code ${exit.exitCode}, signal ${exit.signal})`);
    });
    look();
  });
}

/**
 * Waits until `check` gives something else than null, looking every 10 ms at first and then less often: at most an eighth
 * is added to the time waited so far, and 100 ms. For states that nobody announces.
 * Rejects with OperationalError naming `what` after `timeoutMs`.
 */
export async function pollUntil<T>(
  what: string,
  check: () => T | null | Promise<T | null>,
  options: { timeoutMs: number; clock?: Clock },
): Promise<T> {
  const clock = options.clock ?? systemClock;
  const startMs = clock.nowMs();
  const deadline = startMs + options.timeoutMs;
  for (;;) {
    const result = await check();
    if (result !== null) return result;
    if (clock.nowMs() >= deadline) {
      throw new OperationalError('TIMEOUT', `${options.timeoutMs} ms passed without: ${what}`);
    }
    await new Promise<void>((resolve) => {
      const shareMs = (clock.nowMs() - startMs) / POLLS_PER_WAIT;
      clock.setTimer(Math.min(POLL_MS_MAX, Math.max(POLL_MS_MIN, shareMs)), resolve);
    });
  }
}

/** Waits until none of `pids` is alive; a zombie that nobody buries counts as gone. */
export async function waitForEnd(pids: readonly number[], timeoutMs: number): Promise<void> {
  await pollUntil(
    `the end of processes ${pids.join(', ')}`,
    async () => {
      const alive = await Promise.all(pids.map(isRunning));
      return alive.includes(true) ? null : true;
    },
    { timeoutMs },
  );
}

/** Sends a signal; a process that is gone already is no error. */
export function signalProcess(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (systemErrorCode(error) !== 'ESRCH') throw error;
  }
}

/** Process ids of the children of `pid`. */
export async function childrenOf(pid: number): Promise<number[]> {
  if (process.platform !== 'linux') return childrenByPs(pid);
  const entries = await readdir('/proc');
  const candidates = entries.filter((name) => /^\d+$/.test(name)).map(Number);
  const parents = await Promise.all(candidates.map(parentOf));
  return candidates.filter((_, index) => parents[index] === pid);
}

async function parentOf(pid: number): Promise<number | null> {
  const fields = await statFields(pid);
  return fields === null ? null : Number(fields[1]);
}

async function isRunning(pid: number): Promise<boolean> {
  if (process.platform !== 'linux') {
    const result = await runCommand('ps', ['-p', String(pid)], { user: null, cwd: '/' });
    return result.exitCode === 0;
  }
  const fields = await statFields(pid);
  return fields !== null && fields[0] !== 'Z';
}

/** /proc/PID/stat behind the command's name: state, parent, … */
async function statFields(pid: number): Promise<string[] | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  return text === null ? null : text.slice(text.lastIndexOf(')') + 2).split(' ');
}

async function childrenByPs(pid: number): Promise<number[]> {
  const result = await runCommand('ps', ['-A', '-o', 'pid=,ppid='], { user: null, cwd: '/' });
  return result.stdout
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([child, parent]) => (child !== undefined && parent === pid ? [child] : []));
}
