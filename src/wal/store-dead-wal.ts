// What lies behind switch points in this store, and how is it let go of? Counted when it changes, not when it is asked for.
import type { DeadWalStatus } from '../status/status.ts';
import type { ControlKeeper } from './control-keeper.ts';
import { countDeadWal, NO_DEAD_FILES, removeDeadFiles } from './dead-wal.ts';
import type { DeadFiles } from './dead-wal.ts';

/** The dead WAL of one store. */
export class StoreDeadWal {
  readonly #directory: string;
  readonly #control: () => ControlKeeper | null;
  #files: DeadFiles = NO_DEAD_FILES;

  /** `directory`: storage.directory. `control`: null while the store is empty. */
  constructor(directory: string, control: () => ControlKeeper | null) {
    this.#directory = directory;
    this.#control = control;
  }

  /** As last counted. */
  status(): DeadWalStatus {
    return { ...this.#files, acknowledged: this.#control()?.state.acknowledgedBeyond ?? null };
  }

  /** Counts it anew. Rejects with the system's error. */
  async recount(): Promise<void> {
    this.#files = await countDeadWal(this.#directory);
  }

  /** Removes it, and forgets what was acknowledged in it. Durable when it resolves, with what was let go of. */
  async release(): Promise<DeadWalStatus> {
    const { acknowledged } = this.status();
    const removed = await removeDeadFiles(this.#directory);
    await this.#control()?.commit((state) => ({ ...state, acknowledgedBeyond: null }));
    await this.recount();
    return { ...removed, acknowledged };
  }
}
