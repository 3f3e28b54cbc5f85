// May this upstream be followed, and from where? Decided by system identifier and history, never by being in recovery
// (invariant I9). The decision is a pure function; the gate around it prepares the store.
import { isOutOfSpace, storageHint } from '../base/durable-fs.ts';
import {
  errorText,
  invariant,
  OperationalError,
  systemErrorCode,
  WalcastError,
} from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatLsn, INVALID_LSN, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentStartOf } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import {
  formatPosition,
  historyUpTo,
  isBeginningOf,
  isInHistory,
  switchPoint,
} from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type {
  StartDecision,
  StoredEnd,
  UpstreamGate,
  UpstreamIdentity,
} from '../walreceiver/ports.ts';

/** What the store holds already; null for an empty store. */
export interface StoredWal {
  readonly systemIdentifier: string;
  readonly major: number;
  readonly segmentSize: SegmentSize;
  readonly timeline: TimelineId;
  /** Of `timeline`; null when it was not looked at. */
  readonly history: TimelineHistory | null;
  /** First byte stored. */
  readonly oldestLsn: Lsn;
  /** The byte that is wanted next; before R where WAL is sent again to be compared. */
  readonly nextLsn: Lsn;
  /** End of what was taken in, a record included that is not whole yet. */
  readonly receivedLsn: Lsn;
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
  /**
   * Goes on with the timeline of `history`, which begins at `switchLsn`, inside what is stored; its file was kept before.
   * What lies behind on the old one is set aside. Durable before it resolves.
   */
  switchTimeline(history: TimelineHistory, switchLsn: Lsn): Promise<void>;
}

/** What the gate needs besides the store. */
export interface GateParts {
  readonly log: Log;
  /** False while the end of WAL has to stay where it is. */
  readonly mayFollow: () => boolean;
  /** The store has gone on to another timeline; its bytes from `switchLsn` on are those of the new one. */
  readonly onSwitched: (switchLsn: Lsn) => void;
  /** A history file or the like could not be kept, for another reason than lack of space. */
  readonly onDiskFailed: (error: OperationalError) => void;
}

/** The upstream left the stored timeline inside what is stored: go on with the next one from there. */
export interface SwitchDecision {
  readonly kind: 'switch';
  readonly switchLsn: Lsn;
  readonly nextTimeline: TimelineId;
}

/** How long a held upstream is left alone before it is asked again. */
export const HOLD_RETRY_MS = 5_000;

/** After so long a server of very many timelines is asked for the next history files: their size may make them slow to read. */
const MORE_HISTORIES_MS = 1_000;

/** Ancestors that are named in a message. */
const ANCESTORS_TOLD_MAX = 4;

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

/** The decision for a store that holds WAL; after a switch it is to be asked again. Changes nothing. */
export function decideFollow(
  stored: StoredWal,
  identity: UpstreamIdentity,
): StartDecision | SwitchDecision {
  return (
    refuseOtherCluster(stored, identity) ??
    refuseOtherHistory(stored, identity) ??
    waitForServerBehind(stored, identity) ??
    // The store takes nothing in for a switch, so it says itself whether there is space for it.
    followSwitch(stored, identity) ??
    waitForRoom(stored) ?? {
      kind: 'start',
      timeline: stored.timeline,
      startLsn: stored.nextLsn,
    }
  );
}

