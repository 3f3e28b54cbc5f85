// One end of a connection: what the program wrote and the kernel has not taken, what is on its way, what has arrived and was
// not read. Has the face of net/connection.ts.
import type {
  AcceptedConnection,
  ConnectionEvents,
  PeerAddress,
} from '../../../src/net/connection.ts';
import type { Network, Tap } from './network.ts';
import type { SimProcess } from './sim-process.ts';
import { MACHINE } from './world.ts';
import type { SimEvent } from './world.ts';

type Piece =
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'fin' }
  | { readonly kind: 'reset' };

/** Times of one end. */
type Phase = 'open' | 'ending' | 'closed';

/** What one read takes at most; short, so that messages are cut. */
const READ_BYTES_MAX = 65_536;

/** What fills a read buffer once the program has had its turn with it: whoever kept a view sees it. */
const USED_UP = 0xdb;

/** One end of a connection. */
export class SimConnection implements AcceptedConnection {
  readonly peer: PeerAddress;
  readonly isEncrypted = false;
  readonly tls = null;
  readonly canStartTls = false;
  readonly id: number;
  readonly process: SimProcess;
  readonly isClient: boolean;
  tap: Tap | null = null;
  readonly #network: Network;
  readonly #windowBytes: number;
  /** How often a piece is tiny. */
  readonly #choppiness: number;
  #far: SimConnection | null = null;
  #events: ConnectionEvents | null = null;
  #phase: Phase = 'open';
  #written: Uint8Array[] = [];
  #writtenBytes = 0;
  /** Taken by the kernel and not read by the other side yet. */
  #windowUsed = 0;
  /** Read by the other side, not known here yet. */
  #ackedBytes = 0;
  #isDrainWanted = false;
  #isFinSent = false;
  #isFinReceived = false;
  #isEndTold = false;
  #lastArrivalMs = 0;
  /** Arrived while the way was cut. */
  #stuck: Piece[] = [];
  #unread: Buffer[] = [];
  #isReadPaused = false;
  #isReadDue = false;
  #graceTimer: SimEvent | null = null;
  /** The kernel has forgotten it: what arrives is answered with a reset. */
  #isForgotten = false;

  constructor(
    network: Network,
    options: { readonly id: number; readonly process: SimProcess; readonly isClient: boolean },
  ) {
    const { id, process, isClient } = options;
    this.#network = network;
    this.id = id;
    this.process = process;
    this.isClient = isClient;
    this.peer = { address: '10.0.0.1', port: 40_000 + (id % 20_000) };
    this.#choppiness = network.world.random.pick([0, 0.01, 0.1]);
    this.#windowBytes = network.world.random.pick([16_384, 131_072, 524_288]);
  }

  join(far: SimConnection): void {
    this.#far = far;
    far.#far = this;
  }

  attach(events: ConnectionEvents): void {
    this.#events = events;
    this.#readSoon();
  }

