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
  /** Who holds one, with its folded name. */
  readonly #holders = new Map<S, string>();
  /** Those of the holders whose place is kept for others, in order of arrival. */
  readonly #lent = new Set<S>();
  /** The slots of a configuration, folded: whoever knocks makes us ask. */
  readonly #foldedSlots = new WeakMap<readonly string[], readonly string[]>();

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
    const max = this.#max();
    if (this.#holders.size - this.#lent.size >= max) return 'none';
    const named = this.#named();
    if (this.#isRoomBeside(named.length)) return 'free';
    const name = folded(applicationName);
    const absent = this.#absent(named);
    if (absent.has(name)) return 'own';
    if (this.#isRoomBeside(absent.size)) return 'free';
    // A standby that is named comes again when its old connection is dead, which may not be known here for long.
    const mayBorrow = named.includes(name) || this.#names().slots.length > 0;
    const isOneLeft = this.#holders.size < max || this.#firstLent(named, false) !== null;
    return mayBorrow && isOneLeft ? 'lent' : 'none';
  }

  /** Gives `session` what {@link placeFor} says; returns who has to leave for that, if anybody. */
  take(session: S): S | null {
    const isLent = this.placeFor(session.applicationName) === 'lent';
    const leaver = this.#holders.size >= this.#max() ? this.#leaver() : null;
    this.#holders.set(session, folded(session.applicationName));
    if (isLent) this.#lent.add(session);
    if (leaver !== null) this.leave(leaver);
    return leaver;
  }

  /**
   * May it stream with `slot`, or do something else that lasts? A lent place becomes its own by that, where there is room or
   * the slot is named; who is the second one of a name may stay until the place is needed.
   */
  mayStay(session: S, slot: string | null): boolean {
    if (!this.#lent.has(session)) return true;
    const named = this.#named();
    const isNamedSlot = slot !== null && this.#names().slots.includes(slot);
    if (isNamedSlot || this.#isRoomBeside(this.#absent(named, session).size)) {
      this.#lent.delete(session);
      return true;
    }
    return named.includes(folded(session.applicationName));
  }

  /** It is gone. Any number of times. */
  leave(session: S): void {
    this.#holders.delete(session);
    this.#lent.delete(session);
    if (this.#lent.size === 0) return;
    const named = this.#named();
    for (const other of this.#lent) this.#settle(other, named);
  }

  /** The second one of a name is the first one now, or there is room for it. */
  #settle(session: S, named: readonly string[]): void {
    const name = folded(session.applicationName);
    if (!named.includes(name)) return;
    const absent = this.#absent(named, session);
    if (absent.has(name) || this.#isRoomBeside(absent.size)) this.#lent.delete(session);
  }

  /** Who leaves when a place is needed: first who has no name that one is kept for, who may do nothing with it. */
  #leaver(): S | null {
    const named = this.#named();
    return this.#firstLent(named, false) ?? this.#firstLent(named, true);
  }

  #firstLent(named: readonly string[], isNamed: boolean): S | null {
    for (const session of this.#lent) {
      if (named.includes(folded(session.applicationName)) === isNamed) return session;
    }
    return null;
  }

  /** One more beside those that are there, but on lent places, and so many to come. */
  #isRoomBeside(toCome: number): boolean {
    return this.#holders.size - this.#lent.size + toCome < this.#max();
  }

  /** All names that a place is kept for; the same name may be there twice. */
  #named(): readonly string[] {
    const { slots, standbys } = this.#names();
    let foldedSlots = this.#foldedSlots.get(slots);
    if (foldedSlots === undefined) {
      foldedSlots = slots.map(folded);
      this.#foldedSlots.set(slots, foldedSlots);
    }
    return standbys.length === 0 ? foldedSlots : [...foldedSlots, ...standbys.map(folded)];
  }

  /** Those of the names that nobody has or streams with, `except` for one. */
  #absent(named: readonly string[], except: S | null = null): Set<string> {
    const absent = new Set(named);
    if (absent.size === 0) return absent;
    for (const [session, name] of this.#holders) {
      if (session === except) continue;
      absent.delete(name);
      if (session.slot !== null) absent.delete(folded(session.slot));
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
