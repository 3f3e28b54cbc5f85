// I8: does a claim of a standby count only up to what went over its wire on that timeline?
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
          for (const kind of ['writeLsn', 'flushLsn', 'applyLsn'] as const) {
            if (standby[kind] <= stream.sentLsn) continue;
            const place = {
              by: `${host.name} of ${standby.applicationName}`,
              timeline: stream.timeline,
              lsn: standby[kind],
            };
            const what = `${kind} counts, though only WAL up to ${stream.sentLsn.toString(16)} was sent,`;
            scene.verdict.violate('I8', what, place);
          }
        }
      }
    },
  };
}
