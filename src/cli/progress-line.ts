// How is a long work shown? On a terminal one line that is written over, elsewhere a quiet line every ten seconds; what is
// done within a second shows nothing.
import type { Clock, Timer } from '../base/clock.ts';
import { sizeText } from '../base/human-text.ts';

/** Nothing is shown of a work that is shorter. */
export const PROGRESS_SILENCE_MS = 1_000;

/** Time between two pictures on a terminal, and between two lines elsewhere. */
const PROGRESS_TERMINAL_MS = 250;
const PROGRESS_LINE_MS = 10_000;

/** Over how long the speed is averaged. */
const SPEED_WINDOW_MS = 5_000;

/** Clears the line and leaves the cursor at its beginning, so that anything printed meanwhile stands alone. */
export const CLEAR_LINE = '\r\x1b[2K';

/** Where progress goes. */
export interface ProgressOutput {
  readonly clock: Clock;
  readonly isTerminal: boolean;
  /** Called with text for the terminal, control characters included, or with whole lines. */
  write(text: string): void;
}

/** A measured piece of a work. */
interface Sample {
  readonly atMs: number;
  readonly bytes: number;
}

/** Speed and remaining time of a work that is counted in bytes. */
export class Speedometer {
  readonly #samples: Sample[] = [];

  /** Notes that `bytes` are done in all. */
  note(atMs: number, bytes: number): void {
    this.#samples.push({ atMs, bytes });
    while ((this.#samples[1]?.atMs ?? atMs) < atMs - SPEED_WINDOW_MS) this.#samples.shift();
  }

  /** Bytes per second of late; 0 before there are two samples. */
  bytesPerSecond(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0;
    return ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs);
  }
}

/** `42%  12.3 MB/s  ETA 1:05`: how far `doneBytes` of `totalBytes` are. */
export function progressText(
  doneBytes: number,
  totalBytes: number,
  bytesPerSecond: number,
): string {
  const share = totalBytes <= 0 ? 100 : Math.min(100, (doneBytes * 100) / totalBytes);
  const left = Math.max(0, totalBytes - doneBytes);
  const eta = bytesPerSecond > 0 ? timeText(left / bytesPerSecond) : '-';
  const done = `${Math.floor(share)}%`.padStart(4);
  return `${done}  ${(bytesPerSecond / 1024 ** 2).toFixed(1)} MB/s  ETA ${eta}  ${sizeText(doneBytes)} of ${sizeText(totalBytes)}`;
}

/** Seconds as `0:07`, `12:34`, `1:02:03`. */
export function timeText(seconds: number): string {
  const whole = Math.ceil(Math.min(seconds, 99 * 3600));
  const [hours, minutes, rest] = [
    Math.floor(whole / 3600),
    Math.floor(whole / 60) % 60,
    whole % 60,
  ];
  const tail = `${String(minutes).padStart(hours > 0 ? 2 : 1, '0')}:${String(rest).padStart(2, '0')}`;
  return hours > 0 ? `${hours}:${tail}` : tail;
}

/** The line of one work. Begins to count when it is made. */
export class ProgressLine {
  readonly #output: ProgressOutput;
  readonly #title: string;
  readonly #speed = new Speedometer();
  #timer: Timer | null;
  #isShown = false;
  #doneBytes = 0;
  #totalBytes = 0;

  constructor(output: ProgressOutput, title: string) {
    this.#output = output;
    this.#title = title;
    const first = output.isTerminal ? PROGRESS_SILENCE_MS : PROGRESS_LINE_MS;
    this.#speed.note(output.clock.nowMs(), 0);
    this.#timer = output.clock.setTimer(first, () => this.#tick());
  }

  /** How far the work is. Cheap: nothing is written here. */
  update(progress: { readonly doneBytes: number; readonly totalBytes: number }): void {
    this.#doneBytes = progress.doneBytes;
    this.#totalBytes = progress.totalBytes;
  }

  /** Takes the line away; to be called in any case. */
  end(): void {
    this.#timer?.cancel();
    this.#timer = null;
    if (this.#isShown) this.#output.write(CLEAR_LINE);
  }

  #tick(): void {
    const { clock, isTerminal } = this.#output;
    this.#speed.note(clock.nowMs(), this.#doneBytes);
    const rate = this.#speed.bytesPerSecond();
    const text = `${this.#title} ${progressText(this.#doneBytes, this.#totalBytes, rate)}`;
    this.#output.write(isTerminal ? `${CLEAR_LINE}${text}\r` : `${text}\n`);
    this.#isShown = isTerminal;
    const nextMs = isTerminal ? PROGRESS_TERMINAL_MS : PROGRESS_LINE_MS;
    this.#timer = clock.setTimer(nextMs, () => this.#tick());
  }
}
