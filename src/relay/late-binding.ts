// Lets the ports open before the store does: sessions are accepted from the first moment on and told 57P03 until the
// upstream is known, which cannot be before the store and the slots are there.
import { invariant } from '../base/errors.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { WalAges } from '../syncrep/lag-end-to-end.ts';
import type {
  OlderWalReader,
  OlderWalRequest,
  SlotPosition,
  SlotRefusal,
  SlotRegistry,
  WalFeed,
  WalReadFailure,
  WalReadLater,
} from '../walsender/ports.ts';

/** A WalFeed whose store arrives later. Calling it before that is a bug: nobody streams before the upstream is known. */
export class LateWalFeed implements WalFeed {
  #feed: WalFeed | null = null;

  /** Hands over the store. */
  bind(feed: WalFeed): void {
    this.#feed = feed;
  }

  get ages(): WalAges {
    return this.#bound().ages;
  }

  timeline(): TimelineId {
    return this.#bound().timeline();
  }

  history(): TimelineHistory {
    return this.#bound().history();
  }

  sendableLsn(): Lsn {
    return this.#bound().sendableLsn();
  }

  oldestLsn(): Lsn {
    return this.#bound().oldestLsn();
  }

  fromMemory(startLsn: Lsn, endLsn: Lsn): readonly Uint8Array[] | null {
    return this.#bound().fromMemory(startLsn, endLsn);
  }

  fromFiles(
    timeline: TimelineId,
    startLsn: Lsn,
    endLsn: Lsn,
  ): Promise<Uint8Array | WalReadFailure | WalReadLater> {
    return this.#bound().fromFiles(timeline, startLsn, endLsn);
  }

  openOlder(request: OlderWalRequest): OlderWalReader | null {
    return this.#bound().openOlder(request);
  }

  historyFile(timeline: TimelineId): Promise<Uint8Array | null> {
    return this.#bound().historyFile(timeline);
  }

  onAdvance(listener: () => void): () => void {
    return this.#bound().onAdvance(listener);
  }

  onTakenBack(listener: (lsn: Lsn) => void): () => void {
    return this.#bound().onTakenBack(listener);
  }

  expectsWal(lsn: Lsn, sinceMs: number): boolean {
    return this.#bound().expectsWal(lsn, sinceMs);
  }

  #bound(): WalFeed {
    invariant(this.#feed !== null, 'WAL was asked for before the store was open');
    return this.#feed;
  }
}

/** A SlotRegistry whose slots arrive later; the same rule. */
export class LateSlotRegistry implements SlotRegistry {
  #slots: SlotRegistry | null = null;

  /** Hands over the slots. */
  bind(slots: SlotRegistry): void {
    this.#slots = slots;
  }

  create(options: {
    name: string;
    temporary: boolean;
    reserveWal: boolean;
    pid: number;
  }): Promise<SlotRefusal | null> {
    return this.#bound().create(options);
  }

  drop(
    name: string,
    options: { wait: boolean; pid: number; signal?: AbortSignal },
  ): Promise<SlotRefusal | null> {
    return this.#bound().drop(name, options);
  }

  read(name: string): SlotPosition | null {
    return this.#bound().read(name);
  }

  createForStart(name: string, startLsn: Lsn): Promise<SlotRefusal | null> | null {
    return this.#bound().createForStart(name, startLsn);
  }

  acquire(name: string, pid: number, startLsn?: Lsn): SlotRefusal | null {
    return this.#bound().acquire(name, pid, startLsn);
  }

  release(name: string, pid: number): void {
    this.#slots?.release(name, pid);
  }

  advance(name: string, restartLsn: Lsn): void {
    this.#bound().advance(name, restartLsn);
  }

  dropTemporary(pid: number): void {
    this.#slots?.dropTemporary(pid);
  }

  #bound(): SlotRegistry {
    invariant(this.#slots !== null, 'a slot was asked for before the slots were loaded');
    return this.#slots;
  }
}
