// A bug on purpose: does the fuzzer see it? It waits for a status update of a standby that has another length than such a
// message has, which no input has to begin with.
import type { Canary } from '../engine/target.ts';
import type { MemoryFeed } from '../../support/memory-wal.ts';

const STATUS_UPDATE_BYTES = 39;
const KEPT_BYTES = 512 * 1024;
const kept: Buffer[] = [];

/** What `canary` does where `chunk` is what it waits for. */
export function sing(canary: Canary, chunk: Uint8Array, feed: MemoryFeed): void {
  const isStatusUpdate = chunk[0] === 0x64 && chunk[5] === 0x72;
  if (!isStatusUpdate || chunk.length >= STATUS_UPDATE_BYTES) return;
  switch (canary) {
    case 'crash':
      throw new TypeError('the canary fell');
    case 'hang':
      for (;;) if (chunk.length === STATUS_UPDATE_BYTES) return;
    case 'leak':
      kept.push(Buffer.alloc(KEPT_BYTES));
      return;
    case 'bytes':
      feed.spoiledFromLsn = feed.sendableLsn();
      return;
    default:
      canary satisfies never;
  }
}
