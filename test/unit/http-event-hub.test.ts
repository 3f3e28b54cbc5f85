// Is there one look at the relay a second, and is what it gives true, whoever comes and goes while it is told, and whatever failed?
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, onTestFinished, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { HTTP_EVENTS_INTERVAL_MS } from '../../src/config/limits.ts';
import { EventHub } from '../../src/http/event-hub.ts';
import type { EventStream } from '../../src/http/event-stream.ts';
import { Pictures } from '../../src/http/pictures.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { openEvents } from '../support/event-client.ts';
import { eventually } from '../support/eventually.ts';
import { openTestPort } from '../support/http-port.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStatus } from '../support/relay-status.ts';

/** Streams without a port: a test decides who comes, goes and reads at which step. */
class Rig {
  readonly clock = new ManualClock();
  readonly hub: EventHub;
  looks = 0;
  status: () => RelayStatus = () => sampleStatus();

  constructor() {
    const source = {
      status: (): RelayStatus => {
        this.looks++;
        return this.status();
      },
    };
    const { clock } = this;
    const pictures = new Pictures({ source, clock });
    this.hub = new EventHub({ pictures, clock, log: silentLog, isLoopback: true });
  }

  /** What it was told so far is in `text()`. */
  listen(isAllowed: () => boolean = () => true): { stream: EventStream; text: () => string } {
    const { stream } = this.open(isAllowed);
    let text = '';
    stream.readable.on('data', (chunk: Buffer) => (text += chunk.toString()));
    return { stream, text: () => text };
  }

  /** One that takes nothing. */
  open(isAllowed: () => boolean = () => true): { stream: EventStream } {
    const stream = this.hub.open({ network: '127.0.0.1', isAllowed });
    if (stream === null) throw new Error('there is room');
    return { stream };
  }

  /** The next look is due, and has been told. */
  async tick(): Promise<void> {
    await eventually(() => this.clock.nextTimerMs()).not.toBeNull();
    this.clock.advance(HTTP_EVENTS_INTERVAL_MS);
    await eventually(() => this.clock.nextTimerMs()).not.toBeNull();
  }
}

describe('one look a second', () => {
  test('also when the only one who listens goes, and the next comes, while it is told', async () => {
    const rig = new Rig();
    let comes: (() => void) | null = null;
    const first = rig.listen(() => {
      comes?.();
      return true;
    });
    await eventually(() => first.text()).toContain('event: snapshot');
    await eventually(() => rig.clock.nextTimerMs()).not.toBeNull();
    let second: ReturnType<Rig['listen']> | null = null;
    comes = () => {
      first.stream.readable.destroy();
      second ??= rig.listen();
    };
    await rig.tick();
    // Nobody who comes has to wait for the next one: this one was for all.
    await eventually(() => second?.text() ?? '').toContain('event: snapshot');
    rig.listen();
    const { looks } = rig;
    await rig.tick();
    expect(rig.looks).toBe(looks + 1);
    await rig.tick();
    expect(rig.looks).toBe(looks + 2);
  });

  test('also after one that failed, while somebody takes nothing of its end', async () => {
    const rig = new Rig();
    rig.status = () => {
      throw new Error('inside');
    };
    rig.open();
    await eventually(() => rig.clock.nextTimerMs()).not.toBeNull();
    expect(rig.looks).toBe(1);
    rig.status = () => sampleStatus();
    const next = rig.listen();
    await eventually(() => next.text()).toContain('event: snapshot');
    await eventually(() => rig.clock.nextTimerMs()).not.toBeNull();
    const { looks } = rig;
    await rig.tick();
    expect(rig.looks).toBe(looks + 1);
  });
});

test('who comes after a look that failed is told nothing that was so before it', async () => {
  const rig = new Rig();
  rig.open();
  await eventually(() => rig.clock.nextTimerMs()).not.toBeNull();
  rig.status = () => {
    throw new Error('inside');
  };
  await rig.tick();
  const next = rig.listen();
  await eventually(() => next.text()).toContain('event: end');
  expect(next.text()).not.toContain('event: snapshot');
});

const TCP_SOCKETS = '/proc/net/tcp';

test.skipIf(!existsSync(TCP_SOCKETS))(
  'a listener of whom nothing is heard is asked by TCP whether it is there',
  async () => {
    const server = await openTestPort();
    onTestFinished(() => server.close());
    const client = await openEvents(server.url);
    onTestFinished(() => client.close());
    await client.nextOf('snapshot');
    await eventually(() => timersOf(server.port)).toEqual([TCP_KEEPALIVE]);
  },
);

/** `timer_active` of the kernel (Linux, proc_net_tcp): another timer than that of retransmission. */
const TCP_KEEPALIVE = '02';

/** The timer of each established connection to that port, on the side of the server. */
function timersOf(port: number): string[] {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const rows = readFileSync(TCP_SOCKETS, 'latin1')
    .split('\n')
    .map((row) => row.trim().split(/\s+/));
  const ours = rows.filter(([, address, , state]) => address === local && state === '01');
  return ours.map(([, , , , , timer = '']) => timer.slice(0, 2));
}
