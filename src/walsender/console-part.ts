// The console part of a session: hands messages over, and ends a session that says nothing, or does not listen.
import type { Clock, Timer } from '../base/clock.ts';
import { CONSOLE_IDLE_MS_MAX, CONSOLE_UNREAD_MS_MAX } from '../config/limits.ts';
import type { PeerAddress } from '../net/connection.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import type { AdmittedSession } from './admission.ts';
import type { ConsoleOutcome, ConsoleSession } from './ports.ts';
import type { SessionHost, WalSenderSettings } from './session-host.ts';
import { LETTER_TERMINATE } from './session-messages.ts';
import { formatMilliseconds } from './session-settings.ts';

/** What the console part needs from its session. */
export interface ConsoleHost {
  /** Buffers belong to the socket until they are drained. */
  write(chunks: readonly Uint8Array[]): void;
  pendingBytes(): number;
  /** Sends the error and closes. */
  refuse(error: ErrorFields): void;
  onTerminate(): void;
  /** Runs the piece now or in one of the next turns of the event loop. */
  askInTurn(piece: () => void): void;
  /** A message that had to wait is answered; the next ones may be read. */
  resumeReading(): void;
  /** The client does not take its answers: closes without a word. */
  onSilent(): void;
}

/** Whose console it is. */
interface ConsoleParty {
  readonly pid: number;
  readonly peer: PeerAddress;
  readonly admitted: AdmittedSession;
  readonly shared: Pick<SessionHost, 'consoles' | 'clock' | 'settings'>;
}

/** Begins the console of a session that was let in to it. */
export function openConsole(
  host: ConsoleHost,
  { pid, peer, admitted, shared }: ConsoleParty,
): SessionConsole {
  const { user, identity, settings, parameters } = admitted;
  const session = shared.consoles.open({
    pid,
    user,
    peer,
    facts: identity.facts,
    serverVersion: identity.serverVersion,
    walcastVersion: shared.settings().version,
    parameters,
    settings: new Map([...identity.settings, ...settings.values]),
    ownSettings: () => consoleSettings(shared.settings()),
    write: (chunks) => host.write(chunks),
  });
  return new SessionConsole(host, session, shared.clock);
}

/** What SHOW answers for settings that mean walcast, as a walsender does, by lower-case name. */
function consoleSettings(settings: WalSenderSettings): ReadonlyMap<string, string> {
  const { ownSettings, maxWalSenders, walSenderTimeoutMs } = settings;
  return new Map([
    ...ownSettings,
    ['max_wal_senders', String(maxWalSenders)],
    ['wal_sender_timeout', formatMilliseconds(walSenderTimeoutMs)],
  ]);
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
  #isBusy = false;
  /** What the last message asked for is not done yet. */
  #isWaiting = false;
  #isClosed = false;

  constructor(host: ConsoleHost, session: ConsoleSession, clock: Clock) {
    this.#host = host;
    this.#session = session;
    this.#clock = clock;
    this.#heardAtMs = clock.nowMs();
    this.#timer = this.#arm();
  }

  /** A message waits for its turn, or for what it asked for: no other may be handed over. */
  get isBusy(): boolean {
    return this.#isBusy || this.#isWaiting;
  }

  /** A whole message; `body` is not kept. */
  onMessage(type: number, body: Uint8Array): void {
    this.#heardAtMs = this.#clock.nowMs();
    if (type === LETTER_TERMINATE) this.#run(type, body);
    else this.#runInTurn(type, body);
  }

  /** Who asks without a pause keeps nobody waiting, whatever it asks: also of short messages there are many in a chunk. */
  #runInTurn(type: number, body: Uint8Array): void {
    let kept = body;
    let isLate = false;
    this.#isBusy = true;
    this.#host.askInTurn(() => {
      this.#isBusy = false;
      if (this.#isClosed) return;
      this.#run(type, kept);
      // One that waits goes on by itself.
      if (isLate && !this.#isWaiting) this.#host.resumeReading();
    });
    if (!this.#isBusy) return;
    isLate = true;
    kept = new Uint8Array(body);
  }

  #run(type: number, body: Uint8Array): void {
    const outcome = this.#session.onMessage(type, body);
    if (!(outcome instanceof Promise)) {
      this.#take(outcome);
      return;
    }
    this.#isWaiting = true;
    // What rejects is a bug of ours.
    void outcome.then((settled) => {
      this.#isWaiting = false;
      if (this.#isClosed) return;
      this.#take(settled);
      this.#host.resumeReading();
    });
  }

  #take(outcome: ConsoleOutcome): void {
    if (outcome === 'open') return;
    if (outcome === 'terminated') this.#host.onTerminate();
    else this.#host.refuse({ severity: 'FATAL', ...outcome });
  }

  /** A CancelRequest. */
  cancel(): void {
    this.#session.cancel();
  }

  /** The session is over. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#session.close();
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
