// Who is told what changes? One look at the relay a second, however many listen: what is other is written once and given to all, a few
// of them in one turn. Nobody listens: nobody looks.
import type { Clock, Timer } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  HTTP_EVENT_STREAMS_MAX,
  HTTP_EVENT_STREAMS_PER_CLIENT_MAX,
  HTTP_EVENTS_INTERVAL_MS,
  HTTP_EVENTS_KEEP_ALIVE_MS,
} from '../config/limits.ts';
import { changeData, eventFrame, KEEP_ALIVE, snapshotData } from './event-frames.ts';
import { EventStream } from './event-stream.ts';
import type { Telling } from './event-stream.ts';
import type { EndJson } from './event-types.ts';
import { inTurn } from './pictures.ts';
import type { Pictures, PictureTexts } from './pictures.ts';

/** What it is made of. */
export interface EventHubOptions {
  readonly pictures: Pictures;
  readonly clock: Clock;
  readonly log: Log;
  /** All clients are of this machine: there is nobody to keep a share for. */
  readonly isLoopback: boolean;
}

/** The last thing that was told: what everybody knows who is not behind. */
interface Told {
  readonly texts: PictureTexts;
  readonly snapshot: () => Buffer;
}

/** One telling, and to whom: those who come after it was made have it in their snapshot. */
interface Round {
  readonly telling: Telling;
  readonly streams: readonly EventStream[];
}

/** All streams of one port. */
export class EventHub {
  readonly #options: EventHubOptions;
  readonly #streams = new Set<EventStream>();
  /** Null while nobody listens, and until the first picture was written. */
  #told: Told | null = null;
  #id = 0;
  #heardAtMs = 0;
  /** A picture is being written, or told. */
  #isLooking = false;
  #timer: Timer | null = null;
  #isClosed = false;

  constructor(options: EventHubOptions) {
    this.#options = options;
  }

  /** How many listen. */
  get size(): number {
    return this.#streams.size;
  }

  /** A stream for one client; null when there are too many. Its first event comes as soon as there is one. */
  open(client: {
    readonly network: string;
    readonly isAllowed: () => boolean;
  }): EventStream | null {
    if (this.#isClosed || !this.#hasRoom(client.network)) return null;
    const stream: EventStream = new EventStream({
      ...client,
      onGone: () => this.#remove(stream),
    });
    this.#streams.add(stream);
    if (this.#told !== null) {
      const { snapshot } = this.#told;
      stream.tell({ change: null, snapshot, keepAlive: null }, this.#nowMs());
    } else if (!this.#isLooking) void this.#look();
    return stream;
  }

  /** Says goodbye to all of them; nobody comes any more. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer?.cancel();
    const end = this.#endFrame('walcast ends');
    for (const stream of this.#streams) stream.end(end, this.#nowMs());
  }

  #hasRoom(network: string): boolean {
    if (this.#streams.size >= HTTP_EVENT_STREAMS_MAX) return false;
    if (this.#options.isLoopback) return true;
    const ofNetwork = [...this.#streams].filter((stream) => stream.network === network);
    return ofNetwork.length < HTTP_EVENT_STREAMS_PER_CLIENT_MAX;
  }

  #remove(stream: EventStream): void {
    this.#streams.delete(stream);
    if (this.#streams.size > 0) return;
    this.#timer?.cancel();
    this.#timer = null;
    // Who comes before this look is over is told what it saw.
    if (!this.#isLooking) this.#told = null;
  }

  async #look(): Promise<void> {
    this.#isLooking = true;
    this.#timer?.cancel();
    this.#timer = null;
    try {
      const { pictures } = this.#options;
      const picture = await inTurn(pictures.slices, () => pictures.fresh());
      const texts = await picture.texts();
      const round = await inTurn(pictures.slices, () => this.#prepare(texts));
      await this.#toAll(round);
    } catch (error) {
      // As for every other request that fails: it is told, and the relay goes on.
      this.#options.log.error('the stream of events failed', { error: errorText(error) });
      const end = this.#endFrame('internal error; the log of walcast says more');
      for (const stream of this.#streams) stream.end(end, this.#nowMs());
      // What was so before is no answer for who comes next.
      this.#told = null;
    }
    this.#isLooking = false;
    if (this.#isClosed || this.#streams.size === 0) this.#told = null;
    else {
      const { clock } = this.#options;
      this.#timer = clock.setTimer(HTTP_EVENTS_INTERVAL_MS, () => void this.#look());
    }
  }

  /** Notes what is told from now on, and makes of it what those get who know what was told before. */
  #prepare(texts: PictureTexts): Round {
    const before = this.#told?.texts ?? null;
    const data = before === null ? null : changeData(before, texts);
    const id = (this.#id += 1);
    const change = data === null ? null : eventFrame('change', id, data);
    let made: Buffer | null = null;
    const snapshot = (): Buffer => (made ??= eventFrame('snapshot', id, snapshotData(texts)));
    this.#told = { texts, snapshot };
    const nowMs = this.#nowMs();
    if (change !== null) this.#heardAtMs = nowMs;
    const isSilent = nowMs - this.#heardAtMs >= HTTP_EVENTS_KEEP_ALIVE_MS;
    if (isSilent) this.#heardAtMs = nowMs;
    const telling = { change, snapshot, keepAlive: isSilent ? KEEP_ALIVE : null };
    return { telling, streams: [...this.#streams] };
  }

  /** Tells each of them, as many in one turn as there is time for: writing to sockets takes some, too. */
  async #toAll({ telling, streams }: Round): Promise<void> {
    const nowMs = this.#nowMs();
    for (const stream of streams) {
      await inTurn(this.#options.pictures.slices, () => {
        if (this.#isClosed) return;
        if (!stream.isAllowed()) stream.end(this.#endFrame(NOT_ALLOWED), nowMs);
        stream.tell(telling, nowMs);
      });
    }
  }

  #endFrame(reason: string): Buffer {
    const data: EndJson = { reason };
    return eventFrame('end', (this.#id += 1), JSON.stringify(data));
  }

  #nowMs(): number {
    return this.#options.clock.nowMs();
  }
}

const NOT_ALLOWED = 'the token that was shown is not valid any more';
