// Everything that is said upstream while a stream runs: positions, and what standbys feed back.
import type { Clock } from '../base/clock.ts';
import type { ReportedPositions } from '../status/status.ts';
import { FeedbackReporter } from './feedback-reporter.ts';
import type { FeedbackSource, PositionSource } from './ports.ts';
import { StatusReporter } from './status-reporter.ts';
import type { StatusChannel } from './status-reporter.ts';

/** Where it comes from. */
export interface UpstreamReportsOptions {
  readonly positions: PositionSource;
  /** Absent: nothing is fed back. */
  readonly feedback?: FeedbackSource;
  /** wal_receiver_status_interval, looked up anew each time. */
  readonly statusIntervalMs: number;
  readonly clock: Clock;
}

/** Reports of one walreceiver, over all its streams. */
export class UpstreamReports {
  readonly #status: StatusReporter;
  readonly #feedback: FeedbackReporter | null;

  constructor(options: UpstreamReportsOptions) {
    const { positions, feedback, clock } = options;
    this.#status = new StatusReporter(positions, clock);
    const statusIntervalMs = (): number => options.statusIntervalMs;
    this.#feedback =
      feedback === undefined
        ? null
        : new FeedbackReporter({ source: feedback, statusIntervalMs, clock });
  }

  /** As last reported on any stream. */
  get reported(): ReportedPositions {
    return this.#status.reported;
  }

  /** A stream began: the first of each goes out at once. */
  attach(channel: StatusChannel): void {
    this.#status.attach(channel);
    this.#feedback?.attach(channel);
  }

  /** See {@link StatusReporter.repeatSoon}. */
  repeatSoon(): void {
    this.#status.repeatSoon();
  }

  /** The stream ended; nothing is said any more. */
  detach(): void {
    this.#status.detach();
    this.#feedback?.detach();
  }

  /** A position may have moved. */
  positionsMoved(): void {
    this.#status.positionsMoved();
  }

  /** What standbys feed back may have changed. */
  feedbackChanged(): void {
    this.#feedback?.changed();
  }

  /** Reports positions now; later, what moved, while a server that does not read holds too much of what was sent before. */
  send(replyRequested: boolean): void {
    this.#status.send(replyRequested);
  }
}
