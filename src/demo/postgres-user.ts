// As whom PostgreSQL runs: it refuses to run as root, so root hands it to an unprivileged user of the system.
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { OperationalError } from '../base/errors.ts';

/** An unprivileged account of the system. */
export interface ServerUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** How a finished command ended, with all it said. */
export interface CommandResult {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where and as whom a command runs. `user` null means as ourselves. */
export interface CommandOptions {
  readonly user: ServerUser | null;
  readonly cwd: string;
  /**
   * A program with its arguments that runs the command, in another place than ours for instance. It starts as ourselves, and
   * becomes `user` itself; it has to replace itself by the command, so that signals meet that.
   */
  readonly wrapper?: readonly string[];
}

const CANDIDATES = ['postgres', 'nobody'] as const;
const OUTPUT_BYTES_MAX = 16 << 20;

/**
 * The user PostgreSQL has to run as: null (ourselves) unless we are root, else `postgres`, else `nobody`.
 * Throws OperationalError when root finds neither.
 */
export async function serverUser(): Promise<ServerUser | null> {
  if (process.getuid?.() !== 0) return null;
  for (const name of CANDIDATES) {
    const [uid, gid] = await Promise.all([accountId('-u', name), accountId('-g', name)]);
    if (uid !== null && gid !== null && uid !== 0) return { name, uid, gid };
  }
  throw new OperationalError(
    'NO_UNPRIVILEGED_USER',
    'PostgreSQL does not run as root, and this system has neither a user "postgres" nor a user "nobody"',
    { hint: 'Create one of them, or run the command as an ordinary user.' },
  );
}

/**
 * The environment of PostgreSQL and its tools: nothing of ours leaks into libpq (PGHOST, PGPASSFILE …), and messages
 * are in English, because readiness is read from them.
 */
export function serverEnvironment(homeDirectory: string): Record<string, string> {
  return {
    PATH: process.env['PATH'] ?? '/usr/bin:/bin',
    HOME: homeDirectory,
    LC_ALL: 'C',
    TZ: 'UTC',
  };
}

/** Starts a long-running command in a session of its own, so that a Ctrl-C at the terminal reaches us first. */
export function spawnCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions,
): ChildProcess {
  const [program, ...wrapperArgs] = [...(options.wrapper ?? []), file];
  return spawn(program ?? file, [...wrapperArgs, ...args], {
    ...(options.wrapper === undefined ? identity(options.user) : {}),
    cwd: options.cwd,
    env: serverEnvironment(options.cwd),
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  });
}

/** Runs a command to its end. Rejects only when it cannot be started; a failure is in the exit code. */
export function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    execFile(
      file,
      [...args],
      {
        ...identity(options.user),
        cwd: options.cwd,
        env: serverEnvironment(options.cwd),
        maxBuffer: OUTPUT_BYTES_MAX,
      },
      (error, stdout, stderr) => {
        if (error !== null && typeof error.code === 'string') {
          reject(error);
          return;
        }
        const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
        resolve({ exitCode, stdout, stderr });
      },
    );
  });
}

function identity(user: ServerUser | null): { uid?: number; gid?: number } {
  return user === null ? {} : { uid: user.uid, gid: user.gid };
}

function accountId(flag: '-u' | '-g', name: string): Promise<number | null> {
  return new Promise((resolve) => {
    execFile('id', [flag, name], (error, stdout) => {
      const id = Number.parseInt(stdout, 10);
      resolve(error === null && Number.isInteger(id) ? id : null);
    });
  });
}
