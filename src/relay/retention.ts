// Who decides what WAL may go? This: it asks slots whether they can keep what they promised, tells the store what slots
// keep on the disk, and says when the room is nearly taken. Nothing here waits for a disk. (xlog.c:CreateCheckPoint)
import type { Clock, Timer } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { RETENTION_TICK_MS } from '../config/limits.ts';
import { formatLsn, INVALID_LSN, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { SegmentSize } from '../pg/segment.ts';
import { limitLsn, windowBytes } from '../slot/wal-availability.ts';
import type { WalBounds } from '../slot/wal-availability.ts';
import type { SlotStore } from '../slot/slot-store.ts';
import type { RetentionStatus } from '../status/status.ts';
import {
  cutWindowStart,
  isNearLimit,
  occupiedBytes,
  segmentsBefore,
  sizeLimit,
} from './retention-plan.ts';

/** The store, as far as it is asked and told. */
export interface RetentionStore {
  /** Null while it is empty. */
  readonly identity: { readonly segmentSize: SegmentSize } | null;
  oldestLsn(): Lsn;
  positions(): { readonly writtenLsn: Lsn; readonly flushedLsn: Lsn };
  deadWal(): { readonly bytes: number };
  setRetention(minimumSlotLsn: () => Lsn | null): void;
  removeOldSegments(minimumSlotLsn: Lsn | null): void;
}

/** What retention goes by. */
export interface RetentionOptions {
  readonly store: RetentionStore;
  readonly slots: Pick<
    SlotStore,
    | 'checkObsolete'
    | 'ensure'
    | 'invalidations'
    | 'list'
    | 'minimumPersistedRestartLsn'
    | 'read'
    | 'reserve'
  >;
  /** The configuration of the moment. */
  readonly config: () => Pick<Config, 'storage' | 'slots'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** What bounds the WAL that slots keep; null for an empty store. */
export function walBounds(store: RetentionStore, storage: Config['storage']): WalBounds | null {
  const { identity } = store;
  if (identity === null) return null;
  const { writtenLsn, flushedLsn } = store.positions();
  const { walKeepSizeBytes, maxSlotWalKeepSizeBytes, quotaBytes } = storage;
  return {
    segmentSize: identity.segmentSize,
    walKeepSizeBytes,
    maxSlotWalKeepSizeBytes,
    quotaBytes,
    deadBytes: store.deadWal().bytes,
    oldestLsn: store.oldestLsn(),
    writtenLsn,
    flushedLsn,
  };
}

/** wal_keep_size as far as the quota leaves room for it, in bytes. */
export function effectiveKeepSize(
  store: RetentionStore | null,
  storage: Config['storage'],
): number {
  if (storage.quotaBytes === null || store === null) return storage.walKeepSizeBytes;
  const bounds = walBounds(store, storage);
  if (bounds === null) return storage.walKeepSizeBytes;
  return Math.min(storage.walKeepSizeBytes, windowBytes(bounds));
}

/** Before there is a store. */
export const NOTHING_RETAINED: RetentionStatus = {
  limitBytes: 0,
  isNearLimit: false,
  segmentsRemovedByLimit: 0,
  segmentsRemovedUnneeded: 0,
  slotsInvalidated: { wal_removed: 0, idle_timeout: 0 },
};

/** The one that decides. */
export class Retention {
  readonly #options: RetentionOptions;
  #timer: Timer | null = null;
  #isEnsuring = false;
  #isClosed = false;
  #isNear = false;
  /** `slots` as it was last looked at. */
  #named: readonly string[] = [];
  #oldestLsn: Lsn = INVALID_LSN;
  /** Up to here WAL had to go because of a bound, not because nobody needed it. */
  #forcedLsn: Lsn = INVALID_LSN;
  #removedByLimit = 0;
  #removedUnneeded = 0;

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  /** Makes the slots of the configuration; from then on WAL that nobody needs is removed. */
  async start(): Promise<void> {
    const { store, slots, config } = this.#options;
    await slots.ensure(config().slots);
    this.#countRemoved();
    store.setRetention(() => this.#minimum());
    this.turn();
  }

  /** Looks at everything now. To be called when the configuration or a slot has changed; also done once a second. */
  turn(): void {
    this.#timer?.cancel();
    if (this.#isClosed) return;
    this.#timer = this.#options.clock.setTimer(RETENTION_TICK_MS, () => this.turn());
    this.#options.store.removeOldSegments(this.#minimum());
    this.#countRemoved();
    this.#watchSize();
    this.#noteUnnamed();
    void this.#ensure();
  }

  /** Nothing is removed or made afterwards. */
  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  /** For status and metrics. */
  status(): RetentionStatus {
    const { config, slots } = this.#options;
    this.#countRemoved();
    return {
      limitBytes: sizeLimit(config().storage),
      isNearLimit: this.#isNear,
      segmentsRemovedByLimit: this.#removedByLimit,
      segmentsRemovedUnneeded: this.#removedUnneeded,
      slotsInvalidated: slots.invalidations(),
    };
  }

  /** What slots keep on the disk, after every one was asked whether it still can. */
  #minimum(): Lsn | null {
    const { slots, config } = this.#options;
    // The store may have begun since the last turn, and its first segments must not go before these slots keep them.
    slots.reserve(config().slots);
    const before = slots.invalidations().wal_removed;
    slots.checkObsolete();
    const bounds = this.#bounds();
    if (bounds !== null) {
      const isLost = slots.invalidations().wal_removed > before;
      this.#forcedLsn = maxLsn(this.#forcedLsn, cutWindowStart(bounds));
      if (isLost) this.#forcedLsn = maxLsn(this.#forcedLsn, limitLsn(bounds));
    }
    return slots.minimumPersistedRestartLsn();
  }

  #bounds(): WalBounds | null {
    const { store, config } = this.#options;
    return walBounds(store, config().storage);
  }

  #countRemoved(): void {
    const { store } = this.#options;
    const { identity } = store;
    if (identity === null) return;
    const [beforeLsn, afterLsn] = [this.#oldestLsn, store.oldestLsn()];
    const { segmentSize } = identity;
    const moved = { beforeLsn, afterLsn, segmentSize };
    const forced = segmentsBefore(this.#forcedLsn, moved);
    this.#removedByLimit += forced;
    this.#removedUnneeded += segmentsBefore(afterLsn, moved) - forced;
    this.#oldestLsn = afterLsn;
  }

  #watchSize(): void {
    const bounds = this.#bounds();
    if (bounds === null) return;
    const isNear = isNearLimit(bounds, this.#isNear);
    if (isNear === this.#isNear) return;
    this.#isNear = isNear;
    const sizes = { size_bytes: occupiedBytes(bounds), limit_bytes: sizeLimit(bounds) };
    if (!isNear) {
      this.#options.log.info('the WAL store has room again', sizes);
      return;
    }
    const furthest = this.#furthestSlot();
    this.#options.log.warn('the WAL store is nearly full', {
      ...sizes,
      dead_bytes: bounds.deadBytes,
      slot: furthest?.name ?? null,
      restart_lsn: furthest === null ? null : formatLsn(furthest.restartLsn),
      next: 'bring the standby of that slot back or drop the slot; at the limit it is lost',
    });
  }

  #furthestSlot(): { readonly name: string; readonly restartLsn: Lsn } | null {
    const keeping = this.#options.slots.list().filter((slot) => slot.restartLsn !== INVALID_LSN);
    return keeping.toSorted((a, b) => (a.restartLsn < b.restartLsn ? -1 : 1))[0] ?? null;
  }

  /** A reload takes nobody's slot away: whoever shortened the list may not know who uses it. */
  #noteUnnamed(): void {
    const { slots, config, log } = this.#options;
    const names = config().slots;
    const left = this.#named.filter((name) => !names.includes(name) && slots.read(name) !== null);
    this.#named = names;
    for (const slot of left) {
      log.warn(
        'a slot is not named in `slots` any more; it stays, and keeps WAL, until it is dropped',
        {
          slot,
        },
      );
    }
  }

  async #ensure(): Promise<void> {
    const { slots, config } = this.#options;
    if (this.#isEnsuring || config().slots.length === 0) return;
    this.#isEnsuring = true;
    await slots.ensure(config().slots);
    this.#isEnsuring = false;
  }
}
