// Tells who keeps times that the WAL of a message was taken, right behind it: what the records in it say is known then.
import type { Lsn } from '../pg/lsn.ts';
import type { WalRejection, WalSink } from '../walreceiver/ports.ts';

/** A sink that can say everything: what is optional for others would be lost on the way unseen. */
type WholeSink = Required<WalSink>;

/** A sink that hands everything on to another one. */
export class TimedSink implements WholeSink {
  readonly #sink: WholeSink;
  readonly #onTaken: () => void;

  /** `onTaken` is called after each message that the sink has taken. On the hot path. */
  constructor(sink: WholeSink, onTaken: () => void) {
    this.#sink = sink;
    this.#onTaken = onTaken;
  }

  nextLsn(): Lsn {
    return this.#sink.nextLsn();
  }

  append(startLsn: Lsn, data: Uint8Array): WalRejection | null {
    const rejection = this.#sink.append(startLsn, data);
    if (rejection === null) this.#onTaken();
    return rejection;
  }

  noteRejected(): void {
    this.#sink.noteRejected();
  }

  isFull(): boolean {
    return this.#sink.isFull();
  }

  onRoom(listener: () => void): void {
    this.#sink.onRoom(listener);
  }

  positions(): { readonly writtenLsn: Lsn } {
    return this.#sink.positions();
  }
}
