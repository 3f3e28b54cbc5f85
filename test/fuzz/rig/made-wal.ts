// The WAL of the rigs, made once: inputs come by the million.
import { walBytes } from '../../support/memory-wal.ts';

/** Where it begins, and where the WAL of a rig ends at first. */
export const RIG_OLDEST_LSN = 0x122c000n;
export const RIG_START_LSN = 0x1234000n;

const LIMIT_LSN = RIG_START_LSN + (8n << 20n);
const MADE = walBytes(RIG_OLDEST_LSN, LIMIT_LSN);

/** The bytes [start, end) of it, which nobody changes; what lies outside is made now. */
export function madeWal(start: bigint, end: bigint): Buffer {
  if (start < RIG_OLDEST_LSN || end > LIMIT_LSN) return walBytes(start, end);
  return MADE.subarray(Number(start - RIG_OLDEST_LSN), Number(end - RIG_OLDEST_LSN));
}
