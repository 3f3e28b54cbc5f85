// A temporary directory that goes away however the bench ends in order: at its end, by an error, by Ctrl-C.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * @param {string} purpose part of its name
 * @param {string} [parent] default: the system's temporary directory
 * @returns {string} its path
 */
export function makeTemporaryDirectory(purpose, parent = tmpdir()) {
  const directory = mkdtempSync(join(parent, `walcast-bench-${purpose}-`));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
