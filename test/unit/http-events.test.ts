// Is whoever listens told everything that changes, once, in order, and does nobody who listens cost others anything?
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  HTTP_EVENT_STREAMS_MAX,
  HTTP_EVENT_STREAMS_PER_CLIENT_MAX,
  HTTP_EVENTS_INTERVAL_MS,
  HTTP_EVENTS_KEEP_ALIVE_MS,
  HTTP_EVENTS_TAKE_MS,
} from '../../src/config/limits.ts';
import { changeData, snapshotData } from '../../src/http/event-frames.ts';
import { EventStream } from '../../src/http/event-stream.ts';
import type { SnapshotJson } from '../../src/http/event-types.ts';
import { Pictures } from '../../src/http/pictures.ts';
import type { PictureTexts } from '../../src/http/pictures.ts';
import type { HttpOptions, HttpServer } from '../../src/http/server.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import type { RelayStatus, StandbyStatus } from '../../src/status/status.ts';
import { applied, openEvents } from '../support/event-client.ts';
import type { EventClient } from '../support/event-client.ts';
import { eventually } from '../support/eventually.ts';
import { openTestPort, problemOf, RecordingMetrics } from '../support/http-port.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';

const EVERYWHERE = { kind: 'tcp', host: '0.0.0.0', port: 0 } as const;

/** A port over a relay that changes when the test says so, at a time that passes when the test says so. */
class Rig {
  readonly clock = new ManualClock();
  readonly metrics = new RecordingMetrics();
  status: RelayStatus = sampleStatus();
  looks = 0;
  #server: HttpServer | null = null;

  async open(options: Partial<HttpOptions> = {}): Promise<Rig> {
    const source = {
      status: (): RelayStatus => {
        this.looks++;
        return this.status;
      },
    };
    const { clock, metrics } = this;
    this.#server = await openTestPort({ source, clock, metrics, ...options });
    onTestFinished(() => this.close());
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get port(): number {
    return this.#server?.port ?? 0;
  }

  async close(): Promise<void> {
    await this.#server?.close();
  }

  async listen(token?: string): Promise<EventClient> {
    const client = await openEvents(this.url, token);
    onTestFinished(() => client.close());
    return client;
  }

  /** Until the next look is due; it has been taken when this resolves again. */
  async tick(ms = HTTP_EVENTS_INTERVAL_MS): Promise<void> {
    await eventually(() => this.clock.nextTimerMs()).not.toBeNull();
    this.clock.advance(ms);
  }

  async get(path: string): Promise<unknown> {
    const response = await fetch(this.url + path);
    return await response.json();
  }
}

function rig(options: Partial<HttpOptions> = {}): Promise<Rig> {
  return new Rig().open(options);
}

function standby(pid: number, overrides: Partial<StandbyStatus> = {}): StandbyStatus {
  return sampleStandby({ pid, applicationName: `standby_${pid}`, ...overrides });
}

/** A connection that has asked for the stream, and reads nothing of it. */
async function deaf(port: number, headers = ''): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  socket.pause();
  socket.write(`GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`);
  return socket;
}

