// Does the status page follow a stream, come back to it, and say what it knows and does not know?
import { describe, expect, test } from 'vitest';
import { EventFeed } from '../../page/feed.ts';
import type { TokenPlace } from '../../page/feed.ts';
import {
  afterEvent,
  afterLoss,
  afterRefusal,
  attempting,
  NEW_FEED,
  RETRY_MS_MAX,
  retryDelayMs,
  SILENCE_MS_MAX,
} from '../../page/feed-machine.ts';
import type { Feed } from '../../page/feed-machine.ts';
import { WakingClock } from '../../page/waking-clock.ts';
import { freshness, headline, lossNote } from '../../page/words.ts';
import { sampleStatus } from '../support/relay-status.ts';
import { changeOf, pageStandby, snapshotOf } from '../support/page-picture.ts';

function eventText(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

const SNAPSHOT = eventText('snapshot', snapshotOf(sampleStatus()));

/** Lets everything happen that waits for nothing but its turn. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn += 1) await Promise.resolve();
}

/** A stream that the test writes. */
class Stream {
  readonly response: Response;
  isCancelled = false;
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;

  constructor() {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
      cancel: () => {
        this.isCancelled = true;
      },
    });
    this.response = new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  }

  async write(text: string | Uint8Array): Promise<void> {
    const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : text;
    this.#controller?.enqueue(bytes);
    await settle();
  }

  async end(): Promise<void> {
    this.#controller?.close();
    await settle();
  }
}

interface Asked {
  readonly url: string;
  readonly token: string | null;
  readonly signal: AbortSignal | null;
}

/** A feed with a clock and a server that the test has in its hand. */
class Rig {
  readonly asked: Asked[] = [];
  readonly states: string[] = [];
  /** What the next attempts meet; a stream when there is nothing here. */
  readonly answers: (() => Promise<Response>)[] = [];
  readonly token: TokenPlace & { value: string | null };
  readonly feed: EventFeed;
  stream: Stream = new Stream();
  #now = 1_000;
  #timers: { readonly atMs: number; readonly run: () => void }[] = [];

  constructor(token: string | null = null) {
    const place = {
      value: token,
      get: () => place.value,
      set: (next: string | null) => {
        place.value = next;
      },
    };
    this.token = place;
    this.feed = new EventFeed({
      fetch: (url, init) => this.#fetch(url, init),
      now: () => this.#now,
      setTimer: (ms, run) => void this.#timers.push({ atMs: this.#now + ms, run }),
      token: place,
      onChange: ({ state }) => {
        if (this.states.at(-1) !== state.kind) this.states.push(state.kind);
      },
    });
  }

  get now(): number {
    return this.#now;
  }

  get state(): Feed['state'] {
    return this.feed.feed.state;
  }

  async #fetch(url: string, init: RequestInit): Promise<Response> {
    const header = new Headers(init.headers).get('authorization');
    this.asked.push({ url, token: header, signal: init.signal ?? null });
    const answer = this.answers.shift();
    if (answer !== undefined) return await answer();
    this.stream = new Stream();
    return this.stream.response;
  }

  async start(): Promise<void> {
    this.feed.start();
    await settle();
  }

  /** Lets time go by. */
  async pass(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      const next = this.#timers.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > until) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = next.atMs;
      next.run();
      await settle();
    }
    this.#now = until;
  }
}

function problem(status: number, body: unknown): () => Promise<Response> {
  return async () =>
    new Response(JSON.stringify(body), {
      status,
      headers: { 'content-type': 'application/problem+json' },
    });
}

const UNREACHABLE = async (): Promise<Response> => {
  throw new TypeError('Failed to fetch');
};

