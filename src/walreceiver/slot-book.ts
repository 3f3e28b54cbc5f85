// What we know about our slot on each host, and so what to do about it on the next session. Pure.
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { UpstreamIdentity } from './ports.ts';
import type { Identification } from './upstream-identify.ts';
import type { SlotPlan } from './upstream-slot.ts';

/** Memory of one walreceiver, by key of the host (upstream-hosts.ts). */
export class SlotBook {
  readonly #name: string | null;
  readonly #known = new Set<string>();
  /** With the restart_lsn by which it is known again. */
  readonly #useless = new Map<string, Lsn>();
  readonly #left = new Set<string>();

  /** `name` null: no slot is used. */
  constructor(name: string | null) {
    this.#name = name;
  }

  /** What to do about the slot on the next session with that host; null = nothing. */
  plan(host: string): SlotPlan | null {
    if (this.#name === null) return null;
    const isKnown = this.#known.has(host);
    if (this.#left.has(host)) return { name: this.#name, action: 'leave', isKnown };
    const uselessLsn = this.#useless.get(host);
    if (uselessLsn === undefined) return { name: this.#name, action: 'use', isKnown };
    return { name: this.#name, action: 'recreate', uselessLsn, isKnown };
  }

  /** The plan was carried out. */
  identified(host: string, identification: Identification): void {
    this.#useless.delete(host);
    if (identification.isSlotMissing) this.#known.delete(host);
    else remember(this.#known, host);
  }

  /** The gate holds that host as one we may never follow: no slot is created there from now on. */
  held(host: string): void {
    remember(this.#left, host);
  }

  /** The slot was dropped, by us or somebody else. */
  dropped(host: string): void {
    this.#known.delete(host);
  }

  /** The gate lets us follow that host. True when the slot has to be created first, or anew, on another session. */
  mustCreateFirst(host: string, identification: Identification): boolean {
    this.#left.delete(host);
    if (identification.isSlotMissing) this.#isUseless(host, INVALID_LSN);
    return identification.isSlotMissing;
  }

  /** START_REPLICATION was refused with `sqlstate`. */
  refused(
    host: string,
    sqlstate: string,
    { facts, slotRestartLsn }: Pick<UpstreamIdentity, 'facts' | 'slotRestartLsn'>,
  ): void {
    if (sqlstate === SQLSTATE.undefinedObject) this.dropped(host);
    // From that major on the slot was read and found physical before, so what remains is an invalidated one.
    const isInvalidated =
      sqlstate === SQLSTATE.objectNotInPrerequisiteState && facts.refusesInvalidatedPhysicalSlot;
    if (isInvalidated) this.#isUseless(host, slotRestartLsn);
  }

  #isUseless(host: string, restartLsn: Lsn): void {
    this.#useless.delete(host);
    this.#useless.set(host, restartLsn);
    forgetOldest(this.#useless);
  }
}

/** Lists of hosts may change for ever; what is forgotten is asked again. */
const HOSTS_MAX = 100;

function remember(hosts: Set<string>, host: string): void {
  hosts.delete(host);
  hosts.add(host);
  forgetOldest(hosts);
}

function forgetOldest(hosts: Set<string> | Map<string, unknown>): void {
  const [oldest] = hosts.keys();
  if (hosts.size > HOSTS_MAX && oldest !== undefined) hosts.delete(oldest);
}
