// What does a slot hold of the rows on the primary?
import type { Xmins } from '../pg/xmins.ts';

/** What one slot holds. */
export interface HeldXmins extends Xmins {
  readonly name: string;
  /** It goes with its session, and a restart knows nothing of it. */
  readonly isTemporary: boolean;
}

/**
 * What a slot holds once its standby said `said`: ids move forward only, or from and to none; and back from beyond `nextXid`,
 * the next full transaction id, for those are of a timeline that was left. (walsender.c:PhysicalReplicationSlotNewXmin)
 */
export function slotXmins(held: Xmins, said: Xmins, nextXid: bigint | null = null): Xmins {
  return {
    xmin: slotXid(held.xmin, said.xmin, nextXid),
    catalogXmin: slotXid(held.catalogXmin, said.catalogXmin, nextXid),
  };
}

/** True when the slot begins to hold something: a crash that forgot it would let go of what a standby relies on. */
export function beginsToHold(held: Xmins, now: Xmins): boolean {
  return (
    (held.xmin === null && now.xmin !== null) ||
    (held.catalogXmin === null && now.catalogXmin !== null)
  );
}

function slotXid(held: bigint | null, said: bigint | null, nextXid: bigint | null): bigint | null {
  if (held === null || said === null || held < said) return said;
  return nextXid !== null && held > nextXid ? said : held;
}
