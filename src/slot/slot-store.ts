// Which physical replication slots are there, who uses them, and which WAL do they keep? Commands are durable before
// they resolve; positions move in memory and reach the disk at most a second later, and removal of WAL looks at what is
// on the disk (invariant I4). (src/backend/replication/slot.c)
import type { Clock, Timer } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatLsn, INVALID_LSN, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { SlotStatus } from '../status/status.ts';
import { SlotFiles } from './slot-files.ts';
import { checkSlotName } from './slot-name.ts';
import type { SlotError } from './slot-name.ts';

/** The WAL that slots can keep. */
export interface SlotWal {
  /** First byte that is stored; INVALID_LSN for an empty store. */
  oldestLsn(): Lsn;
  /** Redo position of the newest checkpoint received; INVALID_LSN when none was seen. */
  redoLsn(): Lsn;
  timeline(): TimelineId;
}

/** How slots are opened. */
export interface SlotStoreOptions {
  /** walcast's data directory; slots live in `pg_replslot` below it. */
  readonly directory: string;
  readonly wal: SlotWal;
  /** max_replication_slots. */
  readonly slotsMax: number;
  /** The upstream's version quotes setting names in messages. */
  readonly quotesSettingNames: () => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

interface Slot {
  readonly name: string;
  /** Session a temporary slot belongs to; null for a persistent one. */
  readonly ownerPid: number | null;
  activePid: number | null;
  restartLsn: Lsn;
  /** What is on the disk. For a slot in the making: what will be, so that the WAL stays until it is. */
  persistedLsn: Lsn;
  /** When it was let go, or loaded, Unix milliseconds. (slot.h: inactive_since) */
  inactiveSinceMs: number;
  isGoing: boolean;
}

const PERSIST_DELAY_MS = 1_000;

/** (src/backend/tcop/postgres.c:ProcessInterrupts) */
const CANCELED: SlotError = {
  sqlstate: SQLSTATE.queryCanceled,
  message: 'canceling statement due to user request',
};

/** All slots of one relay. */
export class SlotStore {
  readonly #options: SlotStoreOptions;
  readonly #files: SlotFiles;
  readonly #slots = new Map<string, Slot>();
  readonly #onRelease = new Set<() => void>();
  #timer: Timer | null = null;
  #saving: Promise<void> = Promise.resolve();
  #isClosed = false;

  private constructor(options: SlotStoreOptions) {
    this.#options = options;
    this.#files = new SlotFiles(options.directory);
  }

  /** Loads what is on the disk. Throws OperationalError when a slot cannot be read. */
  static async open(options: SlotStoreOptions): Promise<SlotStore> {
    const store = new SlotStore(options);
    for (const { name, restartLsn } of await store.#files.load()) {
      store.#slots.set(name, store.#newSlot(name, { ownerPid: null, restartLsn }));
    }
    return store;
  }

