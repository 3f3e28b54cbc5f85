// Joins reading through from the upstream to the store: whose WAL it has to be, how it is checked, which history files are
// kept.
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { READ_THROUGH_CONNECTIONS_MAX } from '../config/limits.ts';
import { dial } from '../net/dial.ts';
import type { Lsn } from '../pg/lsn.ts';
import { isBeginningOf, isInHistory, parseTimelineHistory } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { ReadThroughStatus } from '../status/status.ts';
import { chainStart } from '../wal/records/record-chain.ts';
import { RecordWalk } from '../wal/records/record-walk.ts';
import type { WalStore } from '../wal/wal-store.ts';
import type { ReadThroughOrigin, WalCheck } from '../walreceiver/read-through-ports.ts';
import { ReadThrough } from '../walreceiver/read-through.ts';
import type { UpstreamHost, UpstreamTarget } from '../walreceiver/upstream-target.ts';
import type {
  OlderWalReader,
  OlderWalRequest,
  WalReadFailure,
  WalReadLater,
} from '../walsender/ports.ts';
import { SegmentRepair } from './repair.ts';
import type { DamagedWal } from './repair.ts';
import type { BeforeTheStore } from './store-adapters.ts';

/** The upstream as it is followed. */
export interface FollowedUpstream {
  /** With the passwords of this moment. */
  targetToConnect(): UpstreamTarget;
  followedHost(): UpstreamHost | null;
  isMoving(): boolean;
}

/** What reading through is built from. */
export interface StoreReadThroughParts {
  readonly store: WalStore;
  readonly upstream: FollowedUpstream;
  /** The walreceiver's own, at this moment. */
  readonly applicationName: () => string;
  readonly verify: 'page' | 'record' | 'off';
  /** How long a standby waits for an upstream that cannot be read from, at this moment. Positive. */
  readonly timeoutMs: () => number;
  readonly clock: Clock;
  readonly log: Log;
}

/** Before the store is open. */
export const NOTHING_READ_THROUGH: ReadThroughStatus = {
  connections: 0,
  connectionsMax: READ_THROUGH_CONNECTIONS_MAX,
  bytes: 0,
  repairedSegments: 0,
  failedRepairs: 0,
};

/** `verify: off` takes everything as it comes. */
const NO_CHECK: WalCheck = { push: () => null, recordEnd: () => null };

/** What lies before the store of one relay. */
export class StoreReadThrough implements BeforeTheStore {
  readonly #parts: StoreReadThroughParts;
  readonly #pool: ReadThrough;
  readonly #repair: SegmentRepair;

  constructor(parts: StoreReadThroughParts) {
    const { upstream, applicationName, timeoutMs, clock, log } = parts;
    this.#parts = parts;
    this.#pool = new ReadThrough({
      target: () => upstream.targetToConnect(),
      applicationName,
      followedHost: () => upstream.followedHost(),
      isUpstreamMoving: () => upstream.isMoving(),
      origin: () => this.#origin(),
      openCheck: (startLsn) => this.#openCheck(startLsn),
      timeoutMs,
      clock,
      log,
      dial,
    });
    const openOlder = (request: OlderWalRequest): OlderWalReader | null =>
      this.#pool.open({ ...request, isRepair: true });
    this.#repair = new SegmentRepair({ store: parts.store, openOlder, clock, log });
  }

  openOlder(request: OlderWalRequest): OlderWalReader | null {
    return this.#pool.open(request);
  }

  repair(damage: DamagedWal): WalReadFailure | WalReadLater {
    return this.#repair.answer(damage);
  }

  /** As the upstream has it; one of our own ancestors is kept from then on. */
  async historyFile(timeline: TimelineId): Promise<Uint8Array | null> {
    // Timeline 1 has none anywhere.
    if (timeline === 1) return null;
    const content = await this.#pool.historyFile(timeline);
    if (content === null) return null;
    const history = parseTimelineHistory(timeline, Buffer.from(content).toString('latin1'));
    if (typeof history === 'string') {
      this.#parts.log.warn('the upstream sent a history file that is none', { timeline, history });
      return null;
    }
    const ours = this.#parts.store.identity?.history ?? null;
    if (ours !== null && isAncestry(history, ours)) await this.#keep(timeline, content);
    return content;
  }

  status(): ReadThroughStatus {
    const { repaired, failed } = this.#repair.counts();
    return { ...this.#pool.status(), repairedSegments: repaired, failedRepairs: failed };
  }

  /** A reload has changed something, perhaps. */
  settingsChanged(): void {
    this.#pool.settingsChanged();
  }

  close(): void {
    this.#repair.close();
    this.#pool.close();
  }

  /** Kept or not, the client gets it. */
  async #keep(timeline: TimelineId, content: Uint8Array): Promise<void> {
    const { store, log } = this.#parts;
    try {
      await store.storeHistoryFile(timeline, content);
      log.info('a history file that was not stored is kept now', { timeline });
    } catch (error) {
      log.warn('a history file could not be kept', { timeline, error: errorText(error) });
    }
  }

  #origin(): ReadThroughOrigin | null {
    const { identity } = this.#parts.store;
    if (identity === null) return null;
    const { systemIdentifier, facts, segmentSize, history } = identity;
    const { receivedLsn } = this.#parts.store.positions();
    return { systemIdentifier, major: facts.major, segmentSize, history, receivedLsn };
  }

  #openCheck(startLsn: Lsn): WalCheck {
    const { store, verify } = this.#parts;
    const { identity } = store;
    if (identity === null || verify === 'off') return NO_CHECK;
    const { systemIdentifier, facts, segmentSize, history } = identity;
    // All of them, whatever \`verify\` says: few bytes come this way, and what is repaired has to be right.
    const options = { systemIdentifier, facts, segmentSize, history, checksums: true };
    return new RecordWalk(options, chainStart(startLsn));
  }
}

/** True when `older` is the history of an ancestor of `ours`: what another branch calls by that number is not kept. */
function isAncestry(older: TimelineHistory, ours: TimelineHistory): boolean {
  if (older.timeline === ours.timeline || !isInHistory(ours, older.timeline)) return false;
  return isBeginningOf(older, ours);
}
