// What does a slot hold of the rows on the primary?
import type { Xmins } from '../pg/xmins.ts';

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

function slotXid(held: bigint | null, said: bigint | null): bigint | null {
  return held === null || said === null || held < said ? said : held;
}