describe('a stream', () => {
  test('is asked for beside the page, so that a proxy may put both below any path', async () => {
    const rig = new Rig();
    await rig.start();
    expect(rig.asked.map(({ url }) => url)).toEqual(['api/v1/events']);
    expect(rig.asked[0]?.token).toBeNull();
  });

  test('shows nothing before the snapshot, and what it says from then on', async () => {
    const rig = new Rig();
    await rig.start();
    expect(rig.state.kind).toBe('connecting');
    expect(headline(rig.feed.feed, rig.now).text).toBe('Connecting to walcast');
    await rig.stream.write('retry: 1000\n\n');
    expect(rig.feed.feed.picture).toBeNull();
    await rig.stream.write(SNAPSHOT);
    expect(rig.state.kind).toBe('live');
    expect(rig.feed.feed.picture?.standbys.get(42)?.application_name).toBe('standby_a');
  });

  test('is followed: standbys come, change and go, and what is not named stays', async () => {
    const rig = new Rig();
    await rig.start();
    await rig.stream.write(SNAPSHOT);
    const before = rig.feed.feed.picture;
    const standbys = { changed: [pageStandby({ pid: 43, applicationName: 'new' })], gone: [42] };
    await rig.stream.write(eventText('change', changeOf({ standbys })));
    const after = rig.feed.feed.picture;
    expect([...(after?.standbys.keys() ?? [])]).toEqual([43]);
    expect(after?.store).toBe(before?.store);
    expect(after?.status).toBe(before?.status);
    expect([...(before?.standbys.keys() ?? [])]).toEqual([42]);
  });

  test('is read when a character of several bytes is cut in two', async () => {
    const rig = new Rig();
    await rig.start();
    const { status, ...rest } = snapshotOf(sampleStatus());
    const text = eventText('snapshot', { ...rest, status: { ...status, detail: 'größer €' } });
    const bytes = new TextEncoder().encode(text);
    for (const byte of bytes) await rig.stream.write(Uint8Array.of(byte));
    expect(rig.feed.feed.picture?.status.detail).toBe('größer €');
  }, 30_000);

  test('that is replaced by another snapshot forgets what was', async () => {
    const rig = new Rig();
    await rig.start();
    await rig.stream.write(SNAPSHOT);
    await rig.stream.write(eventText('snapshot', snapshotOf(sampleStatus({ standbys: [] }))));
    expect(rig.feed.feed.picture?.standbys.size).toBe(0);
  });

  test('that makes no sense is left, and tried again', async () => {
    const rig = new Rig();
    await rig.start();
    await rig.stream.write('event: snapshot\ndata: {"at"\n\n');
    expect(rig.state).toMatchObject({ kind: 'lost', reason: 'what came in could not be read' });
    await rig.pass(1_250);
    expect(rig.asked).toHaveLength(2);
  });
});

