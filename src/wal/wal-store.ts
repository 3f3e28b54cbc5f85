// The WAL store: one directory, the WAL of one cluster on one timeline, in PostgreSQL's own files. This is its public
// face; an empty store knows nothing until `initialize`, everything else is LiveWal's.
//
// What it promises: F (flushedLsn) is a record end, everything before it is on the disk, and after any crash the store
// finds an end that is not before it, unless the upstream had sent a damaged record in mid-message with `verify: page`:
// then the end is before that record (recovery.ts). Nothing is given out that was not checked as far as `verify` says.
// After the first failure of the disk, except for lack of space at a write, it says so once and takes nothing more.
// Following a timeline switch of the upstream is not here yet: a store stays on the timeline it was begun on; history
// files of any timeline can be kept.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isOutOfSpace, replaceFile, storageHint } from '../base/durable-fs.ts';
import { errorText, invariant, OperationalError, systemErrorCode } from '../base/errors.ts';
import { formatLsn, INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentOffset } from '../pg/segment.ts';
import { versionFacts } from '../pg/server-version.ts';
import { historyFileName, parseTimelineHistory, rootHistory } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { StoreStatus } from '../status/status.ts';
import { loadControl } from './control-file.ts';
import type { ControlState, StoredServer } from './control-file.ts';
import { ControlKeeper } from './control-keeper.ts';
import { prepareDataDirectory, refuseLeftSegments, walDirectory } from './data-directory.ts';
import { DurationCounter } from './duration-histogram.ts';
import { LiveWal } from './live-wal.ts';
import type { LiveWalStart } from './live-wal.ts';
import { preparePageSums } from './page-sums.ts';
import { chainStart } from './records/record-chain.ts';
import type { WalkFailure } from './records/record-walk.ts';
import { recoverWal } from './recovery.ts';
import { STORE_LIMITS } from './store-options.ts';
import type { StoredIdentity, StorePositions, WalStoreOptions } from './store-options.ts';
import type { StoredReadFailure } from './wal-reader.ts';

export type { StoredIdentity, StorePositions, WalStoreOptions } from './store-options.ts';

const NOTHING: StorePositions = {
  receivedLsn: INVALID_LSN,
  writtenLsn: INVALID_LSN,
  flushedLsn: INVALID_LSN,
};

/** The store. */
export class WalStore {
  readonly #options: WalStoreOptions;
  #identity: StoredIdentity | null = null;
  #control: ControlKeeper | null = null;
  #live: LiveWal | null = null;
  /** Being begun now: how, and when that is over. */
  #beginning: { readonly state: ControlState; readonly done: Promise<void> } | null = null;
  #isLeft = false;
  #onRoom: () => void = () => {};
  #minimumSlotLsn: (() => Lsn | null) | null = null;
  readonly #flushListeners: Array<() => void> = [];
  readonly #takenBackListeners: Array<(lsn: Lsn) => void> = [];

