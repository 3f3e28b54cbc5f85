// History files that only the upstream has: who waits for which one, and what it is known not to have.
import type { Clock } from '../base/clock.ts';
import {
  READ_THROUGH_HISTORIES_MAX,
  READ_THROUGH_HISTORY_MS,
  READ_THROUGH_NO_HISTORY_MAX,
  READ_THROUGH_NO_HISTORY_MS,
} from '../config/limits.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { ReadThroughLink } from './read-through-link.ts';

/** One file that is to be asked for, when its turn has come. */
export interface HistoryJob {
  readonly timeline: TimelineId;
  /** Answers everybody who waits; null: there is none, or it could not be asked for. */
  readonly settle: (content: Uint8Array | null) => void;
  isSettled: boolean;
}

/** What the jobs need from the pool. */
export interface HistoryHost {
  readonly clock: Clock;
  /** The job wants a turn. */
  onJob(job: HistoryJob): void;
  onJobSettled(job: HistoryJob): void;
}

/** All questions for history files. The same file is asked for once at a time. */
export class ReadThroughHistories {
  readonly #host: HistoryHost;
  readonly #running = new Map<TimelineId, Promise<Uint8Array | null>>();
  readonly #jobs = new Set<HistoryJob>();
  /** Timelines of which the upstream has no file, and when it said so, oldest first. */
  readonly #missing = new Map<TimelineId, number>();

  constructor(host: HistoryHost) {
    this.#host = host;
  }

  /** The file; null when there is none, or it could not be asked for within {@link READ_THROUGH_HISTORY_MS}. Never rejects. */
  ask(timeline: TimelineId): Promise<Uint8Array | null> {
    const running = this.#running.get(timeline);
    if (running !== undefined) return running;
    const missingSinceMs = this.#missing.get(timeline) ?? Number.NEGATIVE_INFINITY;
    const isKnownMissing = this.#host.clock.nowMs() - missingSinceMs < READ_THROUGH_NO_HISTORY_MS;
    const isFull = this.#jobs.size >= READ_THROUGH_HISTORIES_MAX;
    if (isKnownMissing || isFull) return Promise.resolve(null);
    const asked = this.#begin(timeline).finally(() => this.#running.delete(timeline));
    this.#running.set(timeline, asked);
    return asked;
  }

  /** Everybody who waits is told that there is none. */
  close(): void {
    for (const job of this.#jobs) job.settle(null);
  }

  /** The job's turn. Rejects with a WalcastError when the connection fails. */
  async read(job: HistoryJob, link: ReadThroughLink): Promise<void> {
    if (job.isSettled) return;
    const content = await link.historyFile(job.timeline);
    if (content === null) this.#noteMissing(job.timeline);
    job.settle(content);
  }

  #begin(timeline: TimelineId): Promise<Uint8Array | null> {
    return new Promise((resolve) => {
      const { clock } = this.#host;
      const timer = clock.setTimer(READ_THROUGH_HISTORY_MS, () => job.settle(null));
      const job: HistoryJob = {
        timeline,
        isSettled: false,
        settle: (content) => {
          job.isSettled = true;
          this.#jobs.delete(job);
          timer.cancel();
          this.#host.onJobSettled(job);
          resolve(content);
        },
      };
      this.#jobs.add(job);
      this.#host.onJob(job);
    });
  }

  #noteMissing(timeline: TimelineId): void {
    this.#missing.delete(timeline);
    this.#missing.set(timeline, this.#host.clock.nowMs());
    const [oldest] = this.#missing.keys();
    if (this.#missing.size > READ_THROUGH_NO_HISTORY_MAX && oldest !== undefined) {
      this.#missing.delete(oldest);
    }
  }
}