describe('what is told', () => {
  test('first everything, each part as its own route answers it', async () => {
    const relay = await rig();
    const client = await relay.listen();
    expect(client.response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(client.response.headers.get('cache-control')).toBe('no-store, no-transform');
    expect(client.response.headers.get('x-accel-buffering')).toBe('no');
    expect(await client.next()).toEqual({
      event: 'snapshot',
      id: '1',
      data: {
        at: '2025-01-01T00:00:00.000Z',
        status: await relay.get('/api/v1/status'),
        upstream: await relay.get('/api/v1/upstream'),
        store: await relay.get('/api/v1/store'),
        slots: await relay.get('/api/v1/slots'),
        sync: await relay.get('/api/v1/sync'),
      },
    });
  });

  test('then what changed, and nothing else', async () => {
    const relay = await rig();
    relay.status = sampleStatus({ standbys: [standby(1), standby(2), standby(3)] });
    const client = await relay.listen();
    await client.nextOf('snapshot');
    const moved = standby(2, { applyLsn: toLsn(0x3000060n) });
    relay.status = sampleStatus({ standbys: [standby(1), moved, standby(4)] });
    await relay.tick();
    const change = await client.next();
    const standbys = await relay.get('/api/v1/standbys');
    expect(change).toEqual({
      event: 'change',
      id: '2',
      data: {
        at: '2025-01-01T00:00:01.000Z',
        standbys: { changed: (standbys as unknown[]).slice(1), gone: [3] },
      },
    });
  });

  test('parts of the relay come whole, those that are as before do not', async () => {
    const relay = await rig();
    const client = await relay.listen();
    await client.nextOf('snapshot');
    const { upstream } = relay.status;
    relay.status = sampleStatus({
      isPaused: true,
      upstream: { ...upstream, keepaliveMessages: 8 },
      slots: [],
    });
    await relay.tick();
    const { standbys: _all, ...status } = Object(await relay.get('/api/v1/status'));
    expect((await client.next())?.data).toEqual({
      at: '2025-01-01T00:00:01.000Z',
      status,
      upstream: await relay.get('/api/v1/upstream'),
      slots: [],
      standbys: { changed: [], gone: [] },
    });
  });

  test('nothing while nothing changes, but now and then that somebody is there', async () => {
    const relay = await rig();
    const client = await relay.listen();
    await client.nextOf('snapshot');
    const seconds = HTTP_EVENTS_KEEP_ALIVE_MS / HTTP_EVENTS_INTERVAL_MS;
    for (let second = 0; second < 2 * seconds; second++) await relay.tick();
    relay.status = sampleStatus({ standbys: [] });
    await relay.tick();
    const heard = [await client.next(), await client.next(), await client.next()];
    expect(heard.map((event) => event?.event)).toEqual(['comment', 'comment', 'change']);
  });

  test('who comes later gets everything as it was told last, and the same changes from then on', async () => {
    const relay = await rig();
    const first = await relay.listen();
    await first.nextOf('snapshot');
    const before = relay.looks;
    const later = await relay.listen();
    expect(await later.next()).toMatchObject({ event: 'snapshot', id: '1' });
    expect(relay.looks).toBe(before);
    relay.status = sampleStatus({ standbys: [] });
    await relay.tick();
    expect(await later.next()).toEqual(await first.next());
  });

  test('who comes again gets everything again', async () => {
    const relay = await rig();
    const first = await relay.listen();
    await first.nextOf('snapshot');
    await first.close();
    relay.status = sampleStatus({ standbys: [] });
    await eventually(() => relay.clock.nextTimerMs()).toBeNull();
    const again = await relay.listen();
    expect((await again.nextOf('snapshot')).data).toMatchObject({ status: { standbys: [] } });
  });

  test('a name with line ends in it stays one event', async () => {
    const relay = await rig();
    const applicationName = 'a\n\nevent: end\r\ndata: {}\u2028';
    relay.status = sampleStatus({ standbys: [standby(1, { applicationName })] });
    const client = await relay.listen();
    expect(await client.next()).toMatchObject({
      event: 'snapshot',
      data: { status: { standbys: [{ application_name: applicationName }] } },
    });
  });

  test('HEAD says what there would be, and opens nothing', async () => {
    const relay = await rig();
    const head = await fetch(`${relay.url}/api/v1/events`, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-type')]).toEqual([
      200,
      'text/event-stream; charset=utf-8',
    ]);
    expect([relay.looks, relay.clock.nextTimerMs()]).toEqual([0, null]);
  });
});

describe('what it costs', () => {
  test('many who listen are one look a second; nobody who listens is none', async () => {
    const relay = await rig();
    const clients = await Promise.all(Array.from({ length: 8 }, () => relay.listen()));
    await Promise.all(clients.map((client) => client.nextOf('snapshot')));
    relay.looks = 0;
    for (let second = 1; second <= 3; second++) {
      relay.status = sampleStatus({ standbys: [standby(second)] });
      await relay.tick();
      await Promise.all(clients.map((client) => client.nextOf('change')));
    }
    expect(relay.looks).toBe(3);
    await Promise.all(clients.map((client) => client.close()));
    await eventually(() => relay.clock.nextTimerMs()).toBeNull();
    relay.clock.advance(10 * HTTP_EVENTS_INTERVAL_MS);
    expect(relay.looks).toBe(3);
  });

  test('the length of a stream is no time that a request took', async () => {
    const relay = await rig();
    const client = await relay.listen();
    await client.nextOf('snapshot');
    await relay.close();
    expect(await client.next()).toMatchObject({ event: 'end' });
    await eventually(() => relay.metrics.requests.length).toBe(1);
    expect(relay.metrics.requests).toMatchObject([{ route: '/api/v1/events', statusCode: 200 }]);
  });
});

