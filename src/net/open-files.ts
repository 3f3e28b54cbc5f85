// How many files and sockets may this process have open?
import { readFile } from 'node:fs/promises';

/** Node.js raises its own soft limit to the hard one, so this is what it can have. Null where there is no /proc. */
export async function openFilesMax(): Promise<number | null> {
  try {
    const limits = await readFile('/proc/self/limits', 'latin1');
    const soft = /^Max open files\s+(\S+)/m.exec(limits)?.[1];
    if (soft === 'unlimited') return Number.MAX_SAFE_INTEGER;
    return soft === undefined ? null : Number(soft);
  } catch {
    return null;
  }
}
