// What does a disk say that is not so? The place where a planted bug stands between the program and its disk.
import type { OpenFile } from './disk-calls.ts';

/** What happens instead of an fsync. */
export interface DiskLies {
  beforeSync(file: OpenFile, sync: () => void): void;
}

const HONEST: DiskLies = {
  beforeSync: (_file, sync) => sync(),
};

let current: DiskLies = HONEST;

/** In effect now. */
export function lies(): DiskLies {
  return current;
}

/** From now on; null for none. */
export function setLies(next: DiskLies | null): void {
  current = next ?? HONEST;
}
