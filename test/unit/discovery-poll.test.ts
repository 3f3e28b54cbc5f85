// Is Patroni asked when it should be, one request at a time, and does the last good answer stay when nobody answers?
import { afterEach, describe, expect, test } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Log } from '../../src/base/log.ts';
import {
  DISCOVERY_LOST_POLL_MS,
  DISCOVERY_POLL_MS,
  DISCOVERY_RETRY_MS_MAX,
} from '../../src/config/limits.ts';
import type { HttpAnswer, HttpGet } from '../../src/net/http-get.ts';
import { HostDiscovery } from '../../src/walreceiver/discovery.ts';
import type { DiscoverySettings } from '../../src/walreceiver/discovery.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { bodyOf, PATRONI_2, PATRONI_4_0 } from '../support/patroni-samples.ts';

const A = 'http://pg-a:8008';
const B = 'http://pg-b:8008/prefix';
const OK: HttpAnswer = { status: 200, body: bodyOf(PATRONI_2) };
const OTHER: HttpAnswer = { status: 200, body: bodyOf(PATRONI_4_0) };

interface Request {
  readonly url: string;
  readonly signal: AbortSignal | undefined;
  readonly atMs: number;
  answer(answer: HttpAnswer | string): Promise<void>;
}

class Rig {
  readonly clock = new ManualClock();
  readonly requests: Request[] = [];
  readonly lines: string[] = [];
  readonly discovery: HostDiscovery;
  changes = 0;
  answers = 0;
  random = 0.5;

  constructor(settings: Partial<DiscoverySettings> = {}) {
    const log: Log = {
      ...silentLog,
      info: (text) => this.lines.push(text),
      warn: (text) => this.lines.push(text),
    };
    this.discovery = new HostDiscovery(
      { urls: [A, B], preference: { kind: 'primary' }, ...settings },
      { clock: this.clock, log, httpGet: this.#get, random: () => this.random },
    );
    this.discovery.onChange(() => {
      this.changes += 1;
    });
    this.discovery.onAnswer(() => {
      this.answers += 1;
    });
  }

  readonly #get: HttpGet = (url, { signal }) => {
    const { promise, resolve, reject } = withResolvers();
    this.requests.push({
      url,
      signal,
      atMs: this.clock.nowMs(),
      answer: async (answer) => {
        if (typeof answer !== 'string') resolve(answer);
        else reject(new OperationalError('HTTP_TIMEOUT', answer, { isRetryable: true }));
        await settled();
      },
    });
    return promise;
  };

  /** The request that is under way. */
  get last(): Request {
    const request = this.requests.at(-1);
    if (request === undefined) throw new Error('nobody was asked');
    return request;
  }

  get hosts(): string[] {
    return this.discovery.hosts().map(({ name }) => name);
  }

  /** Lets time pass until the next request; gives how long it took. */
  async next(atMostMs = 120_000): Promise<number> {
    const count = this.requests.length;
    const beganMs = this.clock.nowMs();
    while (this.requests.length === count) {
      const ms = this.clock.nextTimerMs();
      if (ms === null || this.clock.nowMs() + ms - beganMs > atMostMs)
        throw new Error('no request');
      this.clock.advance(ms);
      await settled();
    }
    return this.clock.nowMs() - beganMs;
  }
}

function withResolvers(): {
  promise: Promise<HttpAnswer>;
  resolve: (answer: HttpAnswer) => void;
  reject: (error: Error) => void;
} {
  const parts: { resolve?: (answer: HttpAnswer) => void; reject?: (error: Error) => void } = {};
  const promise = new Promise<HttpAnswer>((resolve, reject) =>
    Object.assign(parts, { resolve, reject }),
  );
  return {
    promise,
    resolve: (answer) => parts.resolve?.(answer),
    reject: (error) => parts.reject?.(error),
  };
}

/** Everything that follows from what has happened has happened. */
async function settled(): Promise<void> {
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
}

let rig = new Rig();
afterEach(() => {
  rig.discovery.stop();
  rig = new Rig();
});

async function started(answer: HttpAnswer | string = OK): Promise<Rig> {
  rig.discovery.start();
  await rig.last.answer(answer);
  return rig;
}

