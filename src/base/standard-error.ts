// The standard error of the process as the log writes to it: a reader that stops reading (a log collector that hangs, a
// terminal that was stopped) must not stop keepalives and acknowledgement, so no write waits. What cannot be written yet is
// kept up to a bound; what comes beyond is dropped and counted; the end of the process waits a moment for the rest.
import { constants, fstatSync, openSync, write, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { systemClock } from './clock.ts';
import type { Clock } from './clock.ts';

/** Text that is kept while nobody reads, in bytes. */
const PENDING_BYTES_MAX = 1024 * 1024;

/** As much as is given to the kernel at once. */
const CHUNK_BYTES = 64 * 1024;

/** How soon it is tried again while nobody reads. */
const RETRY_MS = 20;

/** How soon it is tried again when it went wrong: no reader any more, no space on the disk. */
const RETRY_FAILED_MS = 1_000;

/** A write in the pool of threads that takes longer than this while the process ends is taken for one that hangs. */
const HANGING_WRITE_MS = 500;

/** Where the bytes go. */
export interface OutputDevice {
  /** Writes what can be taken at once and returns how many bytes that was; throws EAGAIN when it is none. */
  writeNow(bytes: Uint8Array): number;
  /** For a device that may block: writes elsewhere and calls back. Absent: `writeNow` never blocks. */
  writeLater?(bytes: Uint8Array, done: (error: Error | null, written: number) => void): void;
}

/** Text to a device that nobody may be reading. Lines are dropped whole and never torn. */
export class BoundedOutput {
  readonly #device: OutputDevice;
  readonly #clock: Clock;
  #onLost: (lines: number) => void = () => {};
  #lines: string[] = [];
  /** Of the lines, and of the chunk as it was at first. */
  #pendingBytes = 0;
  #chunk: Uint8Array = EMPTY;
  #chunkBytes = 0;
  #lost = 0;
  #isRetrying = false;
  #laterSinceMs: number | null = null;

  constructor(device: OutputDevice, clock: Clock) {
    this.#device = device;
    this.#clock = clock;
  }

  /** `listener` is called once it flows again, with the lines that were dropped since. One listener, the last. */
  onLost(listener: (lines: number) => void): void {
    this.#onLost = listener;
  }

  /** One line with its end. Never waits, never throws. */
  write(line: string): void {
    const bytes = Buffer.byteLength(line);
    if (this.#pendingBytes + bytes > PENDING_BYTES_MAX) {
      this.#lost += 1;
      return;
    }
    // Not at the brink: it would be told line by line. A reader that is always behind has to hear of it, too.
    if (this.#pendingBytes <= PENDING_BYTES_MAX / 2) this.#tellLost();
    this.#lines.push(line);
    this.#pendingBytes += bytes;
    this.#pump();
  }

  /** For the end of the process: waits, without the event loop, until all is written, at most `timeoutMs`. False: it is not. */
  flush(timeoutMs: number): boolean {
    const nowMs = this.#clock.nowMs();
    const deadlineMs = nowMs + timeoutMs;
    // What is being written by a thread is written to its end, if ever; only what comes behind it can be helped.
    if (this.#laterSinceMs !== null) {
      if (nowMs - this.#laterSinceMs > HANGING_WRITE_MS) return false;
      this.#chunkDone();
    }
    for (;;) {
      if (!this.#nextChunk()) return true;
      const wrong = this.#writeNow();
      if (wrong === null) continue;
      if (wrong === 'failed' || this.#clock.nowMs() >= deadlineMs) return false;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  }

  #pump(): void {
    if (this.#isRetrying || this.#laterSinceMs !== null) return;
    while (this.#nextChunk()) {
      if (this.#device.writeLater !== undefined) {
        this.#laterSinceMs = this.#clock.nowMs();
        this.#device.writeLater(this.#chunk, (error, written) => this.#onWritten(error, written));
        return;
      }
      const wrong = this.#writeNow();
      if (wrong !== null) {
        this.#retryIn(wrong === 'full' ? RETRY_MS : RETRY_FAILED_MS);
        return;
      }
    }
  }

  #writeNow(): 'full' | 'failed' | null {
    try {
      this.#advance(this.#device.writeNow(this.#chunk));
      return null;
    } catch (error) {
      return isFull(error) ? 'full' : 'failed';
    }
  }

  #onWritten(error: Error | null, written: number): void {
    this.#laterSinceMs = null;
    if (error !== null) {
      this.#retryIn(RETRY_FAILED_MS);
      return;
    }
    this.#advance(written);
    this.#pump();
  }

  #retryIn(delayMs: number): void {
    this.#isRetrying = true;
    this.#clock.setTimer(delayMs, () => {
      this.#isRetrying = false;
      this.#pump();
    });
  }

  #advance(written: number): void {
    this.#chunk = this.#chunk.subarray(written);
    if (this.#chunk.length === 0) this.#chunkDone();
  }

  #chunkDone(): void {
    this.#chunk = EMPTY;
    this.#pendingBytes -= this.#chunkBytes;
    this.#chunkBytes = 0;
    if (this.#pendingBytes === 0) this.#tellLost();
  }

  #tellLost(): void {
    if (this.#lost === 0) return;
    const lost = this.#lost;
    this.#lost = 0;
    this.#onLost(lost);
  }

  /** False when there is nothing to write. */
  #nextChunk(): boolean {
    if (this.#chunk.length > 0) return true;
    let count = 0;
    let bytes = 0;
    while (count < this.#lines.length && bytes < CHUNK_BYTES) {
      bytes += Buffer.byteLength(this.#lines[count] ?? '');
      count += 1;
    }
    this.#chunk = Buffer.from(this.#lines.splice(0, count).join(''));
    this.#chunkBytes = this.#chunk.length;
    return count > 0;
  }
}

const EMPTY = new Uint8Array(0);

function isFull(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return code === 'EAGAIN' || code === 'EINTR';
}

const STANDARD_ERROR = 2;

let opened: BoundedOutput | null = null;

/** Standard error, opened when it is first asked for. */
export function standardError(): BoundedOutput {
  opened ??= new BoundedOutput(openDevice(), systemClock);
  return opened;
}

/** For the end of the process: what was logged and is not written yet. Waits at most `timeoutMs`. */
export function flushStandardError(timeoutMs: number): void {
  opened?.flush(timeoutMs);
}

/** Pipes, sockets and terminals can be asked not to block; files cannot, and a disk may hang: a thread writes there. */
function openDevice(): OutputDevice {
  const fd = openNonBlocking();
  const writeNow = (bytes: Uint8Array): number => writeSync(fd ?? STANDARD_ERROR, bytes);
  if (fd !== null) return { writeNow };
  return {
    writeNow,
    writeLater: (bytes, done) => write(STANDARD_ERROR, bytes, 0, bytes.length, null, done),
  };
}

/** Null when every write may block. */
function openNonBlocking(): number | null {
  try {
    const stat = fstatSync(STANDARD_ERROR);
    if (stat.isFIFO() || isatty(STANDARD_ERROR)) {
      // Opened anew: whether it blocks must not depend on the other processes that have it, nor change it for them.
      const own = openOwn();
      if (own !== null) return own;
    }
    if (!stat.isFIFO() && !stat.isSocket()) return null;
    // Node itself asks the pipe or socket behind the stream not to block.
    return process.stderr.writable ? STANDARD_ERROR : null;
  } catch {
    return null;
  }
}

/** Null where it is somebody else's (the process was started as root and changed its user). */
function openOwn(): number | null {
  const flags = constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
  try {
    return openSync(`/proc/self/fd/${STANDARD_ERROR}`, flags);
  } catch {
    return null;
  }
}