  private constructor(options: WalStoreOptions) {
    this.#options = options;
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
    } catch (error) {
      if (error instanceof OperationalError) throw error;
      const message = `the WAL store "${options.directory}" could not be opened: ${errorText(error)}`;
      throw new OperationalError('STORE_OPEN', message, {
        hint: storageHint(error) ?? 'Look at the disk and the kernel log.',
        cause: error,
      });
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

  // --- where received WAL goes (WalSink of walreceiver/ports.ts)

  /** The byte that is wanted next; INVALID_LSN for an empty store. */
  nextLsn(): Lsn {
    return this.#live?.nextLsn ?? INVALID_LSN;
  }

  /**
   * Checks and copies `data`, the WAL from `startLsn` on. Null, or why all of it was refused; then everything behind the
   * last record end was taken back, and {@link nextLsn} is there.
   */
  append(startLsn: Lsn, data: Uint8Array): WalkFailure | null {
    return this.#requireLive().append(startLsn, data);
  }

  /** True while too much waits for the disk, or there is no space, or the store has failed. */
  isFull(): boolean {
    return this.#live?.isFull() ?? false;
  }

  /** Sets the one listener that is told when a full store has room again. */
  onRoom(listener: () => void): void {
    this.#onRoom = listener;
  }

  // --- where WAL comes from (WalFeed of walsender/ports.ts); not to be asked of an empty store

  timeline(): TimelineId {
    return this.#requireLive().timeline;
  }

  history(): TimelineHistory {
    this.#requireLive();
    return this.#identity?.history ?? rootHistory(this.timeline());
  }

  /** R, or F with `forward: flushed`. Falls back when received WAL is taken back. */
  sendableLsn(): Lsn {
    return this.#live?.sendableLsn ?? INVALID_LSN;
  }

  /** First byte stored, a segment start; INVALID_LSN for an empty store. */
  oldestLsn(): Lsn {
    return this.#live?.oldestLsn ?? INVALID_LSN;
  }

  /** [startLsn, endLsn) as views that never change; null when not all of it is in memory. */
  fromMemory(startLsn: Lsn, endLsn: Lsn): readonly Uint8Array[] | null {
    return this.#requireLive().fromMemory(startLsn, endLsn);
  }

  /**
   * [startLsn, endLsn), read from files and checked. The buffer is the caller's. What lies behind the end of the store
   * (because it was taken back meanwhile) comes back as `damaged`. Never rejects.
   */
  fromFiles(
    timeline: TimelineId,
    startLsn: Lsn,
    endLsn: Lsn,
  ): Promise<Uint8Array | StoredReadFailure> {
    return this.#requireLive().fromFiles(timeline, startLsn, endLsn);
  }

  /** Calls `listener` once in each turn of the event loop in which {@link sendableLsn} rose. Returns the way to stop it. */
  onAdvance(listener: () => void): () => void {
    return this.#requireLive().onAdvance(listener);
  }

  /**
   * Adds a listener that is called when received WAL was taken back after a rejection and {@link sendableLsn} fell to
   * `lsn`: at once, within {@link append}, before any other byte can be appended there.
   */
  onTakenBack(listener: (lsn: Lsn) => void): void {
    this.#takenBackListeners.push(listener);
  }

  /** The file, byte for byte; null when it is not stored. */
  async historyFile(timeline: TimelineId): Promise<Uint8Array | null> {
    const path = join(walDirectory(this.#options.directory), historyFileName(timeline));
    return await readFile(path).catch((error: unknown) => {
      if (systemErrorCode(error) === 'ENOENT') return null;
      throw error;
    });
  }

  /** Keeps a history file; durable when it resolves. Also for an empty store. */
  async storeHistoryFile(timeline: TimelineId, content: Uint8Array): Promise<void> {
    await replaceFile(
      join(walDirectory(this.#options.directory), historyFileName(timeline)),
      content,
    );
  }

  // --- positions

  /** R, W and F; INVALID_LSN for an empty store. */
  positions(): StorePositions {
    return this.#live?.positions() ?? NOTHING;
  }

  /** Adds a listener that is called when W or F rose. */
  onFlush(listener: () => void): void {
    this.#flushListeners.push(listener);
    this.#live?.onFlush(listener);
  }

  /** True when the record that ends at F is a CHECKPOINT_SHUTDOWN: the server is stopping. */
  lastRecordIsShutdownCheckpoint(): boolean {
    return this.#live?.lastRecordIsShutdownCheckpoint() ?? false;
  }

  /** Redo position of the newest checkpoint received; INVALID_LSN before the first. */
  redoLsn(): Lsn {
    return this.#live?.redoLsn ?? INVALID_LSN;
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
    return this.#live?.status() ?? this.#emptyStatus();
  }

  // --- retention

  /** Says which WAL slots keep, as it stands on the disk (null: none). Before this is called nothing is removed. */
  setRetention(minimumSlotLsn: () => Lsn | null): void {
    this.#minimumSlotLsn = minimumSlotLsn;
    this.#live?.setRetention(minimumSlotLsn);
  }

  /** Removes whole segments that neither the keep window, nor slots, nor a recovery need. Returns at once. */
  removeOldSegments(minimumSlotLsn: Lsn | null): void {
    this.#live?.removeOldSegments(minimumSlotLsn);
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
    await this.#beginning?.done.catch(() => {});
    const [live, control] = [this.#live, this.#control];
    if (live === null || control === null) return;
    const isFlushed = await live.close();
    if (live.hasFailed) await control.abandon();
    else await this.#saveLast(control, { durableMark: live.flushedChain, wasCleanStop: isFlushed });
  }

  #leave(): void {
    this.#isLeft = true;
    this.#live?.leave();
    void this.#control?.abandon();
    this.#options.log.warn(
      'the disk did not answer in time; the next start finds where the WAL ends',
      {
        flushed_lsn: formatLsn(this.positions().flushedLsn),
      },
    );
  }

  /** Space may come back; after any other failure of the disk nothing is taken any more. */
  async #saveNow(control: ControlKeeper): Promise<void> {
    try {
      await control.save();
    } catch (error) {
      if (isOutOfSpace(error)) throw error;
      const { directory, onFatal } = this.#options;
      const message = `the control file in "${directory}" could not be saved: ${errorText(error)}`;
      const hint = storageHint(error) ?? 'Look at the disk and the kernel log.';
      const failure = new OperationalError('CONTROL_FILE_SAVE', message, { hint, cause: error });
      this.#live?.fail('fsync', failure);
      if (this.#live === null) onFatal(failure);
      throw failure;
    }
  }

  /** The file on the disk is an older one, whole: without space, the next start walks through more WAL, that is all. */
  async #saveLast(control: ControlKeeper, last: Partial<ControlState>): Promise<void> {
    await control.close(last).catch((error: unknown) => {
      if (!isOutOfSpace(error)) throw error;
      this.#options.log.warn('no space to note where the WAL ends; the next start looks for it');
    });
  }

  async #begin(identity: StoredIdentity, state: ControlState): Promise<void> {
    await refuseLeftSegments(this.#options.directory);
    const control = this.#keeper(state, false);
    await this.#saveNow(control);
    if (this.#isLeft) return;
    const { durableMark: end, firstLsn: oldestLsn } = state;
    const { timeline, segmentSize } = state;
    const directory = walDirectory(this.#options.directory);
    await preparePageSums(directory, { timeline, endLsn: oldestLsn, segmentSize });
    this.#goLive(control, { identity: identityOf(identity), end, oldestLsn });
  }

  async #recover(control: ControlState): Promise<void> {
    const identity = await this.#storedIdentity(control);
    const { end, oldestLsn } = await recoverWal({
      directory: walDirectory(this.#options.directory),
      origin: identity,
      timeline: control.timeline,
      firstLsn: control.firstLsn,
      durableMark: control.durableMark,
      log: this.#options.log,
    });
    if (end.lsn < control.reportedFlushLsn) {
      this.#options.log.error('WAL that was reported as flushed is gone; it is fetched again', {
        lsn: formatLsn(end.lsn),
        reported_flush_lsn: formatLsn(control.reportedFlushLsn),
      });
    }
    const keeper = this.#keeper(control, true);
    keeper.change({ durableMark: end, wasCleanStop: false });
    await keeper.save().catch((error: unknown) => {
      // The file is the one just read, whole, and the keeper goes on trying.
      if (!isOutOfSpace(error)) throw error;
      this.#options.log.warn('no space to note where the WAL ends; an older note stays valid', {
        lsn: formatLsn(end.lsn),
        error: errorText(error),
        next: 'free space in storage.directory; walcast goes on by itself',
      });
    });
    this.#goLive(keeper, { identity, end, oldestLsn });
  }

  async #storedIdentity(control: ControlState): Promise<StoredIdentity> {
    const { systemIdentifier, segmentSize, timeline } = control;
    const history = await this.#storedHistory(timeline);
    const facts = versionFacts(control.major);
    return { systemIdentifier, segmentSize, timeline, history, facts, ...control.server };
  }

