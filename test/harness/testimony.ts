// What did those who know say, and when? Of looks one after the other: what was so before a moment, and what was so after it.
import type { Look } from './looks.ts';

/** What those who know said, by time. */
export class Testimony {
  readonly #looks: readonly Look[];

  constructor(looks: readonly Look[]) {
    this.#looks = looks;
  }

  /** The last value that was certainly taken before a moment. */
  before<T>(atMs: number, select: (look: Look) => T | null): T | null {
    for (const look of this.#looks.toReversed()) {
      if (look.witnessUntilMs > atMs) continue;
      const value = select(look);
      if (value !== null) return value;
    }
    return null;
  }

  /** The first value that was certainly taken after a moment. */
  after<T>(atMs: number, select: (look: Look) => T | null): T | null {
    for (const look of this.#looks) {
      if (look.witnessFromMs < atMs) continue;
      const value = select(look);
      if (value !== null) return value;
    }
    return null;
  }

  /** The highest value that was seen until one was certainly taken after a moment; null while none was. */
  highestAfter(atMs: number, select: (look: Look) => number | null): number | null {
    let highest: number | null = null;
    for (const look of this.#looks) {
      const value = select(look);
      if (value === null) continue;
      highest = Math.max(highest ?? value, value);
      if (look.witnessFromMs >= atMs) return highest;
    }
    return null;
  }

  /** From when on a standby's present stream is known to run, as seen at a moment; null while there is none. */
  receiverSinceMs(name: string, atMs: number): number | null {
    const streamOf = (look: Look): string | null => {
      const said = look.standbys.get(name);
      if (said === undefined) return null;
      return said.receiver === null
        ? ''
        : `${said.receiver.pid} on timeline ${said.receiver.timeline}`;
    };
    const stream = this.before(atMs, streamOf);
    if (stream === null || stream === '') return null;
    return this.#looks.find((look) => streamOf(look) === stream)?.witnessUntilMs ?? null;
  }

  /**
   * Since when, at the latest, this walcast has streamed from its upstream without a break, as seen at a look: what is older
   * was sent to it then. Null where that is before the first look.
   */
  streamingSinceMs(look: Look): number | null {
    const startedAt = look.views?.status.started_at;
    const until = this.#looks.slice(0, this.#looks.indexOf(look) + 1);
    const last = until.findLastIndex(
      ({ views }) => views?.upstream.state !== 'streaming' || views.status.started_at !== startedAt,
    );
    return last < 0 ? null : (until[last + 1]?.answeredMs ?? look.answeredMs);
  }
}
