// I4: does any segment go that a slot needs, as it stands on the disk, or the keep window?
import { parseLsn } from '../../../src/pg/lsn.ts';
import {
  nextSegment,
  parseWalFileName,
  segmentStart,
  toSegmentSize,
} from '../../../src/pg/segment.ts';
import { Lineage } from '../../../src/wal/lineage.ts';
import { SEGMENT_BYTES } from '../postgres/cluster.ts';
import type { RelayHost } from '../relay-host.ts';
import { historyOf, storedNow } from '../scene.ts';
import type { Checker, Scene, StoredNow } from '../scene.ts';

const SIZE = toSegmentSize(SEGMENT_BYTES);

/** The checker. */
export function neededWalStays(scene: Scene): Checker {
  for (const host of scene.relays.values()) {
    host.mounted.disk.onNameGoes = (path, to) => checkName(scene, host, { path, to });
  }
  return {};
}

function checkName(
  scene: Scene,
  host: RelayHost,
  { path, to }: { readonly path: string; readonly to: string | null },
): void {
  const prefix = `${host.directory}/pg_wal/`;
  const parsed = path.startsWith(prefix) ? parseWalFileName(path.slice(prefix.length), SIZE) : null;
  // Before the store is open a start cuts what lies behind the end, or completes a switch; that is seen at I1 and I3.
  const stored = storedNow(host);
  const isAside = to?.startsWith(`${host.directory}/dead/`) === true;
  if (parsed === null || stored === null || isAside) return;
  const history = historyOf(scene, stored.timeline);
  if (history === null) return;
  if (new Lineage(history, SIZE).fileTimeline(parsed.segment) !== parsed.timeline) return;
  // Made ahead, or behind a switch point: there is no WAL of ours in it.
  if (segmentStart(parsed.segment, SIZE) >= stored.writtenLsn) return;
  const endLsn: bigint = segmentStart(nextSegment(parsed.segment), SIZE);
  const place = { by: host.name, timeline: parsed.timeline, lsn: endLsn };
  const reason = neededBy(host, stored, endLsn);
  if (reason === null) return;
  scene.verdict.violate('I4', `${path.slice(prefix.length)} goes, though ${reason}`, place);
}

/** Who needs something before `endLsn`, the end of a segment, in words; null when nobody does. */
function neededBy(host: RelayHost, stored: StoredNow, endLsn: bigint): string | null {
  const windowLsn = stored.writtenLsn - BigInt(host.keepBytes);
  if (endLsn > windowLsn) return `it is inside the keep window, from ${windowLsn.toString(16)} on`;
  for (const { name, restartLsn } of durableSlots(host)) {
    if (restartLsn !== 0n && restartLsn < endLsn) {
      return `slot ${name} stands at ${restartLsn.toString(16)} on the disk`;
    }
  }
  return null;
}

/** Slots as a loss of power would leave them. */
function durableSlots(host: RelayHost): { name: string; restartLsn: bigint }[] {
  const { disk } = host.mounted;
  const directory = disk.findDurable(`${host.directory}/pg_replslot`);
  if (directory?.kind !== 'dir') return [];
  return [...directory.durable].flatMap(([name, slot]) => {
    const state = slot.kind === 'dir' ? slot.durable.get('state') : undefined;
    if (name.endsWith('.tmp') || state?.kind !== 'file') return [];
    const text = state.durable.toString('utf8', 0, state.durableSize);
    if (/"invalidated": "/.test(text)) return [];
    const position = /"restart_lsn": "([^"]+)"/.exec(text)?.[1];
    return [{ name, restartLsn: (position === undefined ? null : parseLsn(position)) ?? 0n }];
  });
}
