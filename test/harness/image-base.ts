// What stands in for the base image where none can be pulled: Debian's programs of this machine, the Node.js that the image names
// where it is given, npm, the users that the base has; everything else of the machine is hidden.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
} from 'node:fs';
import { realpathSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findProgram } from '../support/requirements.ts';

/** A base for builds and containers. */
export interface ImageBase {
  /** The directory of its own files. */
  readonly files: string;
  /** Directories of this machine that belong over it, at the same path and read-only. */
  readonly machine: readonly string[];
  /** What the real base sets. */
  readonly env: Readonly<Record<string, string>>;
  /** Changes when the base would be another one. */
  readonly key: string;
}

/** The Node.js that stands in for the base's. */
export interface ImageNode {
  readonly path: string;
  /** Without a leading v. */
  readonly version: string;
}

/** Directories of `/` and /usr that containers see; where `bin` is a link into /usr, it is one there, too. */
const PROGRAMS = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];
const OF_USR = [...PROGRAMS, 'libexec', 'share'];
/** Of /etc: what programs look up, nothing about this machine's accounts. */
const ETC = ['alternatives', 'debian_version', 'default/useradd', 'hosts', 'ld.so.cache'];
const ETC_TOO = ['ld.so.conf', 'ld.so.conf.d', 'login.defs', 'nsswitch.conf', 'resolv.conf'];
const CERTIFICATES = 'ssl/certs/ca-certificates.crt';

const PASSWD = [
  'root:x:0:0:root:/root:/bin/bash',
  'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin',
  'node:x:1000:1000::/home/node:/bin/bash',
];
const GROUP = ['root:x:0:', 'nogroup:x:65534:', 'node:x:1000:'];

/** The Node.js that WALCAST_TEST_IMAGE_NODE names, or the one that runs here. */
export function imageNode(): ImageNode {
  const path = realpathSync(process.env['WALCAST_TEST_IMAGE_NODE'] ?? process.execPath);
  const { stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' });
  return { path, version: stdout.trim().replace(/^v/, '') };
}

/** Makes the base below `store`, or finds it there. Needs root. */
export function imageBase(store: string): ImageBase {
  const node = imageNode();
  const npm = npmDirectory();
  const key = `base-3-${node.version}-npm-${versionOf(npm)}`;
  const directory = join(store, key);
  if (!existsSync(directory)) {
    const fresh = `${directory}.${process.pid}.new`;
    fill(fresh, node, npm);
    try {
      renameSync(fresh, directory);
    } catch (error) {
      // Another process was faster.
      if (!existsSync(directory)) throw error;
      rmSync(fresh, { recursive: true, force: true });
    }
  }
  return {
    files: directory,
    machine: programs(),
    env: {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      NODE_VERSION: node.version,
      YARN_VERSION: '1.22.22',
    },
    key,
  };
}

/** The programs of this machine, as paths from `/`. */
function programs(): string[] {
  const paths = [...PROGRAMS.map((name) => `/${name}`), ...OF_USR.map((name) => `/usr/${name}`)];
  return paths.filter((path) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false);
}

function links(): string[] {
  const paths = PROGRAMS.map((name) => `/${name}`);
  return paths.filter(
    (path) => lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false,
  );
}

function fill(directory: string, node: ImageNode, npm: string): void {
  const path = (name: string): string => join(directory, name);
  for (const name of ['dev', 'proc', 'sys', 'run', 'root', 'home/node', 'opt/yarn-v1.22.22/bin'])
    mkdirSync(path(name), { recursive: true });
  for (const name of ['var/lib', 'var/cache', 'var/log', 'usr/local/bin', 'usr/local/include/node'])
    mkdirSync(path(name), { recursive: true });
  for (const name of ['tmp', 'var/tmp']) {
    mkdirSync(path(name), { recursive: true });
    chmodSync(path(name), 0o1777);
  }
  for (const program of programs()) mkdirSync(path(program), { recursive: true });
  for (const link of links()) symlinkSync(readlinkSync(link), path(link));
  fillEtc(path('etc'));
  cpSync(node.path, path('usr/local/bin/node'));
  chmodSync(path('usr/local/bin/node'), 0o755);
  symlinkSync('/usr/local/bin/node', path('usr/local/bin/nodejs'));
  cpSync(npm, path('usr/local/lib/node_modules/npm'), { recursive: true });
  for (const name of ['npm', 'npx'])
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, path(`usr/local/bin/${name}`));
  spawnSync('chown', ['1000:1000', path('home/node')]);
}

function fillEtc(directory: string): void {
  mkdirSync(directory, { recursive: true });
  for (const name of [...ETC, ...ETC_TOO, CERTIFICATES]) {
    const from = join('/etc', name);
    if (!existsSync(from)) continue;
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    const isFile = statSync(from).isFile();
    // A file that is a link may lead to what is hidden; links of alternatives lead into /usr.
    if (isFile) writeFileSync(join(directory, name), readFileSync(from));
    else cpSync(from, join(directory, name), { recursive: true, verbatimSymlinks: true });
  }
  writeFileSync(join(directory, 'passwd'), `${PASSWD.join('\n')}\n`);
  writeFileSync(join(directory, 'group'), `${GROUP.join('\n')}\n`);
  const shadow = PASSWD.map((line) => `${line.split(':')[0]}:*:19000:0:99999:7:::`);
  writeFileSync(join(directory, 'shadow'), `${shadow.join('\n')}\n`, { mode: 0o640 });
  const gshadow = GROUP.map((line) => `${line.split(':')[0]}:*::`);
  writeFileSync(join(directory, 'gshadow'), `${gshadow.join('\n')}\n`, { mode: 0o640 });
}

/** Of the npm that this machine runs. */
function npmDirectory(): string {
  const program = findProgram('npm');
  if (program === null) throw new Error('npm is not installed');
  return join(dirname(realpathSync(program)), '..');
}

function versionOf(npm: string): string {
  const manifest: unknown = JSON.parse(readFileSync(join(npm, 'package.json'), 'utf8'));
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest
    ? String(manifest.version)
    : 'unknown';
}
