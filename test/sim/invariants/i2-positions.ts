// I2: do reported positions only move forward within one stream, or to 0, and lie where records, pages or messages end?
import { toLsn } from '../../../src/pg/lsn.ts';
import { toTimelineId } from '../../../src/pg/timeline.ts';
import type { StatusFrame } from '../postgres/frames.ts';
import type { RelayHost } from '../relay-host.ts';
import { historyOf, receivingRelay, storedNow } from '../scene.ts';
import type { Checker, Scene } from '../scene.ts';
import type { WireStream } from '../wire-taps.ts';

/** The checker. */
export function positionsMoveForward(scene: Scene): Checker {
  /** The highest of each kind that was said on a stream. */
  const highest = new WeakMap<WireStream, { write: bigint; flush: bigint; apply: bigint }>();
  return {
    onStatus(stream: WireStream, status: StatusFrame): void {
      const host = receivingRelay(scene, stream);
      if (host === null) return;
      // Without a flush position nothing is offered: the upstream looks at none of them.
      if (status.flush === 0n) return;
      const before = highest.get(stream) ?? { write: 0n, flush: 0n, apply: 0n };
      highest.set(stream, before);
      for (const kind of ['write', 'flush', 'apply'] as const) {
        const lsn = status[kind];
        const place = { by: host.name, timeline: stream.timeline, lsn };
        if (lsn !== 0n && lsn < before[kind]) {
          scene.verdict.violate('I2', `${kind} went back from ${before[kind].toString(16)}`, place);
        }
        if (lsn > before[kind]) before[kind] = lsn;
      }
      if (!isLiedTo(scene, host)) checkEnds(scene, stream, status);
    },
  };
}

/** Under a policy a standby that says anything at all may be the one that decides where the position is. */
function isLiedTo(scene: Scene, host: RelayHost): boolean {
  const hasPolicy = host.policies.some(({ policy }) => policy !== null);
  return hasPolicy && [...scene.standbys.values()].some(({ hasLied }) => hasLied);
}

function isBeginning(scene: Scene, stream: WireStream, lsn: bigint): boolean {
  const host = scene.relays.get(stream.client);
  return host !== undefined && storedNow(host)?.oldestLsn === lsn;
}

function checkEnds(scene: Scene, stream: WireStream, { write, flush }: StatusFrame): void {
  if (historyOf(scene, stream.timeline) === null) return;
  const timeline = toTimelineId(stream.timeline);
  const { cluster } = scene;
  const isSwitch = (lsn: bigint): boolean => cluster.isSwitchPoint(timeline, toLsn(lsn));
  const place = { by: stream.client, timeline: stream.timeline };
  // A store that has nothing yet says where it begins.
  const isEnd =
    cluster.isMessageEnd(timeline, toLsn(flush)) ||
    cluster.isRecordEnd(timeline, toLsn(flush)) ||
    isSwitch(flush) ||
    isBeginning(scene, stream, flush);
  if (flush !== 0n && !isEnd) {
    scene.verdict.violate('I2', 'flush is no end of a record', { ...place, lsn: flush });
  }
  if (write !== 0n && !cluster.isMessageEnd(timeline, toLsn(write)) && !isSwitch(write)) {
    scene.verdict.violate('I2', 'write is no end of a message, page or record', {
      ...place,
      lsn: write,
    });
  }
}
