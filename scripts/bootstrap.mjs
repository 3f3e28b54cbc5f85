// Makes a fresh clone runnable: installs what the lock file names when node_modules is missing or older
// than the lock file, and compiles the sources when a source is newer than the compiled tree.
// It uses nothing but Node.js and npm, because nothing else is there yet.
import { existsSync, lstatSync, statSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { buildIfStale } from './compiled-program.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`walcast needs Node.js 20.19 or later; this is ${process.version}`);
  process.exit(1);
}

installIfStale();
buildIfStale(root);

function installIfStale() {
  const lock = join(root, 'package-lock.json');
  const installed = join(root, 'node_modules/.package-lock.json');
  if (existsSync(installed) && mtime(installed) >= mtime(lock)) return;
  refuseLink(join(root, 'node_modules'));
  console.error('walcast: installing what package-lock.json names (npm ci) …');
  // Install scripts are not needed: the harness makes the links the PostgreSQL packages ship as a list.
  const result = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
  });
  if (result.status !== 0) {
    console.error(
      'walcast: npm ci failed; its output is above. Check the network and run the command again.',
    );
    process.exit(1);
  }
}

// npm ci empties the folder first: through a link it would empty somebody else's.
function refuseLink(modules) {
  if (lstatSync(modules, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return;
  console.error(
    'walcast: node_modules is a symbolic link, and not what package-lock.json names. Remove the link and run the command again, or run npm ci where it leads.',
  );
  process.exit(1);
}

function mtime(path) {
  return statSync(path).mtimeMs;
}
