// The WAL store: one directory, the WAL of one cluster along one line of timelines, in PostgreSQL's own files. This is its
// public face, and what outlives a timeline; an empty store knows nothing until `initialize`, everything else is LiveWal's.
//
// What it promises: F (flushedLsn) is a record end or a switch point, everything before it is on the disk, and after any
// crash the store finds an end that is not before it, unless the upstream had sent a damaged record in mid-message with
// `verify: page`: then the end is before that record (recovery.ts). Nothing is given out that was not checked as `verify`
// says. After the first failure of the disk, except for lack of space at a write, it says so once and takes nothing more.
import { invariant } from '../base/errors.ts';
import { formatLsn, INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentOffset } from '../pg/segment.ts';
import { rootHistory } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { DeadWalStatus, StoreStatus } from '../status/status.ts';
import { loadControl } from './control-file.ts';
import type { ControlState, StoredServer } from './control-file.ts';
import { ControlKeeper } from './control-keeper.ts';
import { prepareDataDirectory, refuseLeftSegments, walDirectory } from './data-directory.ts';
import { NO_DEAD_FILES } from './dead-wal.ts';
import { LiveWal } from './live-wal.ts';
import type { LiveWalOwner, LiveWalStart } from './live-wal.ts';
import type { ReceivedWalk } from './live-walk.ts';
import { preparePageSums } from './page-sums.ts';
import { NO_WAL_FACTS } from './records/wal-facts.ts';
import type { WalFacts } from './records/wal-facts.ts';
import { firstNeeded, SegmentRemoval } from './segment-removal.ts';
import { firstState, identityOf, isSameBeginning, notEmpty, serverOf } from './store-beginning.ts';
import { StoreCounters } from './store-counters.ts';
import { StoreDeadWal } from './store-dead-wal.ts';
import { StoreListeners } from './store-listeners.ts';
import { StoreTurns } from './store-turns.ts';
import { STORE_LIMITS } from './store-options.ts';
import type {
  NextTimeline,
  StoredIdentity,
  StorePositions,
  TimelineSwitchInfo,
  WalRefusal,
  WalStoreOptions,
} from './store-options.ts';
import { emptyStoreStatus, NO_POSITIONS } from './store-status.ts';
import { openFailure, recoverStore, saveFound, saveLast, saveNow } from './store-opening.ts';
import { completeSwitch, hasFollowed, noteSwitch } from './store-switch.ts';
import type { SwitchingStore } from './store-switch.ts';
import { readHistoryFile, saveHistoryFile } from './stored-history.ts';
import { isDamaged } from './wal-reader.ts';
import type { DamagedRead, StoredReadFailure, StoredReadLater, WalReader } from './wal-reader.ts';

export type * from './store-options.ts';

/** The store. */
export class WalStore {
  readonly #options: WalStoreOptions;
  #identity: StoredIdentity | null = null;
  #control: ControlKeeper | null = null;
  #live: LiveWal | null = null;
  #removal: SegmentRemoval | null = null;
  /** Being begun now: how, and when that is over. */
  #beginning: { readonly state: ControlState; readonly done: Promise<void> } | null = null;
  /** Of what changes files beside the stream. */
  readonly #turns = new StoreTurns(() => this.#removeUnneeded());
  #switchedAtStart: TimelineSwitchInfo | null = null;
  #isLeft = false;
  #minimumSlotLsn: (() => Lsn | null) | null = null;
  readonly #dead: StoreDeadWal;
  readonly #counters = new StoreCounters();
  readonly #listeners = new StoreListeners();

  private constructor(options: WalStoreOptions) {
    this.#options = options;
    this.#dead = new StoreDeadWal(options.directory, () => this.#control);
  }

  /**
   * Makes the directory when it is missing, finds the end of the WAL in it, and takes over. Throws OperationalError when
   * the directory cannot be used or the WAL is damaged; then nothing was changed that was known to be good.
   */
  static async open(options: WalStoreOptions): Promise<WalStore> {
    await prepareDataDirectory(options.directory);
    const store = new WalStore(options);
    try {
      const control = await loadControl(options.directory);
      if (control === null) await refuseLeftSegments(options.directory);
      else await store.#recover(control);
      await store.recountDead();
    } catch (error) {
      throw openFailure(options.directory, error);
    }
    return store;
  }

