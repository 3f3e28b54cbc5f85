// How far is a walcast that catches up with its upstream? On a terminal one line that is written over, elsewhere a log line
// every ten seconds; a catch-up that is over within a second shows nothing.
import type { Clock, Timer } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { formatLsn, lsnDistance } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { RelayStatus, StatusSource } from '../status/status.ts';
import { CLEAR_LINE, Speedometer, timeText } from './progress-line.ts';
import { sizeText } from '../base/human-text.ts';

/** How often the status is looked at. */
const POLL_MS = 1_000;

/** Time between two log lines. */
const LOG_MS = 10_000;

/** What is watched, and where it is told. */
export interface CatchupProgressOptions {
  readonly source: StatusSource;
  readonly clock: Clock;
  readonly log: Log;
  /** Writes to the terminal; null when there is none, then the log is used. */
  readonly terminal: ((text: string) => void) | null;
}

/** A catch-up under way. */
interface Catchup {
  readonly startLsn: Lsn;
  /** The server's end when it began. */
  readonly goalLsn: Lsn;
  readonly startedAtMs: number;
  readonly speed: Speedometer;
  loggedAtMs: number;
  isTold: boolean;
}

/** Watches until {@link stop}. */
export class CatchupProgress {
  readonly #options: CatchupProgressOptions;
  #timer: Timer | null;
  #catchup: Catchup | null = null;

  constructor(options: CatchupProgressOptions) {
    this.#options = options;
    this.#timer = options.clock.setTimer(POLL_MS, () => this.#tick());
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#clear();
  }

  #tick(): void {
    const status = this.#options.source.status();
    if (status.state === 'catchup') this.#follow(status);
    else this.#finish(status);
    this.#timer = this.#options.clock.setTimer(POLL_MS, () => this.#tick());
  }

  #follow(status: RelayStatus): void {
    const nowMs = this.#options.clock.nowMs();
    const { receivedLsn } = status.store;
    const { serverLsn } = status.upstream;
    const catchup = this.#catchup;
    if (catchup === null) {
      if (serverLsn <= receivedLsn) return;
      const speed = new Speedometer();
      speed.note(nowMs, 0);
      this.#catchup = {
        startLsn: receivedLsn,
        goalLsn: serverLsn,
        startedAtMs: nowMs,
        speed,
        loggedAtMs: nowMs,
        isTold: false,
      };
      return;
    }
    catchup.speed.note(nowMs, lsnDistance(catchup.startLsn, receivedLsn));
    this.#tell(catchup, status, nowMs);
  }

  #tell(catchup: Catchup, { store, upstream }: RelayStatus, nowMs: number): void {
    const { log, terminal } = this.#options;
    const done = lsnDistance(catchup.startLsn, store.receivedLsn);
    const total = lsnDistance(catchup.startLsn, catchup.goalLsn);
    const percent = Math.max(0, Math.min(100, Math.floor((done * 100) / total)));
    const rate = catchup.speed.bytesPerSecond();
    const lag = Math.max(0, lsnDistance(store.receivedLsn, upstream.serverLsn));
    const speed = `${(rate / 1024 ** 2).toFixed(1)} MB/s`;
    const eta = rate > 0 ? timeText(lag / rate) : '-';
    if (terminal !== null) {
      const text = `catching up  ${percent}%  ${speed}  ETA ${eta}  lag ${sizeText(lag)}`;
      terminal(`${CLEAR_LINE}${text}\r`);
      catchup.isTold = true;
    } else if (nowMs - catchup.loggedAtMs >= LOG_MS) {
      log.info('catching up with the upstream', {
        percent,
        speed,
        eta,
        lag_bytes: lag,
        lsn: formatLsn(store.receivedLsn),
      });
      catchup.loggedAtMs = nowMs;
      catchup.isTold = true;
    }
  }

  /** Says that it is over where it was said that it goes on. */
  #finish({ state, store }: RelayStatus): void {
    const catchup = this.#catchup;
    this.#clear();
    if (catchup === null || !catchup.isTold || state !== 'streaming') return;
    const seconds = (this.#options.clock.nowMs() - catchup.startedAtMs) / 1000;
    this.#options.log.info('caught up with the upstream', {
      lsn: formatLsn(store.receivedLsn),
      bytes: lsnDistance(catchup.startLsn, store.receivedLsn),
      seconds: Math.round(seconds),
    });
  }

  #clear(): void {
    if (this.#catchup?.isTold === true) this.#options.terminal?.(CLEAR_LINE);
    this.#catchup = null;
  }
}
