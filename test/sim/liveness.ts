// Does everybody get there? Once the faults are over and nothing more is written: has every relay all the primary has, and
// every standby too, within bounded time?
import { formatLsn, toLsn } from '../../src/pg/lsn.ts';
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
  // A relay that nobody is behind confirms nothing, and one that follows a standby tells it.
  const isHeard = [...primary.sessions].some(({ isStreaming, applicationName }) => {
    const standbys = scene.relays.get(applicationName)?.status()?.standbys ?? [];
    return (
      isStreaming && standbys.some(({ state, flushLsn }) => state === 'streaming' && flushLsn > 0n)
    );
  });
  const [commit] = primary.commits.waiting;
  if (isHeard && commit !== undefined)
    late.push(
      `${primary.commits.waiting.length} commits wait, the first one at ${formatLsn(toLsn(commit.lsn))} for ${commit.kind}: ${described(primary)}`,
    );
  for (const standby of scene.standbys.values()) {
    const isThere = standby.timeline === primary.timeline && standby.flushedLsn === primary.walEnd;
    if (isThere) continue;
    late.push(
      `${standby.name} has ${standby.timeline}:${standby.flushedLsn.toString(16)} of ${end}, streaming: ${standby.link?.isStreaming === true}`,
    );
  }
  return late;
}

/** What the primary has heard. */
function described(primary: Server): string {
  const text = (lsn: bigint): string => formatLsn(toLsn(lsn));
  return [...primary.sessions]
    .filter(({ isStreaming }) => isStreaming)
    .map(({ applicationName, reported: { write, flush, apply } }) =>
      [applicationName, text(write), text(flush), text(apply)].join(' '),
    )
    .join('; ');
}
