// How is a segment file read from end to end without holding it in memory? Piece by piece, the next one being read while
// the caller works on the one before; and where is the next page in it that is WAL of its own address?
import type { FileHandle } from 'node:fs/promises';
import { readFully } from '../base/durable-fs.ts';
import { advanceLsn, PAGE_SIZE } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { VersionFacts } from '../pg/server-version.ts';

/** Bytes of one piece. Two are held at a time. */
export const SCAN_CHUNK_BYTES: number = 1 << 20;

/** A piece of a file. `bytes` is valid until the next piece is asked for. */
export interface FilePiece {
  /** Offset of its first byte in the file. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Two buffers that a scan takes turns with; one scan at a time may use them. */
export class ScanBuffers {
  readonly #buffers = [
    Buffer.allocUnsafeSlow(SCAN_CHUNK_BYTES),
    Buffer.allocUnsafeSlow(SCAN_CHUNK_BYTES),
  ] as const;

  /** The bytes of `handle` from `from` to `to` (exclusive), or to its end when that comes first. */
  async *pieces(handle: FileHandle, from: number, to: number): AsyncGenerator<FilePiece> {
    const read = async (offset: number, turn: number): Promise<FilePiece> => {
      const buffer = this.#buffers[turn & 1] ?? this.#buffers[0];
      const wanted = buffer.subarray(0, Math.max(0, Math.min(SCAN_CHUNK_BYTES, to - offset)));
      const length = await readFully(handle, wanted, offset);
      return { offset, bytes: wanted.subarray(0, length) };
    };
    let turn = 0;
    let next = read(from, turn);
    try {
      for (;;) {
        const piece = await next;
        if (piece.bytes.length === 0) return;
        turn++;
        next = read(piece.offset + piece.bytes.length, turn);
        yield piece;
      }
    } finally {
      // Left early: the read ahead still writes into our buffer, and uses the handle that the caller closes.
      await next.catch(() => {});
    }
  }
}

/** A segment file, and what its pages must be. */
export interface ScannedSegment {
  readonly handle: FileHandle;
  /** Address of its first byte. */
  readonly startLsn: Lsn;
  readonly size: number;
  readonly facts: VersionFacts;
}

/**
 * Offset of the first page at or behind `from` (a multiple of the page size) that says it is WAL of its own address; null
 * when there is none. Pages that a recycled file holds still say another address.
 */
export async function findLivePage(
  buffers: ScanBuffers,
  segment: ScannedSegment,
  from: number,
): Promise<number | null> {
  for await (const { offset, bytes } of buffers.pieces(segment.handle, from, segment.size)) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at + 16 <= bytes.length; at += PAGE_SIZE) {
      if (view.getUint16(at, true) !== segment.facts.walPageMagic) continue;
      if (view.getBigUint64(at + 8, true) !== advanceLsn(segment.startLsn, offset + at)) continue;
      return offset + at;
    }
  }
  return null;
}
