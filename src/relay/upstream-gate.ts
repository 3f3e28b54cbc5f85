// May this upstream be followed, and from where? Decided by system identifier and history, never by being in recovery
// (invariant I9). The decision is a pure function; the gate around it prepares the store.
import { isOutOfSpace } from '../base/durable-fs.ts';
import { errorText } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatLsn, INVALID_LSN, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentStartOf } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import { formatPosition, isInHistory, switchPoint } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { StartDecision, UpstreamGate, UpstreamIdentity } from '../walreceiver/ports.ts';

/** What the store holds already; null for an empty store. */
export interface StoredWal {
  readonly systemIdentifier: string;
  readonly major: number;
  readonly segmentSize: SegmentSize;
  readonly timeline: TimelineId;
  /** R: the byte that is wanted next. */
  readonly nextLsn: Lsn;
  /** F: the last record end that is durable; R may lie behind it, inside a record. */
  readonly flushedLsn: Lsn;
  /** No WAL is taken for now: there is no room for it. */
  readonly isFull: boolean;
}

/** The part of the store the gate needs. */
export interface GateStore {
  stored(): StoredWal | null;
  /** Makes an empty store the store of this server; durable before it resolves. `startLsn` is a segment start. */
  initialize(identity: UpstreamIdentity, startLsn: Lsn): Promise<void>;
  /** Takes over what the server says about itself today. */
  update(identity: UpstreamIdentity): Promise<void>;
  /** Keeps a history file; durable before it resolves. */
  storeHistoryFile(timeline: TimelineId, content: Uint8Array): Promise<void>;
}

/** How long a held upstream is left alone before it is asked again. */
export const HOLD_RETRY_MS = 5_000;

type Hold = Extract<StartDecision, { kind: 'hold' }>;

/**
 * Where an empty store begins: the start of the segment that holds the slot's restart_lsn, else the upstream's position;
 * never before the segment in which the timeline itself begins, because earlier files do not exist under its name.
 */
export function emptyStoreStart(identity: UpstreamIdentity): Lsn {
  const wanted =
    identity.slotRestartLsn === INVALID_LSN ? identity.xlogPos : identity.slotRestartLsn;
  const timelineStart = identity.history.ancestors.at(-1)?.endLsn ?? INVALID_LSN;
  return segmentStartOf(maxLsn(wanted, timelineStart), identity.segmentSize);
}

/** The decision for a store that holds WAL. Changes nothing. */
export function decideFollow(stored: StoredWal, identity: UpstreamIdentity): StartDecision {
  return (
    refuseOtherCluster(stored, identity) ??
    refuseOtherHistory(stored, identity) ??
    waitForServerBehind(stored, identity) ??
    waitForRoom(stored) ?? {
      kind: 'start',
      timeline: stored.timeline,
      startLsn: stored.nextLsn,
    }
  );
}

/** Opens the gate over `store`. */
export function openUpstreamGate(store: GateStore, log: Log): UpstreamGate {
  return {
    async decide(identity: UpstreamIdentity): Promise<StartDecision> {
      try {
        const stored = store.stored();
        if (stored === null) return await startEmptyStore(store, identity, log);
        const decision = decideFollow(stored, identity);
        if (decision.kind === 'start') await store.update(identity);
        return decision;
      } catch (error) {
        if (isOutOfSpace(error)) return noSpace(error);
        throw error;
      }
    },
  };
}

/** What the store says about the server was not saved, so nothing of it may count yet. */
function noSpace(error: unknown): Hold {
  const detail =
    `there is no space in storage.directory to note what is followed (${errorText(error)}). ` +
    'Free space there; walcast goes on by itself.';
  return { kind: 'hold', state: 'full', detail, retryMs: HOLD_RETRY_MS };
}

async function startEmptyStore(
  store: GateStore,
  identity: UpstreamIdentity,
  log: Log,
): Promise<StartDecision> {
  const startLsn = emptyStoreStart(identity);
  if (identity.historyFile !== null) {
    await store.storeHistoryFile(identity.timeline, identity.historyFile);
  }
  await store.initialize(identity, startLsn);
  log.info('the empty store begins here', {
    system_identifier: identity.systemIdentifier,
    timeline: identity.timeline,
    lsn: formatLsn(startLsn),
    from:
      identity.slotRestartLsn === INVALID_LSN
        ? 'the upstream’s position'
        : 'the slot’s restart_lsn',
  });
  return { kind: 'start', timeline: identity.timeline, startLsn };
}

