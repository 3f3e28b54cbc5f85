// Which physical replication slots are there, who uses them, and which WAL do they keep? Commands are durable before
// they resolve; positions move in memory and reach the disk at most a second later, and removal of WAL looks at what is
// on the disk (invariant I4). A slot that is lost is lost on the disk before its WAL goes. (src/backend/replication/slot.c)
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { formatLsn, INVALID_LSN, maxLsn, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import { isSameXmins, NO_XMINS } from '../pg/xmins.ts';
import type { Xmins } from '../pg/xmins.ts';
import type { RetentionStatus, SlotStatus } from '../status/status.ts';
import {
  CANCELED,
  diskRefusal,
  duplicate,
  invalidated,
  inUse,
  missing,
  noRoom,
} from './slot-errors.ts';
import { SlotFiles } from './slot-files.ts';
import { obsolescenceFields, obsolescenceOf } from './slot-invalidation.ts';
import { checkSlotName } from './slot-name.ts';
import type { SlotError } from './slot-name.ts';
import { SlotSaver } from './slot-saver.ts';
import { isForeign, keptLsn, lowest, newSlot } from './slot.ts';
import type { InvalidationCause, Slot } from './slot.ts';
import { statusOf } from './slot-status.ts';
import { beginsToHold, slotXmins } from './slot-xmins.ts';
import type { HeldXmins } from './slot-xmins.ts';
import { limitLsn } from './wal-availability.ts';
import type { WalBounds } from './wal-availability.ts';

/** The WAL that slots can keep. */
export interface SlotWal {
  /** First byte that is stored; INVALID_LSN for an empty store. */
  oldestLsn(): Lsn;
  /** Redo position of the newest checkpoint received; INVALID_LSN when none was seen. */
  redoLsn(): Lsn;
}

/** How slots are opened. */
export interface SlotStoreOptions {
  /** walcast's data directory; slots live in `pg_replslot` below it. */
  readonly directory: string;
  readonly wal: SlotWal;
  /** What bounds what slots keep; null while the store is empty. */
  readonly bounds: () => WalBounds | null;
  /** max_replication_slots. */
  readonly slotsMax: number;
  /** auto_create_slots. */
  readonly autoCreate: boolean;
  /** idle_replication_slot_timeout; 0 = never. */
  readonly idleTimeoutMs: number;
  /** Of the server whose WAL it is; its newest while it is not known. */
  readonly facts: () => Pick<VersionFacts, 'quotesSettingNames' | 'refusesInvalidatedPhysicalSlot'>;
  /** Ends the session of that pid, which lets its slot go. */
  readonly terminate: (pid: number) => void;
  /** What removal of WAL looks at has changed. */
  readonly onChange: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Shortest time between two saves at once of one slot that begins to hold something. */
const HOLD_SAVE_MS_MIN = 1_000;

/** So long after a start, a lost slot that a standby used still holds rows for it. */
const LOST_HOLD_MS = 60_000;

/** All slots of one relay. */
export class SlotStore {
  readonly #options: SlotStoreOptions;
  readonly #files: SlotFiles;
  readonly #saver: SlotSaver;
  readonly #slots = new Map<string, Slot>();
  readonly #onRelease = new Set<() => void>();
  /** Why slots of the configuration could not be made, as it was said last. */
  readonly #refusals = new Map<string, string>();
  readonly #invalidated: Record<InvalidationCause, number> = { wal_removed: 0, idle_timeout: 0 };

  private constructor(options: SlotStoreOptions) {
    this.#options = options;
    this.#files = new SlotFiles(options.directory);
    this.#saver = new SlotSaver({
      files: this.#files,
      slots: () => this.#slots.values(),
      clock: options.clock,
      log: options.log,
      onSaved: () => this.#options.onChange(),
    });
  }

  /** Loads what is on the disk. Throws OperationalError when a slot cannot be read. */
  static async open(options: SlotStoreOptions): Promise<SlotStore> {
    const store = new SlotStore(options);
    for (const slot of await store.#files.load()) {
      store.#slots.set(slot.name, newSlot(slot, { ownerPid: null, clock: options.clock }));
    }
    // A stop may have come between a switch and the cut, or taken WAL that a standby had: it is received from here on.
    const bounds = options.bounds();
    if (bounds !== null && bounds.writtenLsn >= bounds.oldestLsn) store.cut(bounds.writtenLsn);
    return store;
  }

  /** CREATE_REPLICATION_SLOT … PHYSICAL. */
  create(options: {
    name: string;
    temporary: boolean;
    reserveWal: boolean;
    pid: number;
  }): Promise<SlotError | null> {
    const { name, temporary, pid, reserveWal } = options;
    const restartLsn = reserveWal ? this.#redoLsn() : INVALID_LSN;
    return this.#create(name, restartLsn, temporary ? pid : null);
  }

  /** Lets every one of `names` that reserves nothing yet keep WAL when there is some. */
  reserve(names: readonly string[]): void {
    for (const name of names) {
      const slot = this.#slots.get(name);
      if (slot !== undefined) this.#reserve(slot);
    }
  }

  /** Makes what is missing of `names`, and does for the others what {@link reserve} does. */
  async ensure(names: readonly string[]): Promise<void> {
    this.reserve(names);
    for (const name of names) {
      if (this.#slots.has(name)) continue;
      const refusal = await this.#create(name, this.#redoLsn(), null);
      const isKnown = this.#refusals.get(name) === refusal?.message;
      if (refusal === null) this.#refusals.delete(name);
      if (refusal === null || isKnown) continue;
      const { message, hint } = refusal;
      this.#refusals.set(name, message);
      this.#options.log.error('a slot of `slots` could not be created', {
        slot: name,
        detail: message,
        hint: hint ?? null,
      });
    }
  }

  /**
   * With auto_create_slots, makes a slot that a stream from `startLsn` on is to use; it keeps WAL from there if that is
   * stored. Null when there is nothing to do.
   */
  createForStart(name: string, startLsn: Lsn): Promise<SlotError | null> | null {
    if (!this.#options.autoCreate || this.#slots.has(name)) return null;
    return this.#create(name, this.#keptFrom(startLsn) ?? INVALID_LSN, null);
  }

  /** DROP_REPLICATION_SLOT [WAIT]. A `signal` ends the wait, and only the wait: then the slot stays. */
  async drop(
    name: string,
    options: { wait: boolean; pid: number; signal?: AbortSignal },
  ): Promise<SlotError | null> {
    for (;;) {
      const slot = this.#slots.get(name);
      if (slot === undefined || isForeign(slot, options.pid)) return missing(name);
      const holder = slot.activePid;
      const isHeld = holder !== null && holder !== options.pid;
      if (!isHeld && !slot.isGoing) return await this.#remove(slot);
      // Nobody holds a slot whose file is being made or removed: that ends by itself.
      if (isHeld && !options.wait) return inUse(name, holder);
      await this.#untilRelease(options.signal);
      if (options.signal?.aborted === true) return CANCELED;
    }
  }

  /** READ_REPLICATION_SLOT; null for a slot that is not there. */
  read(name: string): { restartLsn: Lsn } | null {
    const slot = this.#slots.get(name);
    return slot === undefined ? null : { restartLsn: slot.restartLsn };
  }

  /**
   * Marks the slot active for `pid`. A lost one is revived when a stream from `startLsn` on finds its WAL stored; where it
   * does not, the stream may still find it at the upstream, so the slot is used as it is, keeps nothing, and is back as soon
   * as its standby confirms WAL that is stored. For any other use majors from 18 on refuse it.
   * (slot.c:ReplicationSlotAcquire, which refuses the stream, too)
   */
  acquire(name: string, pid: number, startLsn: Lsn = INVALID_LSN): SlotError | null {
    const slot = this.#slots.get(name);
    if (slot === undefined || slot.isGoing || isForeign(slot, pid)) return missing(name);
    if (slot.activePid !== null && slot.activePid !== pid) return inUse(name, slot.activePid);
    if (slot.invalidation !== null && !this.#revive(slot, startLsn)) {
      const { refusesInvalidatedPhysicalSlot } = this.#options.facts();
      const isStream = startLsn !== INVALID_LSN;
      if (!isStream && refusesInvalidatedPhysicalSlot) return invalidated(name, slot.invalidation);
      if (isStream) this.#noteUsedLost(slot, startLsn);
    }
    slot.activePid = pid;
    slot.streamStartLsn = startLsn;
    return null;
  }

  /** Gives the slot free. Without effect when `pid` does not hold it, or owns it as a temporary one. */
  release(name: string, pid: number): void {
    const slot = this.#slots.get(name);
    if (slot === undefined || slot.activePid !== pid || slot.ownerPid === pid) return;
    slot.activePid = null;
    slot.streamStartLsn = INVALID_LSN;
    slot.inactiveSinceMs = this.#options.clock.wallMs();
    slot.idleSinceMs = this.#options.clock.nowMs();
    // In the turn in which it is let go: its standby may be back in the next.
    if (slot.isDoomed) this.#check(slot, this.#options.bounds());
    slot.isDoomed = false;
    if (slot.invalidation !== null) this.#letRowsGo(slot);
    this.#wakeWaiters();
  }

  /** Moves restart_lsn, also backwards. On the disk a second later at most. (walsender.c:PhysicalConfirmReceivedLocation) */
  advance(name: string, restartLsn: Lsn): void {
    const slot = this.#slots.get(name);
    if (slot === undefined || restartLsn === INVALID_LSN) return;
    if (slot.invalidation !== null && !this.#revive(slot, restartLsn)) return;
    this.#move(slot, restartLsn);
  }

  /** The standby that uses the slot feeds back `said`. A slot that begins to hold something is saved at once, once a second. */
  feedBack(name: string, said: Xmins, nextXid: bigint | null = null): void {
    const slot = this.#slots.get(name);
    if (slot === undefined) return;
    const before = slot.xmins;
    const now = slotXmins(before, said, nextXid);
    if (isSameXmins(before, now)) return;
    slot.xmins = now;
    if (slot.ownerPid !== null) return;
    const nowMs = this.#options.clock.nowMs();
    // One that holds and lets go all the time must not keep the disk busy.
    if (!beginsToHold(before, now) || nowMs < slot.heldSinceMs + HOLD_SAVE_MS_MIN) {
      this.#saver.schedule();
      return;
    }
    slot.heldSinceMs = nowMs;
    void this.#saver.saveNow();
  }

  /** What each slot holds that holds anything. */
  *held(): Generator<HeldXmins> {
    for (const { name, ownerPid, xmins } of this.#slots.values()) {
      if (isSameXmins(xmins, NO_XMINS)) continue;
      yield { name, isTemporary: ownerPid !== null, ...xmins };
    }
  }

  /** Resolves when everything that has moved was saved, or at least tried. */
  saved(): Promise<void> {
    return this.#saver.saveNow();
  }

  /** The timeline was left at `switchLsn`: what lies beyond it is not kept by anybody's position. */
  cut(switchLsn: Lsn): void {
    const beyond = [...this.#slots.values()].filter((slot) => slot.restartLsn > switchLsn);
    for (const slot of beyond) this.#move(slot, switchLsn);
    for (const slot of this.#slots.values()) {
      slot.streamStartLsn = minLsn(slot.streamStartLsn, switchLsn);
    }
    // Not a second later: a crash behind WAL of the new timeline would find them where they were, and believe them.
    if (beyond.length > 0) void this.#saver.saveNow();
  }

  /** Drops every temporary slot of a session. (walsender.c:WalSndErrorCleanup) */
  dropTemporary(pid: number): void {
    let hasDropped = false;
    for (const slot of this.#slots.values()) {
      if (slot.ownerPid !== pid) continue;
      this.#slots.delete(slot.name);
      hasDropped = true;
    }
    if (hasDropped) this.#options.onChange();
    this.#wakeWaiters();
  }

  /**
   * Invalidates every slot whose WAL is more than may be kept, or that is idle for too long. One in use is told to end
   * its session first. On the disk at once; then `onChange` is called.
   */
  checkObsolete(): void {
    const bounds = this.#options.bounds();
    for (const slot of this.#slots.values()) this.#check(slot, bounds);
  }

  /**
   * The oldest position that any slot keeps, as it stands on the disk; null when none keeps anything. A slot that is in
   * use below both the store and the limit keeps nothing here: its standby reads from the upstream.
   */
  minimumPersistedRestartLsn(): Lsn | null {
    const bounds = this.#options.bounds();
    const floor = bounds === null ? INVALID_LSN : minLsn(limitLsn(bounds), bounds.oldestLsn);
    let minimum: Lsn | null = null;
    for (const slot of this.#slots.values()) {
      const kept = keptLsn(slot);
      const isBefore = kept !== null && kept < floor && isReadingThrough(slot, bounds);
      if (!isBefore) minimum = lowest(minimum, kept);
    }
    return minimum;
  }

  /** All slots, by name. */
  list(): SlotStatus[] {
    const bounds = this.#options.bounds();
    const minimum = this.minimumPersistedRestartLsn();
    return [...this.#slots.values()]
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map((slot) => statusOf(slot, minimum, bounds));
  }

  /** Slots lost since the start, by reason. */
  invalidations(): RetentionStatus['slotsInvalidated'] {
    return { ...this.#invalidated };
  }

  /** Saves every position. Nothing is saved afterwards. */
  async close(): Promise<void> {
    await this.#saver.close();
  }

  async #create(name: string, restartLsn: Lsn, ownerPid: number | null): Promise<SlotError | null> {
    const refusal = checkSlotName(name) ?? this.#checkRoomFor(name);
    if (refusal !== null) return refusal;
    const { clock, log } = this.#options;
    const slot = newSlot(
      { name, restartLsn, invalidation: null, ...NO_XMINS },
      { ownerPid, clock },
    );
    // In the map before it is on the disk: from now on nobody else takes the name, and its WAL stays.
    this.#slots.set(name, slot);
    if (ownerPid !== null) {
      // A temporary slot stays acquired by the session that made it. (slot.c:ReplicationSlotCreate)
      slot.activePid = ownerPid;
      return null;
    }
    slot.isGoing = true;
    try {
      await this.#files.create(slot.persisted);
    } catch (error) {
      this.#slots.delete(name);
      this.#wakeWaiters();
      return diskRefusal(`could not create replication slot "${name}"`, error);
    }
    slot.isGoing = false;
    this.#wakeWaiters();
    log.info('replication slot created', { slot: name, restart_lsn: formatLsn(restartLsn) });
    return null;
  }

  #checkRoomFor(name: string): SlotError | null {
    if (this.#slots.has(name)) return duplicate(name);
    if (this.#slots.size < this.#options.slotsMax) return null;
    return noRoom(this.#options.facts().quotesSettingNames);
  }

  #reserve(slot: Slot): void {
    const isUnused = slot.restartLsn === INVALID_LSN && slot.activePid === null;
    if (!isUnused || slot.invalidation !== null || slot.isGoing) return;
    const restartLsn = this.#redoLsn();
    if (restartLsn === INVALID_LSN) return;
    this.#move(slot, restartLsn);
    void this.#saver.saveNow();
  }

  /** Where replay would begin after the newest checkpoint, as far as it is stored. (slot.c:ReplicationSlotReserveWal) */
  #redoLsn(): Lsn {
    const { wal } = this.#options;
    const bounds = this.#options.bounds();
    const storedLsn = maxLsn(wal.redoLsn(), wal.oldestLsn());
    return bounds === null ? storedLsn : maxLsn(storedLsn, limitLsn(bounds));
  }

  #move(slot: Slot, restartLsn: Lsn): void {
    slot.restartLsn = restartLsn;
    if (slot.ownerPid === null) this.#saver.schedule();
    else slot.persisted = { ...slot.persisted, restartLsn };
  }

  /**
   * What a slot keeps for a standby that needs WAL from `lsn` on: nothing beyond our end, which is where a standby that is
   * ahead of us (or mistaken) goes on. Null when it could not keep it.
   */
  #keptFrom(lsn: Lsn): Lsn | null {
    const bounds = this.#options.bounds();
    if (bounds === null || lsn < bounds.oldestLsn || lsn < limitLsn(bounds)) return null;
    return minLsn(lsn, bounds.writtenLsn);
  }

  #revive(slot: Slot, wantedLsn: Lsn): boolean {
    const restartLsn = wantedLsn === INVALID_LSN ? null : this.#keptFrom(wantedLsn);
    if (restartLsn === null) return false;
    this.#options.log.info('lost replication slot is in use again: its WAL is still stored', {
      slot: slot.name,
      restart_lsn: formatLsn(restartLsn),
      was_invalidated: slot.invalidation,
    });
    slot.invalidation = null;
    slot.restartLsn = restartLsn;
    void this.#saver.saveNow();
    return true;
  }

  #noteUsedLost({ name, invalidation }: Slot, startLsn: Lsn): void {
    this.#options.log.info(
      'lost replication slot is in use; it keeps nothing until its standby is in stored WAL',
      {
        slot: name,
        start_lsn: formatLsn(startLsn),
        invalidated: invalidation,
      },
    );
  }

  /**
   * A standby that came with more than its slot knows of needs nothing from before its stream. It may not be able to
   * confirm that yet, being ahead of us: then its slot would be lost, and its session ended, for WAL that nobody wants.
   */
  #moveToStreamStart(slot: Slot): boolean {
    const { activePid, isDoomed, restartLsn, streamStartLsn } = slot;
    if (activePid === null || isDoomed || streamStartLsn === INVALID_LSN) return false;
    const keptLsn = this.#keptFrom(streamStartLsn);
    if (keptLsn === null || keptLsn <= restartLsn) return false;
    this.#move(slot, keptLsn);
    return true;
  }

  #check(slot: Slot, bounds: WalBounds | null): void {
    const { clock, log, idleTimeoutMs, terminate } = this.#options;
    const idle = { nowMs: clock.nowMs(), timeoutMs: idleTimeoutMs };
    const isLeft = slot.invalidation !== null && slot.activePid === null;
    if (isLeft && idle.nowMs >= slot.idleSinceMs + LOST_HOLD_MS) this.#letRowsGo(slot);
    const found = obsolescenceOf(slot, bounds, idle);
    if (found === null || (slot.isDoomed && slot.activePid !== null)) return;
    if (found.cause === 'wal_removed' && this.#moveToStreamStart(slot)) return;
    const fields = obsolescenceFields(found);
    if (slot.activePid !== null) {
      const pid = slot.activePid;
      slot.isDoomed = true;
      log.warn(`terminating process ${pid} to release replication slot "${slot.name}"`, fields);
      terminate(pid);
      return;
    }
    log.warn(`invalidating obsolete replication slot "${slot.name}"`, fields);
    slot.invalidation = found.cause;
    if (found.cause === 'wal_removed') slot.restartLsn = INVALID_LSN;
    this.#letRowsGo(slot);
    this.#invalidated[found.cause] += 1;
    void this.#saver.saveNow();
  }

  /** A lost slot holds nothing for a standby that may never be back. */
  #letRowsGo(slot: Slot): void {
    if (isSameXmins(slot.xmins, NO_XMINS)) return;
    slot.xmins = NO_XMINS;
    this.#saver.schedule();
  }

  async #remove(slot: Slot): Promise<SlotError | null> {
    if (slot.ownerPid === null) {
      slot.isGoing = true;
      await this.#saver.settle();
      try {
        await this.#files.remove(slot.name);
      } catch (error) {
        slot.isGoing = false;
        this.#wakeWaiters();
        return diskRefusal(`could not drop replication slot "${slot.name}"`, error);
      }
    }
    this.#slots.delete(slot.name);
    this.#wakeWaiters();
    this.#options.log.info('replication slot dropped', { slot: slot.name });
    this.#options.onChange();
    return null;
  }

  /** Resolves when some slot was let go, or at the `signal`. */
  async #untilRelease(signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted === true) return;
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        this.#onRelease.delete(wake);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      this.#onRelease.add(wake);
      signal?.addEventListener('abort', wake);
    });
  }

  #wakeWaiters(): void {
    const waiters = [...this.#onRelease];
    this.#onRelease.clear();
    for (const wake of waiters) wake();
  }
}

function isReadingThrough({ activePid, restartLsn }: Slot, bounds: WalBounds | null): boolean {
  return activePid !== null && bounds !== null && restartLsn < bounds.oldestLsn;
}
