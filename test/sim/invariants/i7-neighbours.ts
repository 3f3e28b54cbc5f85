// I7: does an honest standby on a good way get what its relay may send in time, whatever the others do?
import type { RelayHost } from '../relay-host.ts';
import type { Standby } from '../postgres/standby.ts';
import { storedNow } from '../scene.ts';
import type { Checker, Scene } from '../scene.ts';

/** What was sendable so long ago has to be there. */
const LATE_MS_MAX = 1_500;
const SAMPLE_MS = 250;

interface Sample {
  readonly atMs: number;
  readonly timeline: number;
  readonly lsn: bigint;
}

/** A standby that nothing has stood in the way of since then, and that had everything once. */
interface Good {
  sinceMs: number;
  hasCaughtUp: boolean;
}

/** The checker. */
export function neighboursAreServed(scene: Scene): Checker {
  const samples = new Map<RelayHost, Sample[]>();
  const good = new Map<Standby, Good>();
  let nextMs = 0;
  return {
    afterStep(): void {
      const { nowMs } = scene.world;
      if (nowMs < nextMs) return;
      nextMs = nowMs + SAMPLE_MS;
      for (const host of scene.relays.values()) sample(scene, host, samples);
      for (const standby of scene.standbys.values()) {
        const relay = servingRelay(scene, standby);
        if (relay === null) good.delete(standby);
        else
          checkStandby(scene, standby, {
            state: goodOf(good, standby, nowMs),
            samples: samples.get(relay) ?? [],
          });
      }
    },
  };
}

function sample(scene: Scene, host: RelayHost, samples: Map<RelayHost, Sample[]>): void {
  const { nowMs } = scene.world;
  const stored = storedNow(host);
  const list = samples.get(host) ?? [];
  samples.set(host, list);
  if (stored === null || host.process?.isStopped === true) list.length = 0;
  else {
    const lsn = host.setup.forward === 'flushed' ? stored.flushedLsn : stored.receivedLsn;
    list.push({ atMs: nowMs, timeline: stored.timeline, lsn });
  }
  while ((list[0]?.atMs ?? nowMs) < nowMs - 2 * LATE_MS_MAX) list.shift();
}

function goodOf(good: Map<Standby, Good>, standby: Standby, nowMs: number): Good {
  const state = good.get(standby) ?? { sinceMs: nowMs, hasCaughtUp: false };
  good.set(standby, state);
  return state;
}

/** Its relay, while nothing but the relay itself could keep WAL from it. */
function servingRelay(scene: Scene, standby: Standby): RelayHost | null {
  const { link } = standby;
  const host = link === null ? undefined : scene.relays.get(link.relay);
  if (link?.isStreaming !== true || host === undefined) return null;
  if (standby.manner !== 'honest' || host.process === null || host.isDraining) return null;
  if (host.process.isStopped || standby.process?.isStopped === true) return null;
  // One of which only the standby's end is left is as good as none.
  const { connection } = link;
  const isWhole =
    connection !== null && connection.far.process === host.process && connection.far.isOpen;
  if (!isWhole) return null;
  const { network } = scene;
  const isCut =
    network.link(host.name, standby.name).isCut || network.link(standby.name, host.name).isCut;
  return isCut || network.isHealing(host.name, standby.name) ? null : host;
}

function checkStandby(
  scene: Scene,
  standby: Standby,
  { state, samples }: { readonly state: Good; readonly samples: readonly Sample[] },
): void {
  const { nowMs } = scene.world;
  const last = samples.at(-1);
  if (last === undefined || last.timeline !== standby.timeline) {
    state.sinceMs = nowMs;
    state.hasCaughtUp = false;
    return;
  }
  if (!state.hasCaughtUp) {
    state.hasCaughtUp = standby.receivedLsn >= last.lsn;
    state.sinceMs = nowMs;
    return;
  }
  const old = samples.findLast(({ atMs }) => atMs <= nowMs - LATE_MS_MAX);
  if (old === undefined || old.atMs < state.sinceMs || old.timeline !== standby.timeline) return;
  if (standby.receivedLsn >= old.lsn || last.lsn < old.lsn) return;
  const place = {
    by: `${standby.link?.relay} to ${standby.name}`,
    timeline: standby.timeline,
    lsn: old.lsn,
  };
  const what = `an honest standby stands at ${standby.receivedLsn.toString(16)}, behind what could be sent ${LATE_MS_MAX} ms ago,`;
  scene.verdict.violate('I7', what, place);
}