  async #storedHistory(timeline: TimelineId): Promise<TimelineHistory> {
    const file = await this.historyFile(timeline);
    if (file === null && timeline === 1) return rootHistory(timeline);
    const name = historyFileName(timeline);
    const history =
      file === null
        ? 'it is missing'
        : parseTimelineHistory(timeline, Buffer.from(file).toString('latin1'));
    if (typeof history !== 'string') return history;
    throw new OperationalError(
      'HISTORY_FILE',
      `the history file "${name}" cannot be used: ${history}`,
      {
        hint: `Copy ${name} from the server's pg_wal into pg_wal of the store.`,
      },
    );
  }

  #goLive(control: ControlKeeper, start: LiveWalStart): void {
    this.#control = control;
    this.#identity = start.identity;
    const live = new LiveWal(this.#options, control, start);
    this.#live = live;
    live.onRoom(() => this.#onRoom());
    live.onTakenBack((lsn) => {
      for (const listener of this.#takenBackListeners) listener(lsn);
    });
    for (const listener of this.#flushListeners) live.onFlush(listener);
    if (this.#minimumSlotLsn !== null) live.setRetention(this.#minimumSlotLsn);
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

  #emptyStatus(): StoreStatus {
    const durations = new DurationCounter().snapshot();
    return {
      timeline: null,
      oldestLsn: INVALID_LSN,
      ...NOTHING,
      sizeBytes: 0,
      segments: 0,
      segmentsRemoved: 0,
      tailBytes: 0,
      tailBytesMax: (this.#options.limits ?? STORE_LIMITS).tailBytesMax,
      readFromMemoryBytes: 0,
      readFromDiskBytes: 0,
      rejectedFromUpstream: 0,
      rejectedFromDisk: 0,
      errors: { open: 0, write: 0, fsync: 0, read: 0, remove: 0 },
      flushDuration: durations,
      writeDuration: durations,
    };
  }
}

function firstState(identity: StoredIdentity, startLsn: Lsn): ControlState {
  return {
    systemIdentifier: identity.systemIdentifier,
    major: identity.facts.major,
    segmentSize: identity.segmentSize,
    timeline: identity.timeline,
    server: serverOf(identity),
    firstLsn: startLsn,
    durableMark: chainStart(startLsn),
    reportedFlushLsn: INVALID_LSN,
    wasCleanStop: false,
  };
}

/** True for the same WAL from the same byte on, whatever the server says about itself otherwise. */
function isSameBeginning(a: ControlState, b: ControlState): boolean {
  return (
    a.systemIdentifier === b.systemIdentifier &&
    a.major === b.major &&
    a.segmentSize === b.segmentSize &&
    a.timeline === b.timeline &&
    a.firstLsn === b.firstLsn
  );
}

function notEmpty(directory: string, state: ControlState): OperationalError {
  return new OperationalError(
    'STORE_NOT_EMPTY',
    `the WAL store "${directory}" holds WAL of system ${state.systemIdentifier}, timeline ${state.timeline}, ` +
      `since ${formatLsn(state.firstLsn)}`,
    { hint: 'Nothing was changed. Set storage.directory to an empty directory to begin anew.' },
  );
}

function serverOf(server: StoredServer): StoredServer {
  const { serverVersion, parameters, settings } = server;
  return { serverVersion, parameters, settings };
}

/** Only the fields of an identity, however much more an upstream says about itself. */
function identityOf(identity: StoredIdentity): StoredIdentity {
  const { systemIdentifier, facts, segmentSize, timeline, history } = identity;
  return { systemIdentifier, facts, segmentSize, timeline, history, ...serverOf(identity) };
}
