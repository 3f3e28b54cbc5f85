// What is the CRC-32C (Castagnoli) of these bytes? PostgreSQL protects WAL records and control files with it, and so do we.
// Computed by a small WebAssembly module (crc32c-module.ts) over bytes that are copied into its memory, more than twice as
// fast as JavaScript, which does the rest: ranges too short for the copy to pay, and everything where WebAssembly is not
// allowed or has no memory. Both give the same; figures in docs/decisions/0023.
import { crc32cModule } from './crc32c-module.ts';
import { CRC32C_TABLES, updateInScript } from './crc32c-script.ts';

/** The state to begin with. (INIT_CRC32C) */
export const CRC32C_INITIAL: number = -1;

/** So many bytes fit into the memory of the module behind its tables. */
export const CRC32C_WINDOW_BYTES: number = 48 << 10;

const MEMORY_PAGE_BYTES = 64 << 10;

/** Copying fewer bytes than these takes longer than summing them in JavaScript. */
const COPIED_BYTES_MIN = 384;

/**
 * One stretch of bytes, of which several ranges are summed. There is one in the thread: a stretch is open until the next one
 * is, or until {@link updateCrc32c} is called.
 */
export interface Crc32cWindow {
  /** Opens bytes[start, end), at most CRC32C_WINDOW_BYTES. They may be copied: later changes count or not. */
  open(bytes: Uint8Array, start: number, end: number): void;
  /** Folds the range [start, end) of the stretch into `state`; indexes are those of the bytes that were given to `open`. */
  update(state: number, start: number, end: number): number;
}

/** The window of this thread. */
export const crc32cWindow: Crc32cWindow = compiledWindow() ?? scriptWindow();

/**
 * Folds `bytes[start, end)` into `state` and returns the new state. States are signed 32-bit numbers; only
 * {@link finishCrc32c} makes a checksum of one. (COMP_CRC32C)
 */
export function updateCrc32c(state: number, bytes: Uint8Array, start: number, end: number): number {
  if (end - start < COPIED_BYTES_MIN) return updateInScript(state, bytes, start, end);
  let crc = state;
  for (let from = start; from < end; from += CRC32C_WINDOW_BYTES) {
    const to = Math.min(end, from + CRC32C_WINDOW_BYTES);
    crc32cWindow.open(bytes, from, to);
    crc = crc32cWindow.update(crc, from, to);
  }
  return crc;
}

/** The checksum of a state: unsigned 32 bits. (FIN_CRC32C) */
export function finishCrc32c(state: number): number {
  return ~state >>> 0;
}

/** The checksum of `bytes`: unsigned 32 bits. */
export function crc32c(bytes: Uint8Array): number {
  return finishCrc32c(updateCrc32c(CRC32C_INITIAL, bytes, 0, bytes.length));
}

/** The window in plain JavaScript: nothing is copied. */
export function scriptWindow(): Crc32cWindow {
  let open: Uint8Array = new Uint8Array(0);
  return {
    open(bytes) {
      open = bytes;
    },
    update(state, start, end) {
      return updateInScript(state, open, start, end);
    },
  };
}

/** What is used of WebAssembly; it is missing under `--jitless`. */
declare const WebAssembly:
  | {
      readonly Module: new (bytes: Uint8Array) => object;
      readonly Instance: new (module: object) => {
        readonly exports: {
          readonly memory: { readonly buffer: ArrayBuffer };
          readonly update: (state: number, start: number, end: number) => number;
        };
      };
    }
  | undefined;

/** The window in WebAssembly, or null where that cannot be had. */
export function compiledWindow(): Crc32cWindow | null {
  if (typeof WebAssembly === 'undefined') return null;
  const tableBytes = CRC32C_TABLES.length * 4;
  const pages = Math.ceil((tableBytes + CRC32C_WINDOW_BYTES) / MEMORY_PAGE_BYTES);
  try {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(crc32cModule(pages)));
    const { memory, update } = exports;
    const tables = new DataView(memory.buffer);
    for (const [index, word] of CRC32C_TABLES.entries()) tables.setInt32(4 * index, word, true);
    const room = new Uint8Array(memory.buffer, tableBytes);
    /** What is added to an index to get an address in the memory. */
    let shift = 0;
    return {
      open(bytes, start, end) {
        room.set(bytes.subarray(start, end));
        shift = tableBytes - start;
      },
      update(state, start, end) {
        return update(state, start + shift, end + shift);
      },
    };
  } catch {
    // Forbidden by a policy, or no address space for its memory.
    return null;
  }
}
