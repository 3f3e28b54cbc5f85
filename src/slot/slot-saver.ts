// When do positions of slots reach the disk? A second after the first move at most, one slot after the other, and at
// once where something waits for it. Two writes of one slot never overlap. (slot.c: CheckPointReplicationSlots)
import type { Clock, Timer } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { SlotFiles } from './slot-files.ts';
import { hasMoved, lowest, reservedLsn } from './slot.ts';
import type { Slot } from './slot.ts';

const PERSIST_DELAY_MS = 1_000;

/** What a saver works with. */
export interface SlotSaverOptions {
  readonly files: SlotFiles;
  /** All slots there are at the moment. */
  readonly slots: () => Iterable<Slot>;
  readonly clock: Clock;
  readonly log: Log;
  /** What is on the disk has changed, and with it what removal of WAL may take. */
  readonly onSaved: () => void;
}

/** Saves what has moved. */
export class SlotSaver {
  readonly #options: SlotSaverOptions;
  #timer: Timer | null = null;
  #running: Promise<void> = Promise.resolve();
  /** The last save that was asked for has not begun. */
  #isQueued = false;
  #isClosed = false;
  /** Slots of which it was said that they cannot be saved. */
  readonly #failing = new WeakSet<Slot>();

  constructor(options: SlotSaverOptions) {
    this.#options = options;
  }

  /** Saves within a second. */
  schedule(): void {
    if (this.#timer !== null || this.#isClosed) return;
    this.#timer = this.#options.clock.setTimer(PERSIST_DELAY_MS, () => {
      this.#timer = null;
      void this.saveNow();
    });
  }

  /** Saves everything that has moved, behind what is being saved. Never rejects: what failed is tried again. */
  saveNow(): Promise<void> {
    if (this.#isClosed || this.#isQueued) return this.#running;
    this.#isQueued = true;
    this.#running = this.#running.then(() => {
      this.#isQueued = false;
      return this.#saveMoved();
    });
    return this.#running;
  }

  /** Resolves when nothing is being saved. */
  settle(): Promise<void> {
    return this.#running;
  }

  /** Saves a last time; nothing afterwards. */
  async close(): Promise<void> {
    const saved = this.saveNow();
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#timer = null;
    await saved;
  }

  async #saveMoved(): Promise<void> {
    let hasSaved = false;
    for (const slot of this.#options.slots()) {
      if (!hasMoved(slot)) continue;
      if (await this.#save(slot)) hasSaved = true;
    }
    if (hasSaved) this.#options.onSaved();
    if ([...this.#options.slots()].some(hasMoved)) this.schedule();
  }

  async #save(slot: Slot): Promise<boolean> {
    const { name, restartLsn, invalidation, xmins } = slot;
    const state = { name, restartLsn, invalidation, ...xmins };
    // Until that is known, the disk may hold either.
    slot.unsureLsn = lowest(slot.unsureLsn, reservedLsn(state));
    try {
      await this.#options.files.save(state);
      slot.persisted = state;
      slot.unsureLsn = null;
      this.#failing.delete(slot);
      return true;
    } catch (error) {
      if (this.#failing.has(slot)) return false;
      this.#failing.add(slot);
      // Nothing is lost: WAL is kept from the position that is on the disk.
      this.#options.log.warn('the state of a replication slot could not be saved; trying again', {
        slot: name,
        restart_lsn: formatLsn(restartLsn),
        error: errorText(error),
      });
      return false;
    }
  }
}
