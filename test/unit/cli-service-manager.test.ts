// What is systemd told while walcast starts, runs, reloads and ends, and what becomes of it when nobody listens?
import { describe, expect, test } from 'vitest';
import {
  NOTIFY_EXTEND_EVERY_MS,
  NOTIFY_STATUS_LENGTH_MAX,
  NOTIFY_STATUS_MS,
} from '../../src/config/limits.ts';
import { watchdogMs } from '../../src/cli/run-service.ts';
import { ServiceManager } from '../../src/cli/service-manager.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStatus } from '../support/relay-status.ts';
import { LogRecord } from '../support/wal-senders-fixture.ts';

const EXTEND = 'EXTEND_TIMEOUT_USEC=20000000';

/** A service manager that reads a message when a test says so. */
class Rig {
  readonly clock = new ManualClock();
  readonly log = new LogRecord();
  readonly messages: (readonly string[])[] = [];
  status: RelayStatus = sampleStatus();
  readonly manager: ServiceManager;
  #read: ((problem: string | null) => void)[] = [];
  #usec = 100n;

  constructor(watchdog: number | null = null) {
    this.manager = new ServiceManager({
      notify: (assignments) => {
        this.messages.push(assignments);
        return new Promise((resolve) => this.#read.push(resolve));
      },
      watchdogMs: watchdog,
      clock: this.clock,
      monotonicUsec: () => (this.#usec += 1n),
      log: this.log,
    });
  }

  get onTheWay(): number {
    return this.#read.length;
  }

  ready(): void {
    this.manager.ready({ status: () => this.status });
  }

  /** The message on its way was read, or could not be sent. */
  async taken(problem: string | null = null): Promise<void> {
    this.#read.shift()?.(problem);
    await settled();
  }

  /** Names of everything that was said. */
  words(): string[] {
    return this.messages.map((message) => message.map((word) => word.split('=')[0]).join(' '));
  }
}

/** A reload that ends when a test says so. */
function gate(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: () => void = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe('a start', () => {
  test('is told when it is over, with a line of status, and asks for time while it is not', async () => {
    const rig = new Rig();
    rig.clock.advance(NOTIFY_EXTEND_EVERY_MS);
    await rig.taken();
    expect(rig.messages).toEqual([[EXTEND]]);
    rig.ready();
    expect(rig.messages[1]).toEqual(['READY=1', expect.stringMatching(/^STATUS=streaming from /)]);
    await rig.taken();
    rig.clock.advance(4 * NOTIFY_EXTEND_EVERY_MS);
    expect(rig.messages).toHaveLength(2);
  });
});

describe('the line of status', () => {
  test('is told when it is another one, and not while it is the same', async () => {
    const rig = new Rig();
    rig.ready();
    await rig.taken();
    rig.clock.advance(3 * NOTIFY_STATUS_MS);
    expect(rig.messages).toHaveLength(1);
    rig.status = { ...rig.status, state: 'gap', detail: 'WAL is missing' };
    rig.clock.advance(NOTIFY_STATUS_MS);
    expect(rig.messages.at(-1)).toEqual([
      expect.stringMatching(/^STATUS=gap; \d+ standbys?; WAL is missing$/),
    ]);
  });

  test('is one bounded line, whatever a server says', async () => {
    const rig = new Rig();
    rig.status = { ...rig.status, state: 'gap', detail: `a\nREADY=0\u001b[2J${'x'.repeat(9_999)}` };
    rig.ready();
    const status = rig.messages[0]?.find((word) => word.startsWith('STATUS=')) ?? '';
    expect(status).toMatch(/^STATUS=[\x20-\x7e]+$/);
    expect(status.length).toBeLessThanOrEqual('STATUS='.length + NOTIFY_STATUS_LENGTH_MAX);
  });
});

describe('a reload', () => {
  test('is told before and behind it, with the time by which systemd knows it', async () => {
    const rig = new Rig();
    rig.ready();
    await rig.taken();
    const reload = Promise.resolve();
    const told = rig.manager.reloading(reload);
    expect(rig.messages.at(-1)).toEqual(['RELOADING=1', 'MONOTONIC_USEC=101']);
    await told;
    await rig.taken();
    expect(rig.messages.at(-1)).toEqual(['READY=1']);
  });

  test('is not said to be over before the last one is, and what is superseded is not said', async () => {
    const rig = new Rig();
    rig.ready();
    const first = gate();
    const second = gate();
    const told = [rig.manager.reloading(first.promise), rig.manager.reloading(second.promise)];
    first.resolve();
    await settled();
    await rig.taken();
    expect(rig.words()).toEqual(['READY STATUS', 'RELOADING MONOTONIC_USEC']);
    second.resolve();
    await Promise.all(told);
    await rig.taken();
    expect(rig.words().slice(2)).toEqual(['READY']);
  });

  test('that fails is over, too', async () => {
    const rig = new Rig();
    rig.ready();
    await rig.taken();
    await expect(rig.manager.reloading(Promise.reject(new Error('bug')))).rejects.toThrow('bug');
    await rig.taken();
    expect(rig.words().at(-1)).toBe('READY');
  });

  test('a flood of them keeps two steps waiting at most', async () => {
    const rig = new Rig();
    rig.ready();
    for (let index = 0; index < 1_000; index += 1) await rig.manager.reloading(Promise.resolve());
    expect(rig.onTheWay).toBe(1);
    while (rig.onTheWay > 0) await rig.taken();
    expect(rig.words()).toEqual(['READY STATUS', 'RELOADING MONOTONIC_USEC', 'READY']);
  });
});

describe('an end', () => {
  test('is told at once, asks for time while it lasts, and nothing makes walcast ready again', async () => {
    const rig = new Rig();
    rig.ready();
    await rig.taken();
    const reload = gate();
    const told = rig.manager.reloading(reload.promise);
    await rig.taken();
    rig.status = { ...rig.status, state: 'draining', isDraining: true };
    rig.manager.stopping();
    rig.manager.stopping();
    expect(rig.messages.at(-1)).toEqual([
      'STOPPING=1',
      EXTEND,
      expect.stringContaining('STATUS=draining'),
    ]);
    await rig.taken();
    reload.resolve();
    await told;
    rig.clock.advance(2 * NOTIFY_EXTEND_EVERY_MS);
    await rig.taken();
    expect(rig.words().slice(3)).toEqual(['EXTEND_TIMEOUT_USEC', 'EXTEND_TIMEOUT_USEC']);
    rig.manager.close();
    expect(rig.clock.nextTimerMs()).toBeNull();
  });
});

describe('signs of life', () => {
  test('come three times as often as they are waited for', async () => {
    const rig = new Rig(30_000);
    rig.ready();
    await rig.taken();
    for (let count = 0; count < 3; count += 1) {
      rig.clock.advance(10_000);
      await rig.taken();
    }
    expect(rig.words().slice(1)).toEqual(['WATCHDOG', 'WATCHDOG', 'WATCHDOG']);
  });

  test('do not pile up while one is on its way', async () => {
    const rig = new Rig(3_000);
    rig.clock.advance(60_000);
    expect(rig.onTheWay).toBe(1);
    await rig.taken();
    expect(rig.words()).toEqual(['WATCHDOG', 'WATCHDOG EXTEND_TIMEOUT_USEC']);
  });

  test.each([
    [{ WATCHDOG_USEC: '60000000' }, 60_000],
    [{ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7' }, 60_000],
    [{ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '8' }, null],
    [{ WATCHDOG_USEC: '0' }, null],
    [{ WATCHDOG_USEC: '-1' }, null],
    [{ WATCHDOG_USEC: 'soon' }, null],
    [{ WATCHDOG_USEC: '9'.repeat(99) }, null],
    [{}, null],
  ])('are wanted as %j says', (env, wanted) => {
    expect(watchdogMs(env, 7)).toBe(wanted);
  });
});

describe('nobody who listens', () => {
  test('is told of once, until a message gets through, and changes nothing else', async () => {
    const rig = new Rig(3_000);
    rig.ready();
    for (const problem of ['spawn systemd-notify ENOENT', 'again', null, 'once more']) {
      await rig.taken(problem);
      rig.clock.advance(1_000);
    }
    expect(rig.log.lines.map((line) => line.slice(0, 41))).toEqual([
      'warn the service manager could not be tol',
      'warn the service manager could not be tol',
    ]);
    expect(rig.log.lines[0]).toContain('spawn systemd-notify ENOENT');
    expect(rig.words().length).toBeGreaterThan(3);
  });
});
