// A real systemd for a test, that sees and changes nothing of the machine: process 1 of namespaces of its own (systemd-boot.sh).
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pollUntil } from '../../src/demo/postgres-process.ts';

const BOOT = fileURLToPath(new URL('systemd-boot.sh', import.meta.url));
const TREE = fileURLToPath(new URL('../..', import.meta.url));
const HIERARCHIES = ['systemd', 'unified', '.'].map((name) => join('/sys/fs/cgroup', name));

/** How a command ended. */
export interface Outcome {
  readonly status: number;
  readonly text: string;
}

/** Why there cannot be one here; null where it can be tried. */
export function ownSystemdProblem(): string | null {
  if (process.getuid?.() !== 0) return 'a systemd of its own is started as root';
  return existsSync('/lib/systemd/systemd') ? null : 'systemd is not installed';
}

/** A systemd with our unit, not started yet. */
export class OwnSystemd implements AsyncDisposable {
  readonly #cgroup: string;
  readonly #outer: ChildProcess;
  readonly #ended: Promise<void>;
  #pid = 0;
  #said = '';

  private constructor() {
    this.#cgroup = `walcast-test-${process.pid}`;
    this.#outer = spawn(BOOT, [this.#cgroup, TREE, process.execPath], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    for (const stream of [this.#outer.stdout, this.#outer.stderr]) {
      stream?.on('data', (data: Buffer) => (this.#said += data.toString()));
    }
    this.#ended = new Promise((resolve) => this.#outer.once('close', () => resolve()));
  }

  /** Resolves once it takes commands. */
  static async open(): Promise<OwnSystemd> {
    const own = new OwnSystemd();
    try {
      await own.#booted();
      return own;
    } catch (error) {
      await own[Symbol.asyncDispose]();
      throw new Error(`systemd did not come up: ${own.#said}`, { cause: error });
    }
  }

  /** Runs a program inside. Never rejects for how it ends. */
  run(command: readonly string[], input = ''): Promise<Outcome> {
    const target = ['-t', String(this.#pid), '-m', '-u', '-i', '-p', '-C', '--'];
    return new Promise((resolve) => {
      const child = execFile(
        'nsenter',
        [...target, ...command],
        { timeout: 60_000, killSignal: 'SIGKILL' },
        (error, stdout, stderr) => {
          const code = error?.code;
          const status = error === null ? 0 : typeof code === 'number' ? code : -1;
          resolve({ status, text: `${stdout}${stderr}` });
        },
      );
      // Not everybody reads it.
      child.stdin?.on('error', () => {}).end(input);
    });
  }

  systemctl(...words: readonly string[]): Promise<Outcome> {
    return this.run(['systemctl', ...words]);
  }

  /** Writes a file inside; what leads there is made. */
  async write(path: string, text: string): Promise<void> {
    const script = 'mkdir -p "${1%/*}" && cat >"$1"';
    await this.run(['sh', '-c', script, 'sh', path], text);
  }

  /** Properties of the unit. */
  async show(): Promise<Readonly<Record<string, string>>> {
    const { text } = await this.systemctl('show', 'walcast');
    return Object.fromEntries(
      text.split('\n').map((line) => [line.split('=')[0], line.slice(line.indexOf('=') + 1)]),
    );
  }

  /** Until the unit has these properties. */
  async until(properties: Readonly<Record<string, string>>): Promise<void> {
    const look = async (): Promise<true | null> => {
      const shown = await this.show();
      return Object.entries(properties).every(([key, value]) => shown[key] === value) || null;
    };
    await pollUntil(JSON.stringify(properties), look, { timeoutMs: 30_000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What is in its namespace ends with it.
    this.#outer.kill('SIGKILL');
    await this.#ended;
    const paths = HIERARCHIES.map((hierarchy) => join(hierarchy, this.#cgroup)).filter(existsSync);
    const remove = async (): Promise<true | null> => {
      for (const path of paths) removeCgroup(path);
      return paths.every((path) => !existsSync(path)) || null;
    };
    await pollUntil('the cgroups to be empty', remove, { timeoutMs: 10_000 });
  }

  async #booted(): Promise<void> {
    const look = async (): Promise<true | null> => {
      const { exitCode, pid = 0 } = this.#outer;
      if (exitCode !== null) throw new Error(`it ended with ${exitCode}`);
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
      if (children === '') return null;
      this.#pid = Number(children.split(' ')[0]);
      if (!readFileSync(`/proc/${this.#pid}/cmdline`, 'utf8').startsWith('/lib/systemd/systemd'))
        return null;
      return (await this.systemctl('show', 'walcast', '-p', 'Id')).status === 0 || null;
    };
    await pollUntil('systemd', look, { timeoutMs: 30_000 });
  }
}

/** Those inside first; one with processes that are ending stays for the next try. */
function removeCgroup(path: string): void {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) removeCgroup(join(path, entry.name));
    }
    rmdirSync(path);
  } catch {
    // Asked for again.
  }
}
