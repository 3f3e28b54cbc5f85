// Keeps a stream of events open, and says what is known at every moment. By fetch: a token has to go into a header.
import {
  afterEvent,
  afterLoss,
  afterRefusal,
  attempting,
  heard,
  isSilent,
  NEW_FEED,
} from './feed-machine.ts';
import type { Feed } from './feed-machine.ts';
import { EventStreamParser } from './sse.ts';
import type { StreamEvent } from './sse.ts';

/** Where the token is kept: in this tab, until it is closed. */
export interface TokenPlace {
  get(): string | null;
  set(token: string | null): void;
}

/** What the feed needs of a browser. */
export interface FeedParts {
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>;
  /** Milliseconds that only go forward. */
  readonly now: () => number;
  readonly setTimer: (ms: number, run: () => void) => void;
  readonly token: TokenPlace;
  /** Told whenever something has changed. */
  readonly onChange: (feed: Feed) => void;
}

/** Beside the page, so that a proxy may put both below any path. */
const EVENTS_URL = 'api/v1/events';

/** How often it is looked whether a stream is silent, or has to be tried again, milliseconds. */
const LOOK_MS = 250;

/** One feed for one page. */
export class EventFeed {
  readonly #parts: FeedParts;
  #feed: Feed = NEW_FEED;
  /** The attempt that counts; what an older one still says is nobody's business. */
  #attempt: AbortController | null = null;

  constructor(parts: FeedParts) {
    this.#parts = parts;
  }

  get feed(): Feed {
    return this.#feed;
  }

  /** Begins; from then on it goes on by itself. */
  start(): void {
    this.#connect();
    this.#look();
  }

  /** A person has typed a token, or wants it to be tried again now. */
  retry(token?: string): void {
    if (token !== undefined) this.#parts.token.set(token);
    this.#connect();
  }

  #look(): void {
    const { setTimer, now } = this.#parts;
    setTimer(LOOK_MS, () => this.#look());
    const { state } = this.#feed;
    if (this.#attempt !== null) {
      if (!isSilent(this.#feed, now())) return;
      this.#attempt.abort();
      this.#lose(this.#attempt, 'nothing has been heard for 35 seconds');
    } else if ((state.kind === 'lost' || state.kind === 'refused') && now() >= state.retryAtMs) {
      this.#connect();
    }
  }

  #connect(): void {
    this.#attempt?.abort();
    const attempt = new AbortController();
    this.#attempt = attempt;
    this.#set(attempting(this.#feed, this.#parts.now()));
    void this.#read(attempt).then(
      () => this.#lose(attempt, 'the connection was closed'),
      (error: unknown) => this.#lose(attempt, lossText(error)),
    );
  }

  async #read(attempt: AbortController): Promise<void> {
    const { token, fetch, now } = this.#parts;
    const shown = token.get();
    const headers: Record<string, string> = { accept: 'text/event-stream' };
    if (shown !== null) headers['authorization'] = `Bearer ${shown}`;
    const response = await fetch(EVENTS_URL, {
      headers,
      signal: attempt.signal,
      credentials: 'same-origin',
    });
    if (!response.ok || response.body === null) {
      const detail = await problemText(response);
      if (this.#attempt !== attempt) return;
      this.#attempt = null;
      const { status } = response;
      if (status === 401) token.set(null);
      this.#set(afterRefusal(this.#feed, { status, detail, hasToken: shown !== null }, now()));
      return;
    }
    await this.#follow(attempt, response.body);
  }

  async #follow(attempt: AbortController, body: ReadableStream<Uint8Array>): Promise<void> {
    const parser = new EventStreamParser();
    const decoder = new TextDecoder();
    const reader = body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.#attempt !== attempt) return;
      const now = this.#parts.now();
      const events = this.#take(() => parser.push(decoder.decode(value, { stream: true })), now);
      if (events.some(({ name }) => name === 'end')) {
        await reader.cancel();
        return;
      }
    }
  }

  /** Throws {@link SyntaxError} for what is not what walcast sends, whatever is wrong with it. */
  #take(parse: () => StreamEvent[], now: number): StreamEvent[] {
    let feed = heard(this.#feed, now);
    try {
      const events = parse();
      for (const event of events) feed = afterEvent(feed, event, now);
      this.#set(feed);
      return events;
    } catch (cause) {
      throw new SyntaxError('what came in could not be read', { cause });
    }
  }

  /** An attempt that nothing more comes of. */
  #lose(attempt: AbortController, reason: string): void {
    if (this.#attempt !== attempt) return;
    this.#attempt = null;
    this.#set(afterLoss(this.#feed, reason, this.#parts.now()));
  }

  #set(feed: Feed): void {
    this.#feed = feed;
    this.#parts.onChange(feed);
  }
}

/** What a browser says of a connection that failed differs from one to the next, and says little. */
function lossText(error: unknown): string {
  return error instanceof SyntaxError ? error.message : 'nothing answers at this address';
}

/** What and what to do, of an answer in problem details; null for another one. */
async function problemText(response: Response): Promise<string | null> {
  try {
    const body: unknown = await response.json();
    if (typeof body !== 'object' || body === null) return null;
    const detail = 'detail' in body && typeof body.detail === 'string' ? body.detail : null;
    const hint = 'hint' in body && typeof body.hint === 'string' ? body.hint : null;
    if (detail === null) return null;
    // How a program sends a token is of no use to who types one.
    if (hint === null || response.status === 401) return detail;
    return `${detail}. ${hint}`.replace(/\.$/, '');
  } catch {
    return null;
  }
}
