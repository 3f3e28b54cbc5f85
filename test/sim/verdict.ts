// What was violated, where and when? The list that all checkers write to.
import { formatLsn, toLsn } from '../../src/pg/lsn.ts';
import type { World } from './machine/world.ts';

/** The invariants that are checked; `live` is that everybody gets there in the end, `crash` that nobody dies of a bug. */
export const INVARIANTS = [
  'I1',
  'I2',
  'I3',
  'I4',
  'I5',
  'I6',
  'I7',
  'I8',
  'I9',
  'I11',
  'live',
  'crash',
] as const;
export type Invariant = (typeof INVARIANTS)[number];

/** One finding. */
export interface Violation {
  readonly invariant: Invariant;
  /** One sentence: what was violated, by whom, at which LSN and timeline, step and seed. */
  readonly text: string;
}

/** Where something was wrong. */
export interface Place {
  readonly by: string;
  readonly timeline?: number | undefined;
  readonly lsn?: bigint | undefined;
}

/** Findings of one run; the first one ends it. */
export class Verdict {
  readonly violations: Violation[] = [];
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  get isClean(): boolean {
    return this.violations.length === 0;
  }

  violate(invariant: Invariant, what: string, { by, timeline, lsn }: Place): void {
    const { steps, nowMs, seed } = this.#world;
    const position = lsn === undefined ? '' : ` at ${formatLsn(toLsn(lsn))}`;
    const where = timeline === undefined ? position : `${position} of timeline ${timeline}`;
    const text = `${invariant}: ${by}: ${what}${where} (step ${steps}, ${nowMs.toFixed(1)} ms, seed ${seed})`;
    this.#world.trace.note(`VIOLATION ${text}`);
    this.violations.push({ invariant, text });
  }
}