  /** CREATE_REPLICATION_SLOT … PHYSICAL. */
  async create(options: {
    name: string;
    temporary: boolean;
    reserveWal: boolean;
    pid: number;
  }): Promise<SlotError | null> {
    const { name, temporary, pid } = options;
    const refusal = checkSlotName(name) ?? this.#checkRoomFor(name);
    if (refusal !== null) return refusal;
    const restartLsn = options.reserveWal ? this.#reservedLsn() : INVALID_LSN;
    const slot = this.#newSlot(name, { ownerPid: temporary ? pid : null, restartLsn });
    // In the map before it is on the disk: from now on nobody else takes the name, and its WAL stays.
    this.#slots.set(name, slot);
    if (temporary) {
      // A temporary slot stays acquired by the session that made it. (slot.c:ReplicationSlotCreate)
      slot.activePid = pid;
      return null;
    }
    slot.isGoing = true;
    try {
      await this.#files.create(slot);
    } catch (error) {
      this.#slots.delete(name);
      return diskRefusal(`could not create replication slot "${name}"`, error);
    }
    slot.isGoing = false;
    this.#options.log.info('replication slot created', {
      slot: name,
      restart_lsn: formatLsn(restartLsn),
    });
    return null;
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
      const isBusy = (holder !== null && holder !== options.pid) || slot.isGoing;
      if (!isBusy) return await this.#remove(slot);
      if (!options.wait) return inUse(name, holder ?? options.pid);
      await this.#untilRelease(options.signal);
      if (options.signal?.aborted === true) return CANCELED;
    }
  }

  /** READ_REPLICATION_SLOT; null for a slot that is not there. */
  read(name: string): { restartLsn: Lsn; restartTimeline: TimelineId | null } | null {
    const slot = this.#slots.get(name);
    if (slot === undefined) return null;
    const isReserving = slot.restartLsn !== INVALID_LSN;
    return {
      restartLsn: slot.restartLsn,
      restartTimeline: isReserving ? this.#options.wal.timeline() : null,
    };
  }

  /** Marks the slot active for `pid`. (slot.c:ReplicationSlotAcquire) */
  acquire(name: string, pid: number): SlotError | null {
    const slot = this.#slots.get(name);
    if (slot === undefined || slot.isGoing || isForeign(slot, pid)) return missing(name);
    if (slot.activePid !== null && slot.activePid !== pid) return inUse(name, slot.activePid);
    slot.activePid = pid;
    return null;
  }

  /** Gives the slot free. Without effect when `pid` does not hold it, or owns it as a temporary one. */
  release(name: string, pid: number): void {
    const slot = this.#slots.get(name);
    if (slot === undefined || slot.activePid !== pid || slot.ownerPid === pid) return;
    slot.activePid = null;
    slot.inactiveSinceMs = this.#options.clock.wallMs();
    this.#wakeWaiters();
  }

  /** Moves restart_lsn, also backwards. On the disk a second later at most. (walsender.c:PhysicalConfirmReceivedLocation) */
  advance(name: string, restartLsn: Lsn): void {
    const slot = this.#slots.get(name);
    if (slot === undefined || restartLsn === INVALID_LSN) return;
    slot.restartLsn = restartLsn;
    if (slot.ownerPid !== null) slot.persistedLsn = restartLsn;
    else if (slot.persistedLsn !== restartLsn) this.#schedule();
  }

  /** Drops every temporary slot of a session. (walsender.c:WalSndErrorCleanup) */
  dropTemporary(pid: number): void {
    for (const slot of this.#slots.values()) {
      if (slot.ownerPid === pid) this.#slots.delete(slot.name);
    }
    this.#wakeWaiters();
  }

  /** The oldest position that any slot keeps, as it stands on the disk; null when none keeps anything. */
  minimumPersistedRestartLsn(): Lsn | null {
    let minimum: Lsn | null = null;
    for (const slot of this.#slots.values()) {
      if (slot.persistedLsn === INVALID_LSN) continue;
      const kept =
        slot.restartLsn === INVALID_LSN
          ? slot.persistedLsn
          : minLsn(slot.persistedLsn, slot.restartLsn);
      minimum = minimum === null ? kept : minLsn(minimum, kept);
    }
    return minimum;
  }

  /** All slots, by name. */
  list(): SlotStatus[] {
    return [...this.#slots.values()]
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map((slot) => ({
        name: slot.name,
        temporary: slot.ownerPid !== null,
        activePid: slot.activePid,
        restartLsn: slot.restartLsn,
        inactiveSinceMs: slot.activePid === null ? slot.inactiveSinceMs : null,
        walStatus: this.#walStatus(slot),
      }));
  }

  /** Saves every position. Nothing is saved afterwards. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.#saving;
    await this.#saveMoved();
  }

  #newSlot(name: string, options: { ownerPid: number | null; restartLsn: Lsn }): Slot {
    const { ownerPid, restartLsn } = options;
    return {
      name,
      ownerPid,
      activePid: null,
      restartLsn,
      persistedLsn: restartLsn,
      inactiveSinceMs: this.#options.clock.wallMs(),
      isGoing: false,
    };
  }

  #walStatus(slot: Slot): SlotStatus['walStatus'] {
    if (slot.restartLsn === INVALID_LSN) return null;
    return slot.restartLsn < this.#options.wal.oldestLsn() ? 'lost' : 'reserved';
  }

  #checkRoomFor(name: string): SlotError | null {
    if (this.#slots.has(name)) {
      return { sqlstate: '42710', message: `replication slot "${name}" already exists` };
    }
    if (this.#slots.size < this.#options.slotsMax) return null;
    const quote = this.#options.quotesSettingNames() ? '"' : '';
    return {
      sqlstate: '53400',
      message: 'all replication slots are in use',
      hint: `Free one or increase ${quote}max_replication_slots${quote}.`,
    };
  }

  /** Where replay would begin after the newest checkpoint, as far as it is stored. (slot.c:ReplicationSlotReserveWal) */
  #reservedLsn(): Lsn {
    const { wal } = this.#options;
    const [redoLsn, oldestLsn] = [wal.redoLsn(), wal.oldestLsn()];
    return redoLsn === INVALID_LSN || redoLsn < oldestLsn ? oldestLsn : redoLsn;
  }

  async #remove(slot: Slot): Promise<SlotError | null> {
    if (slot.ownerPid !== null) {
      this.#slots.delete(slot.name);
      return null;
    }
    slot.isGoing = true;
    await this.#saving;
    try {
      await this.#files.remove(slot.name);
    } catch (error) {
      slot.isGoing = false;
      return diskRefusal(`could not drop replication slot "${slot.name}"`, error);
    }
    this.#slots.delete(slot.name);
    this.#wakeWaiters();
    this.#options.log.info('replication slot dropped', { slot: slot.name });
    return null;
  }

  #schedule(): void {
    if (this.#timer !== null || this.#isClosed) return;
    this.#timer = this.#options.clock.setTimer(PERSIST_DELAY_MS, () => {
      this.#saving = this.#saveMoved().finally(() => {
        this.#timer = null;
        if ([...this.#slots.values()].some(hasMoved)) this.#schedule();
      });
    });
  }

  async #saveMoved(): Promise<void> {
    for (const slot of this.#slots.values()) {
      if (!hasMoved(slot)) continue;
      const { restartLsn } = slot;
      try {
        await this.#files.save({ name: slot.name, restartLsn });
        slot.persistedLsn = restartLsn;
      } catch (error) {
        // Nothing is lost: WAL is kept from the position that is on the disk.
        this.#options.log.warn(
          'the position of a replication slot could not be saved; trying again',
          {
            slot: slot.name,
            restart_lsn: formatLsn(restartLsn),
            error: errorText(error),
          },
        );
      }
    }
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

function hasMoved(slot: Slot): boolean {
  return slot.ownerPid === null && !slot.isGoing && slot.persistedLsn !== slot.restartLsn;
}

/** A temporary slot is visible to every session, but only its own can use it. */
function isForeign(slot: Slot, pid: number): boolean {
  return slot.ownerPid !== null && slot.ownerPid !== pid && slot.activePid === null;
}

function missing(name: string): SlotError {
  return { sqlstate: '42704', message: `replication slot "${name}" does not exist` };
}

function inUse(name: string, pid: number): SlotError {
  return { sqlstate: '55006', message: `replication slot "${name}" is active for PID ${pid}` };
}

function diskRefusal(what: string, error: unknown): SlotError {
  return { sqlstate: '58030', message: `${what}: ${errorText(error)}` };
}