/** Opens the gate over `store`. */
export function openUpstreamGate(store: GateStore, parts: GateParts): UpstreamGate {
  // The newest timeline of a server that was let in. The store may still be on its way there, on an ancestor.
  let followed: TimelineId | null = null;
  return {
    stored: (): StoredEnd | null => store.stored(),
    wouldFollow(identity: UpstreamIdentity): boolean {
      const stored = store.stored();
      if (stored === null) return true;
      const decision = refuseReturn(identity, stored, followed) ?? decideFollow(stored, identity);
      return decision.kind !== 'hold';
    },
    async decide(identity: UpstreamIdentity): Promise<StartDecision> {
      try {
        const stored = store.stored();
        const decision =
          stored === null
            ? await startEmptyStore(store, identity, parts.log)
            : (refuseReturn(identity, stored, followed) ?? (await follow(store, identity, parts)));
        if (decision.kind === 'start' && identity.timeline > (followed ?? 0)) {
          followed = identity.timeline;
        }
        return decision;
      } catch (error) {
        if (isOutOfSpace(error)) return noSpace(error);
        if (error instanceof WalcastError || systemErrorCode(error) === null) throw error;
        return diskFailed(error, parts);
      }
    },
  };
}

/** Nothing is acknowledged any more (invariant I5): whoever is told ends the program. */
function diskFailed(error: unknown, { onDiskFailed }: GateParts): Hold {
  const detail = `the disk failed while an upstream was about to be followed: ${errorText(error)}`;
  const hint = storageHint(error) ?? 'Look at the disk and the kernel log.';
  onDiskFailed(new OperationalError('STORE_FAILED', detail, { hint, cause: error }));
  return { kind: 'hold', state: 'failed', detail, retryMs: HOLD_RETRY_MS };
}

/** One timeline after the other, until WAL has to be streamed or nothing can be done. */
async function follow(
  store: GateStore,
  identity: UpstreamIdentity,
  parts: GateParts,
): Promise<StartDecision> {
  for (;;) {
    const stored = store.stored();
    invariant(stored !== null, 'the store became empty');
    const decision = decideFollow(stored, identity);
    if (decision.kind === 'start') await store.update(identity);
    if (decision.kind !== 'switch') return decision;
    const held = await goOnWith(store, { stored, decision, identity, parts });
    if (held !== null) return held;
  }
}

interface Step {
  readonly stored: StoredWal;
  readonly decision: SwitchDecision;
  readonly identity: UpstreamIdentity;
  readonly parts: GateParts;
}