describe('discovery', () => {
  test('asks the first URL at once for its members', async () => {
    rig.discovery.start();
    expect(rig.requests.map(({ url }) => url)).toEqual([`${A}/cluster`]);
    expect(rig.hosts).toEqual([]);
    await rig.last.answer(OK);
    expect(rig.hosts).toEqual(['pg-0', 'pg-1', 'pg-2']);
    expect([rig.changes, rig.answers]).toEqual([1, 1]);
    expect(rig.discovery.status()).toMatchObject({
      lastAnswerFrom: A,
      lastError: null,
      lastAnswerAtMs: rig.clock.wallMs(),
    });
  });

  test('asks often while WAL does not stream in, and at leisure while it does', async () => {
    await started();
    expect(await rig.next()).toBe(DISCOVERY_LOST_POLL_MS);
    await rig.last.answer(OK);
    rig.discovery.streaming(true);
    expect(await rig.next()).toBe(DISCOVERY_LOST_POLL_MS);
    await rig.last.answer(OK);
    expect(await rig.next()).toBe(DISCOVERY_POLL_MS);
    await rig.last.answer(OK);
    rig.random = 0.999;
    await rig.next();
    await rig.last.answer(OK);
    expect(await rig.next()).toBeCloseTo(DISCOVERY_POLL_MS * 1.1, -2);
  });

  test('asks at once when the stream is lost, but is not driven by one that comes and goes', async () => {
    await started();
    rig.discovery.streaming(true);
    await rig.next();
    await rig.last.answer(OK);
    rig.discovery.streaming(false);
    expect(await rig.next()).toBeLessThanOrEqual(250);
    await rig.last.answer(OK);
    const count = rig.requests.length;
    for (let round = 0; round < 100; round += 1) {
      rig.discovery.streaming(true);
      rig.discovery.streaming(false);
    }
    expect(rig.requests).toHaveLength(count);
    expect(await rig.next()).toBe(250);
  });

  test('asks again after the request under way when the stream was lost meanwhile', async () => {
    await started();
    rig.discovery.streaming(true);
    await rig.next();
    rig.discovery.streaming(false);
    expect(rig.requests).toHaveLength(2);
    await rig.last.answer(OK);
    expect(await rig.next()).toBe(250);
    await rig.last.answer(OK);
    expect(await rig.next()).toBe(DISCOVERY_LOST_POLL_MS);
  });

  test('asks the other URL when the first one fails, and stays with who answered', async () => {
    await started('pg-a:8008: connection refused');
    expect(rig.last.url).toBe(`${B}/cluster`);
    await rig.last.answer(OTHER);
    expect(rig.hosts).toEqual(['b', 'a', 'c']);
    await rig.next();
    expect(rig.last.url).toBe(`${B}/cluster`);
    await rig.last.answer('pg-b:8008: no connection in time');
    expect(rig.last.url).toBe(`${A}/cluster`);
  });

  test.each<[what: string, answer: HttpAnswer | string]>([
    ['an error', 'pg-a: refused'],
    ['another status', { status: 503, body: OK.body }],
    ['garbage', { status: 200, body: Buffer.from('<html>') }],
    ['nobody', { status: 200, body: bodyOf({ members: [] }) }],
  ])('keeps its last good answer when all that comes is %s', async (_what, answer) => {
    await started();
    for (let round = 0; round < 5; round += 1) {
      await rig.next();
      await rig.last.answer(answer);
      await rig.last.answer(answer);
      expect(rig.hosts).toEqual(['pg-0', 'pg-1', 'pg-2']);
    }
    expect(rig.changes).toBe(1);
    expect(rig.discovery.status().lastError).toMatch(/pg-a.*; .*pg-/);
    expect(rig.lines.filter((line) => line.includes('does not answer'))).toHaveLength(1);
    await rig.next();
    await rig.last.answer(OK);
    expect(rig.discovery.status().lastError).toBeNull();
    expect(rig.lines.at(-1)).toBe('discovery: Patroni answers again');
  });

  test('asks less and less often while nobody answers, with jitter', async () => {
    await started('no');
    await rig.last.answer('no');
    rig.discovery.streaming(true);
    rig.random = 0;
    const waits: number[] = [];
    for (let round = 0; round < 8; round += 1) {
      waits.push(await rig.next());
      await rig.last.answer('no');
      await rig.last.answer('no');
    }
    expect(waits.slice(1)).toEqual(waits.slice(1).toSorted((a, b) => a - b));
    expect(waits.at(-1)).toBe(DISCOVERY_RETRY_MS_MAX);
    rig.random = 0.999;
    await rig.next();
    await rig.last.answer('no');
    await rig.last.answer('no');
    expect(await rig.next()).toBeCloseTo(DISCOVERY_RETRY_MS_MAX / 2, -2);
  });

  test('does not wait long for an answer while WAL does not stream in', async () => {
    await started('no');
    rig.random = 0;
    for (let round = 0; round < 10; round += 1) {
      await rig.last.answer('no');
      expect(await rig.next()).toBeLessThanOrEqual(DISCOVERY_POLL_MS);
      await rig.last.answer('no');
    }
  });

  test('has one request under way at most', async () => {
    rig.discovery.start();
    rig.discovery.start();
    for (let step = 0; step < 20; step += 1) {
      rig.discovery.pollNow();
      rig.discovery.streaming(step % 2 === 0);
      rig.clock.advance(3_000);
    }
    expect(rig.requests).toHaveLength(1);
    await rig.last.answer(OK);
  });

  test('drops the answer of a URL that is not asked any more', async () => {
    rig.discovery.start();
    const old = rig.last;
    rig.discovery.settingsChanged({ urls: ['http://new'], preference: { kind: 'primary' } });
    expect(old.signal?.aborted).toBe(true);
    expect(rig.last.url).toBe('http://new/cluster');
    await rig.last.answer(OTHER);
    await old.answer(OK);
    expect(rig.hosts).toEqual(['b', 'a', 'c']);
    expect([rig.changes, rig.answers]).toEqual([1, 1]);
  });

  test('keeps what it knows until the new URL has answered', async () => {
    await started();
    rig.discovery.settingsChanged({ urls: ['http://new'], preference: { kind: 'primary' } });
    await rig.last.answer('no');
    expect(rig.hosts).toEqual(['pg-0', 'pg-1', 'pg-2']);
    expect(rig.changes).toBe(1);
  });

  test('puts what it knows in another order at once', async () => {
    await started();
    rig.discovery.settingsChanged({ urls: [A, B], preference: { kind: 'standby' } });
    expect(rig.hosts).toEqual(['pg-1', 'pg-0', 'pg-2']);
    expect([rig.changes, rig.requests.length]).toEqual([2, 1]);
  });

  test('tells that another cluster is named', async () => {
    await started(OTHER);
    await rig.next();
    await rig.last.answer({ status: 200, body: bodyOf({ ...PATRONI_4_0, scope: 'x' }) });
    expect(rig.lines.at(-1)).toBe('discovery: Patroni names another cluster than before');
  });

  test('asks nobody after its end, and takes no answer', async () => {
    rig.discovery.start();
    const { last } = rig;
    rig.discovery.stop();
    expect(last.signal?.aborted).toBe(true);
    await last.answer(OK);
    rig.discovery.pollNow();
    rig.discovery.streaming(true);
    rig.discovery.streaming(false);
    rig.clock.advance(600_000);
    expect([rig.requests.length, rig.hosts.length, rig.clock.nextTimerMs()]).toEqual([1, 0, null]);
  });
});

describe('the first answer', () => {
  test('is waited for until it is there', async () => {
    rig.discovery.start();
    const waiting = rig.discovery.firstAnswer(5_000);
    await rig.last.answer(OK);
    await waiting;
    await rig.discovery.firstAnswer(5_000);
  });

  test('is not waited for once all were asked in vain', async () => {
    rig.discovery.start();
    const waiting = rig.discovery.firstAnswer(5_000);
    await rig.last.answer('no');
    await rig.last.answer('no');
    await waiting;
  });

  test('is not waited for longer than that', async () => {
    rig.discovery.start();
    const waiting = rig.discovery.firstAnswer(5_000);
    rig.clock.advance(5_000);
    await waiting;
    expect(rig.hosts).toEqual([]);
  });
});
