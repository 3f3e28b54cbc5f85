// Which files does walcast need where it runs, and nothing is compiled? Copies them from this clone, after a build, to the
// directory that the first argument names. The Dockerfile calls it; owners and modes do not depend on who cloned, and how.
import { chmodSync, cpSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** The program is a bundle; one package is loaded when a host name or an HTTPS API is first asked. */
const FILES = [
  'bin/walcast.mjs',
  'dist/page',
  'dist/program',
  'node_modules/undici/LICENSE',
  'node_modules/undici/index.js',
  'node_modules/undici/lib',
  'node_modules/undici/package.json',
];

/** What package.json has to say of itself where nothing is installed from it. */
const MANIFEST_KEYS = ['name', 'version', 'description', 'type', 'bin', 'engines'];

/** Of the packages for development: what the status page holds a part of. */
const OF_PAGE = ['node_modules/uplot'];

const LICENCE_FILE = /^(licen[cs]e|copying)(\.|-|$)/i;

const target = process.argv[2];
if (target === undefined) {
  console.error('usage: node scripts/image-files.mjs DIRECTORY');
  process.exit(2);
}
for (const path of FILES) copy(path);
write('package.json', `${JSON.stringify(ownManifest(), null, 2)}\n`);
write('THIRD-PARTY-LICENCES.txt', licences());
setModes(target);

function copy(path) {
  mkdirSync(dirname(join(target, path)), { recursive: true });
  // Source maps and types are of use beside the sources only.
  cpSync(join(root, path), join(target, path), {
    recursive: true,
    filter: (from) => !/\.map$|\.d\.[cm]?ts$/.test(from),
  });
}

function write(path, text) {
  writeFileSync(join(target, path), text);
}

function ownManifest() {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return Object.fromEntries(MANIFEST_KEYS.map((key) => [key, manifest[key]]));
}

/** The packages of the lock file that the bundle or the page may hold a part of: those of the page, and all that are no development ones. */
function licences() {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const packages = Object.entries(lock.packages).filter(
    ([path, entry]) =>
      OF_PAGE.includes(path) ||
      (path.startsWith('node_modules/') && !entry.dev && !entry.optional && !entry.link),
  );
  return packages.map(([path, entry]) => licence(path, entry.version)).join('\n\n');
}

function licence(path, version) {
  const directory = join(root, path);
  const name = relative('node_modules', path);
  const file = readdirSync(directory).find((entry) => LICENCE_FILE.test(entry));
  const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  const text =
    file === undefined
      ? `${JSON.stringify(manifest.license)} ${JSON.stringify(manifest.author)}`
      : readFileSync(join(directory, file), 'utf8').trim();
  return `== ${name} ${version} (${manifest.license})\n\n${text}\n`;
}

function setModes(directory) {
  chmodSync(directory, 0o755);
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) setModes(path);
    else chmodSync(path, 0o644);
  }
}
