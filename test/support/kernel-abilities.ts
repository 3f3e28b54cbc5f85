// What can be done to a machine to show how walcast bears it, and which of that the kernel of the test machines cannot do.
// A list that is looked at: an ability that comes or goes changes what the suites can show. (docs/reliability.md)
import { spawnSync } from 'node:child_process';
import { accessSync, readFileSync } from 'node:fs';

/** One way to inject faults. */
export interface Ability {
  readonly name: string;
  /** True when it works. Changes nothing; root. */
  readonly probe: () => boolean;
  /** The faults that it injects. */
  readonly injects: string;
  /** What shows the same without it; '' where nothing is needed. */
  readonly instead: string;
}

/** All that are of use here. */
export const ABILITIES: readonly Ability[] = [
  {
    name: 'loop devices with ext4',
    probe: () => has('/dev/loop-control') && fileSystem('ext4'),
    injects: 'power cuts; a small disk that fills up',
    instead: '',
  },
  {
    name: 'tmpfs with a size',
    probe: () => inNamespace('--mount', 'mount -t tmpfs -o size=64k tmpfs /mnt'),
    injects: 'a full disk, short writes, a read-only remount',
    instead: '',
  },
  {
    name: 'ptrace of system calls',
    probe: () => quiet('strace', ['-f', '-qq', '-e', 'trace=none', 'true']),
    injects: 'errors, delays and short counts of the n-th call',
    instead: '',
  },
  {
    name: 'network namespaces',
    probe: () => inNamespace('--net', 'true'),
    injects: 'cut and half-open links',
    instead: '',
  },
  {
    name: 'rate limits of a link (tbf)',
    probe: () => queueing('tbf rate 1mbit burst 10k latency 10ms'),
    injects: 'a slow link',
    instead: '',
  },
  {
    name: 'netem',
    probe: () => queueing('netem delay 1ms'),
    injects: 'latency, jitter, lost and damaged packets',
    instead:
      'the proxies of test/harness delay, stall, cut, damage, drop, repeat and swap messages',
  },
  {
    name: 'device mapper',
    probe: () => /^\s*\d+ device-mapper$/m.test(readText('/proc/misc')),
    injects: 'dm-flakey, dm-error, dm-delay, dm-log-writes',
    instead:
      'errors and delays of system calls by strace, a full tmpfs, copies of a mounted file system',
  },
  {
    name: 'FUSE',
    probe: () => has('/dev/fuse') && fileSystem('fuse'),
    injects: 'a file system that loses unsynced writes',
    instead: '',
  },
  {
    name: 'memory limits of a cgroup (v2)',
    probe: () => has('/sys/fs/cgroup/cgroup.controllers'),
    injects: 'a memory limit of the whole process',
    instead: 'limits of the heap and a bound on the resident set that tests measure',
  },
];

/** What the kernel of the test machines lacks. A machine that has more, or less, is another machine: look at the suites. */
export const ABSENT_ABILITIES: readonly string[] = [
  'netem',
  'device mapper',
  'memory limits of a cgroup (v2)',
];

function quiet(program: string, args: readonly string[]): boolean {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  return spawnSync(program, args, { stdio: 'ignore', env }).status === 0;
}

/** In a namespace of its own, so that nothing outside changes. */
function inNamespace(kind: '--net' | '--mount', command: string): boolean {
  return quiet('unshare', [kind, 'sh', '-c', command]);
}

function queueing(discipline: string): boolean {
  return inNamespace('--net', `tc qdisc add dev lo root ${discipline}`);
}

function fileSystem(name: string): boolean {
  return new RegExp(`\\t${name}$`, 'm').test(readText('/proc/filesystems'));
}

function has(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
