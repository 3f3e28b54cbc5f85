// Who may have one of the last places of max_wal_senders? For each name in `slots` and `synchronous_standby_names` that is not
// there one place is kept. Whoever has another application_name may still come in on such a place, because a standby is often
// known by its slot alone: it streams with such a slot, or not at all, and goes first when the place is needed. Pure.

import { SQLSTATE } from '../pg/sqlstate.ts';
import type { CommandError } from '../wire/replication-command.ts';

/** Names that a place is kept for. */
export interface ReservedNames {
  readonly slots: readonly string[];
  /** Names of synchronous_standby_names, `*` not among them. */
  readonly standbys: readonly string[];
}

/** A session that counts, as it is at the moment of asking. */
export interface PlaceHolder {
  readonly applicationName: string;
  /** What it streams with. */
  readonly slot: string | null;
}

/** `own`: it was kept for this name. `lent`: it is kept for another one. */
export type Place = 'free' | 'own' | 'lent' | 'none';

/** The places of max_wal_senders. */
export class ReservedPlaces<S extends PlaceHolder> {
  readonly #names: () => ReservedNames;
  readonly #max: () => number;
  readonly #holders = new Set<S>();
  /** Those of the holders whose place is kept for others, in order of arrival. */
  readonly #lent = new Set<S>();

  constructor(options: { readonly names: () => ReservedNames; readonly max: () => number }) {
    this.#names = options.names;
    this.#max = options.max;
  }

  /** How many hold one. */
  get size(): number {
    return this.#holders.size;
  }

  /** What a newcomer may have. */
  placeFor(applicationName: string): Place {
    if (this.#holders.size >= this.#max() && this.#lent.size === 0) return 'none';
    const absent = this.#absent();
    if (absent.has(folded(applicationName))) return 'own';
    if (this.#isFree(absent)) return 'free';
    return this.#names().slots.length > 0 ? 'lent' : 'none';
  }

  /** Gives `session` what {@link placeFor} says; returns who has to leave for that, if anybody. */
  take(session: S): S | null {
    const isLent = this.placeFor(session.applicationName) === 'lent';
    const [first] = this.#lent;
    const leaver = this.#holders.size >= this.#max() ? (first ?? null) : null;
    this.#holders.add(session);
    if (isLent) this.#lent.add(session);
    if (leaver !== null) this.leave(leaver);
    return leaver;
  }

  /** May it stream with `slot`, or do something else that lasts? A lent place becomes its own by that. */
  mayStay(session: S, slot: string | null): boolean {
    if (!this.#lent.has(session)) return true;
    const isNamed = slot !== null && this.#names().slots.includes(slot);
    this.#lent.delete(session);
    this.#holders.delete(session);
    const mayStay = isNamed || this.#isFree(this.#absent());
    this.#holders.add(session);
    if (!mayStay) this.#lent.add(session);
    return mayStay;
  }

  /** It is gone. Any number of times. */
  leave(session: S): void {
    this.#holders.delete(session);
    this.#lent.delete(session);
  }

  /** One more, and there is still a place for every name that is not there. */
  #isFree(absent: ReadonlySet<string>): boolean {
    return this.#holders.size - this.#lent.size + absent.size < this.#max();
  }

  /** Names that nobody has or streams with. */
  #absent(): Set<string> {
    const { slots, standbys } = this.#names();
    const absent = new Set([...slots, ...standbys].map(folded));
    if (absent.size === 0) return absent;
    for (const { applicationName, slot } of this.#holders) {
      absent.delete(folded(applicationName));
      if (slot !== null) absent.delete(folded(slot));
    }
    return absent;
  }
}

/** A standby `pg-0` has a slot `pg_0`: slots have fewer characters, and case does not count among standbys. */
function folded(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9_]/g, '_');
}

/** Not `isFull`: places are left, but kept for others. (proc.c:InitProcess) */
export function tooManyStandbys(limit: {
  readonly maxWalSenders: number;
  readonly isFull: boolean;
  readonly quotesSettingNames: boolean;
}): CommandError {
  const name = limit.quotesSettingNames ? '"max_wal_senders"' : 'max_wal_senders';
  const error = {
    sqlstate: SQLSTATE.tooManyConnections,
    message: `number of requested standby connections exceeds ${name} (currently ${limit.maxWalSenders})`,
  };
  if (limit.isFull) return error;
  return {
    ...error,
    detail:
      'The places that are left are kept for the standbys of slots and synchronous_standby_names.',
    hint: 'Stream with one of those slots, under one of those names, or have max_wal_senders raised.',
  };
}