describe('a connection that is lost', () => {
  test('keeps the picture, says how old it is, and is tried again by itself', async () => {
    const rig = new Rig();
    await rig.start();
    await rig.stream.write(SNAPSHOT);
    rig.answers.push(UNREACHABLE, UNREACHABLE);
    await rig.stream.end();
    expect(rig.state).toMatchObject({ kind: 'lost', reason: 'the connection was closed' });
    await rig.pass(500);
    expect(rig.feed.feed.picture).not.toBeNull();
    expect(headline(rig.feed.feed, rig.now)).toEqual({ text: 'Connection lost', tone: 'bad' });
    expect(freshness(rig.feed.feed, rig.now + 6_500)).toBe('not live, 7 s old');
    await rig.pass(10_000);
    expect(rig.states).toEqual(['connecting', 'live', 'lost']);
    await rig.stream.write(SNAPSHOT);
    expect(rig.state.kind).toBe('live');
    expect(rig.feed.feed.failures).toBe(0);
  });

  test('is tried again after longer and longer waits, never at once and never after more than ten seconds', async () => {
    const rig = new Rig();
    rig.answers.push(...Array.from({ length: 100 }, () => UNREACHABLE));
    await rig.start();
    await rig.pass(60_000);
    // 1 + 2 + 4 + 8 + 10 …, each looked at four times a second.
    expect(rig.asked.length).toBeGreaterThanOrEqual(8);
    expect(rig.asked.length).toBeLessThanOrEqual(10);
    expect(rig.state).toMatchObject({ kind: 'lost', reason: 'nothing answers at this address' });
    expect(retryDelayMs(0)).toBe(1_000);
    expect(retryDelayMs(1_000)).toBe(RETRY_MS_MAX);
  });

  test('is told by the silence of a stream that is still open', async () => {
    const rig = new Rig();
    await rig.start();
    await rig.stream.write(SNAPSHOT);
    await rig.pass(20_000);
    await rig.stream.write(': keep-alive\n\n');
    await rig.pass(SILENCE_MS_MAX);
    expect(rig.state.kind).toBe('live');
    await rig.pass(1_000);
    expect(rig.state).toMatchObject({ kind: 'lost' });
    expect(rig.asked[0]?.signal?.aborted).toBe(true);
  });

  test('is told by a retry that nobody answers, too', async () => {
    const rig = new Rig();
    await rig.start();
    await rig.stream.write(SNAPSHOT);
    rig.answers.push(() => new Promise(() => {}));
    await rig.stream.end();
    await rig.pass(2_000);
    expect(rig.asked).toHaveLength(2);
    await rig.pass(SILENCE_MS_MAX + 5_000);
    expect(rig.asked.length).toBeGreaterThan(2);
    expect(rig.asked[1]?.signal?.aborted).toBe(true);
  });

  test('is announced by walcast, with its reason, when it drains', async () => {
    const rig = new Rig();
    await rig.start();
    await rig.stream.write(SNAPSHOT);
    const { stream } = rig;
    await stream.write(eventText('end', { reason: 'walcast ends.' }));
    expect(rig.state).toMatchObject({ kind: 'lost', reason: 'walcast ends' });
    expect(stream.isCancelled).toBe(true);
    expect(lossNote(rig.feed.feed, rig.now)).toBe(
      'Walcast ends. What is shown here was so 0 s ago. Next attempt in 1 s.',
    );
  });

  test('what an older attempt still says changes nothing', async () => {
    const rig = new Rig();
    await rig.start();
    const old = rig.stream;
    rig.feed.retry();
    await settle();
    await rig.stream.write(SNAPSHOT);
    await old.write(eventText('end', { reason: 'of old' }));
    expect(rig.state.kind).toBe('live');
  });
});

describe('a token', () => {
  const MISSING = problem(401, { detail: 'this needs a token', hint: 'Send the one of …' });
  const WRONG = problem(401, { detail: 'the token is wrong', hint: 'Send the one of …' });

  test('is asked for where walcast wants one, and nothing is tried before it is given', async () => {
    const rig = new Rig();
    rig.answers.push(MISSING);
    await rig.start();
    expect(rig.state).toEqual({ kind: 'token', reason: null });
    expect(headline(rig.feed.feed, rig.now).text).toBe('A token is needed');
    await rig.pass(60_000);
    expect(rig.asked).toHaveLength(1);
    rig.feed.retry('s3cret');
    await settle();
    expect(rig.asked[1]?.token).toBe('Bearer s3cret');
    await rig.stream.write(SNAPSHOT);
    expect(rig.state.kind).toBe('live');
    expect(rig.token.value).toBe('s3cret');
  });

  test('that is wrong is forgotten, and it is said that it was', async () => {
    const rig = new Rig('old');
    rig.answers.push(WRONG);
    await rig.start();
    expect(rig.asked[0]?.token).toBe('Bearer old');
    expect(rig.state).toEqual({ kind: 'token', reason: 'the token is wrong' });
    expect(rig.token.value).toBeNull();
  });

  test('that was kept is shown again after a loss', async () => {
    const rig = new Rig('kept');
    await rig.start();
    await rig.stream.write(SNAPSHOT);
    await rig.stream.end();
    await rig.pass(1_500);
    expect(rig.asked.map(({ token }) => token)).toEqual(['Bearer kept', 'Bearer kept']);
  });

  test('cannot be guessed at leisure: being told to wait is said', async () => {
    const rig = new Rig('guess');
    rig.answers.push(problem(429, { detail: 'too many wrong tokens came from this address' }));
    await rig.start();
    expect(rig.state).toEqual({
      kind: 'token',
      reason: 'too many wrong tokens came from this address',
    });
  });
});

