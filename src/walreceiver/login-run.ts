// One login while it runs: carries the machine's steps to the wire, with a time limit.
import { randomBytes } from 'node:crypto';
import type { Clock, Timer } from '../base/clock.ts';
import { OperationalError, WalcastError } from '../base/errors.ts';
import type { UpstreamMessage } from '../wire/upstream-messages.ts';
import { UpstreamLogin } from './upstream-login.ts';
import type { LoggedIn, LoginOptions, LoginStep } from './upstream-login.ts';

/** Random bytes of a SCRAM nonce (scram-common.h:SCRAM_RAW_NONCE_LEN). */
const NONCE_BYTES = 18;

/** What a login needs from the connection. */
export interface LoginRunOptions {
  readonly login: Omit<LoginOptions, 'nonce'>;
  readonly clock: Clock;
  /** 0 = no limit. */
  readonly timeoutMs: number;
  readonly write: (bytes: Uint8Array) => void;
  /** Called at most once, with the session when the server is ready for commands, or with why it is not. */
  readonly onEnd: (result: LoggedIn | WalcastError) => void;
}

/** Nothing is sent before `start`. */
export class LoginRun {
  readonly #options: LoginRunOptions;
  readonly #login: UpstreamLogin;
  #timer: Timer | null = null;
  #isOver = false;

  constructor(options: LoginRunOptions) {
    this.#options = options;
    const nonce = randomBytes(NONCE_BYTES).toString('base64');
    this.#login = new UpstreamLogin({ ...options.login, nonce });
  }

  /** Sends the startup packet. */
  start(): void {
    const { clock, timeoutMs, write } = this.#options;
    if (timeoutMs > 0) {
      this.#timer = clock.setTimer(timeoutMs, () => this.end(loginTimeout(timeoutMs)));
    }
    write(this.#login.startupPacket());
  }

  /** Takes a message of the server. Throws ProtocolViolation for one that does not belong into a login. */
  receive(message: UpstreamMessage): void {
    if (!this.#isOver) this.#carryOut(this.#login.receive(message));
  }

  /** The login is over; later messages are dropped. */
  end(result: LoggedIn | WalcastError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer?.cancel();
    this.#options.onEnd(result);
  }

  #carryOut(step: LoginStep): void {
    switch (step.kind) {
      case 'wait':
        return;
      case 'send':
        this.#options.write(step.bytes);
        return;
      case 'compute':
        step.bytes.then(
          (bytes) => {
            if (!this.#isOver) this.#options.write(bytes);
          },
          (error: unknown) => {
            if (!(error instanceof WalcastError)) throw error;
            this.end(error);
          },
        );
        return;
      case 'done':
        this.end(step.session);
        return;
      case 'failed':
        this.end(step.error);
        return;
    }
  }
}

function loginTimeout(timeoutMs: number): OperationalError {
  return new OperationalError(
    'CONNECT_TIMEOUT',
    `the upstream did not finish the login within ${Math.round(timeoutMs)} ms`,
    {
      isRetryable: true,
      hint: 'Check whether something else than PostgreSQL listens there, or raise connect_timeout.',
    },
  );
}
