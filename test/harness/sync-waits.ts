// Do commits wait as long as the standbys that they need are away, and how soon do they return after those are back?
import { systemClock } from '../../src/base/clock.ts';
import { formatLsn, INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import { returned } from './sync-commits.ts';
import type { CommitLevel, CommitSessions, SentCommit } from './sync-commits.ts';
import type { SyncRig } from './sync-rig.ts';

/** From a standby's return to that of the commits that waited for it. */
export const RELEASE_MS_MAX: number = 1_000;

/** Nothing may happen in this time: the only wait that no event ends. */
const HOLD_MS = 400;

/**
 * Gives everything that could release these commits wrongly the time to do so: they wait, every relay has all WAL on its
 * disk, every standby that is not `away` has applied it. Gives the levels of those that returned.
 */
export async function returnedWithout(
  rig: SyncRig,
  commits: CommitSessions,
  { waiting, away }: { readonly waiting: readonly SentCommit[]; readonly away: readonly string[] },
): Promise<CommitLevel[]> {
  await commits.untilWaiting(waiting);
  const endLsn = await rig.primary.walPosition();
  for (const relay of rig.relays) {
    await relay.waitForStatus(
      `everything before ${formatLsn(endLsn)} on the disk of ${relay.name}`,
      ({ store }) => (parseLsn(store.flushed_lsn ?? '0/0') ?? INVALID_LSN) >= endLsn,
    );
  }
  for (const standby of rig.standbys) {
    if (!away.includes(standby.name)) await standby.waitForReplay(endLsn);
  }
  await new Promise<void>((resolve) => systemClock.setTimer(HOLD_MS, resolve));
  return waiting.filter(({ doneMs }) => doneMs !== null).map(({ level }) => level);
}

/** Does what these commits wait for; whole milliseconds from then until all had returned. Rejects after `timeoutMs`. */
export async function releasedAfter(
  waiting: readonly SentCommit[],
  release: () => Promise<void>,
  timeoutMs?: number,
): Promise<number> {
  await release();
  const releasedMs = systemClock.nowMs();
  await returned(waiting, timeoutMs);
  const lastMs = Math.max(...waiting.map(({ doneMs }) => doneMs ?? Infinity));
  // Some may have returned while `release` was still looking whether it was done.
  return Math.max(0, Math.round(lastMs - releasedMs));
}
