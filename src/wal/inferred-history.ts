// Where was this timeline begun, when its history file is not there? Its first segment begins with a copy of the timeline
// before: the page headers say where that ends, to the page.
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { advanceLsn, PAGE_SIZE } from '../pg/lsn.ts';
import { segmentStart } from '../pg/segment.ts';
import { rootHistory, toTimelineId } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineHistoryEntry, TimelineId } from '../pg/timeline.ts';
import type { ScanBuffers } from './segment-scan.ts';
import type { StoredWalFile, WalIdentity } from './wal-files.ts';

/** A timeline whose history is not known. */
export interface UnknownTimeline {
  /** The directory of the segments. */
  readonly path: string;
  readonly timeline: TimelineId;
  /** Its segments, lowest first. */
  readonly files: readonly StoredWalFile[];
  readonly identity: WalIdentity;
}

/** The history as far as the pages of the first segment tell it. */
export async function inferHistory(
  buffers: ScanBuffers,
  { path, timeline, files, identity }: UnknownTimeline,
): Promise<TimelineHistory> {
  const [first] = files;
  if (first === undefined || first.segment === null) return rootHistory(timeline);
  const startLsn = segmentStart(first.segment, identity.segmentSize);
  const ancestors: TimelineHistoryEntry[] = [];
  let before = 0;
  const handle = await open(join(path, first.name), 'r');
  try {
    for await (const { offset, bytes } of buffers.pieces(handle, 0, first.size)) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      for (let at = 0; at + 8 <= bytes.length; at += PAGE_SIZE) {
        if (view.getUint16(at, true) !== identity.facts.walPageMagic) continue;
        const own = view.getUint32(at + 4, true);
        if (own > timeline || own <= before) continue;
        const endLsn = advanceLsn(startLsn, offset + at);
        if (before > 0) ancestors.push({ timeline: toTimelineId(before), endLsn });
        before = own;
      }
    }
  } finally {
    await handle.close();
  }
  if (before > 0 && before < timeline) {
    const endLsn = advanceLsn(startLsn, first.size);
    ancestors.push({ timeline: toTimelineId(before), endLsn });
  }
  return { timeline, ancestors };
}
