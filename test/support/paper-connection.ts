// A connection without a socket: what a session does with it is seen at once, and in the order in which it does it.
import type { AcceptedConnection, ConnectionEvents } from '../../src/net/connection.ts';

/** A connection without a socket. */
export class PaperConnection {
  isReading = true;
  isClosed = false;
  /** Bytes that it has not taken yet. */
  pending = 0;
  written = Buffer.alloc(0);
  events: ConnectionEvents | null = null;

  open(events: ConnectionEvents): AcceptedConnection {
    this.events = events;
    return {
      peer: { address: '10.0.0.1', port: 1 },
      isEncrypted: false,
      tls: null,
      canStartTls: false,
      startTls: () => {},
      pendingBytes: () => this.pending,
      write: (chunks) => {
        this.written = Buffer.concat([this.written, ...chunks]);
      },
      pauseReading: () => {
        this.isReading = false;
      },
      resumeReading: () => {
        this.isReading = true;
      },
      end: () => {
        this.isClosed = true;
      },
      destroy: () => {
        this.isClosed = true;
      },
    };
  }

  /** As a socket: never while it is not read. */
  send(...parts: Uint8Array[]): void {
    if (!this.isReading) throw new Error('this connection is not read');
    this.events?.onBytes(Buffer.concat(parts));
  }

  /** Letters of what was written, and the number of an authentication request. */
  heard(): string {
    let text = '';
    for (let at = 0; at < this.written.length; at += 1 + this.written.readInt32BE(at + 1)) {
      const letter = this.written.toString('latin1', at, at + 1);
      text += letter === 'R' ? `R${this.written.readInt32BE(at + 5)} ` : letter;
    }
    return text;
  }
}