  /** Whose WAL this is; null for an empty store. */
  get identity(): StoredIdentity | null {
    return this.#identity;
  }

  /**
   * Makes an empty store the store of this cluster and timeline, beginning at `startLsn`, a segment start. Durable when
   * it resolves. The history file of a timeline above 1 must be stored before. Asked again for the same, while it begins
   * or later, it waits and changes nothing. Throws OperationalError: STORE_NOT_EMPTY when it was begun in another way,
   * STORE_HAS_WAL when segments lie in pg_wal.
   */
  async initialize(identity: StoredIdentity, startLsn: Lsn): Promise<void> {
    invariant(segmentOffset(startLsn, identity.segmentSize) === 0, 'a store begins with a segment');
    const state = firstState(identity, startLsn);
    while (this.#beginning !== null) {
      const { state: other, done } = this.#beginning;
      if (isSameBeginning(state, other)) return await done;
      await done.catch(() => {});
    }
    if (this.#control !== null) {
      if (isSameBeginning(state, this.#control.state)) return;
      throw notEmpty(this.#options.directory, this.#control.state);
    }
    const done = this.#begin(identity, state).finally(() => {
      this.#beginning = null;
    });
    this.#beginning = { state, done };
    await done;
  }

  /** Takes over what the server says about itself today. Durable when it resolves. */
  async updateServer(server: StoredServer): Promise<void> {
    invariant(this.#identity !== null && this.#control !== null, 'the store is empty');
    this.#identity = { ...this.#identity, ...serverOf(server) };
    this.#control.change({ server: serverOf(server) });
    await this.#saveNow(this.#control);
  }

  /**
   * Leaves the timeline at `switchLsn`, its first byte that belongs to the next one, whose history file must be stored
   * before. What lies behind it is set aside; R, W, F and P fall to it. Durable when it resolves, and listeners were told
   * ({@link onTimelineSwitch}); a stop at any moment is completed by the next start. Asked again for the same it changes
   * nothing. Throws OperationalError: SWITCH_OUTSIDE when the switch point is not stored, SWITCH_HISTORY when the history is
   * not of a next timeline; an error for which isOutOfSpace holds when there is no space: to be tried again. Until then
   * nothing is taken in. Any other failure of the disk is the end of the store. After {@link close} nothing is done.
   *
   * Afterwards {@link nextLsn} is the start of the segment that holds the switch point (at most 16 MiB before it): what the
   * upstream sends before the switch point is only compared with what is stored.
   */
  async switchTimeline(next: NextTimeline): Promise<void> {
    await this.#turns.run(() => this.#switch(next));
  }

  /** Adds a listener that is called in the turn in which the next timeline took over; now, where the start completed a switch. */
  onTimelineSwitch(listener: (info: TimelineSwitchInfo) => void): void {
    this.#listeners.timelineSwitch.push(listener);
    if (this.#switchedAtStart !== null) listener(this.#switchedAtStart);
  }

  // --- where received WAL goes (WalSink of walreceiver/ports.ts)

  /** The byte that is wanted next; INVALID_LSN for an empty store. */
  nextLsn(): Lsn {
    return this.#live?.nextLsn ?? INVALID_LSN;
  }

  /**
   * Checks and copies `data`, the WAL from `startLsn` on. Null, or why all of it was refused; then everything behind the
   * last record end (or the switch point) was taken back, and {@link nextLsn} is there.
   */
  append(startLsn: Lsn, data: Uint8Array): WalRefusal | null {
    return this.#requireLive().append(startLsn, data);
  }

  /** True while too much waits for the disk, or there is no space, or the store has failed. */
  isFull(): boolean {
    return this.#live?.isFull() ?? false;
  }

  /** Sets the one listener that is told when a full store has room again. */
  onRoom(listener: () => void): void {
    this.#listeners.room = listener;
  }

  // --- where WAL comes from (WalFeed of walsender/ports.ts); not to be asked of an empty store

  timeline(): TimelineId {
    return this.#requireLive().timeline;
  }

  history(): TimelineHistory {
    return this.#identity?.history ?? rootHistory(this.timeline());
  }

  /** R, or F with `forward: flushed`. Falls back when received WAL is taken back. */
  sendableLsn(): Lsn {
    return this.#live?.sendableLsn ?? INVALID_LSN;
  }

  /** First byte stored, a segment start; INVALID_LSN for an empty store. */
  oldestLsn(): Lsn {
    return this.#removal?.oldestLsn ?? INVALID_LSN;
  }

  /** [startLsn, endLsn) as views that never change; null when not all of it is in memory. */
  fromMemory(startLsn: Lsn, endLsn: Lsn): readonly Uint8Array[] | null {
    return this.#requireLive().fromMemory(startLsn, endLsn);
  }

  /**
   * [startLsn, endLsn), read from files and checked. The buffer is the caller's. What lies behind the end of the store
   * (because it was taken back meanwhile) comes back as `damaged`. Never rejects.
   */
  async fromFiles(
    timeline: TimelineId,
    startLsn: Lsn,
    endLsn: Lsn,
  ): Promise<Uint8Array | StoredReadFailure | StoredReadLater> {
    const live = this.#requireLive();
    let read = await live.fromFiles(timeline, startLsn, endLsn);
    if (isDamaged(read) && (this.#turns.isBusy || live !== this.#live)) {
      // The file may have been moved meanwhile, and the next timeline has a copy.
      await this.#turns.settled();
      read = await this.#requireLive().fromFiles(timeline, startLsn, endLsn);
    }
    if (isDamaged(read) && read.isBeyondEnd !== true) this.noteDamage(read);
    return read;
  }

  /** Counts a message of the upstream that did not join on, and was not even offered. */
  noteRejected(): void {
    this.#counters.rejectedFromUpstream++;
  }

  /** Says and counts that stored WAL was found damaged. */
  noteDamage({ walFileName: file, lsn, reason }: DamagedRead): void {
    this.#counters.rejectedFromDisk++;
    this.#counters.countError('read');
    this.#options.log.error('stored WAL is damaged', { file, lsn: formatLsn(lsn), reason });
  }

  /** Of the segments of this moment: another after a switch of timelines; null for an empty store. */
  get reader(): WalReader | null {
    return this.#live?.reader ?? null;
  }

  /** Calls `listener` once in each turn of the event loop in which {@link sendableLsn} rose. Returns the way to stop it. */
  onAdvance(listener: () => void): () => void {
    return this.#listeners.advance.listen(listener);
  }

  /**
   * Adds a listener that is called when received WAL was taken back after a rejection and {@link sendableLsn} fell to
   * `lsn`: at once, within {@link append}, before any other byte can be appended there.
   */
  onTakenBack(listener: (lsn: Lsn) => void): void {
    this.#listeners.takenBack.push(listener);
  }

  /** The file, byte for byte; null when it is not stored. */
  async historyFile(timeline: TimelineId): Promise<Uint8Array | null> {
    return await readHistoryFile(this.#options.directory, timeline);
  }

  /** Keeps a history file; durable when it resolves. Also for an empty store. */
  async storeHistoryFile(timeline: TimelineId, content: Uint8Array): Promise<void> {
    // Two at once would take each other's temporary file.
    const { directory } = this.#options;
    await this.#turns.run(() => saveHistoryFile(directory, timeline, content));
  }

  // --- positions

  /** R, W and F; INVALID_LSN for an empty store. */
  positions(): StorePositions {
    return this.#live?.positions() ?? NO_POSITIONS;
  }

  /** Adds a listener that is called when W or F rose. */
  onFlush(listener: () => void): void {
    this.#listeners.flush.push(listener);
  }

  /** End of the last record received when that is a CHECKPOINT_SHUTDOWN (the server is stopping), else INVALID_LSN. */
  shutdownCheckpointLsn(): Lsn {
    return this.#live?.shutdownCheckpointLsn() ?? INVALID_LSN;
  }

  /** Redo position of the newest checkpoint received; INVALID_LSN before the first. */
  redoLsn(): Lsn {
    return this.#live?.walk.redoLsn() ?? INVALID_LSN;
  }

  /** What the walk over received WAL knows, changed in place by {@link append}; null for an empty store. */
  get walk(): Pick<ReceivedWalk, 'recordEnd' | 'learned'> | null {
    return this.#live?.walk ?? null;
  }

  /** What the records received say about transactions. */
  facts(): WalFacts {
    return this.#live?.facts ?? NO_WAL_FACTS;
  }

  /** P, as far as it was saved before the last stop and noted since; INVALID_LSN when nothing was ever reported. */
  reportedFlushLsn(): Lsn {
    return this.#control?.state.reportedFlushLsn ?? INVALID_LSN;
  }

  /** Remembers the highest flush position that was reported upstream; on the disk within seconds. */
  noteReportedFlush(lsn: Lsn): void {
    if (this.#control === null || lsn <= this.#control.state.reportedFlushLsn) return;
    this.#control.change({ reportedFlushLsn: lsn });
  }

  /** The store in numbers. */
  status(): StoreStatus {
    const { tailBytesMax } = this.#options.limits ?? STORE_LIMITS;
    return { ...(this.#live?.status() ?? emptyStoreStatus(tailBytesMax)), dead: this.deadWal() };
  }

  // --- dead WAL

  /** What lies behind switch points, as last counted. */
  deadWal(): DeadWalStatus {
    return this.#dead.status();
  }

  /** Counts it anew; to be called by who else puts files into `dead/`. Rejects with the system's error. */
  async recountDead(): Promise<void> {
    await this.#dead.recount();
  }

  /** Removes it, and forgets what was acknowledged in it. Durable when it resolves, with what was let go of. */
  async releaseDeadWal(): Promise<DeadWalStatus> {
    const released = await this.#turns.run(() => this.#dead.release());
    return released ?? { ...NO_DEAD_FILES, acknowledged: null };
  }

  // --- retention

  /** Says which WAL slots keep, as it stands on the disk (null: none). Before this is called nothing is removed. */
  setRetention(minimumSlotLsn: () => Lsn | null): void {
    this.#minimumSlotLsn = minimumSlotLsn;
    this.#removeUnneeded();
  }

  /** Removes whole segments that neither the keep window, nor slots, nor a recovery need. Returns at once. */
  removeOldSegments(minimumSlotLsn: Lsn | null): void {
    // F is behind the switch point still, and the segment that holds that one is needed.
    if (this.#turns.isBusy) return;
    const markLsn = this.#control?.saved?.durableMark.lsn ?? INVALID_LSN;
    const { walKeepSizeBytes } = this.#options;
    const needs = { ...this.positions(), walKeepSizeBytes, markLsn, minimumSlotLsn };
    this.#removal?.removeBefore(firstNeeded(needs));
  }

  /**
   * Flushes everything, saves the control file, ends the writer. Takes nothing afterwards. Waits for the disk as long as
   * it takes; with `timeoutMs`, no longer than that: then the store is left as a crash would leave it, and the next start
   * finds its end. The thread may hang in the kernel still, and then process.exit hangs with it.
   */
  async close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    const closed = this.#close();
    const { timeoutMs } = options;
    if (timeoutMs === undefined) return await closed;
    await new Promise<void>((resolve, reject) => {
      const timer = this.#options.clock.setTimer(timeoutMs, () => {
        this.#leave();
        resolve();
      });
      closed.finally(() => timer.cancel()).then(resolve, reject);
    });
  }

  async #close(): Promise<void> {
    await this.#turns.end();
    await this.#beginning?.done.catch(() => {});
    const [live, control] = [this.#live, this.#control];
    if (live === null || control === null) return;
    const isFlushed = await live.close();
    if (live.hasFailed) await control.abandon();
    else {
      const last = { durableMark: live.flushedChain, wasCleanStop: isFlushed };
      await saveLast(control, last, this.#options);
    }
  }

  #leave(): void {
    this.#isLeft = true;
    this.#live?.leave();
    void this.#control?.abandon();
    const fields = { flushed_lsn: formatLsn(this.positions().flushedLsn) };
    const text = 'the disk did not answer in time; the next start finds where the WAL ends';
    this.#options.log.warn(text, fields);
  }

  async #saveNow(control: ControlKeeper): Promise<void> {
    await saveNow(control, this.#options.directory, (failure) => {
      if (this.#live === null) this.#options.onFatal(failure);
      else this.#live.fail('fsync', failure);
    });
  }

  async #begin(identity: StoredIdentity, state: ControlState): Promise<void> {
    if (this.#turns.isOver) return;
    await refuseLeftSegments(this.#options.directory);
    const control = this.#keeper(state, false);
    await this.#saveNow(control);
    if (this.#isLeft) return;
    const { durableMark: end, firstLsn: oldestLsn } = state;
    await preparePageSums(walDirectory(this.#options.directory), { ...state, endLsn: oldestLsn });
    this.#begun(control, { identity: identityOf(identity), end }, oldestLsn);
  }

  async #recover(loaded: ControlState): Promise<void> {
    const found = await recoverStore(this.#options, loaded);
    const { identity, end, oldestLsn } = found;
    this.#switchedAtStart = found.switched;
    const keeper = this.#keeper(found.control, true);
    await saveFound(keeper, found, this.#options.log);
    this.#begun(keeper, { identity, end }, oldestLsn);
  }

  async #switch(next: NextTimeline): Promise<void> {
    const [identity, live] = [this.#identity, this.#live];
    const [control, removal] = [this.#control, this.#removal];
    invariant(identity !== null && live !== null && control !== null && removal !== null, 'empty');
    const store: SwitchingStore = { options: this.#options, identity, live, control, removal };
    const pending = control.state.pendingSwitch;
    if (pending === null) {
      if (hasFollowed(identity.history, next)) return;
      await noteSwitch(store, next);
    }
    const { history, end, overlap } = await completeSwitch(store);
    if (this.#isLeft) return;
    this.#followTimeline(history, { end, overlap });
    // It has happened, whether it can be counted or not.
    await this.recountDead().catch(() => {});
    // What was noted before may have been another one.
    if (pending !== null) await this.#switch(next);
  }

  /** In one turn of the event loop: whoever asks from now on is on the next timeline. */
  #followTimeline(history: TimelineHistory, start: Pick<LiveWalStart, 'end' | 'overlap'>): void {
    const { timeline } = history;
    const [old, control, identity] = [this.#requireLive(), this.#control, this.#identity];
    invariant(control !== null && identity !== null, 'the store is empty');
    this.#removal?.follow(history);
    this.#goLive(control, { ...start, identity: { ...identity, timeline, history } });
    old.retire();
    const info = { from: old.timeline, to: timeline, switchLsn: start.end.lsn };
    this.#listeners.tellTimelineSwitch(info);
    this.#listeners.advance.raise();
  }

  #begun(
    control: ControlKeeper,
    { identity, end }: Pick<LiveWalStart, 'identity' | 'end'>,
    oldestLsn: Lsn,
  ): void {
    const { segmentSize, history } = identity;
    this.#removal = new SegmentRemoval({
      directory: walDirectory(this.#options.directory),
      segmentSize,
      history,
      oldestLsn,
      log: this.#options.log,
      onRemove: (walFile) => this.#live?.forgetFile(walFile),
      onRemovable: async (path) => (await this.#live?.recycle(path)) ?? false,
      onError: () => this.#counters.countError('remove'),
    });
    this.#goLive(control, { identity, end, overlap: new Uint8Array(0) });
    this.#removeUnneeded();
  }

  #goLive(control: ControlKeeper, start: LiveWalStart): void {
    const removal = this.#removal;
    invariant(removal !== null, 'removal is there before the WAL is');
    const owner: LiveWalOwner = {
      control,
      counters: this.#counters,
      removal,
      listeners: this.#listeners,
      onRemovalDue: () => this.#removeUnneeded(),
    };
    this.#control = control;
    this.#identity = start.identity;
    this.#live = new LiveWal(this.#options, owner, start);
  }

  #removeUnneeded(): void {
    if (this.#minimumSlotLsn !== null) this.removeOldSegments(this.#minimumSlotLsn());
  }

  #keeper(state: ControlState, isSaved: boolean): ControlKeeper {
    const { directory, clock, limits } = this.#options;
    const intervalMs = (limits ?? STORE_LIMITS).controlIntervalMs;
    const onFailed = (error: unknown): void => this.#live?.fail('fsync', error);
    return new ControlKeeper({ directory, intervalMs, clock, onFailed }, state, isSaved);
  }

  #requireLive(): LiveWal {
    invariant(this.#live !== null, 'the store is empty');
    return this.#live;
  }
}
