// The first part of one connection: from its first byte to a session, a refusal or a close, within a deadline.
// (src/backend/tcop/backend_startup.c:BackendInitialize)
import type { Timer } from '../base/clock.ts';
import { STARTUP_TIMEOUT_MS } from '../config/limits.ts';
import type { AcceptedConnection } from '../net/connection.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import { StartupDecoder } from '../wire/startup-decoder.ts';
import type { StartupMessage } from '../wire/startup.ts';
import { admit } from './admission.ts';
import type { AdmittedSession } from './admission.ts';
import type { SessionHost } from './session-host.ts';
import { invalidLengthText, StartupMachine } from './startup-machine.ts';
import type { StartupAction } from './startup-machine.ts';

/** What the startup needs from its session. */
export interface StartupDoor {
  write(chunks: readonly Uint8Array[]): void;
  /** Sends the error and closes. */
  refuse(error: ErrorFields): void;
  /** Closes without a word. */
  close(): void;
  /** The session begins; `rest` are the bytes that came behind the startup packet. */
  onAdmitted(session: AdmittedSession, rest: Uint8Array): void;
}

/** Encryption byte: not here. */
const DECLINED = 0x4e;
const EMPTY = new Uint8Array(0);

/** One connection that is no session yet. */
export class SessionStartup {
  readonly #host: SessionHost;
  readonly #door: StartupDoor;
  readonly #connection: AcceptedConnection;
  readonly #machine = new StartupMachine();
  readonly #decoder = new StartupDecoder();
  readonly #deadline: Timer;
  #firstByte = 0;
  #isOver = false;
  /** The startup packet is there, and it is others' turn. */
  #isWaiting = false;

  constructor(host: SessionHost, door: StartupDoor, connection: AcceptedConnection) {
    this.#host = host;
    this.#door = door;
    this.#connection = connection;
    this.#deadline = host.clock.setTimer(STARTUP_TIMEOUT_MS, () => this.#close(null));
  }

  onBytes(chunk: Uint8Array): void {
    if (this.#decoder.bufferedBytes === 0) this.#firstByte = chunk[0] ?? 0;
    let input = chunk;
    while (!this.#isOver && !this.#isWaiting) {
      const packet = this.#decoder.push(input);
      input = EMPTY;
      if (packet === 'more') return;
      if (packet === 'invalid-length') {
        this.#close(invalidLengthText(this.#firstByte));
        return;
      }
      const minorMax = this.#host.identity()?.facts.protocolMinorMax ?? 0;
      this.#act(this.#machine.onPacket(packet, this.#decoder.bufferedBytes, minorMax));
    }
  }

  /** The client will send no more. Nothing at all is what a port probe sends, and no news. */
  onEnd(): void {
    this.#close(this.#decoder.bufferedBytes > 0 ? 'incomplete startup packet' : null);
  }

  /** The connection is closed by others. */
  stop(): void {
    this.#isOver = true;
    this.#deadline.cancel();
  }

  #act(action: StartupAction): void {
    switch (action.kind) {
      case 'decline-encryption':
        this.#door.write([Uint8Array.of(DECLINED)]);
        break;
      case 'cancel':
        this.#host.onCancelRequest(action.pid, action.key);
        this.#close(null);
        break;
      case 'close':
        this.#close(action.text);
        break;
      case 'session':
        this.#admitInTurn(action.message);
        break;
      case 'refuse':
        if (action.declineFirst) this.#door.write([Uint8Array.of(DECLINED)]);
        this.#host.onRejected('protocol');
        this.#refuse(action.error);
        break;
      default:
        action satisfies never;
    }
  }

  /** A crowd is let in a few at a time; who waits is not read. */
  #admitInTurn(message: StartupMessage): void {
    this.#isWaiting = true;
    let isLate = false;
    this.#host.inTurn(() => {
      if (this.#isOver) return;
      this.#isWaiting = false;
      this.#admit(message);
      if (isLate) this.#connection.resumeReading();
    });
    isLate = true;
    if (this.#isWaiting) this.#connection.pauseReading();
  }

  #admit(message: StartupMessage): void {
    const host = this.#host;
    const admission = admit(message, {
      identity: host.identity(),
      isShuttingDown: host.isDraining(),
      sessions: host.admittedSessions(),
      maxWalSenders: host.settings().maxWalSenders,
      hba: host.hba(),
      localAddresses: host.localAddresses(),
      address: this.#connection.peer.address,
      isEncrypted: this.#connection.isEncrypted,
      consoles: host.consoles,
      consoleSessions: host.consoleSessions(),
    });
    this.#door.write(admission.frames);
    if (admission.kind === 'refused') {
      host.onRejected(admission.reason);
      this.#refuse(admission.error);
      return;
    }
    this.stop();
    this.#door.onAdmitted(admission.session, this.#decoder.takeRest());
  }

  #refuse(error: ErrorFields): void {
    this.stop();
    this.#host.onTurnedAway(`connection refused: ${error.message}`, this.#connection.peer.address);
    this.#door.refuse(error);
  }

  #close(badStartup: string | null): void {
    if (this.#isOver) return;
    this.stop();
    if (badStartup !== null) {
      this.#host.onRejected('protocol');
      this.#host.onTurnedAway(badStartup, this.#connection.peer.address);
    }
    this.#door.close();
  }
}
