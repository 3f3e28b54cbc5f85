// SHOW STATS, SHOW LISTS and SHOW MEM: what was counted since the start, how many there are of everything, and what it takes.
import type { RelayStatus } from '../status/status.ts';
import type { ConsoleSource } from './source.ts';
import { int8, text } from './view-columns.ts';
import { viewOf } from './view.ts';
import type { View } from './view.ts';

type Figure = readonly [name: string, value: number];

/** One row for each counter. Their names and number are fixed. */
export const SHOW_STATS: View = figures((inside) => counters(inside.status()), ['name', 'value']);

/** One row for each kind of thing. */
export const SHOW_LISTS: View = figures(lists, ['list', 'items']);

/** One row for each kind of memory: of the process, then what of it is walcast's own. */
export const SHOW_MEM: View = figures(memory, ['name', 'bytes']);

function figures(
  of: (inside: ConsoleSource) => Figure[],
  [name, value]: readonly [name: string, value: string],
): View {
  return viewOf<Figure>(of, [text(name, ([label]) => label), int8(value, ([, figure]) => figure)]);
}

function counters(status: RelayStatus): Figure[] {
  const { upstream, store, readThrough, retention, sync, feedback, standbyTotals } = status;
  const commands = [...standbyTotals.commands.values()].reduce((sum, count) => sum + count, 0);
  return [
    ['upstream_connects', upstream.connectsSucceeded],
    ['upstream_connects_failed', upstream.connectsFailed],
    ...each('upstream_disconnects', upstream.disconnects),
    ['upstream_timeline_switches', upstream.timelineSwitches],
    ['upstream_received_bytes', upstream.receivedBytes],
    ['upstream_wal_messages', upstream.walMessages],
    ['upstream_keepalive_messages', upstream.keepaliveMessages],
    ['store_segments_removed', store.segmentsRemoved],
    ['store_segments_removed_by_limit', retention.segmentsRemovedByLimit],
    ['store_read_memory_bytes', standbyTotals.sentBytes.memory],
    ['store_read_disk_bytes', standbyTotals.sentBytes.disk],
    ['store_read_upstream_bytes', readThrough.bytes],
    ['store_rejected_from_upstream', store.rejectedFromUpstream],
    ['store_rejected_from_disk', store.rejectedFromDisk],
    ['store_repaired_segments', readThrough.repairedSegments],
    ['store_failed_repairs', readThrough.failedRepairs],
    ...each('store_errors', store.errors),
    ...each('slots_invalidated', retention.slotsInvalidated),
    ['standby_commands', commands],
    ['standby_stalls', standbyTotals.stalls],
    ['standby_takeovers', standbyTotals.takeovers],
    ...each('standby_disconnects', standbyTotals.disconnects),
    ...each('standby_rejected', standbyTotals.rejected),
    ['sync_changes', sync.changes],
    ...each('feedback_ignored', feedback.ignored),
    ...[...status.adminCommands].map(([name, count]): Figure => [`admin_${name}`, count]),
  ];
}

function each(name: string, counts: Readonly<Record<string, number>>): Figure[] {
  return Object.entries(counts).map(([key, count]) => [`${name}_${key}`, count]);
}

function lists(inside: ConsoleSource): Figure[] {
  const { standbys, absentStandbys, slots, store, upstream, certificates, standbyTotals } =
    inside.status();
  const history = inside.history();
  return [
    ['standbys', standbys.length],
    ['streaming_standbys', standbys.filter(({ state }) => state === 'streaming').length],
    ['absent_standbys', absentStandbys.length],
    ['max_wal_senders', standbyTotals.connectionsMax],
    ['slots', slots.length],
    ['active_slots', slots.filter(({ activePid }) => activePid !== null).length],
    ['segments', store.segments],
    ['timelines', history === null ? 0 : history.ancestors.length + 1],
    ['upstream_members', upstream.discovery?.members.length ?? 0],
    ['left_upstream_slots', upstream.leftSlots.length],
    ['hba_rules', inside.hbaRules().length],
    ['certificates', certificates.length],
  ];
}

function memory(inside: ConsoleSource): Figure[] {
  const { rss, heapTotal, heapUsed, external, arrayBuffers } = inside.memory();
  const { store, standbys } = inside.status();
  return [
    ['process_rss', rss],
    ['heap_total', heapTotal],
    ['heap_used', heapUsed],
    ['external', external],
    ['array_buffers', arrayBuffers],
    ['recent_wal', store.tailBytes],
    ['recent_wal_max', store.tailBytesMax],
    ['send_queues', standbys.reduce((sum, { sendQueueBytes }) => sum + sendQueueBytes, 0)],
  ];
}
