// Why is a host left that could be reached? Texts for the log and for people. Pure.
import type { WalcastError } from '../base/errors.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { TimelineEnd } from './ports.ts';
import type { Hold } from './upstream-holds.ts';

/** Timelines that may end where the one before began; on a real server each has WAL of its own. */
export const EMPTY_TIMELINES_MAX: number = 8;

/** Why a host is left: an error, or a reason to stand still that may not hold for the others. */
export interface LeftHost {
  readonly reason: string;
  /** The same among the reasons of other hosts. */
  readonly short: string;
  readonly error?: WalcastError;
  readonly hold?: Hold;
}

/** A server that goes on and on from timeline to timeline without WAL is asked later each time. */
export function nothingNew({ timeline, nextTimeline, switchLsn }: TimelineEnd): LeftHost {
  const reason =
    `the upstream ended timeline ${timeline} for timeline ${nextTimeline} at ${formatLsn(switchLsn)}, and so did more than ` +
    `${EMPTY_TIMELINES_MAX} timelines before it, without any WAL between them; it is asked again later.`;
  return { reason, short: `timeline ${timeline} ended without any WAL` };
}

/** The server said that a timeline is over, and as who it is then, there is nothing to follow it to. */
export function noWayOn(timeline: TimelineId, startLsn: Lsn): LeftHost {
  const reason =
    `the upstream ended timeline ${timeline} at ${formatLsn(startLsn)}, and its history does not say what comes after it; ` +
    'what is stored is served, and the upstream is asked again.';
  return { reason, short: `timeline ${timeline} is over there` };
}
