// The first part of one connection: from its first byte to a session, a refusal or a close, within a deadline.
// (src/backend/tcop/backend_startup.c:BackendInitialize)
import type { Timer } from '../base/clock.ts';
import type { AcceptedConnection } from '../net/connection.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { encodeOldErrorResponse } from '../wire/backend-messages.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import { TLS_HANDSHAKE_RECORD } from '../wire/client-hello.ts';
import { StartupDecoder } from '../wire/startup-decoder.ts';
import type { StartupMessage } from '../wire/startup.ts';
import type { AdmissionRefusal, AdmittedSession } from './admission.ts';
import type { SessionHost } from './session-host.ts';
import { SessionLogin } from './session-login.ts';
import type { LoginDoor } from './session-login.ts';
import { invalidLengthText, StartupMachine } from './startup-machine.ts';
import type { StartupAction } from './startup-machine.ts';

/** What the startup needs from its session. */
export interface StartupDoor {
  write(chunks: readonly Uint8Array[]): void;
  /** Sends the error, in another form than that of protocol 3 where `encode` is given, and closes. */
  refuse(error: ErrorFields, encode?: (error: ErrorFields) => Uint8Array): void;
  /** Closes without a word. */
  close(): void;
  /** The session begins; `rest` are the bytes that came behind the startup packet. */
  onAdmitted(session: AdmittedSession, rest: Uint8Array): void;
  /** The client of the session that has begun will send no more. */
  onEnd(): void;
}

/** Encryption byte: not here. */
const DECLINED = 0x4e;
/** Encryption byte: go on. */
const ACCEPTED = 0x53;
const EMPTY = new Uint8Array(0);

interface RefusalForm {
  /** Who the client says it is, for the log. */
  readonly user?: string | null;
  readonly encode?: (error: ErrorFields) => Uint8Array;
}

/** One connection that is no session yet. */
export class SessionStartup {
  readonly #host: SessionHost;
  readonly #door: StartupDoor;
  readonly #connection: AcceptedConnection;
  readonly #machine = new StartupMachine();
  readonly #decoder = new StartupDecoder();
  readonly #deadline: Timer;
  /** From the StartupMessage on. */
  #login: SessionLogin | null = null;
  #firstByte = 0;
  /** Nothing has arrived. */
  #isUntouched = true;
  #isInHandshake = false;
  #hasEnded = false;
  #isOver = false;

  constructor(host: SessionHost, door: StartupDoor, connection: AcceptedConnection) {
    this.#host = host;
    this.#door = door;
    this.#connection = connection;
    const { authenticationTimeoutMs } = host.settings();
    this.#deadline = host.clock.setTimer(authenticationTimeoutMs, () => this.#onLate());
  }

