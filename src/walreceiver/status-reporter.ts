// How positions get upstream: standby status updates, one a turn of the event loop however often a position moved.
import type { Clock } from '../base/clock.ts';
import { Wakeup } from '../base/wakeup.ts';
import {
  UPSTREAM_STATUS_AGAIN_MS,
  UPSTREAM_STATUS_ROOM_MS,
  UPSTREAM_UNSENT_STATUS_BYTES_MAX,
} from '../config/limits.ts';
import { INVALID_LSN } from '../pg/lsn.ts';
import { pgTimestampFromUnixMs } from '../pg/timestamp.ts';
import type { ReportedPositions } from '../status/status.ts';
import { encodeStandbyStatusUpdate } from '../wire/replication-messages.ts';
import type { PositionSource } from './ports.ts';

/** Where updates go while a stream runs. */
export interface StatusChannel {
  write(chunks: readonly Uint8Array[]): void;
  pendingBytes(): number;
  /** An update was handed over. */
  onSent(): void;
}

/** Nothing reported yet. */
export const NOTHING_REPORTED: ReportedPositions = {
  writeLsn: INVALID_LSN,
  flushLsn: INVALID_LSN,
  applyLsn: INVALID_LSN,
};

/** Reports of one walreceiver, over all its streams. */
export class StatusReporter {
  readonly #source: PositionSource;
  readonly #clock: Clock;
  readonly #wakeup: Wakeup;
  /** When the first update of this stream is due once more; null when it is not. */
  #againAtMs: number | null = null;
  #channel: StatusChannel | null = null;
  #reported: ReportedPositions = NOTHING_REPORTED;
  #isScheduled = false;

  constructor(source: PositionSource, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
    this.#wakeup = new Wakeup(clock, () => this.#onWake());
  }

  /** As last reported on any stream. */
  get reported(): ReportedPositions {
    return this.#reported;
  }

  /** A stream began: the first update goes out at once. */
  attach(channel: StatusChannel): void {
    this.#channel = channel;
    this.send(false);
  }

  /**
   * Commits may wait for the first update of the stream that has just begun: it goes out once more a moment later. The server's
   * process lets none go before it has caught up, which it may not have when it reads the first one; and where it has no WAL
   * for us nothing else would be said. (syncrep.c:SyncRepReleaseWaiters)
   */
  repeatSoon(): void {
    this.#againAtMs = this.#clock.nowMs() + UPSTREAM_STATUS_AGAIN_MS;
    this.#wakeup.ensure(this.#againAtMs);
  }

  /** The stream ended; moves are no longer reported. */
  detach(): void {
    this.#channel = null;
    this.#againAtMs = null;
    this.#wakeup.cancel();
  }

  /** A position may have moved. Reported once this turn of the event loop is over, if it has. */
  positionsMoved(): void {
    if (this.#isScheduled || this.#channel === null) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#sendIfMoved();
    });
  }

  /** Reports now; later, what moved, while a server that does not read holds too much of what was sent before. */
  send(replyRequested: boolean): void {
    if (this.#canSend()) this.#write(this.#source.positions(), replyRequested);
  }

  #onWake(): void {
    const againAtMs = this.#againAtMs;
    if (againAtMs === null || this.#clock.nowMs() < againAtMs) {
      this.#sendIfMoved();
    } else {
      this.#againAtMs = null;
      this.send(false);
    }
    if (this.#againAtMs !== null) this.#wakeup.ensure(this.#againAtMs);
  }

  #sendIfMoved(): void {
    // The source counts what it hands out as said, so it is asked only when there is somebody to say it to.
    if (!this.#canSend()) return;
    const now = this.#source.positions();
    const last = this.#reported;
    const isSame =
      now.writeLsn === last.writeLsn &&
      now.flushLsn === last.flushLsn &&
      now.applyLsn === last.applyLsn;
    if (!isSame) this.#write(now, false);
  }

  #canSend(): boolean {
    const channel = this.#channel;
    if (channel === null) return false;
    const hasRoom = channel.pendingBytes() <= UPSTREAM_UNSENT_STATUS_BYTES_MAX;
    if (!hasRoom) this.#wakeup.ensure(this.#clock.nowMs() + UPSTREAM_STATUS_ROOM_MS);
    return hasRoom;
  }

  #write(positions: ReportedPositions, replyRequested: boolean): void {
    const sendTime = pgTimestampFromUnixMs(this.#clock.wallMs());
    this.#channel?.write([encodeStandbyStatusUpdate({ ...positions, sendTime, replyRequested })]);
    this.#reported = positions;
    this.#channel?.onSent();
  }
}