describe('another answer', () => {
  test('is told with its next step, and asked for again', async () => {
    const rig = new Rig();
    rig.answers.push(
      problem(403, { detail: 'this needs a client certificate', hint: 'Show one.' }),
      problem(503, { detail: 'walcast is starting up' }),
      async () => new Response('<html>', { status: 502 }),
    );
    await rig.start();
    const reason = 'this needs a client certificate. Show one';
    expect(rig.state).toMatchObject({ kind: 'refused', reason });
    expect(headline(rig.feed.feed, rig.now).text).toBe('walcast refuses to answer');
    await rig.pass(1_500);
    expect(rig.state).toMatchObject({ kind: 'lost', reason: 'walcast is starting up' });
    await rig.pass(2_500);
    expect(rig.state).toMatchObject({ kind: 'lost' });
    await rig.pass(5_000);
    await rig.stream.write(SNAPSHOT);
    expect(rig.state.kind).toBe('live');
  });
});

describe('the machine', () => {
  test('a change before any snapshot is nothing that could be shown', () => {
    const data = JSON.stringify(changeOf({}));
    expect(afterEvent(NEW_FEED, { name: 'change', data }, 1)).toBe(NEW_FEED);
  });

  test('an event of a kind that is not known is passed over', () => {
    expect(afterEvent(NEW_FEED, { name: 'future', data: 'x' }, 1)).toBe(NEW_FEED);
  });

  test('the reason that was told first is kept until it is tried again', () => {
    const told = afterLoss(NEW_FEED, 'walcast ends', 1_000);
    expect(afterLoss(told, 'the connection was closed', 1_001)).toBe(told);
    const again = afterLoss(attempting(told, 2_500), 'the connection was closed', 2_600);
    expect(again.state).toMatchObject({ kind: 'lost', reason: 'the connection was closed' });
  });
});

test('what is no event of walcast is not taken for a server that does not answer', async () => {
  const rig = new Rig();
  await rig.start();
  await rig.stream.write('event: snapshot\ndata: null\n\n');
  await settle();
  expect(rig.state).toMatchObject({ kind: 'lost', reason: 'what came in could not be read' });
});

test('the clock of the page goes on while the machine sleeps, and is never wrong with its wall clock', () => {
  let [steady, wall] = [1_000, 5_000_000];
  const clock = new WakingClock(
    () => steady,
    () => wall,
  );
  const pass = (steadyMs: number, wallMs: number): number => {
    steady += steadyMs;
    wall += wallMs;
    return clock.now();
  };
  expect(pass(1_000, 1_000)).toBe(2_000);
  expect(pass(60_000, 60_300)).toBe(62_000);
  expect(pass(500, 3_600_500)).toBe(3_662_500);
  expect(pass(1_000, -3_600_000)).toBe(3_663_500);
  expect(pass(3_600_000, 3_600_000)).toBe(7_263_500);
});

test('a token that was good is tried again while others make walcast refuse all of this address', () => {
  const snapshot = JSON.stringify(snapshotOf(sampleStatus()));
  const seen = afterEvent(NEW_FEED, { name: 'snapshot', data: snapshot }, 1_000);
  const answer = { status: 429, detail: 'too many wrong tokens', hasToken: true };
  expect(afterRefusal(seen, answer, 2_000).state).toMatchObject({ kind: 'refused' });
  expect(afterRefusal(NEW_FEED, answer, 2_000).state).toMatchObject({ kind: 'token' });
});