describe('bounds', () => {
  test('too many are told to come again, and a place that is left is given to the next', async () => {
    const relay = await rig();
    const clients = await Promise.all(
      Array.from({ length: HTTP_EVENT_STREAMS_MAX }, () => relay.listen()),
    );
    const refused = await fetch(`${relay.url}/api/v1/events`);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    expect(await refused.json()).toEqual(
      problemOf('busy', {
        detail: 'too many streams of events are open',
        hint: expect.any(String),
      }),
    );
    expect(await relay.get('/api/v1/status')).toMatchObject({ state: 'streaming' });
    await clients[0]?.close();
    await eventuallyAdmitted(relay);
  });

  test('one client has a share where others reach the port', async () => {
    const relay = await rig({ listen: EVERYWHERE });
    await Promise.all(
      Array.from({ length: HTTP_EVENT_STREAMS_PER_CLIENT_MAX }, () => relay.listen()),
    );
    expect((await fetch(`${relay.url}/api/v1/events`)).status).toBe(503);
  });

  test('a thousand who want to listen, and read nothing, keep no probe out and cost one look', async () => {
    const relay = await rig();
    const crowd = await Promise.all(Array.from({ length: 1_000 }, () => deaf(relay.port)));
    expect(await relay.get('/livez')).toMatchObject({ status: 'ok' });
    // One for the probe, and one each time that somebody listens after nobody did.
    expect(relay.looks).toBeLessThan(crowd.length / 10);
    for (const socket of crowd) socket.destroy();
    await eventually(() => relay.clock.nextTimerMs()).toBeNull();
    await (await relay.listen()).nextOf('snapshot');
  });

  test('a client that went away without a word to us gives its place back', async () => {
    const relay = await rig();
    const sockets = await Promise.all(
      Array.from({ length: HTTP_EVENT_STREAMS_MAX }, () => deaf(relay.port)),
    );
    await eventually(() => relay.clock.nextTimerMs()).not.toBeNull();
    for (const socket of sockets) socket.resetAndDestroy();
    await eventually(() => relay.clock.nextTimerMs()).toBeNull();
    await (await relay.listen()).nextOf('snapshot');
  });
});

async function eventuallyAdmitted(relay: Rig): Promise<void> {
  for (;;) {
    const client = await relay.listen();
    if (client.response.status === 200) return;
    await client.close();
  }
}

describe('who is slow', () => {
  test('is cut off when it takes nothing until the deadline; all others hear everything', async () => {
    const relay = await rig();
    // More than the kernel takes for a client that does not read.
    const applicationName = 'x'.repeat(2_000_000);
    const crowd = [1, 2, 3, 4, 5, 6].map((pid) => standby(pid, { applicationName }));
    relay.status = sampleStatus({ standbys: crowd });
    const socket = await deaf(relay.port);
    const closed = once(socket, 'close');
    const client = await relay.listen();
    await client.nextOf('snapshot');
    const stepMs = HTTP_EVENTS_TAKE_MS / 3;
    for (let round = 1; round <= 6; round++) {
      relay.status = sampleStatus({ standbys: [standby(100 + round)] });
      await relay.tick(stepMs);
      expect((await client.nextOf('change')).data).toMatchObject({
        standbys: { changed: [{ pid: 100 + round }] },
      });
    }
    // What it did not read is still in its kernel, then comes the end.
    socket.resume();
    await closed;
  });

  test('is given the next event when it has taken the last one, and a snapshot for all that it missed', () => {
    const stream = new EventStream({ network: '', isAllowed: () => true, onGone: () => {} });
    const tell = (change: string | null, atMs = 0): void =>
      stream.tell(
        {
          change: change === null ? null : Buffer.from(change),
          snapshot: () => Buffer.from('[all]'),
          keepAlive: null,
        },
        atMs,
      );
    const read = (): string => String(stream.readable.read() ?? '');
    tell(null);
    expect(read()).toBe('retry: 1000\n\n[all]');
    tell('[1]');
    expect(read()).toBe('[1]');
    tell('[2]');
    for (const change of ['[3]', '[4]', null]) tell(change);
    expect(read()).toBe('[2]');
    expect(stream.readable.readableLength).toBe(0);
    tell(null);
    expect(read()).toBe('[all]');
    tell('[5]');
    expect(read()).toBe('[5]');
    tell(null);
    expect(read()).toBe('');
  });

  test('has no more waiting for it than one event, and until the deadline', () => {
    let gone = 0;
    const stream = new EventStream({ network: '', isAllowed: () => true, onGone: () => gone++ });
    const piece = Buffer.alloc(1000);
    const telling = { change: piece, snapshot: () => piece, keepAlive: piece };
    for (let ms = 0; ms < HTTP_EVENTS_TAKE_MS; ms += HTTP_EVENTS_INTERVAL_MS) {
      stream.tell(telling, ms);
      expect(stream.readable.readableLength).toBeLessThan(2 * piece.length);
    }
    expect(stream.readable.destroyed).toBe(false);
    stream.tell(telling, HTTP_EVENTS_TAKE_MS);
    expect(stream.readable.destroyed).toBe(true);
    stream.tell(telling, HTTP_EVENTS_TAKE_MS + 1);
    stream.end(piece, HTTP_EVENTS_TAKE_MS + 1);
    expect(stream.readable.readableLength).toBeLessThan(2 * piece.length);
    return expect.poll(() => gone).toBe(1);
  });

  test('has until the deadline for the end, too', () => {
    const stream = new EventStream({ network: '', isAllowed: () => true, onGone: () => {} });
    const telling = { change: null, snapshot: () => Buffer.from('[all]'), keepAlive: null };
    stream.end(Buffer.from('[end]'), 0);
    stream.end(Buffer.from('[end]'), 0);
    stream.tell(telling, HTTP_EVENTS_TAKE_MS - 1);
    expect(stream.readable.destroyed).toBe(false);
    stream.tell(telling, HTTP_EVENTS_TAKE_MS);
    expect(stream.readable.destroyed).toBe(true);
  });
});

