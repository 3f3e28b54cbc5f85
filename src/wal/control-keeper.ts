// When is the control file written? At once where something was promised, else lazily: at most every few seconds while
// the durable mark moves. One save at a time, off the event loop, and the newest state wins.
import type { Clock, Timer } from '../base/clock.ts';
import { isOutOfSpace } from '../base/durable-fs.ts';
import { saveControl } from './control-file.ts';
import type { ControlState } from './control-file.ts';

/** How a keeper is made. */
export interface ControlKeeperOptions {
  readonly directory: string;
  /** Longest time a change stays unsaved while saves work. */
  readonly intervalMs: number;
  readonly clock: Clock;
  /** A lazy save failed for another reason than lack of space. */
  readonly onFailed: (error: unknown) => void;
}

/** Holds the control state and saves it. */
export class ControlKeeper {
  readonly #options: ControlKeeperOptions;
  #state: ControlState;
  #saved: ControlState | null;
  #timer: Timer | null = null;
  #saving: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(options: ControlKeeperOptions, state: ControlState, isSaved: boolean) {
    this.#options = options;
    this.#state = state;
    this.#saved = isSaved ? state : null;
  }

  /** As it is in memory. */
  get state(): ControlState {
    return this.#state;
  }

  /** As it is on the disk; null before the first save. */
  get saved(): ControlState | null {
    return this.#saved;
  }

  /** Changes the state; it will be on the disk after a while. */
  change(part: Partial<ControlState>): void {
    this.#state = { ...this.#state, ...part };
    this.#schedule();
  }

  /** The same, but the save begins now. */
  changeSoon(part: Partial<ControlState>): void {
    this.#state = { ...this.#state, ...part };
    this.#timer?.cancel();
    this.#timer = null;
    void this.save().catch((error: unknown) => this.#onLazyError(error));
  }

  /**
   * Changes the state once the change is on the disk, not before. Rejects with the system's error, with nothing changed.
   * `make` may be called twice, with what else changed in between.
   */
  commit(make: (state: ControlState) => ControlState): Promise<void> {
    const turn = this.#saving.then(async () => {
      const state = make(this.#state);
      await saveControl(this.#options.directory, state);
      this.#saved = state;
      this.#state = make(this.#state);
    });
    this.#saving = turn.catch(() => {});
    return turn;
  }

  /** Resolves when a state at least as new as now's is on the disk. Rejects with the system's error. */
  save(): Promise<void> {
    const turn = this.#saving.then(() => this.#saveIfChanged());
    this.#saving = turn.catch(() => {});
    return turn;
  }

  /** Saves `part` as the last thing. */
  async close(part: Partial<ControlState>): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#state = { ...this.#state, ...part };
    await this.save();
  }

  /** Saves nothing any more; waits for a save that is under way. */
  async abandon(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.#saving;
  }

  async #saveIfChanged(): Promise<void> {
    const state = this.#state;
    if (state === this.#saved) return;
    await saveControl(this.#options.directory, state);
    this.#saved = state;
  }

  #schedule(): void {
    if (this.#timer !== null || this.#isClosed) return;
    this.#timer = this.#options.clock.setTimer(this.#options.intervalMs, () => {
      this.#timer = null;
      void this.save().catch((error: unknown) => this.#onLazyError(error));
    });
  }

  /** The file on the disk is still the old one, whole: without space, that will do for longer. */
  #onLazyError(error: unknown): void {
    if (isOutOfSpace(error)) this.#schedule();
    else if (!this.#isClosed) this.#options.onFailed(error);
  }
}
