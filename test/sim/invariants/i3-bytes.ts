// I3: is what a relay sends the upstream's WAL, byte for byte, without a gap and without a repeat?
import { toLsn } from '../../../src/pg/lsn.ts';
import { toTimelineId } from '../../../src/pg/timeline.ts';
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
      }
    },
  };
}