describe('a change', () => {
  const standbyOf = fc.record({
    pid: fc.integer({ min: 1, max: 6 }),
    sentBytes: fc.integer({ min: 0, max: 2 }),
  });
  const statusOf = fc
    .record({
      standbys: fc.uniqueArray(standbyOf, { selector: ({ pid }) => pid }),
      isPaused: fc.boolean(),
      keepaliveMessages: fc.integer({ min: 0, max: 1 }),
      segments: fc.integer({ min: 0, max: 1 }),
      changes: fc.integer({ min: 0, max: 1 }),
      hasSlot: fc.boolean(),
    })
    .map(({ standbys, isPaused, keepaliveMessages, segments, changes, hasSlot }) => {
      const { upstream, store, sync, slots } = sampleStatus();
      return sampleStatus({
        standbys: standbys.map(({ pid, sentBytes }) => standby(pid, { sentBytes })),
        isPaused,
        upstream: { ...upstream, keepaliveMessages },
        store: { ...store, segments },
        sync: { ...sync, changes },
        slots: hasSlot ? slots : [],
      });
    });

  test('of any picture to any other, put upon the first, gives the second', async () => {
    await fc.assert(
      fc.asyncProperty(statusOf, statusOf, async (first, second) => {
        const [before, after] = await Promise.all([textsOf(first), textsOf(second)]);
        const change = changeData(before, after);
        const known: SnapshotJson = JSON.parse(snapshotData(before));
        const wanted: SnapshotJson = JSON.parse(snapshotData(after));
        const learnt = change === null ? known : applied(known, JSON.parse(change));
        expect(byPid(learnt)).toEqual(byPid(wanted));
      }),
      { numRuns: 200 },
    );
  });

  function textsOf(status: RelayStatus): Promise<PictureTexts> {
    const clock = new ManualClock();
    return new Pictures({ source: { status: () => status }, clock }).current().texts();
  }

  function byPid({ status, ...rest }: SnapshotJson): unknown {
    const standbys = status.standbys.toSorted((a, b) => a.pid - b.pid);
    return { ...rest, status: { ...status, standbys } };
  }
});

describe('the end', () => {
  test('comes with a reason when walcast ends, and keeps nobody waiting', async () => {
    const relay = await rig();
    const client = await relay.listen();
    await client.nextOf('snapshot');
    relay.status = sampleStatus({ state: 'draining', isDraining: true });
    await relay.tick();
    expect(await client.next()).toMatchObject({
      event: 'change',
      data: { status: { state: 'draining' } },
    });
    await relay.close();
    expect(await client.next()).toEqual({
      event: 'end',
      id: '3',
      data: { reason: 'walcast ends' },
    });
    expect(await client.next()).toBeNull();
  });

  test('comes for who was let in with a token that is not valid any more, within a second', async () => {
    let token = 'a-token-of-more-than-sixteen-characters';
    const relay = await rig({ listen: EVERYWHERE, token: () => token });
    const refused = await fetch(`${relay.url}/api/v1/events`);
    expect(refused.status).toBe(401);
    const client = await relay.listen(token);
    await client.nextOf('snapshot');
    token = 'another-token-of-more-than-sixteen-characters';
    const next = await relay.listen(token);
    await next.nextOf('snapshot');
    relay.status = sampleStatus({ standbys: [] });
    await relay.tick();
    expect(await client.next()).toMatchObject({
      event: 'end',
      data: { reason: expect.stringContaining('token') },
    });
    expect(await client.next()).toBeNull();
    expect(await next.next()).toMatchObject({ event: 'change' });
  });

  test('a relay that cannot be looked at ends the streams, not the port', async () => {
    const relay = await rig();
    const client = await relay.listen();
    await client.nextOf('snapshot');
    const { status } = relay;
    Object.defineProperty(relay, 'status', {
      configurable: true,
      get: () => {
        throw new Error('inside');
      },
    });
    await relay.tick();
    expect(await client.next()).toMatchObject({
      event: 'end',
      data: { reason: expect.not.stringContaining('inside') },
    });
    Object.defineProperty(relay, 'status', { value: status });
    expect(await relay.get('/api/v1/status')).toMatchObject({ state: 'streaming' });
  });
});
