// I8: does a claim of a standby count only up to what went over its wire on that timeline, and not beyond where that was left?
import { switchPoint, toTimelineId } from '../../../src/pg/timeline.ts';
import { historyOf } from '../scene.ts';
import type { Checker, Scene } from '../scene.ts';
import type { WireStream } from '../wire-taps.ts';

/** The checker. */
export function claimsAreClamped(scene: Scene): Checker {
  const streams = new Map<string, WireStream>();
  const touched = new Set<string>();
  return {
    onStart(stream: WireStream): void {
      if (scene.relays.has(stream.server)) streams.set(`${stream.server} ${stream.pid}`, stream);
    },
    onStatus(stream: WireStream): void {
      if (scene.relays.has(stream.server)) touched.add(stream.server);
    },
    afterStep(): void {
      if (touched.size === 0 && scene.world.steps % 128 !== 0) return;
      touched.clear();
      for (const host of scene.relays.values()) {
        for (const standby of host.status()?.standbys ?? []) {
          const stream = streams.get(`${host.name} ${standby.pid}`);
          if (stream === undefined || standby.timeline !== stream.timeline) continue;
          const endLsn = countedUpTo(scene, stream, host.status()?.store?.timeline ?? null);
          for (const kind of ['writeLsn', 'flushLsn', 'applyLsn'] as const) {
            if (standby[kind] <= endLsn) continue;
            const place = {
              by: `${host.name} of ${standby.applicationName}`,
              timeline: stream.timeline,
              lsn: standby[kind],
            };
            const what = `${kind} counts, though only WAL up to ${endLsn.toString(16)} was sent and is not dead,`;
            scene.verdict.violate('I8', what, place);
          }
        }
      }
    },
  };
}

/** Claims on a timeline that the relay has left are cut where that ends. */
function countedUpTo(scene: Scene, stream: WireStream, stored: number | null): bigint {
  const history = stored === null ? null : historyOf(scene, stored);
  const left = history === null ? null : switchPoint(history, toTimelineId(stream.timeline));
  return left !== null && left.endLsn < stream.sentLsn ? left.endLsn : stream.sentLsn;
}
