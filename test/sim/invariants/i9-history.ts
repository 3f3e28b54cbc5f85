// I9: is WAL asked only of servers that have our system identifier and history, on the timeline that we are on?
import { isBeginningOf, isInHistory, toTimelineId } from '../../../src/pg/timeline.ts';
import { historyOf, receivingRelay, storedNow } from '../scene.ts';
import type { Checker, Scene } from '../scene.ts';
import type { WireStream } from '../wire-taps.ts';

/** The checker. */
export function historyDecides(scene: Scene): Checker {
  return {
    onStart(stream: WireStream): void {
      const host = receivingRelay(scene, stream);
      const server = scene.servers.get(stream.server);
      if (host === null || server === undefined) return;
      const place = {
        by: `${host.name} at ${server.name}`,
        timeline: stream.timeline,
        lsn: stream.startLsn,
      };
      const violate = (what: string): void => scene.verdict.violate('I9', what, place);
      const { cluster } = server.parts;
      if (cluster !== scene.cluster) {
        violate('asks a stranger for WAL: another system identifier');
        return;
      }
      const stored = storedNow(host);
      if (stored !== null && stored.timeline !== stream.timeline) {
        violate(`asks for WAL of a timeline that is not its own, ${stored.timeline}`);
        return;
      }
      const ours = historyOf(scene, stream.timeline);
      const theirs = server.history;
      const timeline = toTimelineId(stream.timeline);
      if (ours === null || !isInHistory(theirs, timeline) || !isBeginningOf(ours, theirs)) {
        violate('asks a server for WAL whose history is another one');
      }
    },
  };
}
