// I3: is what a relay sends the upstream's WAL, byte for byte, without a gap and without a repeat, and nothing that is dead
// or may not be sent yet?
import { toLsn } from '../../../src/pg/lsn.ts';
import { switchPoint, toTimelineId } from '../../../src/pg/timeline.ts';
import { historyOf, storedNow } from '../scene.ts';
import type { Checker, Scene } from '../scene.ts';
import type { WireStream } from '../wire-taps.ts';

/** The checker. */
export function bytesAreTheUpstreams(scene: Scene): Checker {
  return {
    onWal(stream: WireStream, startLsn: bigint, bytes: Buffer): void {
      if (!scene.relays.has(stream.server)) return;
      const place = {
        by: `${stream.server} to ${stream.client}`,
        timeline: stream.timeline,
        lsn: startLsn,
      };
      if (startLsn !== stream.sentLsn) {
        const expected = stream.sentLsn.toString(16);
        scene.verdict.violate('I3', `a message does not join on, expected ${expected}`, place);
        return;
      }
      const end = toLsn(startLsn + BigInt(bytes.length));
      const truth = scene.cluster.bytes(toTimelineId(stream.timeline), toLsn(startLsn), end);
      if (truth === null) {
        scene.verdict.violate('I3', `sent ${bytes.length} bytes that were never written`, place);
      } else if (!truth.equals(bytes)) {
        const at = truth.findIndex((byte, index) => byte !== bytes[index]);
        const lsn = startLsn + BigInt(at);
        scene.verdict.violate('I3', 'sent another byte than the upstream wrote', { ...place, lsn });
      } else checkEnd(scene, stream, end);
    },
  };
}

/** A timeline that the relay left ends there; on its own one it sends what it may. */
function checkEnd(scene: Scene, stream: WireStream, endLsn: bigint): void {
  const host = scene.relays.get(stream.server);
  const stored = host === undefined ? null : storedNow(host);
  if (host === undefined || stored === null) return;
  const place = {
    by: `${stream.server} to ${stream.client}`,
    timeline: stream.timeline,
    lsn: endLsn,
  };
  if (stored.timeline === stream.timeline) {
    const isAfterFlush = host.setup.forward === 'flushed';
    const sendableLsn = isAfterFlush ? stored.flushedLsn : stored.receivedLsn;
    if (endLsn > sendableLsn) scene.verdict.violate('I3', 'sent before it may be sent', place);
    return;
  }
  const history = historyOf(scene, stored.timeline);
  const left = history === null ? null : switchPoint(history, toTimelineId(stream.timeline));
  if (left === null || endLsn <= left.endLsn) return;
  scene.verdict.violate('I3', `sent dead WAL: timeline ${stored.timeline} is followed`, place);
}
