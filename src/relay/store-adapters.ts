// How the store looks to those who may not know it: the gate, the walreceiver, the walsenders.
import { maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { WalAges } from '../syncrep/lag-end-to-end.ts';
import type { WalStore } from '../wal/wal-store.ts';
import type { UpstreamIdentity } from '../walreceiver/ports.ts';
import type {
  OlderWalReader,
  OlderWalRequest,
  ServerIdentity,
  WalFeed,
  WalReadFailure,
  WalReadLater,
} from '../walsender/ports.ts';
import type { DamagedWal } from './repair.ts';
import type { GateStore, StoredWal } from './upstream-gate.ts';

/** Whom the store's WAL stands for; null before the store is open and while it is empty. */
export function serverIdentity(store: WalStore | null): ServerIdentity | null {
  return store?.identity ?? null;
}

/** The store as the gate sees it. */
export class GateStoreOf implements GateStore {
  readonly #store: WalStore;

  constructor(store: WalStore) {
    this.#store = store;
  }

  stored(): StoredWal | null {
    const { identity } = this.#store;
    if (identity === null) return null;
    const { systemIdentifier, facts, segmentSize } = identity;
    const nextLsn = this.#store.nextLsn();
    return {
      systemIdentifier,
      major: facts.major,
      segmentSize,
      timeline: this.#store.timeline(),
      history: this.#store.history(),
      oldestLsn: this.#store.oldestLsn(),
      nextLsn,
      // A record that is not whole yet is stored; and a switch point may lie inside it.
      receivedLsn: maxLsn(nextLsn, this.#store.positions().receivedLsn),
      isFull: this.#store.isFull(),
    };
  }

  initialize(identity: UpstreamIdentity, startLsn: Lsn): Promise<void> {
    return this.#store.initialize(identity, startLsn);
  }

  update(identity: UpstreamIdentity): Promise<void> {
    return this.#store.updateServer(identity);
  }

  storeHistoryFile(timeline: TimelineId, content: Uint8Array): Promise<void> {
    return this.#store.storeHistoryFile(timeline, content);
  }

  switchTimeline(history: TimelineHistory, switchLsn: Lsn): Promise<void> {
    return this.#store.switchTimeline({ history, switchLsn });
  }
}

/** Where the WAL from before the store is, and the history files that are not in it. */
export interface BeforeTheStore {
  openOlder(request: OlderWalRequest): OlderWalReader | null;
  historyFile(timeline: TimelineId): Promise<Uint8Array | null>;
  /** What is to be answered about stored WAL that is damaged. */
  repair(damage: DamagedWal): WalReadFailure | WalReadLater;
}

/** What standbys may know of the upstream. */
export type FollowedUpstream = Pick<WalFeed, 'ages' | 'expectsWal'>;

/** The store as walsenders read it, with what lies before it. */
export class StoreFeed implements WalFeed {
  readonly #store: WalStore;
  readonly #before: BeforeTheStore;
  readonly #upstream: FollowedUpstream;
  readonly #takenBackListeners = new Set<(lsn: Lsn) => void>();

  constructor(store: WalStore, before: BeforeTheStore, upstream: FollowedUpstream) {
    this.#store = store;
    this.#before = before;
    this.#upstream = upstream;
    store.onTakenBack((lsn) => {
      for (const listener of this.#takenBackListeners) listener(lsn);
    });
  }

  get ages(): WalAges {
    return this.#upstream.ages;
  }

  timeline(): TimelineId {
    return this.#store.timeline();
  }

  history(): TimelineHistory {
    return this.#store.history();
  }

  sendableLsn(): Lsn {
    return this.#store.sendableLsn();
  }

  oldestLsn(): Lsn {
    return this.#store.oldestLsn();
  }

  fromMemory(startLsn: Lsn, endLsn: Lsn): readonly Uint8Array[] | null {
    return this.#store.fromMemory(startLsn, endLsn);
  }

  /** What is damaged is fetched again first, where that is possible. */
  async fromFiles(
    timeline: TimelineId,
    startLsn: Lsn,
    endLsn: Lsn,
  ): Promise<Uint8Array | WalReadFailure | WalReadLater> {
    const read = await this.#store.fromFiles(timeline, startLsn, endLsn);
    const isDamaged =
      !(read instanceof Uint8Array) && read.kind === 'damaged' && read.isBeyondEnd !== true;
    return isDamaged ? this.#before.repair(read) : read;
  }

  openOlder(request: OlderWalRequest): OlderWalReader | null {
    return this.#before.openOlder(request);
  }

  async historyFile(timeline: TimelineId): Promise<Uint8Array | null> {
    return (await this.#store.historyFile(timeline)) ?? (await this.#before.historyFile(timeline));
  }

  onAdvance(listener: () => void): () => void {
    return this.#store.onAdvance(listener);
  }

  onTakenBack(listener: (lsn: Lsn) => void): () => void {
    this.#takenBackListeners.add(listener);
    return () => this.#takenBackListeners.delete(listener);
  }

  expectsWal(lsn: Lsn, sinceMs: number): boolean {
    return this.#upstream.expectsWal(lsn, sinceMs);
  }
}
