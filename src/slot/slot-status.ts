// What does a slot show of itself, in the words of pg_replication_slots?
import type { Lsn } from '../pg/lsn.ts';
import type { SlotStatus } from '../status/status.ts';
import type { Slot } from './slot.ts';
import { safeWalSize, walStatus } from './wal-availability.ts';
import type { WalBounds } from './wal-availability.ts';

/**
 * `minimum`: the oldest position that any slot keeps; null when none keeps anything. `bounds`: null while the store is empty.
 * (slotfuncs.c:pg_get_replication_slots)
 */
export function statusOf(slot: Slot, minimum: Lsn | null, bounds: WalBounds | null): SlotStatus {
  const { restartLsn, invalidation, activePid } = slot;
  const stored = bounds === null ? null : walStatus(restartLsn, minimum, bounds);
  // A process that is still alive may be about to move on: then it is not lost yet.
  const alive = stored === 'lost' && activePid !== null ? 'unreserved' : stored;
  const status = invalidation === null ? alive : 'lost';
  const isLost = status === 'lost' || bounds === null;
  return {
    name: slot.name,
    temporary: slot.ownerPid !== null,
    activePid,
    restartLsn,
    xmin: slot.xmins.xmin,
    catalogXmin: slot.xmins.catalogXmin,
    inactiveSinceMs: activePid === null ? slot.inactiveSinceMs : null,
    walStatus: status,
    safeWalSize: isLost ? null : safeWalSize(restartLsn, bounds),
    invalidationReason: invalidation,
  };
}
