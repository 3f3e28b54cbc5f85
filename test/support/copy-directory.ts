// A directory as it is at one moment, though somebody works in it.
import { copyFile, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode } from '../../src/base/errors.ts';

/**
 * Copies files and directories of `from` into `to`, made when it is missing. A file that goes while it is copied (a temporary one
 * on the way to its name) is left out; sockets are, too.
 */
export async function copyDirectory(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true, mode: 0o700 });
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) await copyDirectory(source, target);
    else if (entry.isFile()) await copyFile(source, target).catch(ignoreGone);
  }
}

function ignoreGone(error: unknown): void {
  if (systemErrorCode(error) !== 'ENOENT') throw error;
}
