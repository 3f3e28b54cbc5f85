// Which value does a label get for a name that a client or a file chose? Their number is bounded: first come, first shown; the
// rest is folded into `_other`.
import { bounded } from './label-text.ts';

/** The label of everything beyond the cap. */
export const OTHERS: string = '_other';

/** Hands out values of one label. A name that has been away for `forgetMs` gives its place back. */
export class CappedLabels {
  readonly #cap: number;
  readonly #forgetMs: number;
  readonly #seenAtMs = new Map<string, number>();

  constructor(options: { cap: number; forgetMs: number }) {
    this.#cap = options.cap;
    this.#forgetMs = options.forgetMs;
  }

  /** The label of `name`, which is in use at `nowMs` (monotonic). */
  labelOf(name: string, nowMs: number): string {
    const label = labelFor(name);
    if (!this.#seenAtMs.has(label) && this.#seenAtMs.size >= this.#cap) return OTHERS;
    this.#seenAtMs.set(label, nowMs);
    return label;
  }

  /** The label `name` has now; takes no place. */
  peek(name: string): string {
    const label = labelFor(name);
    return this.#seenAtMs.has(label) ? label : OTHERS;
  }

  /** True for a label that was handed out and not yet forgotten. */
  isShown(label: string): boolean {
    return label === OTHERS || this.#seenAtMs.has(label);
  }

  /** Frees the places of names not seen for long. */
  forget(nowMs: number): void {
    for (const [label, seenAtMs] of this.#seenAtMs) {
      if (nowMs - seenAtMs > this.#forgetMs) this.#seenAtMs.delete(label);
    }
  }
}

/** How a name is shown where it is: never as the label of those beyond the cap. */
export function labelFor(name: string): string {
  // As PostgreSQL does to an application_name. (guc.c:check_application_name, pg_clean_ascii)
  const label = bounded(name).replaceAll(/[^\x20-\x7e]/g, '?');
  if (label === '') return '_unnamed';
  return label === OTHERS ? '_other_' : label;
}
