// How does one step of a build change files, and nothing else? Every step writes into a layer of its own over all before it, in a
// mount namespace with a root of its own. A step whose ingredients are those of a step before is not done again.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readFileSync, readlinkSync, readdirSync } from 'node:fs';
import { renameSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { systemErrorCode } from '../../src/base/errors.ts';

/** What was not used for so long is removed by the next build. */
const KEEP_MS = 2 * 3_600_000;
/** So many layers are kept, those that were used last: a build has less than twenty, and a change of a source makes three anew. */
const KEEP_LAYERS = 48;
const KEEP_TREES = 6;
const OUTPUT_MAX = 32 * 1024 * 1024;
/** Nothing of a layer may refer to what is not in it: it is copied out as plain files. */
const OVERLAY = 'redirect_dir=off,metacopy=off,index=off';

// $1: the place of the layer. $2: where it is made. Then what STEP wants. Whoever comes second finds it made. The lock ends with
// the process that holds it, whatever becomes of that.
const ONCE = `set -e
place="$1"; fresh="$2"; step="$3"
shift 3
[ ! -e "$place" ] || exit 0
rm -rf "$fresh"
mkdir -p "$fresh/files" "$fresh/work"
unshare --mount --pid --fork --kill-child -- sh -c "$step" step "$@"
rm -rf "$fresh/work"
mv -T "$fresh" "$place"`;

// $1: mount options. $2: directories of the machine, separated by spaces. $3: the script. Everything it starts ends with it, and its mounts are its own.
const STEP = `set -e
mount -t tmpfs -o mode=755 walcast-image /mnt
mkdir /mnt/root /mnt/from
mount -t overlay -o "$1" walcast-image /mnt/root
for directory in $2; do
  mount --bind "$directory" "/mnt/root$directory"
  mount -o remount,bind,ro "/mnt/root$directory"
done
script="$3"
shift 3
eval "$script"`;

/** Where layers are kept. */
export class LayerStore {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
    mkdirSync(directory, { recursive: true });
    this.#forgetOld();
  }

  /**
   * The layer that `key` names: made by `script`, a shell script that finds the file system so far in /mnt/root, with `args`.
   * Rejects with what the script said when it fails.
   */
  async layer(
    key: string,
    below: { readonly lowers: readonly string[]; readonly machine: readonly string[] },
    step: { readonly script: string; readonly args: readonly string[] },
  ): Promise<string> {
    const place = join(this.directory, `layer-${key}`);
    const files = join(place, 'files');
    if (existsSync(place)) {
      touch(place);
      return files;
    }
    const fresh = `${place}.new`;
    const options = `lowerdir=${below.lowers.join(':')},upperdir=${fresh}/files,workdir=${fresh}/work,${OVERLAY}`;
    // Without its descriptor in what it starts: what a step leaves behind must not hold the lock.
    const locked = ['flock', '--close', join(this.directory, `lock-${key}`)];
    const once = ['sh', '-c', ONCE, 'once', place, fresh, STEP];
    await finish([...locked, ...once, options, below.machine.join(' '), step.script, ...step.args]);
    return files;
  }

  #forgetOld(): void {
    const old = (mtimeMs: number): boolean => Date.now() - mtimeMs > KEEP_MS;
    const entries = readdirSync(this.directory).flatMap((name) => {
      const path = join(this.directory, name);
      // Another process may be clearing up, too.
      const mtimeMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
      return mtimeMs === undefined ? [] : [{ name, path, mtimeMs }];
    });
    const newest = entries.toSorted((a, b) => b.mtimeMs - a.mtimeMs);
    const kept = (prefix: string): typeof entries =>
      newest.filter(({ name }) => name.startsWith(prefix) && !name.endsWith('.new'));
    const forgotten = [
      ...newest.filter(
        ({ name, mtimeMs }) => /^(layer|tree|lock|gone)-|\.new$/.test(name) && old(mtimeMs),
      ),
      ...kept('layer-').slice(KEEP_LAYERS),
      ...kept('tree-').slice(KEEP_TREES),
    ];
    for (const { name } of forgotten) this.#forget(name);
  }

  /** Whole or not at all for whoever looks for it meanwhile. */
  #forget(name: string): void {
    const gone = join(this.directory, `gone-${process.pid}-${name}`);
    try {
      renameSync(join(this.directory, name), gone);
    } catch (error) {
      // Another process was faster.
      if (systemErrorCode(error) === 'ENOENT') return;
      throw error;
    }
    rmSync(gone, { recursive: true, force: true });
  }
}

/** Says of a kept directory that it is in use. */
export function touch(path: string): void {
  utimesSync(path, new Date(), new Date());
}

/** A short name for what `parts` say. */
export function keyOf(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 20);
}

/** What is in a file or a tree: names, modes, bytes. */
export function contentKey(path: string): string {
  const hash = createHash('sha256');
  const visit = (file: string, name: string): void => {
    const info = lstatSync(file);
    hash.update(`${name}\0${info.mode & 0o7777}\0`);
    if (info.isSymbolicLink()) hash.update(readlinkSync(file));
    else if (info.isFile()) hash.update(readFileSync(file));
    else
      for (const entry of readdirSync(file).toSorted())
        visit(join(file, entry), `${name}/${entry}`);
  };
  visit(path, '');
  return hash.digest('hex');
}

/** Why no image can be built here; null when it can. */
export async function layersProblem(store: string): Promise<string | null> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    return 'building the image needs root on Linux (overlay mounts)';
  const probe = join(store, `probe.${process.pid}`);
  mkdirSync(join(probe, 'files'), { recursive: true });
  mkdirSync(join(probe, 'work'));
  const options = `lowerdir=/usr,upperdir=${probe}/files,workdir=${probe}/work,${OVERLAY}`;
  try {
    await inNamespace([options, '', ': >/mnt/root/walcast-probe']);
    return null;
  } catch (error) {
    return `no overlay can be mounted: ${String(error)}`;
  } finally {
    rmSync(probe, { recursive: true, force: true });
  }
}

async function inNamespace(args: readonly string[]): Promise<void> {
  const own = ['--mount', '--pid', '--fork', '--kill-child', '--', 'sh', '-c', STEP, 'step'];
  await finish(['unshare', ...own, ...args]);
}

/** Runs a program to its end. Rejects with what it said when it fails. */
async function finish([program = '', ...args]: readonly string[]): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    execFile(
      program,
      args,
      { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }, maxBuffer: OUTPUT_MAX },
      (error, stdout, stderr) => {
        if (error === null) resolve();
        else
          reject(new Error(`${stdout.slice(-8000)}${stderr.slice(-8000)}`.trim() || error.message));
      },
    );
  });
}