  /** Who is at the other end. */
  get far(): SimConnection {
    if (this.#far === null) throw new Error('a connection with one end');
    return this.#far;
  }

  get label(): string {
    return `${this.process.host}>${this.far.process.host}#${this.id}`;
  }

  get isOpen(): boolean {
    return this.#phase === 'open';
  }

  /** True while everything that was written got through, and nothing stands in the way. */
  get isClear(): boolean {
    return this.#stuck.length === 0 && !this.#isReadPaused && this.#writtenBytes === 0;
  }

  startTls(): void {
    throw new Error('no TLS in a simulation');
  }

  pendingBytes(): number {
    return this.#writtenBytes;
  }

  write(chunks: readonly Uint8Array[]): void {
    if (this.#phase !== 'open') return;
    for (const chunk of chunks) {
      if (chunk.length === 0) continue;
      this.tap?.(chunk, this.isClient);
      this.#written.push(chunk);
      this.#writtenBytes += chunk.length;
    }
    this.#push();
    if (this.#writtenBytes > 0) this.#isDrainWanted = true;
  }

  pauseReading(): void {
    this.#isReadPaused = true;
  }

  resumeReading(): void {
    this.#isReadPaused = false;
    this.#readSoon();
  }

  end(graceMs: number): void {
    if (this.#phase !== 'open') return;
    this.#phase = 'ending';
    this.#push();
    const { world } = this.#network;
    this.#graceTimer = world.schedule(this.process.context, graceMs, 'grace', () => this.destroy());
    this.#closeIfOver();
  }

  destroy(): void {
    if (this.#phase === 'closed') return;
    const hasUnread = this.#unread.length > 0;
    this.#close(null);
    if (!this.#isFinSent) this.#send({ kind: hasUnread ? 'reset' : 'fin' });
  }

  /** Breaks on the way: both ends hear of a reset, and what was under way is lost. */
  break(): void {
    for (const end of [this, this.far]) {
      end.#stuck = [];
      end.#reset();
    }
  }

  ownerEnded(isSilent: boolean): void {
    const wasOpen = this.#phase !== 'closed';
    this.#phase = 'closed';
    this.#written = [];
    this.#writtenBytes = 0;
    this.#isForgotten = true;
    this.#network.connections.delete(this);
    if (wasOpen && !isSilent && !this.#isFinSent) {
      this.#send({ kind: this.#unread.length > 0 ? 'reset' : 'fin' });
    }
  }

  linkHealed(from: string, to: string): void {
    if (this.far.process.host !== from || this.process.host !== to) return;
    const pieces = this.#stuck;
    if (pieces.length === 0) return;
    const { world } = this.#network;
    world.schedule(MACHINE, world.random.real(1, 400), `heal ${this.label}`, () => {
      if (this.#network.link(from, to).isCut) return;
      this.#stuck = [];
      for (const piece of pieces) this.#deliver(piece);
    });
  }

  // --- sending

  /** Gives the kernel what its window has room for. */
  #push(): void {
    const { random } = this.#network.world;
    while (this.#writtenBytes > 0 && this.#windowUsed < this.#windowBytes) {
      const room = this.#windowBytes - this.#windowUsed;
      const size = random.chance(this.#choppiness)
        ? random.between(1, 40)
        : random.between(8_000, 131_072);
      this.#send({ kind: 'bytes', bytes: this.#take(Math.min(room, size)) });
    }
    const isDone = this.#writtenBytes === 0;
    if (isDone && this.#isDrainWanted) {
      this.#isDrainWanted = false;
      this.#tell('drain', () => this.#events?.onDrain());
    }
    if (isDone && this.#phase === 'ending' && !this.#isFinSent) {
      this.#isFinSent = true;
      this.#send({ kind: 'fin' });
      this.#closeIfOver();
    }
  }

  /** The other side has read so much more; known here a little later, with what it reads until then. */
  #acknowledged(byteCount: number, delayMs: number): void {
    const isDue = this.#ackedBytes > 0;
    this.#ackedBytes += byteCount;
    if (isDue) return;
    this.#network.world.schedule(MACHINE, delayMs, `ack ${this.label}`, () => {
      this.#windowUsed -= this.#ackedBytes;
      this.#ackedBytes = 0;
      this.#push();
    });
  }

  #take(bytesMax: number): Buffer {
    const parts: Uint8Array[] = [];
    let missing = Math.min(bytesMax, this.#writtenBytes);
    this.#writtenBytes -= missing;
    this.#windowUsed += missing;
    while (missing > 0) {
      const [first] = this.#written;
      if (first === undefined) throw new Error('fewer bytes than were counted');
      if (first.length <= missing) {
        parts.push(first);
        this.#written.shift();
        missing -= first.length;
      } else {
        parts.push(first.subarray(0, missing));
        this.#written[0] = first.subarray(missing);
        missing = 0;
      }
    }
    return Buffer.concat(parts);
  }

  #send(piece: Piece): void {
    const { world } = this.#network;
    const { far } = this;
    const link = this.#network.link(this.process.host, far.process.host);
    const atMs = world.nowMs + link.latencyMs + world.random.real(0, link.latencyMs / 2);
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, atMs);
    const what = piece.kind === 'bytes' ? String(piece.bytes.length) : piece.kind;
    world.schedule(MACHINE, this.#lastArrivalMs - world.nowMs, `net ${this.label} ${what}`, () => {
      far.#arrive(piece);
    });
  }

  // --- receiving

  #arrive(piece: Piece): void {
    const link = this.#network.link(this.far.process.host, this.process.host);
    if (link.isCut || this.#stuck.length > 0) this.#stuck.push(piece);
    else this.#deliver(piece);
  }

  #deliver(piece: Piece): void {
    if (this.#network.isDown(this.process.host)) return;
    if (this.#isForgotten || (this.#phase === 'closed' && piece.kind === 'bytes')) {
      if (piece.kind !== 'reset') this.far.#resetBy(this.process.host);
      return;
    }
    switch (piece.kind) {
      case 'bytes':
        this.#unread.push(piece.bytes);
        this.#readSoon();
        return;
      case 'fin':
        this.#isFinReceived = true;
        this.#readSoon();
        return;
      case 'reset':
        this.#reset();
    }
  }

  /** The other host knows nothing of this connection. */
  #resetBy(host: string): void {
    const link = this.#network.link(host, this.process.host);
    if (link.isCut) return;
    this.#network.world.schedule(MACHINE, link.latencyMs, `net reset ${this.label}`, () =>
      this.#reset(),
    );
  }

  #reset(): void {
    this.#unread = [];
    if (this.#phase !== 'closed') this.#close('ECONNRESET');
  }

  #readSoon(): void {
    if (this.#isReadDue || this.#isReadPaused || this.#phase === 'closed') return;
    if (this.#events === null) return;
    if (this.#unread.length === 0 && (!this.#isFinReceived || this.#isEndTold)) return;
    this.#isReadDue = true;
    this.#tell('read', () => {
      this.#isReadDue = false;
      this.#read();
    });
  }

  #read(): void {
    if (this.#isReadPaused || this.#phase === 'closed') return;
    const bytes = this.#unreadBytes();
    if (bytes !== null) {
      const { far } = this;
      const link = this.#network.link(this.process.host, far.process.host);
      far.#acknowledged(bytes.length, link.latencyMs);
      this.#events?.onBytes(bytes);
      bytes.fill(USED_UP);
      this.#readSoon();
      return;
    }
    if (!this.#isFinReceived || this.#isEndTold) return;
    this.#isEndTold = true;
    this.#events?.onEnd();
    // A socket of Node.js that is not told otherwise ends its own side, too.
    if (this.#phase === 'open') this.end(30_000);
    this.#closeIfOver();
  }

  #unreadBytes(): Buffer | null {
    const [first] = this.#unread;
    if (first === undefined) return null;
    const { random } = this.#network.world;
    const limit = random.chance(this.#choppiness) ? random.between(1, 30) : READ_BYTES_MAX;
    const joined = this.#unread.length > 1 ? Buffer.concat(this.#unread) : first;
    this.#unread = joined.length > limit ? [joined.subarray(limit)] : [];
    return Buffer.from(joined.subarray(0, limit));
  }

  // --- ends

  #closeIfOver(): void {
    if (this.#phase === 'ending' && this.#isFinSent && this.#isEndTold) this.#close(null);
  }

  #close(errorCode: string | null): void {
    this.#phase = 'closed';
    this.#written = [];
    this.#writtenBytes = 0;
    this.#graceTimer = cancelled(this.#graceTimer);
    this.#network.connections.delete(this);
    this.#tell('close', () => this.#events?.onClose(errorCode));
  }

  #tell(what: string, run: () => void): void {
    this.#network.world.schedule(this.process.context, 0, `${what} ${this.label}`, run);
  }
}

function cancelled(event: SimEvent | null): null {
  if (event !== null) event.isCancelled = true;
  return null;
}
