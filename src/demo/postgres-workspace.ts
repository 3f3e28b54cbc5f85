// Where the demo's and the tests' servers live, and who cleans up when we cannot: a temporary directory, watched by a
// small shell that outlives us for a moment. However this process ends (also by kill -9), the shell sees its standard
// input close, stops every process that works inside the directory, and removes it.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  realpath,
  rm,
  writeFile,
} from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemErrorCode } from '../base/errors.ts';
import { runCommand, serverEnvironment } from './postgres-user.ts';
import type { ServerUser } from './postgres-user.ts';

const PREFIX = 'walcast-run-';
const OWNER_FILE = 'owner.json';

// A Unix socket's path has room for 107 bytes; some systems' temporary directory alone takes half of that.
const BASE_LENGTH_MAX = 60;

// $1: the directory. $2: "watch" to wait for our end first; a line on standard input means an orderly end.
// A postmaster.pid may be old and its number may belong to somebody else by now, hence the look at the working directory.
const REAPER_SCRIPT = `
trap '' INT TERM HUP
dir="$1"
if [ "$2" = watch ] && read -r line; then exit 0; fi
works_inside() {
  case "$(readlink "/proc/$1/cwd" 2>/dev/null)" in "$dir"|"$dir"/*) return 0;; esac
  [ ! -d /proc/self ] && ps -o command= -p "$1" 2>/dev/null | grep -q "$dir"
}
inside() {
  for proc in /proc/[0-9]*; do
    if works_inside "\${proc#/proc/}"; then echo "\${proc#/proc/}"; fi
  done
  if [ ! -d /proc/self ]; then
    for file in "$dir"/*/data/postmaster.pid; do
      [ -f "$file" ] && read -r pid < "$file" && works_inside "$pid" && echo "$pid"
    done
  fi
}
for file in "$dir"/*/data/postmaster.pid; do
  [ -f "$file" ] && read -r pid < "$file" && works_inside "$pid" && kill -QUIT "$pid"
done
for pid in $(inside); do kill -TERM "$pid"; done
for second in 1 2 3 4 5; do
  [ -z "$(inside)" ] && break
  sleep 1
done
for pid in $(inside); do kill -KILL "$pid"; done
cd / && rm -rf "$dir"
`;

/** A watched temporary directory. Everything in it goes away with it. */
export class Workspace implements AsyncDisposable {
  /** Absolute, without symbolic links, owned by `user`, mode 0711. */
  readonly directory: string;
  /** Who owns it and runs servers in it; null for ourselves. */
  readonly user: ServerUser | null;
  readonly #watcher: ChildProcess;
  readonly #closers: (() => Promise<void>)[] = [];
  #closing: Promise<void> | null = null;

  constructor(directory: string, user: ServerUser | null) {
    this.directory = directory;
    this.user = user;
    this.#watcher = spawnReaper(directory);
  }

  /** Registers what has to end before the directory can go; called in reverse order, once. */
  onClose(closer: () => Promise<void>): void {
    this.#closers.push(closer);
  }

  /** Makes a directory in the workspace, owned by its user, mode 0700. */
  async makeDirectory(name: string): Promise<string> {
    const path = join(this.directory, name);
    await mkdir(path, { mode: 0o700 });
    await this.giveAway(path);
    return path;
  }

  /** Hands a file or directory that we made to the workspace's user. */
  async giveAway(path: string): Promise<void> {
    if (this.user !== null) await chown(path, this.user.uid, this.user.gid);
  }

  /** Hands a directory that we made, with all in it, to the workspace's user. */
  async giveAwayTree(path: string): Promise<void> {
    if (this.user === null) return;
    const owner = `${this.user.uid}:${this.user.gid}`;
    await runCommand('chown', ['-R', owner, path], { user: null, cwd: '/' });
  }

  /** Ends everything that was registered, removes the directory and dismisses the watcher. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    const failures: unknown[] = [];
    for (const closer of this.#closers.toReversed()) {
      await closer().catch((error: unknown) => failures.push(error));
    }
    if (failures.length === 0) {
      await rm(this.directory, { recursive: true, force: true, maxRetries: 3 });
      await dismiss(this.#watcher);
    } else {
      // The watcher does the rest by force.
      this.#watcher.stdin?.destroy();
      throw new AggregateError(failures, `could not stop everything in ${this.directory}`);
    }
  }
}

/** Makes a workspace for `user`, after clearing away what dead processes of this machine left behind. */
export async function openWorkspace(user: ServerUser | null): Promise<Workspace> {
  const base = tmpdir().length <= BASE_LENGTH_MAX ? tmpdir() : '/tmp';
  await removeStaleWorkspaces(base, user);
  const directory = await realpath(await mkdtemp(join(base, PREFIX)));
  await chmod(directory, 0o711);
  await writeFile(
    join(directory, OWNER_FILE),
    JSON.stringify({ pid: process.pid, hostname: hostname() }),
  );
  if (user !== null) await chown(directory, user.uid, user.gid);
  return new Workspace(directory, user);
}

/** Ends and removes the workspaces of ourselves and of `user` whose process is gone. */
export async function removeStaleWorkspaces(base: string, user: ServerUser | null): Promise<void> {
  for (const name of await readdir(base)) {
    if (!name.startsWith(PREFIX)) continue;
    const directory = join(base, name);
    const isOurs = await belongsTo(directory, [process.getuid?.(), user?.uid]);
    if (!isOurs || !(await isOrphan(directory))) continue;
    await runCommand('sh', ['-c', REAPER_SCRIPT, 'reaper', directory, 'now'], {
      user: null,
      cwd: '/',
    });
  }
}

async function belongsTo(
  directory: string,
  owners: readonly (number | undefined)[],
): Promise<boolean> {
  const entry = await lstat(directory).catch(() => null);
  return entry !== null && entry.isDirectory() && owners.includes(entry.uid);
}

async function isOrphan(directory: string): Promise<boolean> {
  const text = await readFile(join(directory, OWNER_FILE), 'utf8').catch(() => null);
  const match = /^\{"pid":(\d+),"hostname":(".*")\}$/.exec(text ?? '');
  if (match === null || match[2] !== JSON.stringify(hostname())) return false;
  return !isProcessAlive(Number(match[1]));
}

/** True while a process with this id exists, whoever owns it. */
export function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemErrorCode(error) !== 'ESRCH';
  }
}

function spawnReaper(directory: string): ChildProcess {
  const watcher = spawn('sh', ['-c', REAPER_SCRIPT, 'reaper', directory, 'watch'], {
    cwd: '/',
    env: serverEnvironment('/'),
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  watcher.on('error', () => {});
  watcher.stdin?.on('error', () => {});
  watcher.unref();
  return watcher;
}

function dismiss(watcher: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (watcher.exitCode !== null || watcher.signalCode !== null || watcher.pid === undefined) {
      resolve();
      return;
    }
    // Until now it kept no process alive; its end is something to wait for.
    watcher.ref();
    watcher.once('exit', () => resolve());
    watcher.stdin?.end('done\n');
  });
}