  onBytes(chunk: Uint8Array): void {
    if (this.#login !== null) {
      this.#login.onBytes(chunk);
      return;
    }
    if (this.#decoder.bufferedBytes === 0) this.#firstByte = chunk[0] ?? 0;
    const isFirst = this.#isUntouched;
    this.#isUntouched = false;
    if (isFirst && this.#firstByte === TLS_HANDSHAKE_RECORD && this.#connection.canStartTls) {
      this.#startTls(chunk, true);
      return;
    }
    let input = chunk;
    while (!this.#isOver && this.#login === null) {
      const packet = this.#decoder.push(input);
      input = EMPTY;
      if (packet === 'more') return;
      if (packet === 'invalid-length') {
        this.#close(invalidLengthText(this.#firstByte));
        return;
      }
      const context = {
        bytesBehind: this.#decoder.bufferedBytes,
        protocolMinorMax: this.#host.identity()?.facts.protocolMinorMax ?? 0,
        canStartTls: this.#connection.canStartTls,
      };
      this.#act(this.#machine.onPacket(packet, context));
    }
  }

  /** The client will send no more. Nothing at all is what a port probe sends, and no news. */
  onEnd(): void {
    this.#hasEnded = true;
    if (this.#login?.onEnd() === false) return;
    if (this.#isInHandshake) {
      this.#onTlsFailed('could not accept SSL connection: EOF detected');
      this.#door.close();
      return;
    }
    this.#close(this.#decoder.bufferedBytes > 0 ? 'incomplete startup packet' : null);
  }

  /** The connection is closed by others. */
  stop(): void {
    this.#isOver = true;
    this.#deadline.cancel();
    this.#login?.stop();
  }

  /** (postmaster.c:StartupPacketTimeoutHandler; postgres.c:ProcessInterrupts) */
  #onLate(): void {
    const text = 'canceling authentication due to timeout';
    if (this.#login !== null) this.#host.onTurnedAway(text, this.#connection.peer);
    this.#close(null);
  }

  #act(action: StartupAction): void {
    switch (action.kind) {
      case 'decline-encryption':
        this.#door.write([Uint8Array.of(DECLINED)]);
        break;
      case 'begin-tls':
        this.#door.write([Uint8Array.of(ACCEPTED)]);
        this.#startTls(EMPTY, false);
        break;
      case 'cancel':
        this.#host.onCancelRequest(action.pid, action.key);
        this.#close(null);
        break;
      case 'close':
        this.#close(action.text);
        break;
      case 'session':
        this.#logIn(action.message);
        break;
      case 'refuse':
        if (action.declineFirst) this.#door.write([Uint8Array.of(DECLINED)]);
        this.#host.onRejected('protocol');
        this.#refuse(action.error, action.isOldForm ? { encode: encodeOldErrorResponse } : {});
        break;
      default:
        action satisfies never;
    }
  }

  #startTls(firstBytes: Uint8Array, isDirect: boolean): void {
    this.#isInHandshake = true;
    this.#connection.startTls({
      firstBytes,
      isDirect,
      inTurn: (piece) => this.#host.shakeHandsInTurn(this.#door, piece),
      onSecure: () => {
        this.#isInHandshake = false;
      },
      onRefused: (text) => this.#onCertificateRefused(text),
      onFailed: (text) => this.#onTlsFailed(text),
    });
  }

  /** What is wrong with it is for the log: who has no certificate learns nothing about ours. */
  #onCertificateRefused(text: string): void {
    if (this.#isOver) return;
    this.stop();
    const message = 'connection requires a valid client certificate';
    this.#host.onRejected('tls');
    this.#host.onTurnedAway(`connection refused: ${message}: ${text}`, this.#connection.peer);
    const sqlstate = SQLSTATE.invalidAuthorizationSpecification;
    this.#door.refuse({ severity: 'FATAL', sqlstate, message });
  }

  /** The connection closes by itself. */
  #onTlsFailed(text: string): void {
    if (this.#isOver) return;
    this.stop();
    this.#host.onRejected('tls');
    this.#host.onTurnedAway(text, this.#connection.peer);
  }

  #logIn(message: StartupMessage): void {
    const login = new SessionLogin(this.#host, {
      door: this.#loginDoor(),
      visitor: this.#door,
      connection: this.#connection,
    });
    this.#login = login;
    login.begin(message, this.#decoder.takeRest());
  }

  #loginDoor(): LoginDoor {
    return {
      write: (chunks) => this.#door.write(chunks),
      onRefused: ({ reason, error }: AdmissionRefusal, user) => {
        this.#host.onRejected(reason);
        this.#refuse(error, { user });
      },
      onClosed: (text) => this.#close(text),
      onAuthenticationFailed: ({ error }) => {
        if (this.#isOver) return;
        this.stop();
        this.#door.refuse(error);
      },
      onAdmitted: (session, rest) => {
        this.stop();
        this.#door.onAdmitted(session, rest);
        if (this.#hasEnded) this.#door.onEnd();
      },
    };
  }

  #refuse(error: ErrorFields, { user = null, encode }: RefusalForm): void {
    this.stop();
    const { message, detail } = error;
    const fields = {
      ...(user === null ? {} : { user }),
      ...(detail === undefined ? {} : { detail }),
    };
    this.#host.onTurnedAway(`connection refused: ${message}`, this.#connection.peer, fields);
    this.#door.refuse(error, encode);
  }

  #close(badStartup: string | null): void {
    if (this.#isOver) return;
    this.stop();
    if (badStartup !== null) {
      this.#host.onRejected('protocol');
      this.#host.onTurnedAway(badStartup, this.#connection.peer);
    }
    this.#door.close();
  }
}
