// WAL, slots and an upstream in memory: what a walsender asks the rest of walcast for, with every failure on demand.
import { advanceLsn, INVALID_LSN, lsnDistance, maxLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, toSegmentSize, walFileName } from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import { SQLSTATE } from '../../src/pg/sqlstate.ts';
import { historyFileName, rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../../src/pg/timeline.ts';
import type {
  OlderWalReader,
  OlderWalRequest,
  SlotPosition,
  SlotRefusal,
  SlotRegistry,
  TunnelConnection,
  TunnelEvents,
  TunnelOpener,
  WalFeed,
  WalReadFailure,
} from '../../src/walsender/ports.ts';
import { TestWalAges } from './wal-ages.ts';

/** The bytes [start, end): any will do as long as a shifted or repeated one is noticed. Positions below 2^32. */
export function walBytes(start: bigint, end: bigint): Buffer {
  const bytes = Buffer.alloc(Number(end - start));
  const first = Number(start);
  for (let index = 0; index < bytes.length; index += 1) {
    bytes[index] = Math.imul(first + index, 2_654_435_761) >>> 24;
  }
  return bytes;
}

/** WAL that is made up as it is asked for. */
export class MemoryFeed implements WalFeed {
  readonly ages: TestWalAges = new TestWalAges();
  segmentSize: SegmentSize = toSegmentSize(1 << 24);
  isMoving = true;
  /** Up to where the upstream has named WAL; null: as far as anybody asks. */
  namedLsn: bigint | null = null;
  /** Bytes before the end that are in memory; older ones come from files. */
  tailBytes = 1 << 20;
  failure: WalReadFailure | null = null;
  /** From here on the upstream sent bytes that will be refused: other ones than {@link walBytes}, until they are taken back. */
  spoiledFromLsn: bigint | null = null;
  fileReads = 0;
  /** Makes the bytes [start, end), a buffer of the caller's own; as {@link walBytes}. */
  make: (start: bigint, end: bigint) => Buffer = walBytes;
  /** Gives what lies before the oldest byte; nothing of it is left anywhere unless a test says otherwise. */
  older: (request: OlderWalRequest) => OlderWalReader | null = (request) => this.#nothing(request);
  /** Called before the n-th read of a file. */
  onFileRead: (count: number) => void = () => {};
  memoryReads = 0;
  readonly historyFiles = new Map<number, Uint8Array>();
  #history: TimelineHistory = rootHistory(toTimelineId(1));
  #oldestLsn: Lsn;
  #endLsn: Lsn;
  readonly #listeners = new Set<() => void>();
  readonly #takenBackListeners = new Set<(lsn: Lsn) => void>();
  #isAnnounced = false;

  constructor(oldestLsn: bigint, endLsn: bigint) {
    this.#oldestLsn = toLsn(oldestLsn);
    this.#endLsn = toLsn(endLsn);
  }

  get listenerCount(): number {
    return this.#listeners.size + this.#takenBackListeners.size;
  }

  /** The upstream sent `byteCount` more. */
  append(byteCount: number): Lsn {
    this.#endLsn = advanceLsn(this.#endLsn, byteCount);
    this.#announce();
    return this.#endLsn;
  }

  /** A later message was refused: everything from `lsn` on will be received again, as it should have been. */
  takeBack(lsn: bigint): void {
    this.#endLsn = toLsn(lsn);
    this.spoiledFromLsn = null;
    for (const listener of this.#takenBackListeners) listener(this.#endLsn);
  }

  removeBefore(lsn: bigint): void {
    this.#oldestLsn = toLsn(lsn);
  }

  /** The upstream left the current timeline at `switchLsn` and goes on with `timeline`. */
  switchTimeline(timeline: number, switchLsn: bigint): void {
    const ancestors = [
      ...this.#history.ancestors,
      { timeline: this.#history.timeline, endLsn: toLsn(switchLsn) },
    ];
    this.#history = { timeline: toTimelineId(timeline), ancestors };
    this.#endLsn = toLsn(switchLsn);
    this.historyFiles.set(timeline, Buffer.from(`1\t0/${switchLsn.toString(16)}\tno reason\n`));
    this.#announce();
  }

  timeline(): TimelineId {
    return this.#history.timeline;
  }

  history(): TimelineHistory {
    return this.#history;
  }

  sendableLsn(): Lsn {
    return this.#endLsn;
  }

  oldestLsn(): Lsn {
    return this.#oldestLsn;
  }

  fromMemory(startLsn: Lsn, endLsn: Lsn): readonly Uint8Array[] | null {
    if (lsnDistance(startLsn, this.#endLsn) > this.tailBytes) return null;
    this.memoryReads += 1;
    const bytes = this.#bytes(startLsn, endLsn);
    const middle = Math.floor(bytes.length / 3);
    return [bytes.subarray(0, middle), bytes.subarray(middle)];
  }

  async fromFiles(
    timeline: TimelineId,
    startLsn: Lsn,
    endLsn: Lsn,
  ): Promise<Uint8Array | WalReadFailure> {
    this.fileReads += 1;
    const isBeyondEnd = endLsn > this.#endLsn;
    const bytes = this.#bytes(startLsn, endLsn);
    this.onFileRead(this.fileReads);
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
    if (this.failure !== null) return this.failure;
    const segment = segmentNumber(startLsn, this.segmentSize);
    const fileName = walFileName(timeline, segment, this.segmentSize);
    if (startLsn < this.#oldestLsn) return { kind: 'removed', walFileName: fileName };
    if (!isBeyondEnd) return bytes;
    return { kind: 'damaged', walFileName: fileName, lsn: startLsn, reason: 'not there yet' };
  }

  openOlder(request: OlderWalRequest): OlderWalReader | null {
    return this.older(request);
  }

  async historyFile(timeline: TimelineId): Promise<Uint8Array | null> {
    return this.historyFiles.get(timeline) ?? null;
  }

  onAdvance(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onTakenBack(listener: (lsn: Lsn) => void): () => void {
    this.#takenBackListeners.add(listener);
    return () => this.#takenBackListeners.delete(listener);
  }

  expectsWal(lsn: Lsn): boolean {
    return this.isMoving && lsn <= (this.namedLsn ?? lsn);
  }

  #nothing({ timeline, startLsn }: OlderWalRequest): OlderWalReader {
    const segment = segmentNumber(startLsn, this.segmentSize);
    const fileName = walFileName(timeline, segment, this.segmentSize);
    return {
      take: () => ({ kind: 'removed', walFileName: fileName, reason: null }),
      close: () => {},
    };
  }

  #bytes(startLsn: bigint, endLsn: bigint): Buffer {
    const bytes = this.make(startLsn, endLsn);
    const spoiledLsn = this.spoiledFromLsn;
    if (spoiledLsn === null) return bytes;
    const first = spoiledLsn > startLsn ? Number(spoiledLsn - startLsn) : 0;
    for (let index = first; index < bytes.length; index += 1) bytes[index] = ~(bytes[index] ?? 0);
    return bytes;
  }

  #announce(): void {
    if (this.#isAnnounced) return;
    this.#isAnnounced = true;
    setImmediate(() => {
      this.#isAnnounced = false;
      for (const listener of this.#listeners) listener();
    });
  }
}

interface MemorySlot {
  readonly temporary: boolean;
  readonly owner: number;
  activePid: number | null;
  restartLsn: Lsn;
}

/** Slots with PostgreSQL's refusals. Creating and dropping take a turn of the event loop. */
export class MemorySlots implements SlotRegistry {
  readonly slots = new Map<string, MemorySlot>();
  /** Creating takes until this has settled. */
  creating: Promise<void> = Promise.resolve();
  /** Sessions whose drop waits for another to let go. */
  readonly waitingToDrop = new Set<number>();
  readonly advances: [name: string, lsn: bigint][] = [];

  async create(options: {
    name: string;
    temporary: boolean;
    reserveWal: boolean;
    pid: number;
  }): Promise<SlotRefusal | null> {
    await nextTurn();
    await this.creating;
    const { name, temporary, pid } = options;
    if (!/^[a-z0-9_]+$/.test(name)) {
      return {
        sqlstate: SQLSTATE.invalidName,
        message: `replication slot name "${name}" contains invalid character`,
        hint: 'Replication slot names may only contain lower case letters, numbers, and the underscore character.',
      };
    }
    if (this.slots.has(name)) {
      return {
        sqlstate: SQLSTATE.duplicateObject,
        message: `replication slot "${name}" already exists`,
      };
    }
    const restartLsn = options.reserveWal ? toLsn(0x1000000n) : INVALID_LSN;
    this.slots.set(name, { temporary, owner: pid, activePid: null, restartLsn });
    return null;
  }

  async drop(
    name: string,
    options: { wait: boolean; pid: number; signal?: AbortSignal },
  ): Promise<SlotRefusal | null> {
    await nextTurn();
    const isHeld = (): boolean => (this.slots.get(name)?.activePid ?? null) !== null;
    while (options.wait && isHeld()) {
      if (options.signal?.aborted === true) {
        this.waitingToDrop.delete(options.pid);
        return {
          sqlstate: SQLSTATE.queryCanceled,
          message: 'canceling statement due to user request',
        };
      }
      this.waitingToDrop.add(options.pid);
      await nextTurn();
    }
    this.waitingToDrop.delete(options.pid);
    const refusal = this.#findRefusal(name, null);
    if (refusal === null) this.slots.delete(name);
    return refusal;
  }

  read(name: string): SlotPosition | null {
    const slot = this.slots.get(name);
    if (slot === undefined) return null;
    return { restartLsn: slot.restartLsn };
  }

  createForStart(): null {
    return null;
  }

  acquire(name: string, pid: number): SlotRefusal | null {
    const refusal = this.#findRefusal(name, pid);
    const slot = this.slots.get(name);
    if (refusal === null && slot !== undefined) slot.activePid = pid;
    return refusal;
  }

  release(name: string, pid: number): void {
    const slot = this.slots.get(name);
    if (slot?.activePid === pid) slot.activePid = null;
  }

  advance(name: string, restartLsn: Lsn): void {
    this.advances.push([name, restartLsn]);
    const slot = this.slots.get(name);
    if (slot !== undefined) slot.restartLsn = maxLsn(restartLsn, INVALID_LSN);
  }

  dropTemporary(pid: number): void {
    for (const [name, slot] of this.slots) {
      if (slot.temporary && slot.owner === pid) this.slots.delete(name);
    }
  }

  #findRefusal(name: string, pid: number | null): SlotRefusal | null {
    const slot = this.slots.get(name);
    if (slot === undefined) {
      return {
        sqlstate: SQLSTATE.undefinedObject,
        message: `replication slot "${name}" does not exist`,
      };
    }
    if (slot.activePid === null || slot.activePid === pid) return null;
    return {
      sqlstate: SQLSTATE.objectInUse,
      message: `replication slot "${name}" is active for PID ${slot.activePid}`,
    };
  }
}

/** Upstream connections that a test plays the other end of. */
export class MemoryTunnels implements TunnelOpener {
  failure: Error | null = null;
  /** Connecting takes until this has settled. */
  connecting: Promise<void> = Promise.resolve();
  readonly opened: MemoryTunnel[] = [];
  #onOpen: () => void = () => {};

  async open(applicationName: string, events: TunnelEvents): Promise<TunnelConnection> {
    await nextTurn();
    await this.connecting;
    if (this.failure !== null) throw this.failure;
    const tunnel = new MemoryTunnel(applicationName, events);
    this.opened.push(tunnel);
    this.#onOpen();
    return tunnel;
  }

  /** The `count`-th connection, once it is open. */
  async nth(count: number): Promise<MemoryTunnel> {
    for (;;) {
      const tunnel = this.opened[count - 1];
      if (tunnel !== undefined) return tunnel;
      await new Promise<void>((resolve) => {
        this.#onOpen = resolve;
      });
    }
  }
}

/** One upstream connection; `events` are what the upstream does. */
export class MemoryTunnel implements TunnelConnection {
  readonly applicationName: string;
  readonly events: TunnelEvents;
  received = Buffer.alloc(0);
  isPaused = false;
  isClosed = false;
  pending = 0;
  #wake: () => void = () => {};

  constructor(applicationName: string, events: TunnelEvents) {
    this.applicationName = applicationName;
    this.events = events;
  }

  write(chunk: Uint8Array): void {
    this.received = Buffer.concat([this.received, chunk]);
    this.#wake();
  }

  /** Resolves when the upstream has got `byteCount` bytes in all. */
  async got(byteCount: number): Promise<Buffer> {
    while (this.received.length < byteCount) await this.#changed();
    return this.received;
  }

  /** Resolves when our side has closed the connection. */
  async closed(): Promise<void> {
    while (!this.isClosed) await this.#changed();
  }

  pendingBytes(): number {
    return this.pending;
  }

  pause(): void {
    this.isPaused = true;
    this.#wake();
  }

  resume(): void {
    this.isPaused = false;
    this.#wake();
  }

  close(): void {
    this.isClosed = true;
    this.#wake();
  }

  async paused(isPaused: boolean): Promise<void> {
    while (this.isPaused !== isPaused) await this.#changed();
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Name of a history file and its content, as PostgreSQL prints them. */
export function historyRow(timeline: number, content: string): string {
  return `D ${historyFileName(toTimelineId(timeline))},${content}`;
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
