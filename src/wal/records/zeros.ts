// Are these bytes all zero? Padding is a few bytes, the rest of a switched segment up to a gigabyte.
import { PAGE_SIZE } from '../../pg/lsn.ts';

const ZEROS: Uint8Array = new Uint8Array(PAGE_SIZE);
const SHORT_BYTES = 64;

/** True when `bytes[start, end)` holds nothing but zeros. */
export function isZeroRange(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start > SHORT_BYTES) return isLongZeroRange(bytes, start, end);
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return false;
  return true;
}

function isLongZeroRange(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i += ZEROS.length) {
    const piece = bytes.subarray(i, Math.min(end, i + ZEROS.length));
    if (Buffer.compare(piece, ZEROS.subarray(0, piece.length)) !== 0) return false;
  }
  return true;
}
