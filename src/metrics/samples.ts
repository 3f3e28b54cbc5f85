// The values of one scrape, before they become text.
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { FamilyName } from './catalogue.ts';

/** Label values by label name. */
export type Labels = Readonly<Record<string, string>>;

/** One series' value at one instant. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** Collects samples by family. What is not known is left out, never given as 0. */
export class Samples {
  readonly #byFamily = new Map<FamilyName, Sample[]>();

  /** A value that is no finite number is left out: it would be one peer's nonsense in everybody's scrape. */
  add(family: FamilyName, labels: Labels, value: number): void {
    if (!Number.isFinite(value)) return;
    const samples = this.#byFamily.get(family);
    if (samples === undefined) this.#byFamily.set(family, [{ labels, value }]);
    else samples.push({ labels, value });
  }

  addIfKnown(family: FamilyName, labels: Labels, value: number | null): void {
    if (value !== null) this.add(family, labels, value);
  }

  /** An LSN as a number of bytes: exact up to 2^53, 8 PiB of WAL. */
  addLsn(family: FamilyName, labels: Labels, lsn: Lsn): void {
    if (lsn !== INVALID_LSN) this.add(family, labels, Number(lsn));
  }

  /** One series a word, 1 for `current` and 0 for the others. */
  addStates(
    family: FamilyName,
    labels: Labels,
    states: {
      readonly label: string;
      readonly words: readonly string[];
      readonly current: string | null;
    },
  ): void {
    for (const word of states.words) {
      this.add(family, { ...labels, [states.label]: word }, word === states.current ? 1 : 0);
    }
  }

  /** The samples of a family, in the order they were added. */
  of(family: FamilyName): readonly Sample[] {
    return this.#byFamily.get(family) ?? [];
  }
}
