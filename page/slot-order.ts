// Which replication slots are worse than which, and what is said of one?
import type { SlotJson } from '../src/http/api-types.ts';
import { filterByWords, NATURAL, sortByOrder } from './row-order.ts';
import type { Tone } from './standby-order.ts';
import { bytesWord, UNKNOWN } from './words.ts';

/** What the table of slots can be sorted by. */
export const SLOT_SORT_KEYS = ['worst', 'name', 'retained'] as const;
/** One of them. */
export type SlotSortKey = (typeof SLOT_SORT_KEYS)[number];

/** wal_status as in pg_replication_slots, and why it was lost. */
export function walStatusWord({
  wal_status: status,
  invalidation_reason: reason,
}: SlotJson): string {
  if (reason !== null) return `lost, ${reason}`;
  return status ?? 'reserves nothing';
}

/** How that is to be taken. */
export function slotTone({ wal_status: status, invalidation_reason: reason }: SlotJson): Tone {
  if (reason !== null || status === 'lost') return 'bad';
  if (status === 'unreserved') return 'bad';
  return status === 'extended' ? 'notice' : 'good';
}

/** How much may be written before it is lost. Without a bound nothing is, and the disk may fill. */
export function roomText(slot: SlotJson): string {
  const { safe_wal_size: size, restart_lsn: restart } = slot;
  // A slot that was lost, or never used, keeps nothing that could be lost.
  if (slot.invalidation_reason !== null || slot.wal_status === 'lost' || restart === null) {
    return UNKNOWN;
  }
  if (size === null) return 'no limit';
  return size < 0 ? 'none' : bytesWord(size);
}

/** Sorts; slots that are alike are in the order of their names. */
export function sortSlots(
  slots: readonly SlotJson[],
  key: SlotSortKey,
  isReversed: boolean,
): SlotJson[] {
  return sortByOrder(slots, { compare: COMPARE[key], names: compareNames }, isReversed);
}

/** Those that all words of `text` stand in. */
export function filterSlots(slots: readonly SlotJson[], text: string): readonly SlotJson[] {
  return filterByWords(slots, text, searchText);
}

function searchText(slot: SlotJson): string {
  return `${slot.slot_name}\n${walStatusWord(slot)}\n${slot.active ? 'in use' : 'idle'}`;
}

const COMPARE: Readonly<Record<SlotSortKey, (a: SlotJson, b: SlotJson) => number>> = {
  worst: (a, b) => badness(b) - badness(a) || retainedStep(b) - retainedStep(a),
  name: compareNames,
  retained: (a, b) => (b.retained_bytes ?? -1) - (a.retained_bytes ?? -1),
};

function badness(slot: SlotJson): number {
  return { bad: 3, notice: 2, good: slot.active ? 0 : 1 }[slotTone(slot)];
}

/** In steps of a factor of four from 16 MB on, so that rows stay where they are. */
function retainedStep({ retained_bytes: bytes }: SlotJson): number {
  const segments = (bytes ?? 0) / (16 * 1024 * 1024);
  return segments < 1 ? 0 : Math.floor(Math.log2(segments) / 2) + 1;
}

function compareNames(a: SlotJson, b: SlotJson): number {
  return NATURAL.compare(a.slot_name, b.slot_name);
}
