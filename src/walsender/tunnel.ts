// BASE_BACKUP and UPLOAD_MANIFEST: the client's messages go to a connection of its own to the upstream, the upstream's
// bytes come back as they are, until ReadyForQuery. Neither side is read faster than the other takes it.
import type { Clock, Timer } from '../base/clock.ts';
import { InvariantError, ProtocolViolation, WalcastError } from '../base/errors.ts';
import { TUNNEL_IDLE_MS_MAX, TUNNEL_PENDING_BYTES_MAX } from '../config/limits.ts';
import { MessageScanner } from './message-scanner.ts';
import type { TunnelConnection, TunnelEvents, TunnelOpener } from './ports.ts';

/** What a tunnel needs from its session. */
export interface TunnelHost {
  write(chunks: readonly Uint8Array[]): void;
  pendingBytes(): number;
  /** The client may be read again, as far as the tunnel is concerned. */
  resumeReading(): void;
  /** ReadyForQuery has gone to the client; `hasFailed`: so has an error before it. */
  onTunnelReady(hasFailed: boolean): void;
  /**
   * The upstream connection could not be opened, or is gone. `isAtBoundary`: the client stands between two messages and
   * can be told.
   */
  onTunnelLost(reason: string, isAtBoundary: boolean): void;
}

/** One upstream connection for one session, kept from an UPLOAD_MANIFEST to the BASE_BACKUP that uses it. */
export class Tunnel implements TunnelEvents {
  readonly #host: TunnelHost;
  readonly #clock: Clock;
  #scanner = new MessageScanner();
  #connection: TunnelConnection | null = null;
  #isRunning = false;
  #isLast = false;
  #isClosed = false;
  #idleTimer: Timer | null = null;

  constructor(host: TunnelHost, clock: Clock) {
    this.#host = host;
    this.#clock = clock;
  }

  /** True while the client is not to be read: the upstream is being connected to, or does not take what came. */
  get isInputHeld(): boolean {
    if (!this.#isRunning) return false;
    const connection = this.#connection;
    return connection === null || connection.pendingBytes() > TUNNEL_PENDING_BYTES_MAX;
  }

  /** The upstream listens to the client while it runs the command; a server that sends a backup does not. */
  get isUpload(): boolean {
    return !this.#isLast;
  }

  /** True when the client stands between two messages of the upstream. */
  get isAtBoundary(): boolean {
    return this.#scanner.isAtBoundary;
  }

  /** True when the upstream connection cannot be used again. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /**
   * Sends a command, opening the connection first where there is none. `message` is a whole Query message, our own copy.
   * `isLast`: the connection is closed behind the command, which may fail; else it waits for
   * the next one for a while.
   */
  async run(
    message: Uint8Array,
    options: { opener: TunnelOpener; applicationName: string; isLast: boolean },
  ): Promise<void> {
    this.#idleTimer?.cancel();
    this.#isRunning = true;
    this.#isLast = options.isLast;
    this.#scanner = new MessageScanner();
    try {
      this.#connection ??= await options.opener.open(options.applicationName, this);
    } catch (error) {
      if (!(error instanceof WalcastError) || error instanceof InvariantError) throw error;
      this.#lose(error.message);
      return;
    }
    if (this.#isClosed) {
      // The client has gone while the connection was being opened.
      this.#connection.close();
      return;
    }
    this.#connection.write(message);
    this.#host.resumeReading();
  }

  /** Passes on a whole message of the client; a copy. */
  forward(message: Uint8Array): void {
    if (!this.#isClosed) this.#connection?.write(message);
  }

  /** The client has taken everything. */
  onClientDrain(): void {
    if (!this.#isClosed) this.#connection?.resume();
  }

  /** Ends the upstream connection; the session hears nothing more. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isRunning = false;
    this.#idleTimer?.cancel();
    this.#connection?.close();
  }

  onBytes(chunk: Uint8Array): void {
    // An idle connection has nothing to say that concerns the client.
    if (!this.#isRunning) return;
    let end: number;
    try {
      end = this.#scanner.passReady(chunk);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      this.#lose(error.message);
      return;
    }
    const passed = end < 0 ? chunk : chunk.subarray(0, end);
    this.#host.write([new Uint8Array(passed)]);
    if (end >= 0) {
      this.#isRunning = false;
      // It is a walsender of the upstream, and the client may idle for ever.
      if (this.#isLast) this.close();
      else this.#idleTimer = this.#clock.setTimer(TUNNEL_IDLE_MS_MAX, () => this.close());
      this.#host.onTunnelReady(this.#scanner.hasSeenError);
    } else if (this.#host.pendingBytes() > TUNNEL_PENDING_BYTES_MAX) {
      this.#connection?.pause();
    }
  }

  onDrain(): void {
    if (this.#isRunning) this.#host.resumeReading();
  }

  onClose(reason: string | null): void {
    this.#lose(reason ?? 'the upstream server closed the connection');
  }

  #lose(reason: string): void {
    if (this.#isClosed) return;
    const wasRunning = this.#isRunning;
    const isAtBoundary = this.#scanner.isAtBoundary;
    this.close();
    if (wasRunning) this.#host.onTunnelLost(reason, isAtBoundary);
  }
}

/** A whole message in a buffer of its own. */
export function wholeMessage(type: number, body: Uint8Array): Uint8Array {
  const message = new Uint8Array(5 + body.length);
  message[0] = type;
  new DataView(message.buffer).setInt32(1, 4 + body.length);
  message.set(body, 5);
  return message;
}
