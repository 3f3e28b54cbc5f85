// What does a slot hold of the rows on the primary, and when does that count?
import { NO_XMINS } from '../pg/xmins.ts';
import type { Xmins } from '../pg/xmins.ts';
import type { Slot } from './slot.ts';

/**
 * What a slot holds once its standby said `said`: ids move forward only, or from and to none.
 * (walsender.c:PhysicalReplicationSlotNewXmin)
 */
export function slotXmins(held: Xmins, said: Xmins): Xmins {
  return {
    xmin: slotXid(held.xmin, said.xmin),
    catalogXmin: slotXid(held.catalogXmin, said.catalogXmin),
  };
}

/** True when the slot begins to hold something: a crash that forgot it would let go of what a standby relies on. */
export function beginsToHold(held: Xmins, now: Xmins): boolean {
  return (
    (held.xmin === null && now.xmin !== null) ||
    (held.catalogXmin === null && now.catalogXmin !== null)
  );
}

/** What counts of it. A lost slot keeps nothing for anybody, but a standby that uses it holds what it says. */
export function countedXmins(slot: Pick<Slot, 'xmins' | 'invalidation' | 'activePid'>): Xmins {
  return slot.invalidation !== null && slot.activePid === null ? NO_XMINS : slot.xmins;
}

function slotXid(held: bigint | null, said: bigint | null): bigint | null {
  return held === null || said === null || held < said ? said : held;
}
