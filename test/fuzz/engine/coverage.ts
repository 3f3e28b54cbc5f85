// Which code of the program did inputs reach? V8's own block counters, read through the inspector. Counting makes the
// program slower, so it is switched on for a part of a run only.
import { Session } from 'node:inspector';
import type { Profiler } from 'node:inspector';

/** Blocks of the program that were reached, seen from one thread. */
export class Coverage {
  readonly #session = new Session();
  readonly #root: string;
  readonly #seen = new Set<string>();
  #isOn = false;

  /** `root`: beginning of the addresses of the scripts that count. */
  constructor(root: string) {
    this.#root = root;
  }

  /** Blocks reached so far. */
  get size(): number {
    return this.#seen.size;
  }

  start(): void {
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    this.#isOn = true;
  }

  stop(): void {
    if (!this.#isOn) return;
    this.#isOn = false;
    this.#session.post('Profiler.stopPreciseCoverage');
    this.#session.post('Profiler.disable');
    this.#session.disconnect();
  }

  /** Blocks reached since the last call that had not been reached before; they count as reached from now on if `keep`. */
  take(keep: boolean): string[] {
    const fresh: string[] = [];
    for (const block of this.#reached()) {
      if (this.#seen.has(block)) continue;
      fresh.push(block);
      if (keep) this.#seen.add(block);
    }
    return fresh;
  }

  /** From now on these have been reached. */
  note(blocks: Iterable<string>): void {
    for (const block of blocks) this.#seen.add(block);
  }

  #reached(): string[] {
    let scripts: readonly Profiler.ScriptCoverage[] = [];
    this.#session.post('Profiler.takePreciseCoverage', (error, taken) => {
      if (error !== null) throw error;
      scripts = taken.result;
    });
    const blocks: string[] = [];
    for (const { url, functions } of scripts) {
      if (!url.startsWith(this.#root)) continue;
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count } of ranges) {
          if (count > 0) blocks.push(`${url.slice(this.#root.length)}:${startOffset}-${endOffset}`);
        }
      }
    }
    return blocks;
  }
}
