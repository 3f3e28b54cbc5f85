// I1: is every byte before a reported flush position durable, on the disk's own account, and the upstream's byte?
import { toLsn } from '../../../src/pg/lsn.ts';
import {
  nextSegment,
  segmentNumber,
  segmentStart,
  toSegmentSize,
  walFileName,
} from '../../../src/pg/segment.ts';
import { toTimelineId } from '../../../src/pg/timeline.ts';
import { Lineage } from '../../../src/wal/lineage.ts';
import type { StatusFrame } from '../postgres/frames.ts';
import { SEGMENT_BYTES } from '../postgres/cluster.ts';
import type { RelayHost } from '../relay-host.ts';
import { historyOf, receivingRelay, storedNow } from '../scene.ts';
import type { Checker, Scene } from '../scene.ts';
import type { WireStream } from '../wire-taps.ts';

const SIZE = toSegmentSize(SEGMENT_BYTES);

/** What was found durable before: it is not looked at again. */
interface Verified {
  timeline: number;
  lsn: bigint;
}

/** The checker. */
export function flushIsDurable(scene: Scene): Checker {
  const verified = new Map<RelayHost, Verified>();
  return {
    onStatus(stream: WireStream, status: StatusFrame): void {
      const host = receivingRelay(scene, stream);
      if (host === null) refusePromise(scene, stream, status);
      if (host === null || status.flush === 0n) return;
      const known = verified.get(host) ?? { timeline: stream.timeline, lsn: status.flush };
      if (!verified.has(host)) known.lsn = segmentStartOfLsn(status.flush);
      verified.set(host, known);
      if (known.timeline !== stream.timeline) {
        const left = historyOf(scene, stream.timeline)?.ancestors.find(
          ({ timeline }) => timeline === known.timeline,
        );
        if (left !== undefined && left.endLsn < known.lsn) known.lsn = left.endLsn;
        known.timeline = stream.timeline;
      }
      // What has gone since, as nobody needed it any more, is looked at in I4.
      const oldestLsn = storedNow(host)?.oldestLsn ?? 0n;
      const fromLsn = oldestLsn > known.lsn ? oldestLsn : known.lsn;
      checkRange(scene, host, stream.timeline, [fromLsn, status.flush]);
      if (status.flush > known.lsn) known.lsn = status.flush;
    },
  };
}

/** WAL that is read through for a standby is not kept: nothing of it may be confirmed. */
function refusePromise(scene: Scene, stream: WireStream, status: StatusFrame): void {
  if (!scene.relays.has(stream.client) || status.flush === 0n) return;
  const place = { by: stream.client, timeline: stream.timeline, lsn: status.flush };
  scene.verdict.violate('I1', 'reported as flushed what is only read through', place);
}

function segmentStartOfLsn(lsn: bigint): bigint {
  return lsn - (lsn % BigInt(SEGMENT_BYTES));
}

/** Every byte of the range, a segment at a time. */
function checkRange(
  scene: Scene,
  host: RelayHost,
  timeline: number,
  [from, to]: readonly [bigint, bigint],
): void {
  const history = historyOf(scene, timeline);
  if (history === null) return;
  const lineage = new Lineage(history, SIZE);
  for (let at = from; at < to;) {
    const segment = segmentNumber(toLsn(at), SIZE);
    const start = segmentStart(segment, SIZE);
    const end = segmentStart(nextSegment(segment), SIZE);
    const until = to < end ? to : end;
    const name = walFileName(lineage.fileTimeline(segment), segment, SIZE);
    const node = host.mounted.disk.findDurable(`${host.directory}/pg_wal/${name}`);
    const place = { by: host.name, timeline, lsn: at };
    if (node?.kind !== 'file') {
      scene.verdict.violate(
        'I1',
        `reported as flushed up to ${to}, but ${name} is not durable`,
        place,
      );
      return;
    }
    const truth = scene.cluster.bytes(toTimelineId(timeline), toLsn(at), toLsn(until));
    const stored = node.durable.subarray(Number(at - start), Number(until - start));
    if (truth === null || !truth.equals(stored)) {
      scene.verdict.violate(
        'I1',
        `reported as flushed, but ${name} has other bytes durable`,
        place,
      );
      return;
    }
    at = until;
  }
}
