// When is a client listened to? Cuts what it sends into messages, and keeps what comes while a command runs or while
// the client does not take our answers.
import { HELD_INPUT_BYTES_MAX } from '../config/limits.ts';
import type { ByteConnection } from '../net/connection.ts';
import { FrameDecoder } from '../wire/frame-decoder.ts';
import type { FrameFailure } from '../wire/frame-decoder.ts';
import { LETTER_TERMINATE, sessionLengthMax } from './session-messages.ts';
import type { SessionPhase } from './session-messages.ts';

/** What the input needs from its session. */
export interface InputHost {
  phase(): SessionPhase;
  /** Null before there is one. */
  connection(): ByteConnection | null;
  /** A whole message for the part whose turn it is; `body` is valid until the call returns. */
  onMessage(type: number, body: Uint8Array): void;
  onFrameFailure(failure: FrameFailure): void;
  /** A command waits for something: no message may overtake it, but the end of the client has to be noticed. */
  isBusy(): boolean;
  /** Nothing may be handed over for another reason than a command that runs. */
  isHeld(): boolean;
  /** The client has sent its last byte, and the command that runs is for nobody. */
  cancelCommand(): void;
  /** The client has sent its last byte, and all of it has been taken. */
  onInputOver(): void;
}

const EMPTY = new Uint8Array(0);

/** The bytes of one client, from its first command on. */
export class SessionInput {
  readonly #host: InputHost;
  readonly #frames: FrameDecoder;
  /** A message that came while another part had the session and is not for it. */
  #heldMessage: { readonly type: number; readonly body: Uint8Array } | null = null;
  #isStopped = false;
  #hasEnded = false;

  constructor(host: InputHost) {
    this.#host = host;
    this.#frames = new FrameDecoder((type) => sessionLengthMax(host.phase(), type));
  }

  onBytes(chunk: Uint8Array): void {
    if (this.#isStopped) {
      this.#frames.hold(chunk);
      if (this.#frames.bufferedBytes > HELD_INPUT_BYTES_MAX) {
        this.#host.connection()?.pauseReading();
      }
      return;
    }
    this.#frames.push(chunk, this.#onFrame);
    const { failure } = this.#frames;
    if (failure !== null && this.#host.phase() !== 'closed') this.#host.onFrameFailure(failure);
  }

  /**
   * The client will send no more. False where a command is busy, or where the client does not take the answers yet: what was
   * sent before is still answered.
   */
  onEnd(): boolean {
    const isBusy = this.#host.isBusy();
    if (!isBusy && !this.#isHoldingCommands()) return true;
    this.#hasEnded = true;
    if (isBusy) this.#host.cancelCommand();
    return false;
  }

  /** Keeps a message that only the next command's part can take. `body` is copied. */
  holdMessage(type: number, body: Uint8Array): void {
    this.#heldMessage = { type, body: new Uint8Array(body) };
  }

  /** Goes on with what was received before reading was stopped, then reads again. */
  continue(): void {
    const host = this.#host;
    if (!this.#isStopped || host.phase() === 'closed') return;
    const held = this.#heldMessage;
    if (held !== null && host.phase() === 'command') {
      this.#heldMessage = null;
      host.onMessage(held.type, held.body);
    }
    if (!this.#isHeld()) {
      this.#isStopped = false;
      this.onBytes(EMPTY);
    }
    if (this.#isHeld()) {
      this.#listenForEnd();
      return;
    }
    if (this.#hasEnded) host.onInputOver();
    else host.connection()?.resumeReading();
  }

  readonly #onFrame = (type: number, body: Uint8Array): void => {
    const host = this.#host;
    host.onMessage(type, body);
    if (!this.#isHeld()) return;
    this.#frames.stop();
    this.#isStopped = true;
    if (this.#hasEnded) host.cancelCommand();
    // The end of the client has to be noticed: a command may wait for long, and nothing else follows a Terminate.
    const isListening = host.isBusy() || this.#heldMessage?.type === LETTER_TERMINATE;
    if (!isListening) host.connection()?.pauseReading();
  };

  #isHoldingCommands(): boolean {
    const phase = this.#host.phase();
    const isAnswered = phase === 'command' || phase === 'console';
    return isAnswered && this.#isStopped && this.#heldMessage === null;
  }

  /** While a command waits, as far as not much is kept. */
  #listenForEnd(): void {
    const connection = this.#host.connection();
    if (this.#frames.bufferedBytes > HELD_INPUT_BYTES_MAX) connection?.pauseReading();
    else if (this.#host.isBusy()) connection?.resumeReading();
  }

  #isHeld(): boolean {
    return this.#heldMessage !== null || this.#host.isBusy() || this.#host.isHeld();
  }
}
