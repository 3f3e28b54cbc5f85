// A container without a container engine: one process, as PID 1, under the root file system of an image, with the mounts, the user,
// the rights and the environment that somebody names. For root on Linux.
import { spawn } from 'node:child_process';
import { WalcastProcess } from '../../src/demo/walcast-process.ts';
import { childrenOf, pollUntil } from '../../src/demo/postgres-process.ts';
import type { ImageTree } from './image-tree.ts';

/** A file or a directory of the machine that a container sees at another path. */
export interface ContainerMount {
  readonly source: string;
  readonly target: string;
  readonly isReadOnly?: boolean;
}

/** What runs, and as what. */
export interface ContainerOptions {
  readonly image: Pick<ImageTree, 'lowers' | 'machine'>;
  /** Numbers: `10001:10001`. */
  readonly user: string;
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string;
  readonly command: readonly string[];
  readonly mounts: readonly ContainerMount[];
  /** Whether it may write outside of its mounts. */
  readonly isReadOnly: boolean;
  /** Directory of this machine that it counts as working in: who clears that away ends the container. */
  readonly directory: string;
  /** A program with its arguments that runs others in another network; the machine's own when absent. */
  readonly enter?: readonly string[];
}

// $1: lowerdir. $2: directories of the machine. $3: ro or rw. $4: number of mounts. Then source, target and ro or rw of each, and
// the command. What is written outside of the mounts is in memory, and gone with the process.
const START = `set -e
lowers="$1"; machine="$2"; mode="$3"; count="$4"
shift 4
mount -t tmpfs -o mode=755 walcast-container /mnt
mkdir /mnt/root /mnt/upper /mnt/work
mount -t overlay -o "lowerdir=$lowers,upperdir=/mnt/upper,workdir=/mnt/work" walcast-container /mnt/root
for directory in $machine; do
  mount --bind "$directory" "/mnt/root$directory"
  mount -o remount,bind,ro "/mnt/root$directory"
done
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
index=0
while [ $index -lt $count ]; do
  target="/mnt/root$2"
  if [ -d "$1" ]; then mkdir -p "$target"; else mkdir -p "\${target%/*}"; [ -e "$target" ] || : >"$target"; fi
  mount --bind "$1" "$target"
  [ "$3" = rw ] || mount -o remount,bind,ro "$target"
  shift 3
  index=$((index + 1))
done
[ "$mode" = rw ] || mount -o remount,ro /mnt/root
exec chroot /mnt/root "$@"`;

const UNSHARE = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--'];
const OWN_SPACES = [...UNSHARE, 'sh', '-c', START, 'start'];

/** A process under the root of an image. `pid` is that of the machine. */
export class Container extends WalcastProcess {
  #inner = 0;

  override signal(signal: NodeJS.Signals): void {
    // The process around it waits for it, and takes no signals.
    if (this.end === null && this.#inner !== 0) process.kill(this.#inner, signal);
  }

  /** Its PID 1 as this machine numbers it, once the command itself runs. */
  get inner(): number {
    return this.#inner;
  }

  /** Use {@link startContainer}. */
  async awaitInner(): Promise<void> {
    this.#inner = await pollUntil(
      'the process of a container',
      async () => (await childrenOf(this.pid))[0] ?? (this.end === null ? null : 0),
      { timeoutMs: 10_000 },
    );
  }
}

/** Starts it; resolves once its process exists. */
export async function startContainer(options: ContainerOptions): Promise<Container> {
  const [program = '', ...args] = containerCommand(options);
  const child = spawn(program, args, {
    cwd: options.directory,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (child.pid === undefined) throw new Error(`${program} did not start`);
  const container = new Container(child, child.pid);
  await container.awaitInner();
  return container;
}

/** The program and its arguments that run `command` beside what runs in a container already: as `docker exec` does. */
export function execCommand(
  container: Container,
  options: Pick<ContainerOptions, 'user' | 'env' | 'workdir' | 'command'>,
): string[] {
  const target = ['nsenter', `--target=${container.inner}`, '--mount', '--pid', '--net', '--root'];
  return [...target, '--', ...becoming(options)];
}

/** The program and its arguments that become a container. */
export function containerCommand(options: ContainerOptions): string[] {
  const { image, mounts, enter = [] } = options;
  return [
    ...enter,
    ...OWN_SPACES,
    image.lowers.join(':'),
    image.machine.join(' '),
    options.isReadOnly ? 'ro' : 'rw',
    String(mounts.length),
    ...mounts.flatMap(({ source, target, isReadOnly }) => [
      source,
      target,
      isReadOnly === true ? 'ro' : 'rw',
    ]),
    ...becoming(options),
  ];
}

/** The words that start a command as its user, with its environment. */
function becoming(
  options: Pick<ContainerOptions, 'user' | 'env' | 'workdir' | 'command'>,
): string[] {
  const [uid = '', gid = ''] = options.user.split(':');
  const rights = ['--no-new-privs', '--bounding-set=-all', '--inh-caps=-all'];
  return [
    '/usr/bin/setpriv',
    `--reuid=${uid}`,
    `--regid=${gid}`,
    '--clear-groups',
    ...(uid === '0' ? [] : rights),
    '--pdeathsig=KILL',
    '--',
    '/usr/bin/env',
    '-i',
    '-C',
    options.workdir,
    ...Object.entries(options.env).map(([name, value]) => `${name}=${value}`),
    ...options.command,
  ];
}
