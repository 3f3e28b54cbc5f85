// What is shown now, to all who ask at the same time? A picture of the relay is taken and written as JSON once for all of them, and
// a large one in slices: a thousand standbys keep nobody's WAL waiting.
import type { Clock } from '../base/clock.ts';
import { OneATurn } from '../base/one-a-turn.ts';
import { TurnSlices } from '../base/turn-slices.ts';
import {
  HTTP_PICTURE_MS_PER_ROW,
  HTTP_PICTURE_ROWS_FRESH,
  HTTP_ROWS_PER_PIECE,
  HTTP_SLICE_MS,
} from '../config/limits.ts';
import type { RelayStatus, StatusSource } from '../status/status.ts';
import { timeText } from './json-words.ts';
import { standbyJson, walEnds } from './standby-json.ts';
import { relayJson, syncJson } from './status-json.ts';
import { slotsJson, storeDetailJson } from './store-json.ts';
import { upstreamDetailJson } from './upstream-json.ts';

/** A picture as JSON, part by part. */
export interface PictureTexts {
  /** When it was taken, ISO 8601. */
  readonly at: string;
  /** `status` without the standbys. */
  readonly relay: string;
  readonly upstream: string;
  readonly store: string;
  readonly slots: string;
  readonly sync: string;
  /** In the order of the sessions. */
  readonly standbys: readonly StandbyText[];
}

/** One standby as JSON. */
export interface StandbyText {
  readonly pid: number;
  readonly text: string;
}

/** What an answer is made of. */
export type PicturePart = 'status' | 'upstream' | 'standbys' | 'slots' | 'store' | 'sync';

/** One picture; what is asked of it is written once. */
export class Picture {
  readonly status: RelayStatus;
  /** When it was taken, milliseconds since the Unix epoch. */
  readonly atMs: number;
  readonly #slices: TurnSlices;
  readonly #answers = new Map<PicturePart, Promise<Buffer>>();
  #standbys: Promise<readonly StandbyText[]> | null = null;
  #slots: Promise<string> | null = null;
  #relay: Promise<string> | null = null;

  constructor(
    status: RelayStatus,
    options: { readonly atMs: number; readonly slices: TurnSlices },
  ) {
    this.status = status;
    this.atMs = options.atMs;
    this.#slices = options.slices;
  }

  /** The answer of the route of that name, UTF-8; shared by all who ask, not to be changed. */
  answer(part: PicturePart): Promise<Buffer> {
    const known = this.#answers.get(part);
    if (known !== undefined) return known;
    const answer = this.#answer(part);
    this.#answers.set(part, answer);
    return answer;
  }

  /** All parts, for telling what is other than in another picture. */
  async texts(): Promise<PictureTexts> {
    return {
      at: timeText(this.atMs),
      relay: await this.#relayText(),
      upstream: JSON.stringify(upstreamDetailJson(this.status)),
      store: JSON.stringify(storeDetailJson(this.status)),
      slots: await this.#slotTexts(),
      sync: JSON.stringify(syncJson(this.status)),
      standbys: await this.#standbyTexts(),
    };
  }

  async #answer(part: PicturePart): Promise<Buffer> {
    const { status } = this;
    switch (part) {
      case 'status': {
        const [relay, standbys] = [await this.#relayText(), await this.#standbyTexts()];
        return await inTurn(this.#slices, () => Buffer.from(statusText(relay, standbys)));
      }
      case 'standbys':
        return Buffer.from(listText(await this.#standbyTexts()));
      case 'slots':
        return Buffer.from(await this.#slotTexts());
      case 'upstream':
        return Buffer.from(JSON.stringify(upstreamDetailJson(status)));
      case 'store':
        return Buffer.from(JSON.stringify(storeDetailJson(status)));
      case 'sync':
        return Buffer.from(JSON.stringify(syncJson(status)));
    }
  }

  #relayText(): Promise<string> {
    const { status, atMs } = this;
    this.#relay ??= inTurn(this.#slices, () => JSON.stringify(relayJson(status, atMs)));
    return this.#relay;
  }

  #standbyTexts(): Promise<readonly StandbyText[]> {
    const { standbys } = this.status;
    const ends = walEnds(this.status);
    this.#standbys ??= inSlices(this.#slices, standbys.length, (from, to) =>
      standbys.slice(from, to).map((standby) => ({
        pid: standby.pid,
        text: JSON.stringify(standbyJson(standby, ends)),
      })),
    );
    return this.#standbys;
  }

  #slotTexts(): Promise<string> {
    const { slots, store } = this.status;
    this.#slots ??= inSlices(this.#slices, slots.length, (from, to) =>
      slotsJson({ slots: slots.slice(from, to), store }).map((slot) => JSON.stringify(slot)),
    ).then((texts) => `[${texts.join(',')}]`);
    return this.#slots;
  }
}

