// Bugs that the simulator has to find: one for each invariant.
import type { DiskLies } from './machine/lies.ts';
import type { ScenarioWishes } from './scenario.ts';
import type { Invariant } from './verdict.ts';

/** A mistake that is put in for a run. */
export interface PlantedBug {
  readonly invariant: Invariant;
  readonly what: string;
  /** Puts it in; the answer takes it out again. */
  readonly plant: () => () => void;
  readonly lies?: DiskLies;
  readonly wishes?: ScenarioWishes;
}
