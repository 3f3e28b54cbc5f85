// Does everybody get there? Once the faults are over and nothing more is written: has every relay all the primary has, and
// every standby too, within bounded time?
import { formatLsn } from '../../src/pg/lsn.ts';
import type { Server } from './postgres/server.ts';
import { storedNow } from './scene.ts';
import type { Scene } from './scene.ts';

/** Longest time to get there: a timeout of a minute may have to pass on each hop, and both wait before they try again. */
export const SETTLE_MS_MAX = 200_000;

/** Who is not there yet, in words; empty when everybody is. */
export function latecomers(scene: Scene, primary: Server): string[] {
  const late: string[] = [];
  const end = `${primary.timeline}:${formatLsn(primary.walEnd)}`;
  for (const host of scene.relays.values()) {
    const stored = storedNow(host);
    const isThere = stored?.timeline === primary.timeline && stored.flushedLsn === primary.walEnd;
    if (isThere) continue;
    const upstream = host.status()?.upstream ?? null;
    const where =
      stored === null ? 'nothing' : `${stored.timeline}:${stored.flushedLsn.toString(16)}`;
    late.push(
      `${host.name} has ${where} of ${end}, upstream ${upstream?.state}/${upstream?.heldState}: ${upstream?.detail}`,
    );
  }
  for (const standby of scene.standbys.values()) {
    const isThere = standby.timeline === primary.timeline && standby.flushedLsn === primary.walEnd;
    if (isThere) continue;
    late.push(
      `${standby.name} has ${standby.timeline}:${standby.flushedLsn.toString(16)} of ${end}, streaming: ${standby.link?.isStreaming === true}`,
    );
  }
  return late;
}