/** `status` as its route answers it. */
export function statusText(relay: string, standbys: readonly StandbyText[]): string {
  return `${relay.slice(0, -1)},"standbys":${listText(standbys)}}`;
}

function listText(rows: readonly StandbyText[]): string {
  return `[${rows.map(({ text }) => text).join(',')}]`;
}

/** Does the work in this turn of the event loop when there is time left in it, else in a later one. Rejects with what it throws. */
export function inTurn<Result>(slices: TurnSlices, work: () => Result): Promise<Result> {
  return new Promise((resolve, reject) => {
    slices.run(() => {
      try {
        resolve(work());
      } catch (error) {
        reject(error);
      }
    });
  });
}

/** Calls `write` for all rows, a bounded number of them at a time. Rejects with what it throws. */
async function inSlices<Row>(
  slices: TurnSlices,
  length: number,
  write: (from: number, to: number) => readonly Row[],
): Promise<Row[]> {
  const rows: Row[] = [];
  while (rows.length < length) {
    const to = rows.length + HTTP_ROWS_PER_PIECE;
    rows.push(...(await inTurn(slices, () => write(rows.length, to))));
  }
  return rows;
}

/** To give a larger answer to a hundred at once takes too much of a turn. */
const LARGE_ANSWER_BYTES = 64 * 1024;

/** Where all who ask have their picture from. */
export class Pictures implements StatusSource {
  readonly #source: StatusSource;
  readonly #clock: Clock;
  /** What all renderings of this port share, so that many of them take no more of a turn than one. */
  readonly slices: TurnSlices;
  readonly #answers = new OneATurn();
  #newest: { readonly picture: Picture; readonly untilMs: number } | null = null;

  constructor({ source, clock }: { readonly source: StatusSource; readonly clock: Clock }) {
    this.#source = source;
    this.#clock = clock;
    this.slices = new TurnSlices({ clock, sliceMs: HTTP_SLICE_MS });
  }

  /** As it is now. One of a crowd is good for a moment, the longer the larger it is: asking for it more often changes nothing. */
  current(): Picture {
    const nowMs = this.#clock.nowMs();
    if (this.#newest !== null && nowMs < this.#newest.untilMs) return this.#newest.picture;
    const picture = this.fresh();
    const { standbys, slots, absentStandbys } = picture.status;
    const rows = standbys.length + slots.length + absentStandbys.length;
    const goodMs = rows < HTTP_PICTURE_ROWS_FRESH ? 0 : rows * HTTP_PICTURE_MS_PER_ROW;
    this.#newest = { picture, untilMs: nowMs + goodMs };
    return picture;
  }

  /** The answer of the route of that name, of the {@link current} picture; a large one to one caller a turn of the event loop. */
  async answer(part: PicturePart): Promise<Buffer> {
    const answer = await this.current().answer(part);
    if (answer.byteLength > LARGE_ANSWER_BYTES) await this.#answers.next();
    return answer;
  }

  /** As it is now, whatever was asked a moment ago: after a change, whoever made it has to see it. */
  fresh(): Picture {
    const atMs = this.#clock.wallMs();
    // What taking it costs is of this turn's slice, too.
    this.slices.run(() => {});
    return new Picture(this.#source.status(), { atMs, slices: this.slices });
  }

  /** {@link current}, for who wants no JSON. */
  status(): RelayStatus {
    return this.current().status;
  }

  /** Something was changed: pictures from before it are shown to nobody any more. */
  forget(): void {
    this.#newest = null;
  }
}
