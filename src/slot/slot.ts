// What is known of one replication slot, and what follows from it alone?
import type { Clock } from '../base/clock.ts';
import { INVALID_LSN, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { isSameXmins } from '../pg/xmins.ts';
import type { Xmins } from '../pg/xmins.ts';

/** Why a slot was lost. (slot.c: SlotInvalidationCauses) */
export const INVALIDATION_CAUSES = ['wal_removed', 'idle_timeout'] as const;
export type InvalidationCause = (typeof INVALIDATION_CAUSES)[number];

/** What survives a restart. */
export interface PersistentSlot extends Xmins {
  readonly name: string;
  /** INVALID_LSN when the slot reserves no WAL (yet, or any more). */
  readonly restartLsn: Lsn;
  /** Null for a slot that keeps what it promised. */
  readonly invalidation: InvalidationCause | null;
}

/** One slot in memory. */
export interface Slot {
  readonly name: string;
  /** Session a temporary slot belongs to; null for a persistent one. */
  readonly ownerPid: number | null;
  activePid: number | null;
  restartLsn: Lsn;
  invalidation: InvalidationCause | null;
  /** What its standby's feedback holds. */
  xmins: Xmins;
  /** When it was last saved at once because it began to hold something, monotonic. */
  heldSinceMs: number;
  /** Where the stream that uses it began: its standby has what lies before. INVALID_LSN without one. */
  streamStartLsn: Lsn;
  /** What is on the disk. For a slot in the making: what will be, so that the WAL stays until it is. */
  persisted: PersistentSlot;
  /** The lowest position that may be on the disk besides: a write of it is under way, or failed half-way. */
  unsureLsn: Lsn | null;
  /** When it was let go, or loaded, Unix milliseconds: to be shown. (slot.h: inactive_since) */
  inactiveSinceMs: number;
  /** The same on the monotonic clock: a step of the wall clock loses no slot. */
  idleSinceMs: number;
  /** Its directory is being made or removed. */
  isGoing: boolean;
  /** Its session was told to end; then it is invalidated for this. */
  isDoomed: boolean;
}

/** A slot that nobody uses yet. */
export function newSlot(
  slot: PersistentSlot,
  { ownerPid, clock }: { readonly ownerPid: number | null; readonly clock: Clock },
): Slot {
  const { name, restartLsn, invalidation, xmin, catalogXmin } = slot;
  return {
    name,
    ownerPid,
    activePid: null,
    restartLsn,
    invalidation,
    xmins: { xmin, catalogXmin },
    heldSinceMs: Number.NEGATIVE_INFINITY,
    streamStartLsn: INVALID_LSN,
    persisted: slot,
    unsureLsn: null,
    inactiveSinceMs: clock.wallMs(),
    idleSinceMs: clock.nowMs(),
    isGoing: false,
    isDoomed: false,
  };
}

/** The first byte it keeps: the lowest of what is in memory and what is, or may be, on the disk; null when it keeps none. */
export function keptLsn(slot: Slot): Lsn | null {
  const known = [reservedLsn(slot), reservedLsn(slot.persisted), slot.unsureLsn];
  return known.reduce((kept, lsn) => lowest(kept, lsn), null);
}

/** The first byte that a slot in this state keeps; null when it keeps none. */
export function reservedLsn({
  restartLsn,
  invalidation,
}: Pick<PersistentSlot, 'restartLsn' | 'invalidation'>): Lsn | null {
  return invalidation !== null || restartLsn === INVALID_LSN ? null : restartLsn;
}

/** The lower of two positions, of which null is none. */
export function lowest(a: Lsn | null, b: Lsn | null): Lsn | null {
  return a === null || b === null ? (a ?? b) : minLsn(a, b);
}

/** True when the disk does not have what is in memory. */
export function hasMoved({
  ownerPid,
  isGoing,
  persisted,
  restartLsn,
  invalidation,
  xmins,
}: Slot): boolean {
  if (ownerPid !== null || isGoing) return false;
  if (persisted.restartLsn !== restartLsn || persisted.invalidation !== invalidation) return true;
  return !isSameXmins(persisted, xmins);
}

/** A temporary slot is visible to every session, but only its own can use it. */
export function isForeign(slot: Slot, pid: number): boolean {
  return slot.ownerPid !== null && slot.ownerPid !== pid && slot.activePid === null;
}