async function goOnWith(store: GateStore, step: Step): Promise<Hold | null> {
  const { stored, decision, identity, parts } = step;
  const { nextTimeline, switchLsn } = decision;
  if (!parts.mayFollow()) return waitForNextStart(stored, decision);
  const file = identity.histories.get(nextTimeline);
  if (file === undefined) return askForMore(nextTimeline);
  parts.log.info('the upstream left the stored timeline; the store goes on with the next one', {
    timeline: stored.timeline,
    next_timeline: nextTimeline,
    switch_lsn: formatLsn(switchLsn),
    received_lsn: formatLsn(stored.receivedLsn),
  });
  await store.storeHistoryFile(nextTimeline, file);
  // A drain may have begun meanwhile, and has told everybody where the end is.
  if (!parts.mayFollow()) return waitForNextStart(stored, decision);
  await store.switchTimeline(historyUpTo(identity.history, nextTimeline), switchLsn);
  // A store that was given up meanwhile stays where it is; the switch is noted, and the next start completes it.
  if (store.stored()?.timeline !== nextTimeline) return waitForNextStart(stored, decision);
  parts.onSwitched(switchLsn);
  return null;
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

/** Between an old primary and the new one that is followed already, what the old one has written since is of no use. */
function refuseReturn(
  identity: UpstreamIdentity,
  stored: StoredWal,
  followed: TimelineId | null,
): Hold | null {
  const isLower = followed !== null && identity.timeline < followed;
  // One that is below the store is refused by the store's own timeline.
  if (!isLower || identity.timeline < stored.timeline) return null;
  return (
    refuseOtherCluster(stored, identity) ??
    diverged(
      `timeline ${identity.timeline} of the upstream is behind timeline ${followed} of a server that was followed before: ` +
        'an old primary came back, or a standby has not followed yet. Point upstream.conninfo at the current primary, or wait for the ' +
        'standby; where this server is the right one after all, restart walcast.',
    )
  );
}

function refuseOtherHistory(stored: StoredWal, identity: UpstreamIdentity): Hold | null {
  if (identity.timeline < stored.timeline) {
    return diverged(
      `highest timeline ${identity.timeline} of the upstream is behind timeline ${stored.timeline} of the store: ` +
        'an old primary came back, or a standby has not followed yet. Point upstream.conninfo at the current primary, or wait for the standby.',
    );
  }
  if (!isInHistory(identity.history, stored.timeline)) {
    return diverged(
      `timeline ${stored.timeline} of the store is not in the history of the upstream's timeline ${identity.timeline}. ` +
        'Point upstream.conninfo at a server of this history.',
    );
  }
  return refuseOtherAncestors(stored, identity) ?? refuseEarlierFork(stored, identity);
}

/** A number says little: two servers may have promoted to the same one. */
function refuseOtherAncestors(stored: StoredWal, identity: UpstreamIdentity): Hold | null {
  if (stored.history === null) return null;
  if (isBeginningOf(stored.history, identity.history)) return null;
  const ours = stored.history.ancestors;
  const theirs = historyUpTo(identity.history, stored.timeline).ancestors;
  return diverged(
    `the upstream's timeline ${stored.timeline} is another one than the store's: it came about as ` +
      `${formatAncestors(theirs)}, the store's as ${formatAncestors(ours)}. ` +
      'Point upstream.conninfo at a server of this history.',
  );
}

function formatAncestors(ancestors: TimelineHistory['ancestors']): string {
  if (ancestors.length === 0) return 'the first one';
  const shown = ancestors.slice(-ANCESTORS_TOLD_MAX);
  const text = shown.map(({ timeline, endLsn }) => `${timeline} left at ${formatLsn(endLsn)}`);
  return `${shown.length < ancestors.length ? '…, ' : ''}${text.join(', ')}`;
}

/** Nothing of the new timeline could be joined on to what is stored. */
function refuseEarlierFork(
  stored: StoredWal,
  { history, timeline }: UpstreamIdentity,
): Hold | null {
  const fork = switchPoint(history, stored.timeline);
  if (fork === null || fork.endLsn >= stored.oldestLsn) return null;
  return diverged(
    `the upstream's timeline ${timeline} left timeline ${stored.timeline} at ${formatLsn(fork.endLsn)}, before the first byte ` +
      `of the store (${formatLsn(stored.oldestLsn)}). Nothing was changed. ` +
      'Begin anew with "walcast store reset" when no standby needs what is stored.',
  );
}

function followSwitch(stored: StoredWal, { history }: UpstreamIdentity): SwitchDecision | null {
  const fork = switchPoint(history, stored.timeline);
  // Where the upstream left our timeline further on, our own timeline is streamed up to there first.
  if (fork === null || fork.endLsn > stored.receivedLsn) return null;
  return { kind: 'switch', switchLsn: fork.endLsn, nextTimeline: fork.nextTimeline };
}

function waitForNextStart(stored: StoredWal, { switchLsn, nextTimeline }: SwitchDecision): Hold {
  return {
    kind: 'hold',
    state: 'waiting',
    detail:
      `the upstream left timeline ${stored.timeline} for timeline ${nextTimeline} at ${formatLsn(switchLsn)}. ` +
      'walcast is stopping and follows after its next start.',
    retryMs: HOLD_RETRY_MS,
  };
}

function askForMore(timeline: TimelineId): Hold {
  return {
    kind: 'hold',
    state: 'waiting',
    detail: `the history file of timeline ${timeline} is to be fetched next.`,
    retryMs: MORE_HISTORIES_MS,
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
  if (identity.timeline !== stored.timeline || identity.xlogPos >= stored.receivedLsn) return null;
  const where =
    `the upstream is at ${formatPosition(identity.timeline, identity.xlogPos)}, the store already ends at ` +
    formatLsn(stored.receivedLsn);
  if (!identity.isInRecovery && !identity.isRelay) {
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
