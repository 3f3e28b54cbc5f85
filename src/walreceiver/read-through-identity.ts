// Is this upstream one whose old WAL is ours, and by what name does it know the connections that read it? Pure.
import { formatLsn } from '../pg/lsn.ts';
import { isInHistory, switchPoint } from '../pg/timeline.ts';
import type { UpstreamIdentity } from './ports.ts';
import type { ReadThroughOrigin } from './read-through-ports.ts';
import { sideSessionName } from './side-session.ts';

/** The application_name of connections that read old WAL. */
export function readThroughName(applicationName: string): string {
  return sideSessionName(applicationName, '_read_through');
}

/**
 * Why old WAL of this server is not what the store goes on with, or null: history decides, as for following. `origin` is
 * from before the server was asked, so that its position cannot have been overtaken meanwhile.
 */
export function whyNotReadFrom(
  origin: ReadThroughOrigin,
  identity: UpstreamIdentity,
): string | null {
  if (identity.systemIdentifier !== origin.systemIdentifier) {
    return `the upstream's system identifier is ${identity.systemIdentifier}, the store's is ${origin.systemIdentifier}`;
  }
  if (identity.facts.major !== origin.major || identity.segmentSize !== origin.segmentSize) {
    return 'the upstream is of another major version or has another wal_segment_size than the store';
  }
  const { history } = origin;
  if (!isInHistory(identity.history, history.timeline)) {
    return `timeline ${history.timeline} of the store is not in the history of the upstream's timeline ${identity.history.timeline}`;
  }
  for (const { timeline, endLsn } of history.ancestors) {
    if (switchPoint(identity.history, timeline)?.endLsn === endLsn) continue;
    return `the upstream's history does not leave timeline ${timeline} at ${formatLsn(endLsn)}, as the store's does`;
  }
  const isBehind = identity.timeline === history.timeline && identity.xlogPos < origin.receivedLsn;
  if (!isBehind || identity.isInRecovery) return null;
  return `the upstream is a primary at ${formatLsn(identity.xlogPos)}, before the end of the store: it lost WAL`;
}
