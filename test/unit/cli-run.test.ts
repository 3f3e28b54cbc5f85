// Does a signal drain, stop or reload, and does a failure end the process with its code?
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { OperationalError } from '../../src/base/errors.ts';
import type { HandledSignal } from '../../src/cli/command.ts';
import { dispatch } from '../../src/cli/dispatch.ts';
import { runCommand } from '../../src/cli/run.ts';
import type { RunningRelay, StartRelay } from '../../src/cli/run.ts';
import type { Config } from '../../src/config/config.ts';
import { RELOAD_SETTLE_MS } from '../../src/config/limits.ts';
import { sampleStatus } from '../support/relay-status.ts';

/** A promise settled from outside. */
class Gate<T> {
  readonly promise: Promise<T>;
  open: (value: T) => void = () => {};
  fail: (error: Error) => void = () => {};

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.open = resolve;
      this.fail = reject;
    });
  }
}

/** A relay that does nothing until it is told to. */
class FakeRelay implements RunningRelay {
  readonly failure = new Gate<Error>();
  readonly drained = new Gate<void>();
  readonly stopped = new Gate<void>();
  readonly calls: string[] = [];
  readonly failed: Promise<Error> = this.failure.promise;
  readonly statusSource = { status: () => sampleStatus() };

  reload(): Promise<void> {
    this.calls.push('reload');
    return Promise.resolve();
  }

  drain(): Promise<void> {
    this.calls.push('drain');
    return this.drained.promise;
  }

  stop(): Promise<void> {
    this.calls.push('stop');
    return this.stopped.promise;
  }

  halt(): void {
    this.calls.push('halt');
  }
}

interface Run {
  readonly relay: FakeRelay;
  readonly started: Promise<Config>;
  readonly code: Promise<number>;
  /** Somebody asks for a drain over HTTP. */
  readonly askDrain: () => void;
  /** Somebody asks for the end at once on the console. */
  readonly askShutdown: () => void;
  /** The start was told to end. */
  readonly isStartEnded: () => boolean;
  readonly signal: (signal: HandledSignal) => void;
}

/** Starts `walcast run`; without `start` the relay is up at once. */
function run(start?: StartRelay): Run {
  const relay = new FakeRelay();
  const started = new Gate<Config>();
  let listener: ((signal: HandledSignal) => void) | null = null;
  let askDrain: () => void = () => {};
  let askShutdown: () => void = () => {};
  let startSignal: AbortSignal | null = null;
  const startRelay: StartRelay = (config, parts) => {
    askDrain = parts.onDrainRequested;
    askShutdown = parts.onShutdownRequested;
    startSignal = parts.startSignal;
    started.open(config);
    return start === undefined ? Promise.resolve(relay) : start(config, parts);
  };
  const code = dispatch(
    [
      'run',
      '--upstream',
      'host=127.0.0.1',
      '--data',
      '/nowhere',
      '--log-level',
      'error',
      '--log-format',
      'text',
    ],
    [runCommand(startRelay)],
    {
      env: {},
      workingDirectory: '/',
      clock: systemClock,
      print: () => {},
      printError: () => {},
      isTerminal: false,
      onSignal: (given) => {
        listener = given;
        return () => {
          listener = null;
        };
      },
      useLog: () => {},
    },
  );
  return {
    relay,
    started: started.promise,
    code,
    askDrain: () => askDrain(),
    askShutdown: () => askShutdown(),
    isStartEnded: () => startSignal?.aborted === true,
    signal(signal) {
      if (listener === null) throw new Error('nobody listens to signals');
      listener(signal);
    },
  };
}

/** Lets everything that is ready happen. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe('a configuration whose link is swapped while it is read at the start', () => {
  /** Starts with a file that names rules that are not there; `between` happens after the first reading. */
  async function start(between: (directory: string) => void): Promise<Config | number> {
    const directory = mkdtempSync(join(tmpdir(), 'walcast-run-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const text = 'upstream: { conninfo: host=a }\nauth: { hba_file: hba.conf }\n';
    writeFileSync(join(directory, 'walcast.yaml'), text);
    const relay = new FakeRelay();
    const started = new Gate<Config>();
    const startRelay: StartRelay = (config) => {
      started.open(config);
      relay.failure.open(new OperationalError('END', 'the end of the test'));
      return Promise.resolve(relay);
    };
    const clock: Clock = {
      ...systemClock,
      setTimer: (delayMs, callback) => {
        if (delayMs === RELOAD_SETTLE_MS) between(directory);
        return systemClock.setTimer(delayMs, callback);
      },
    };
    const code = dispatch(
      ['run', '-c', 'walcast.yaml', '--log-level', 'error'],
      [runCommand(startRelay)],
      {
        env: {},
        workingDirectory: directory,
        clock,
        print: () => {},
        printError: () => {},
        isTerminal: false,
        onSignal: () => () => {},
        useLog: () => {},
      },
    );
    return await Promise.race([started.promise, code]);
  }

  test('is read once more before it is called bad', async () => {
    const config = await start((directory) =>
      writeFileSync(join(directory, 'hba.conf'), 'host all all all reject\n'),
    );
    expect(config).toMatchObject({ hba: { text: 'host all all all reject\n' } });
  });

  test('is bad when it is so still', async () => {
    expect(await start(() => {})).toBe(78);
  });
});

