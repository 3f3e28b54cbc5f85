// A file system of its own for one store, in a file that can be copied while it is mounted: the copy is what the disk
// holds after a power cut at that instant. Linux, root, loop devices and e2fsprogs.
import { spawn } from 'node:child_process';
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { runCommand } from '../../src/demo/postgres-user.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';

/** What to make. */
export interface LoopVolumeOptions {
  /** Size of the file system; the file behind it is sparse. */
  readonly megabytes: number;
  /** Unique in the workspace. */
  readonly name: string;
}

const COPIES_MAX = 50;

/** A mounted ext4 file system in a file on a tmpfs. */
export class LoopVolume {
  /** Where it is mounted; the same over all cuts. */
  readonly directory: string;
  readonly #images: string;
  #image = 0;

  /** Use {@link openLoopVolume}. */
  constructor(directory: string, images: string) {
    this.directory = directory;
    this.#images = images;
  }

  get #path(): string {
    return join(this.#images, `disk-${this.#image}`);
  }

  /**
   * Copies the file behind the mounted file system: that and nothing else survives {@link replace}. Nobody may write to it
   * meanwhile; a copy during which the kernel wrote by itself would be of no one instant, so another one is made.
   */
  async cut(): Promise<void> {
    const device = await this.#device();
    const copy = join(this.#images, `disk-${this.#image + 1}`);
    for (let attempt = 0; attempt < COPIES_MAX; attempt += 1) {
      const before = await writesOf(device);
      await run('cp', ['--sparse=always', this.#path, copy]);
      const after = await writesOf(device);
      if (after.completed === before.completed && before.inFlight + after.inFlight === 0) return;
    }
    throw new Error(`${this.directory} was written to during each of ${COPIES_MAX} copies`);
  }

  /** The power is back: the copy takes the place of the file system. Nobody may use that any more. */
  async replace(): Promise<void> {
    await run('umount', [this.directory]);
    await rm(this.#path);
    this.#image += 1;
    await this.mount();
  }

  async mount(): Promise<void> {
    await run('mount', ['-t', 'ext4', '-o', 'loop', this.#path, this.directory]);
  }

  async format(megabytes: number): Promise<void> {
    const file = await open(this.#path, 'w');
    await file.truncate(megabytes * 2 ** 20);
    await file.close();
    // Nothing may go on writing after mkfs: it would be no state that our own writes led to.
    const lazy = 'lazy_itable_init=0,lazy_journal_init=0';
    await run('mkfs.ext4', ['-q', '-F', '-m', '0', '-E', lazy, this.#path]);
  }

  async #device(): Promise<string> {
    const mounts = await readFile('/proc/self/mounts', 'utf8');
    const line = mounts.split('\n').find((each) => each.split(' ')[1] === this.directory);
    if (line === undefined) throw new Error(`${this.directory} is not mounted`);
    return basename(line.split(' ')[0] ?? '');
  }
}

/** Makes and mounts a volume; a text instead is the reason why this machine cannot. It goes away with the workspace. */
export async function openLoopVolume(
  workspace: Workspace,
  options: LoopVolumeOptions,
): Promise<LoopVolume | string> {
  const directory = join(workspace.directory, options.name);
  const images = join(workspace.directory, `${options.name}-images`);
  await mkdir(directory, { mode: 0o711 });
  await mkdir(images, { mode: 0o700 });
  const volume = new LoopVolume(directory, images);
  const guard = guardMounts([directory, images]);
  workspace.onClose(guard);
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'mode=0700', 'tmpfs', images]);
    await volume.format(options.megabytes);
    await volume.mount();
    return volume;
  } catch (error) {
    await guard();
    return `a file system on a loop device cannot be made: ${String(error)}`;
  }
}

/** Why loop-mounted file systems cannot be had here; null when they can. Tries it. */
export async function loopVolumeProblem(workspace: Workspace): Promise<string | null> {
  const volume = await openLoopVolume(workspace, { name: 'probe', megabytes: 16 });
  return typeof volume === 'string' ? volume : null;
}

/**
 * Unmounts when it is called, and also when this process is gone, however it ended: a shell sees its input close. What is
 * still in use goes with its last user.
 */
function guardMounts(directories: readonly string[]): () => Promise<void> {
  const script = 'trap "" INT TERM HUP; read -r line; for d; do umount -l "$d" 2>/dev/null; done';
  const child = spawn('sh', ['-c', script, 'guard', ...directories], {
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  child.stdin.on('error', () => {});
  child.unref();
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve());
    child.once('error', () => resolve());
  });
  return async () => {
    child.ref();
    child.stdin.end('done\n');
    await ended;
  };
}

/** Writes that a block device has completed, and requests that are on their way. (Documentation/admin-guide/iostats.rst) */
async function writesOf(device: string): Promise<{ completed: number; inFlight: number }> {
  const fields = (await readFile(`/sys/block/${device}/stat`, 'utf8')).trim().split(/\s+/);
  return { completed: Number(fields[4]), inFlight: Number(fields[8]) };
}

async function run(program: string, args: readonly string[]): Promise<void> {
  const result = await runCommand('env', ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', program, ...args], {
    user: null,
    cwd: '/',
  });
  if (result.exitCode !== 0) {
    throw new Error(`${program} ${args.join(' ')}: ${result.stderr.trim()}${result.stdout.trim()}`);
  }
}
