// A stream while it runs: what is sent and when it is given up by the clock, and the pause while the store is full.
import type { Clock } from '../base/clock.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { UpstreamDisconnectReason } from '../status/status.ts';
import { StoppingStandby } from './stopping-standby.ts';
import { StreamTimers } from './stream-timers.ts';
import type { StreamTimeouts } from './stream-timers.ts';
import type { UpstreamReports } from './upstream-reports.ts';
import type { WalStream } from './wal-stream.ts';

/** A stream that is being ended from this side. */
export interface Closing {
  /** What is counted. */
  readonly reason: UpstreamDisconnectReason;
  /** To be called when it is over. */
  readonly onClosed: () => void;
}

/** The connection, as far as a stream needs it. */
export interface StreamChannel {
  write(chunks: readonly Uint8Array[]): void;
  pendingBytes(): number;
  pauseReading(): void;
  resumeReading(): void;
}

/** What a running stream is made of. */
export interface RunningStreamParts {
  readonly stream: WalStream;
  readonly channel: StreamChannel;
  readonly reporter: UpstreamReports;
  readonly timeouts: StreamTimeouts;
  readonly clock: Clock;
}

/** From CopyBothResponse to the end of the stream. */
export class RunningStream {
  readonly stream: WalStream;
  readonly #parts: RunningStreamParts;
  readonly #timers: StreamTimers;
  readonly #stopping = new StoppingStandby();
  /** W when reading was paused or last seen to move since. */
  #pausedAtLsn: Lsn | null = null;

  constructor(parts: RunningStreamParts) {
    this.stream = parts.stream;
    this.#parts = parts;
    this.#timers = new StreamTimers(parts.timeouts, parts.clock.nowMs());
  }

  /** The first status update goes out, and the first feedback. */
  begin(): void {
    const { channel, reporter, clock } = this.#parts;
    reporter.attach({
      write: (chunks) => channel.write(chunks),
      pendingBytes: () => channel.pendingBytes(),
      onSent: () => this.#timers.statusSent(clock.nowMs()),
    });
  }

  /** Reading is paused because the store is full. */
  get isPaused(): boolean {
    return this.#timers.isPaused;
  }

  /** When bytes arrived last, or the stream began; of the monotonic clock. */
  get receivedAtMs(): number {
    return this.#timers.receivedAtMs;
  }

  /** Bytes arrived. */
  received(): void {
    this.#timers.received(this.#parts.clock.nowMs());
  }

  /** The server asked for an answer and got one. True when it is a standby that waits in vain, see {@link StoppingStandby}. */
  isStopAwaited(): boolean {
    const { reporter, clock } = this.#parts;
    const { serverLsn, nextLsn } = this.stream;
    const { reported } = reporter;
    return this.#stopping.asked({ serverLsn, nextLsn, reported }, clock.nowMs());
  }

  /** The store is full. False when that is known. */
  pause(): boolean {
    if (this.#timers.isPaused) return false;
    const { channel, clock } = this.#parts;
    this.#timers.paused(clock.nowMs());
    this.#pausedAtLsn = this.#writtenLsn();
    channel.pauseReading();
    return true;
  }

  /** The store has room. */
  resume(): void {
    if (!this.#timers.isPaused) return;
    this.#timers.resumed(this.#parts.clock.nowMs());
    this.#parts.channel.resumeReading();
  }

  /** Nothing more is taken. What follows on the same connection has to be read whether there is room for WAL or not. */
  close(): void {
    this.stream.close();
    if (this.#timers.isPaused) this.#parts.channel.resumeReading();
  }

  /** Sends what is due, and says when the stream has to be given up. */
  due(): 'timeout' | 'full' | null {
    const { reporter, clock } = this.#parts;
    const nowMs = clock.nowMs();
    const due = this.#timers.due(nowMs);
    switch (due) {
      case 'status':
        reporter.send(false);
        this.#timers.statusSent(nowMs);
        if (this.#timers.isPaused) this.#noteProgress(nowMs);
        return null;
      case 'ping':
        reporter.send(true);
        return null;
      case 'timeout':
      case 'full':
      case null:
        return due;
    }
  }

  /** When to ask {@link due} again; null when nothing ever is. */
  nextDueAtMs(): number | null {
    return this.#timers.nextDueAtMs();
  }

  /** While the store is full: WAL that reaches the disk shows that it is slow, not stuck. */
  #noteProgress(nowMs: number): void {
    const writtenLsn = this.#writtenLsn();
    if (writtenLsn === this.#pausedAtLsn) return;
    this.#pausedAtLsn = writtenLsn;
    this.#timers.progressed(nowMs);
  }

  /** What is reported as written may stand still because standbys do. */
  #writtenLsn(): Lsn {
    return this.stream.writtenLsn ?? this.#parts.reporter.reported.writeLsn;
  }
}
