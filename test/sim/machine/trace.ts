// What happened, and was it the same as last time? A hash over every step, and the last lines for people.

const LINES_KEPT = 400;

/** The steps of one run. */
export class Trace {
  readonly #isShown: boolean;
  readonly #lines: string[] = [];
  #high = 0x811c9dc5;
  #low = 0x01000193;

  constructor(options: { isShown?: boolean } = {}) {
    this.#isShown = options.isShown ?? false;
  }

  /** A step at virtual time `nowMs`. */
  step(nowMs: number, label: string): void {
    this.#add(`${nowMs.toFixed(3)} ${label}`);
  }

  /** Something that was met within a step. */
  note(text: string): void {
    this.#add(`    ${text}`);
  }

  /** Of everything so far. */
  hash(): string {
    return (this.#high >>> 0).toString(16) + (this.#low >>> 0).toString(16);
  }

  /** The last ones. */
  lines(count: number = LINES_KEPT): string[] {
    return this.#lines.slice(-count);
  }

  #add(line: string): void {
    for (let index = 0; index < line.length; index += 1) {
      const code = line.charCodeAt(index);
      this.#high = Math.imul(this.#high ^ code, 0x01000193);
      this.#low = Math.imul(this.#low ^ code, 0x85ebca6b) ^ (this.#high >>> 15);
    }
    if (this.#isShown) process.stdout.write(`${line}\n`);
    this.#lines.push(line);
    if (this.#lines.length > 2 * LINES_KEPT) this.#lines.splice(0, LINES_KEPT);
  }
}