function refuseOtherCluster(stored: StoredWal, identity: UpstreamIdentity): Hold | null {
  if (stored.systemIdentifier !== identity.systemIdentifier) {
    return diverged(
      `database system identifier differs between the upstream and the store: the upstream's is ` +
        `${identity.systemIdentifier}, the store's is ${stored.systemIdentifier}. ` +
        'Point upstream.conninfo at the right server, or storage.directory at an empty directory.',
    );
  }
  if (stored.major !== identity.facts.major) {
    return diverged(
      `the upstream is PostgreSQL ${identity.facts.major}, the store holds WAL of PostgreSQL ${stored.major}. ` +
        'After a major upgrade, begin anew with "walcast store reset".',
    );
  }
  if (stored.segmentSize !== identity.segmentSize) {
    return diverged(
      `the upstream's wal_segment_size is ${identity.segmentSize} bytes, the store's is ${stored.segmentSize}. ` +
        'Begin anew with "walcast store reset".',
    );
  }
  return null;
}

function refuseOtherHistory(stored: StoredWal, identity: UpstreamIdentity): Hold | null {
  if (identity.timeline < stored.timeline) {
    return diverged(
      `highest timeline ${identity.timeline} of the upstream is behind timeline ${stored.timeline} of the store: ` +
        'an old primary came back. Point upstream.conninfo at the current one.',
    );
  }
  if (!isInHistory(identity.history, stored.timeline)) {
    return diverged(
      `timeline ${stored.timeline} of the store is not in the history of the upstream's timeline ${identity.timeline}. ` +
        'Point upstream.conninfo at a server of this history.',
    );
  }
  return refuseEarlierFork(stored, identity.history, identity.timeline);
}

/** Bytes past a switch point are dead on the new timeline; setting them aside belongs to following timelines. */
function refuseEarlierFork(
  stored: StoredWal,
  history: TimelineHistory,
  timeline: TimelineId,
): Hold | null {
  const fork = switchPoint(history, stored.timeline);
  if (fork === null || fork.endLsn >= stored.nextLsn) return null;
  if (fork.endLsn >= stored.flushedLsn) return halfRecordBehind(stored, fork.endLsn, timeline);
  return diverged(
    `the upstream's timeline ${timeline} left timeline ${stored.timeline} at ${formatLsn(fork.endLsn)}, before the end of ` +
      `the store (${formatLsn(stored.nextLsn)}). Nothing was changed; this version cannot set the bytes behind the ` +
      'switch point aside: keep the directory, and start with an empty one.',
  );
}

/** Half a record beyond the switch point is what a promotion leaves with everybody who streamed from the server. */
function halfRecordBehind(stored: StoredWal, switchLsn: Lsn, timeline: TimelineId): Hold {
  return {
    kind: 'hold',
    state: 'waiting',
    detail:
      `the upstream is on timeline ${timeline}, which left timeline ${stored.timeline} at ${formatLsn(switchLsn)}; the ` +
      'store has everything up to there. This version does not follow to another timeline: start with an empty ' +
      'storage.directory when the standbys may do the same.',
    retryMs: HOLD_RETRY_MS,
  };
}

function waitForRoom(stored: StoredWal): Hold | null {
  if (!stored.isFull) return null;
  return {
    kind: 'hold',
    state: 'full',
    detail:
      'there is no room for more WAL. Free space in storage.directory; walcast goes on by itself.',
    retryMs: HOLD_RETRY_MS,
  };
}

function waitForServerBehind(stored: StoredWal, identity: UpstreamIdentity): Hold | null {
  if (identity.timeline !== stored.timeline || identity.xlogPos >= stored.nextLsn) return null;
  const where =
    `the upstream is at ${formatPosition(identity.timeline, identity.xlogPos)}, the store already ends at ` +
    formatLsn(stored.nextLsn);
  if (!identity.isInRecovery) {
    return diverged(
      `${where}, and the upstream is a primary: it lost WAL. Nothing was changed. ` +
        'Find out which of the two is right before anything follows it.',
    );
  }
  return {
    kind: 'hold',
    state: 'waiting',
    detail: `${where}: waiting for the upstream to catch up.`,
    retryMs: HOLD_RETRY_MS,
  };
}

function diverged(detail: string): Hold {
  return { kind: 'hold', state: 'diverged', detail, retryMs: HOLD_RETRY_MS };
}
