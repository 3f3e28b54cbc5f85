// The console part of a session: hands messages over, and ends a session that says nothing, or does not listen.
import type { Clock, Timer } from '../base/clock.ts';
import { CONSOLE_IDLE_MS_MAX, CONSOLE_UNREAD_MS_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import type { ConsoleSession } from './ports.ts';

/** What the console part needs from its session. */
export interface ConsoleHost {
  pendingBytes(): number;
  /** Sends the error and closes. */
  refuse(error: ErrorFields): void;
  onTerminate(): void;
  /** The client does not take its answers: closes without a word. */
  onSilent(): void;
}

/** One console session, from its admission to its end. */
export class SessionConsole {
  readonly #host: ConsoleHost;
  readonly #session: ConsoleSession;
  readonly #clock: Clock;
  #timer: Timer;
  #heardAtMs: number;
  /** What it had not taken when it was last looked at. */
  #unreadBytes = 0;

  constructor(host: ConsoleHost, session: ConsoleSession, clock: Clock) {
    this.#host = host;
    this.#session = session;
    this.#clock = clock;
    this.#heardAtMs = clock.nowMs();
    this.#timer = this.#arm();
  }

  /** A whole message. */
  onMessage(type: number, body: Uint8Array): void {
    this.#heardAtMs = this.#clock.nowMs();
    const outcome = this.#session.onMessage(type, body);
    if (outcome === 'open') return;
    if (outcome === 'terminated') this.#host.onTerminate();
    else this.#host.refuse({ severity: 'FATAL', ...outcome });
  }

  /** The session is over. */
  close(): void {
    this.#timer.cancel();
  }

  #arm(): Timer {
    return this.#clock.setTimer(CONSOLE_UNREAD_MS_MAX, () => this.#look());
  }

  #look(): void {
    const unread = this.#host.pendingBytes();
    if (unread > 0 && unread === this.#unreadBytes) {
      this.#host.onSilent();
      return;
    }
    this.#unreadBytes = unread;
    if (this.#clock.nowMs() - this.#heardAtMs >= CONSOLE_IDLE_MS_MAX) {
      this.#host.refuse({
        severity: 'FATAL',
        sqlstate: SQLSTATE.idleSessionTimeout,
        message: 'terminating connection due to idle-session timeout',
      });
      return;
    }
    this.#timer = this.#arm();
  }
}
