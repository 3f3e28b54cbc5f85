// What we know about our slot on each host of the list, and so what to do about it on the next session. Pure.
import type { VersionFacts } from '../pg/server-version.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { Identification } from './upstream-identify.ts';
import type { SlotPlan } from './upstream-slot.ts';

/** Memory of one walreceiver, by index of the host. */
export class SlotBook {
  readonly #name: string | null;
  readonly #known = new Set<number>();
  readonly #useless = new Set<number>();
  readonly #left = new Set<number>();

  /** `name` null: no slot is used. */
  constructor(name: string | null) {
    this.#name = name;
  }

  /** What to do about the slot on the next session with that host; null = nothing. */
  plan(hostIndex: number): SlotPlan | null {
    if (this.#name === null) return null;
    const isKnown = this.#known.has(hostIndex);
    if (this.#left.has(hostIndex)) return { name: this.#name, action: 'leave', isKnown };
    const action = this.#useless.has(hostIndex) ? 'recreate' : 'use';
    return { name: this.#name, action, isKnown };
  }

  /** The plan was carried out. */
  identified(hostIndex: number, identification: Identification): void {
    this.#useless.delete(hostIndex);
    if (identification.isSlotMissing) this.#known.delete(hostIndex);
    else this.#known.add(hostIndex);
  }

  /** The gate holds that host as one we may never follow: no slot is created there from now on. */
  held(hostIndex: number): void {
    this.#left.add(hostIndex);
  }

  /** The slot was dropped, by us or somebody else. */
  dropped(hostIndex: number): void {
    this.#known.delete(hostIndex);
  }

  /** The gate lets us follow that host. True when the slot has to be created first, or anew, on another session. */
  mustCreateFirst(hostIndex: number, identification: Identification): boolean {
    this.#left.delete(hostIndex);
    if (identification.isSlotMissing) this.#useless.add(hostIndex);
    return identification.isSlotMissing;
  }

  /** START_REPLICATION was refused with `sqlstate`. */
  refused(hostIndex: number, sqlstate: string, facts: VersionFacts): void {
    if (sqlstate === SQLSTATE.undefinedObject) this.dropped(hostIndex);
    // From that major on the slot was read and found physical before, so what remains is an invalidated one.
    const isInvalidated =
      sqlstate === SQLSTATE.objectNotInPrerequisiteState && facts.refusesInvalidatedPhysicalSlot;
    if (isInvalidated) this.#useless.add(hostIndex);
  }
}
