// Is the compiled program as new as its sources? Uses nothing but Node.js: the bootstrap asks before anything is installed.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

/** What is built from. */
const SOURCES = ['src', 'page', 'scripts'];

/**
 * Compiles in the clone at `root` when a source is newer than what was compiled; does not return when that fails.
 * @param {string} root
 */
export function buildIfStale(root) {
  const compiled = join(root, 'dist/program/main.js');
  const latest = Math.max(...SOURCES.map((folder) => newest(join(root, folder))));
  if (existsSync(compiled) && statSync(compiled).mtimeMs >= latest) return;
  const result = spawnSync(process.execPath, [join(root, 'scripts/build.mjs')], {
    cwd: root,
    stdio: 'inherit',
  });
  if (result.status !== 0) process.exit(1);
}

/** @param {string} folder @returns {number} */
function newest(folder) {
  let latest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    latest = Math.max(latest, entry.isDirectory() ? newest(path) : statSync(path).mtimeMs);
  }
  return latest;
}
