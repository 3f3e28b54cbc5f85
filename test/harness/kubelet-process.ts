// How does a container's process start, and how does it hear signals? As the first process of a process namespace of its own, where
// a signal that it does not handle is lost.
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { WalcastProcess } from '../../src/demo/walcast-process.ts';
import type { ProcessEnd } from '../../src/demo/walcast-process.ts';

/** What to start. */
export interface ContainerStart {
  /** Enters the pod's network, for instance; runs what follows as a child or by replacing itself. */
  readonly enter: readonly string[];
  /** What {@link prepareRoot} gave. */
  readonly root: readonly string[];
  readonly command: readonly string[];
  /** All of it. */
  readonly environment: Readonly<Record<string, string>>;
  /** Of the machine, for the watcher of the workspace. */
  readonly directory: string;
}

const ALONE = [
  'unshare',
  '--mount',
  '--pid',
  '--uts',
  '--ipc',
  '--fork',
  '--kill-child=SIGKILL',
  '--',
];
const START_TIMEOUT_MS = 20_000;
/** What container runtimes set where an image does not. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** A container's process. */
export class ContainerProcess {
  /** Its id as the machine sees it. */
  readonly pid: number;
  readonly #outer: WalcastProcess;

  /** Use {@link startContainer}. */
  constructor(outer: WalcastProcess, pid: number) {
    this.#outer = outer;
    this.pid = pid;
  }

  /** Null while it runs. */
  get end(): ProcessEnd | null {
    return this.#outer.end;
  }

  get ended(): Promise<ProcessEnd> {
    return this.#outer.ended;
  }

  /** A line an entry. */
  get log(): readonly string[] {
    return this.#outer.log;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.end === null) signalProcess(this.pid, signal);
  }

  /** The first log line from `from` on that matches. Rejects when the process ends or time is up. */
  waitForLog(
    pattern: RegExp,
    options: { from?: number; timeoutMs?: number } = {},
  ): Promise<string> {
    return this.#outer.waitForLog(pattern, options);
  }
}

/** Starts it; resolves once the process exists, or has ended already. */
export async function startContainer(start: ContainerStart): Promise<ContainerProcess> {
  const [program = 'sh', ...args] = [...start.enter, ...ALONE, ...start.root, ...start.command];
  const child = spawn(program, args, {
    cwd: start.directory,
    env: { PATH, ...start.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const outer = await new Promise<WalcastProcess>((resolve, reject) => {
    child.once('error', reject);
    child.once('spawn', () => resolve(new WalcastProcess(child, child.pid ?? 0)));
  });
  const pid = await pollUntil(
    'the first process of a container',
    async () => (outer.end === null ? await firstChild(outer.pid) : outer.pid),
    { timeoutMs: START_TIMEOUT_MS },
  );
  return new ContainerProcess(outer, pid);
}

async function firstChild(pid: number): Promise<number | null> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return Number(text.split(' ')[0]) || null;
}
