// The samples of one scrape as lines of text, by family. (prom-client keeps and hashes each series between scrapes; filling it
// anew for a thousand standbys holds up the event loop several times as long.)
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { DurationHistogram } from '../status/status.ts';
import { METRIC_PREFIX } from './catalogue.ts';
import type { FamilyName } from './catalogue.ts';
import { withLabel } from './label-text.ts';
import type { LabelText } from './label-text.ts';
import { floatBound } from './openmetrics.ts';

/** A set of states: the label, its words, and the one that is. */
export interface StateSet {
  readonly label: string;
  readonly words: readonly string[];
  readonly current: string | null;
}

/** Collects samples by family. What is not known is left out, never given as 0. */
export class Samples {
  readonly #lines = new Map<FamilyName, string>();
  #count = 0;

  /** How many there are. */
  get count(): number {
    return this.#count;
  }

  /** A value that is no finite number is left out: it would be one peer's nonsense in everybody's scrape. */
  add(family: FamilyName, labels: LabelText, value: number): void {
    if (Number.isFinite(value)) this.#line(family, { suffix: '', labels, value });
  }

  addIfKnown(family: FamilyName, labels: LabelText, value: number | null): void {
    if (value !== null) this.add(family, labels, value);
  }

  /** An LSN as a number of bytes: exact up to 2^53, 8 PiB of WAL. */
  addLsn(family: FamilyName, labels: LabelText, lsn: Lsn): void {
    if (lsn !== INVALID_LSN) this.add(family, labels, Number(lsn));
  }

  /** One series a word, 1 for `current` and 0 for the others. */
  addStates(family: FamilyName, labels: LabelText, states: StateSet): void {
    for (const word of states.words) {
      this.add(family, withLabel(labels, states.label, word), word === states.current ? 1 : 0);
    }
  }

  /** A histogram that was counted elsewhere, in plain numbers; its buckets become cumulative. */
  addHistogram(family: FamilyName, labels: LabelText, histogram: DurationHistogram): void {
    let count = 0;
    for (const [index, bucket] of histogram.counts.entries()) {
      count += bucket;
      const bound = histogram.boundsSeconds[index];
      const le = withLabel(labels, 'le', bound === undefined ? '+Inf' : floatBound(bound));
      this.#line(family, { suffix: '_bucket', labels: le, value: count });
    }
    this.#line(family, { suffix: '_sum', labels, value: histogram.sumSeconds });
    this.#line(family, { suffix: '_count', labels, value: count });
  }

  /** The lines of a family, in the order in which they were added, each with its newline. */
  linesOf(family: FamilyName): string {
    return this.#lines.get(family) ?? '';
  }

  #line(
    family: FamilyName,
    line: { readonly suffix: string; readonly labels: LabelText; readonly value: number },
  ): void {
    const { suffix, labels, value } = line;
    const name = `${METRIC_PREFIX}${family}${suffix}`;
    const text = labels === '' ? `${name} ${value}\n` : `${name}{${labels}} ${value}\n`;
    this.#lines.set(family, (this.#lines.get(family) ?? '') + text);
    this.#count += 1;
  }
}
