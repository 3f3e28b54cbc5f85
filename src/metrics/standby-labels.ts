// Which value of the label `standby` an application_name gets. The client chooses that name, so their number is
// bounded: first come, first shown; the rest is folded into `_other`.

/** The label of everything beyond the cap. */
export const OTHER_STANDBYS: string = '_other';

const NAME_LENGTH_MAX = 63;

/** Hands out labels. A name that has been away for `forgetMs` gives its place back. */
export class StandbyLabels {
  readonly #cap: number;
  readonly #forgetMs: number;
  readonly #seenAtMs = new Map<string, number>();

  constructor(options: { cap: number; forgetMs: number }) {
    this.#cap = options.cap;
    this.#forgetMs = options.forgetMs;
  }

  /** The label of `applicationName`, which is in use at `nowMs` (monotonic). */
  labelOf(applicationName: string, nowMs: number): string {
    const label = sanitize(applicationName);
    if (!this.#seenAtMs.has(label) && this.#seenAtMs.size >= this.#cap) return OTHER_STANDBYS;
    this.#seenAtMs.set(label, nowMs);
    return label;
  }

  /** The label `applicationName` has now; takes no place. */
  peek(applicationName: string): string {
    const label = sanitize(applicationName);
    return this.#seenAtMs.has(label) ? label : OTHER_STANDBYS;
  }

  /** True for a label that was handed out and not yet forgotten. */
  isShown(label: string): boolean {
    return label === OTHER_STANDBYS || this.#seenAtMs.has(label);
  }

  /** Frees the places of names not seen for long. */
  forget(nowMs: number): void {
    for (const [label, seenAtMs] of this.#seenAtMs) {
      if (nowMs - seenAtMs > this.#forgetMs) this.#seenAtMs.delete(label);
    }
  }
}

function sanitize(name: string): string {
  const printable = name.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, NAME_LENGTH_MAX);
  if (printable === '') return '_unnamed';
  return printable === OTHER_STANDBYS ? '_other_' : printable;
}
