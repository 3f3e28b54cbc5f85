// The table of replication slots: who uses each, how much WAL it keeps, and how near it is to being lost.
import type { SlotJson, StandbyJson } from '../src/http/api-types.ts';
import { DataTable } from './data-table.ts';
import {
  filterSlots,
  roomText,
  SLOT_SORT_KEYS,
  slotTone,
  sortSlots,
  walStatusWord,
} from './slot-order.ts';
import { nameOf } from './standby-order.ts';
import { agoWord, bytesWord, UNKNOWN } from './words.ts';
import type { Fact } from './words.ts';

/** What the table needs to know beside the slots. */
export interface SlotSources {
  readonly standby: (pid: number) => StandbyJson | null;
  /** Now, by the clock of walcast, milliseconds since the Unix epoch. */
  readonly serverNowMs: () => number;
}

/** The table. */
export function slotTable({ standby, serverNowMs }: SlotSources): DataTable<SlotJson> {
  const userOf = (slot: SlotJson): string => {
    if (slot.active_pid === null) return `nobody, for ${sinceText(slot, serverNowMs())}`;
    const found = standby(slot.active_pid);
    return found === null ? `process ${slot.active_pid}` : nameOf(found);
  };
  return new DataTable<SlotJson>({
    caption: 'Replication slots',
    noun: 'slot',
    columns: [
      { title: 'Slot', sort: 'name', text: ({ slot_name: name }) => name },
      { title: 'WAL', text: walStatusWord, tone: slotTone },
      { title: 'In use by', kind: 'chosen', room: 'medium', text: userOf },
      {
        title: 'Keeps',
        hint: 'From its restart_lsn to the end of what was received',
        kind: 'figure',
        sort: 'retained',
        text: ({ retained_bytes: bytes }) => bytesWord(bytes),
      },
      {
        title: 'Room left',
        hint: 'How much WAL may be written before it is lost',
        kind: 'figure',
        room: 'medium',
        text: roomText,
      },
      {
        title: 'Restart position',
        kind: 'position',
        room: 'wide',
        text: ({ restart_lsn: lsn }) => lsn ?? UNKNOWN,
      },
    ],
    orders: [
      { key: 'worst', title: 'worst first', direction: 'descending' },
      { key: 'name', title: 'name', direction: 'ascending' },
      { key: 'retained', title: 'keeps most', direction: 'descending' },
    ],
    key: ({ slot_name: name }) => name,
    sort: (rows, key, isReversed) =>
      sortSlots(rows, SLOT_SORT_KEYS.find((one) => one === key) ?? 'worst', isReversed),
    filter: filterSlots,
    details: (slot) => slotFacts(slot, userOf(slot)),
    placeholder: 'name or state',
    empty: 'There are no replication slots: standbys without one depend on what the store keeps.',
  });
}

function sinceText({ inactive_since: since }: SlotJson, nowMs: number): string {
  return since === null ? 'an unknown time' : agoWord(since, nowMs).replace(/ ago$/, '');
}

function slotFacts(slot: SlotJson, user: string): Fact[] {
  return [
    ['In use by', user],
    ['Restart position', slot.restart_lsn ?? UNKNOWN],
    ['Keeps', bytesWord(slot.retained_bytes)],
    ['Room left', roomText(slot)],
    ['Kind', slot.temporary ? 'physical, temporary' : 'physical'],
    ['xmin', slot.xmin ?? 'none'],
    ['catalog_xmin', slot.catalog_xmin ?? 'none'],
  ];
}
