// Which slots are lost now, and what does the log say? (src/backend/replication/slot.c: DetermineSlotInvalidationCause,
// ReportSlotInvalidation)
import type { LogFields } from '../base/log.ts';
import { formatLsn, INVALID_LSN, lsnDistance } from '../pg/lsn.ts';
import { bindingSetting, limitLsn } from './wal-availability.ts';
import type { WalBounds } from './wal-availability.ts';
import type { InvalidationCause, Slot } from './slot.ts';

/** A slot that can keep its promise no longer. */
export interface Obsolescence {
  readonly slot: Slot;
  readonly cause: InvalidationCause;
  /** Of the log line. */
  readonly detail: string;
  readonly hint: string;
}

/** When idle slots are lost. */
export interface IdleRule {
  /** Now, on the monotonic clock. */
  readonly nowMs: number;
  /** idle_replication_slot_timeout; 0 = never. */
  readonly timeoutMs: number;
}

/** Why `slot` is lost; null when it is not. `bounds` is null for an empty store. */
export function obsolescenceOf(
  slot: Slot,
  bounds: WalBounds | null,
  idle: IdleRule,
): Obsolescence | null {
  if (slot.invalidation !== null || slot.restartLsn === INVALID_LSN || slot.isGoing) return null;
  return (bounds === null ? null : removedOf(slot, bounds)) ?? idleOf(slot, idle);
}

function removedOf(slot: Slot, bounds: WalBounds): Obsolescence | null {
  const limit = limitLsn(bounds);
  if (slot.restartLsn >= limit) return null;
  // Who reads what lies before the store from the upstream holds nothing back here.
  if (slot.activePid !== null && slot.restartLsn < bounds.oldestLsn) return null;
  const bytes = lsnDistance(slot.restartLsn, limit);
  return {
    slot,
    cause: 'wal_removed',
    detail: `The slot's restart_lsn ${formatLsn(slot.restartLsn)} exceeds the limit by ${bytes} byte${bytes === 1 ? '' : 's'}.`,
    hint: `You might need to increase "${bindingSetting(bounds)}".`,
  };
}

function idleOf(slot: Slot, { nowMs, timeoutMs }: IdleRule): Obsolescence | null {
  if (timeoutMs === 0 || slot.activePid !== null) return null;
  const idleMs = nowMs - slot.idleSinceMs;
  if (idleMs < timeoutMs) return null;
  const [idleSeconds, timeoutSeconds] = [idleMs, timeoutMs].map((ms) => Math.floor(ms / 1000));
  return {
    slot,
    cause: 'idle_timeout',
    detail: `The slot's idle time of ${idleSeconds}s exceeds the configured "idle_replication_slot_timeout" duration of ${timeoutSeconds}s.`,
    hint: 'You might need to increase "idle_replication_slot_timeout".',
  };
}

/** Fields of the log line about it. */
export function obsolescenceFields({ slot, detail, hint }: Obsolescence): LogFields {
  return { slot: slot.name, restart_lsn: formatLsn(slot.restartLsn), detail, hint };
}