describe('signals', () => {
  test('SIGTERM drains and ends with 0 once everybody is served', async () => {
    const { relay, code, signal, started } = run();
    await started;
    signal('SIGTERM');
    await settle();
    expect(relay.calls).toEqual(['drain']);
    relay.drained.open();
    expect(await code).toBe(0);
    expect(relay.calls).toEqual(['drain']);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('%s during the drain stops at once', async (second) => {
    const { relay, code, signal, started } = run();
    await started;
    signal('SIGTERM');
    await settle();
    signal(second);
    await settle();
    expect(relay.calls).toEqual(['drain', 'stop']);
    relay.stopped.open();
    expect(await code).toBe(0);
  });

  test('SIGINT stops at once', async () => {
    const { relay, code, signal, started } = run();
    await started;
    await settle();
    signal('SIGINT');
    await settle();
    expect(relay.calls).toEqual(['stop']);
    relay.stopped.open();
    expect(await code).toBe(0);
  });

  test('SHUTDOWN on the console stops at once, also in the middle of a drain', async () => {
    for (const isDraining of [false, true]) {
      const { relay, code, askDrain, askShutdown, started } = run();
      await started;
      if (isDraining) askDrain();
      await settle();
      askShutdown();
      askShutdown();
      await settle();
      expect(relay.calls).toEqual(isDraining ? ['drain', 'stop'] : ['stop']);
      relay.stopped.open();
      expect(await code).toBe(0);
    }
  });

  test.each([
    ['SIGTERM', (started: Run): void => started.signal('SIGTERM')],
    ['SIGINT', (started: Run): void => started.signal('SIGINT')],
    ['a drain over HTTP', (started: Run): void => started.askDrain()],
    ['SHUTDOWN on the console', (started: Run): void => started.askShutdown()],
  ])('%s while it starts ends the start, which nobody was served by', async (_, ask) => {
    const up = new Gate<RunningRelay>();
    const running = run(() => up.promise);
    await running.started;
    ask(running);
    await settle();
    expect(running.isStartEnded()).toBe(true);
    // Too late to be told: what has started after all is stopped, not drained.
    up.open(running.relay);
    running.relay.stopped.open();
    expect(await running.code).toBe(0);
    expect(running.relay.calls).toEqual(['stop']);
  });

  test('a start that does not hear that it shall end is not waited for for long', async () => {
    const { code, signal, started } = run(() => new Promise(() => {}));
    await started;
    signal('SIGTERM');
    expect(await code).toBe(0);
  });

  test('a start that fails because it was told to end is no failure', async () => {
    const up = new Gate<RunningRelay>();
    const { code, signal, started } = run(() => up.promise);
    await started;
    signal('SIGTERM');
    await settle();
    up.fail(new OperationalError('START_ENDED', 'told to end'));
    expect(await code).toBe(0);
  });

  test('SIGHUP reloads, and neither drains nor stops', async () => {
    const { relay, code, signal, started } = run();
    await started;
    await settle();
    signal('SIGHUP');
    signal('SIGHUP');
    await settle();
    expect(relay.calls).toEqual(['reload', 'reload']);
    signal('SIGINT');
    await settle();
    relay.stopped.open();
    expect(await code).toBe(0);
  });

  test('SIGHUPs while it starts reload once it has started', async () => {
    const up = new Gate<RunningRelay>();
    const { relay, code, signal, started } = run(() => up.promise);
    await started;
    signal('SIGHUP');
    signal('SIGHUP');
    await settle();
    expect(relay.calls).toEqual([]);
    up.open(relay);
    await settle();
    expect(relay.calls).toEqual(['reload']);
    signal('SIGINT');
    await settle();
    relay.stopped.open();
    expect(await code).toBe(0);
  });

  test('a drain asked for from outside ends as one by SIGTERM, and SIGTERM does not hurry it', async () => {
    const { relay, code, signal, started, askDrain } = run();
    await started;
    await settle();
    askDrain();
    await settle();
    signal('SIGTERM');
    await settle();
    expect(relay.calls).toEqual(['drain']);
    relay.drained.open();
    expect(await code).toBe(0);
  });

  test('SIGTERM and then SIGTERM again stop a drain asked for from outside', async () => {
    const { relay, code, signal, started, askDrain } = run();
    await started;
    await settle();
    askDrain();
    await settle();
    signal('SIGTERM');
    signal('SIGTERM');
    await settle();
    expect(relay.calls).toEqual(['drain', 'stop']);
    await settle();
    relay.stopped.open();
    expect(await code).toBe(0);
  });
});

describe('failures', () => {
  test('a relay that fails ends with 1', async () => {
    const { relay, code, started } = run();
    await started;
    relay.failure.open(new OperationalError('EIO', 'fsync failed'));
    expect(await code).toBe(1);
    expect(relay.calls).toEqual([]);
  });

  test.each([['SIGTERM'], ['SIGINT']] as const)(
    'a relay that fails after %s ends with 1',
    async (signalName) => {
      const { relay, code, signal, started } = run();
      await started;
      signal(signalName);
      await settle();
      relay.failure.open(new OperationalError('EIO', 'fsync failed'));
      expect(await code).toBe(1);
    },
  );

  test('a relay that cannot be started ends with 1', async () => {
    const { code } = run(() =>
      Promise.reject(new OperationalError('EADDRINUSE', 'the port is in use')),
    );
    expect(await code).toBe(1);
  });

  test('a bug is not mistaken for a failure of the world', async () => {
    const { code } = run(() => Promise.reject(new TypeError('bug')));
    await expect(code).rejects.toThrow('bug');
  });

  test('the relay is given the configuration that the flags made', async () => {
    const { started, code, signal } = run(() => new Promise(() => {}));
    expect(await started).toMatchObject({
      storage: { directory: '/nowhere' },
      log: { level: 'error' },
    });
    signal('SIGINT');
    await code;
  });
});
