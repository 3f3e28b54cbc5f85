// Where does the name of a file lead, and was a link on the way swapped since? What a file holds is another question: a plain
// file that is edited has not moved.
import { realpathSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Where an absolute name led at one moment, links resolved. */
export interface FilePlace {
  /** The directory that the file is in; null when there is none. */
  readonly directory: string | null;
  /** The file itself; null when there is none. */
  readonly file: string | null;
}

/** Where `name`, absolute, leads. Never throws: what cannot be resolved is not there. */
export function filePlaceSync(name: string): FilePlace {
  return { directory: resolvedSync(dirname(name)), file: resolvedSync(name) };
}

/** The same without waiting for the file system. Never rejects. */
export async function filePlace(name: string): Promise<FilePlace> {
  const [directory, file] = await Promise.all([dirname(name), name].map(resolved));
  return { directory: directory ?? null, file: file ?? null };
}

/**
 * True when a link on the way to `name` leads elsewhere than before: the name itself, or a directory above it, as a mounted
 * ConfigMap has it. A directory that is gone says nothing yet: what swaps it may need two steps.
 */
export function isSwapped(name: string, before: FilePlace, now: FilePlace): boolean {
  if (now.directory === null) return false;
  if (now.directory !== before.directory) return true;
  return now.file !== before.file && (isLink(name, before) || isLink(name, now));
}

function isLink(name: string, { directory, file }: FilePlace): boolean {
  return directory !== null && file !== null && file !== join(directory, basename(name));
}

function resolvedSync(name: string): string | null {
  try {
    return realpathSync.native(name);
  } catch {
    return null;
  }
}

async function resolved(name: string): Promise<string | null> {
  try {
    return await realpath(name);
  } catch {
    return null;
  }
}
