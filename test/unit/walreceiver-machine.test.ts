// What the upstream session does next: connect, wait, hold, give up; with numbers instead of clocks and sockets.
import { describe, expect, it } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { backoffMs } from '../../src/walreceiver/backoff.ts';
import { UpstreamMachine } from '../../src/walreceiver/upstream-machine.ts';
import type { UpstreamAction, UpstreamEvent } from '../../src/walreceiver/upstream-events.ts';
import type { UpstreamMachineOptions } from '../../src/walreceiver/upstream-machine.ts';

function lsn(text: string): Lsn {
  const parsed = parseLsn(text);
  if (parsed === null) throw new Error(`not an LSN: ${text}`);
  return parsed;
}

const TIMELINE = toTimelineId(3);
const START = lsn('0/5000000');

class Driver {
  readonly machine: UpstreamMachine;
  now = 1_000;

  constructor(hostCount = 1, options: Partial<UpstreamMachineOptions> = {}) {
    this.machine = new UpstreamMachine({
      list: () => ({
        hosts: Array.from({ length: hostCount }, (_each, index) => `pg-${index}:5432`),
        targetSessionAttrs: 'any',
        loadBalanceHosts: 'disable',
      }),
      random: () => 0,
      ...options,
    });
  }

  send(event: UpstreamEvent): readonly UpstreamAction[] {
    return this.machine.handle(event, this.now);
  }

  /** Names of the actions, with the host of a connect; what is only for the log is left out. */
  names(event: UpstreamEvent): string[] {
    return this.send(event)
      .filter((action) => action.type !== 'host-left')
      .map((action) => (action.type === 'connect' ? `connect ${action.hostIndex}` : action.type));
  }

  fail(code = 'CONNECT_FAILED', isRetryable = true): string[] {
    return this.names({ type: 'failed', error: failure(code, isRetryable) });
  }

  toStreaming(): void {
    this.send({ type: 'start' });
    this.reachStreaming();
  }

  /** From `connecting` on. */
  reachStreaming(): void {
    this.send({ type: 'dialed' });
    this.send({ type: 'logged-in' });
    this.send({ type: 'identified' });
    this.send({
      type: 'decided',
      decision: { kind: 'start', timeline: TIMELINE, startLsn: START },
    });
    this.send({ type: 'copy-started' });
  }

  toNextAttempt(): void {
    this.now = this.machine.view().nextAttemptAtMs ?? this.now;
    this.send({ type: 'tick' });
  }

  reject(text: string): readonly UpstreamAction[] {
    return this.send({ type: 'rejected', rejection: { lsn: lsn(text), reason: 'bad crc' } });
  }
}

function failure(code: string, isRetryable = true): OperationalError {
  return new OperationalError(code, `it failed with ${code}`, { isRetryable });
}

describe('the way to a stream', () => {
  it('goes through every phase in order', () => {
    const driver = new Driver();
    const phases: string[] = [];
    const step = (event: UpstreamEvent): string[] => {
      const names = driver.names(event);
      phases.push(driver.machine.view().phase);
      return names;
    };
    expect(step({ type: 'start' })).toEqual(['connect 0']);
    expect(step({ type: 'dialed' })).toEqual([]);
    expect(step({ type: 'logged-in' })).toEqual(['identify']);
    expect(step({ type: 'identified' })).toEqual(['decide']);
    const decision = { kind: 'start', timeline: TIMELINE, startLsn: START } as const;
    expect(step({ type: 'decided', decision })).toEqual(['start-replication']);
    expect(step({ type: 'copy-started' })).toEqual([]);
    expect(phases).toEqual([
      'connecting',
      'login',
      'identifying',
      'deciding',
      'starting',
      'streaming',
    ]);
    expect(driver.machine.view()).toMatchObject({ heldState: null, detail: null });
  });

  it('ignores events that come too late for their phase', () => {
    const driver = new Driver();
    driver.toStreaming();
    expect(driver.names({ type: 'identified' })).toEqual([]);
    expect(driver.names({ type: 'dialed' })).toEqual([]);
    expect(driver.fail()).toEqual([]);
    expect(driver.machine.view().phase).toBe('streaming');
  });
});

describe('failing attempts', () => {
  it('wait under 200 ms first, then twice as long each time, 5 s at most', () => {
    const driver = new Driver();
    driver.send({ type: 'start' });
    const delays: number[] = [];
    for (let attempt = 0; attempt < 8; attempt += 1) {
      expect(driver.fail()).toEqual(['disconnect']);
      expect(driver.machine.view().phase).toBe('backoff');
      delays.push((driver.machine.view().nextAttemptAtMs ?? 0) - driver.now);
      driver.toNextAttempt();
      expect(driver.machine.view().phase).toBe('connecting');
    }
    expect(delays).toEqual([180, 360, 720, 1440, 2880, 5000, 5000, 5000]);
  });

  it('take jitter away from the delay, never add it', () => {
    expect(backoffMs(1, 0.999)).toBeGreaterThan(89);
    expect(backoffMs(1, 0.999)).toBeLessThan(91);
    expect(backoffMs(1_000, 0)).toBe(5_000);
    expect(backoffMs(0, 0.5)).toBe(0);
  });

  it('try the other hosts of the list at once, then wait', () => {
    const driver = new Driver(3);
    expect(driver.names({ type: 'start' })).toEqual(['connect 0']);
    expect(driver.fail()).toEqual(['disconnect', 'connect 1']);
    expect(driver.fail()).toEqual(['disconnect', 'connect 2']);
    expect(driver.fail()).toEqual(['disconnect']);
    expect(driver.machine.view()).toMatchObject({ phase: 'backoff', nextAttemptAtMs: 1_180 });
  });

  it('do not act before their time', () => {
    const driver = new Driver();
    driver.send({ type: 'start' });
    driver.fail();
    driver.now += 179;
    expect(driver.names({ type: 'tick' })).toEqual([]);
    driver.now += 1;
    expect(driver.names({ type: 'tick' })).toEqual(['connect 0']);
  });

  it('of one host end nothing while another host may be right', () => {
    const driver = new Driver(2);
    driver.send({ type: 'start' });
    expect(driver.fail('UNSUPPORTED_SERVER_VERSION', false)).toEqual(['disconnect', 'connect 1']);
    expect(driver.fail('CONNECT_FAILED')).not.toContain('fatal');
    driver.toNextAttempt();
    expect(driver.fail('UNSUPPORTED_SERVER_VERSION', false)).toEqual(['disconnect', 'connect 1']);
    expect(driver.fail('UNSUPPORTED_SERVER_VERSION', false)).toContain('fatal');
  });

  it('that no retry can mend are told once at first contact, and stand as failed', () => {
    const driver = new Driver();
    driver.send({ type: 'start' });
    expect(driver.fail('UNSUPPORTED_SERVER_VERSION', false)).toEqual(['disconnect', 'fatal']);
    expect(driver.machine.view()).toMatchObject({ phase: 'held', heldState: 'failed' });
    driver.toNextAttempt();
    expect(driver.now).toBe(61_000);
    driver.reachStreaming();
    driver.send({ type: 'reconnect' });
    expect(driver.fail('UNSUPPORTED_SERVER_VERSION', false)).toEqual(['disconnect']);
  });
});

describe('a stream that is lost', () => {
  const lost: UpstreamEvent = { type: 'lost', reason: 'eof', error: failure('UPSTREAM_CLOSED') };

  it('is asked for again at once when it had worked', () => {
    const driver = new Driver();
    driver.toStreaming();
    driver.now += 5_000;
    expect(driver.names(lost)).toEqual(['disconnect', 'connect 0']);
  });

  it('is asked for again with a delay when it died young, so that a flapping server is not hammered', () => {
    const driver = new Driver();
    driver.toStreaming();
    driver.now += 10;
    expect(driver.names(lost)).toEqual(['disconnect']);
    expect(driver.machine.view()).toMatchObject({ phase: 'backoff' });
    expect((driver.machine.view().nextAttemptAtMs ?? 0) - driver.now).toBe(180);
    driver.toNextAttempt();
    driver.reachStreaming();
    driver.send(lost);
    expect((driver.machine.view().nextAttemptAtMs ?? 0) - driver.now).toBe(360);
  });

  it('forgets its failures after a stream that had worked', () => {
    const driver = new Driver();
    driver.toStreaming();
    driver.send(lost);
    driver.toNextAttempt();
    driver.reachStreaming();
    driver.now += 60_000;
    expect(driver.names(lost)).toEqual(['disconnect', 'connect 0']);
    driver.fail();
    expect((driver.machine.view().nextAttemptAtMs ?? 0) - driver.now).toBe(180);
  });

  it('because the WAL was removed is a gap that names the place and the ways out', () => {
    const driver = new Driver();
    driver.toStreaming();
    const removed = new OperationalError('58P01', 'requested WAL segment 0…05 has been removed', {
      isRetryable: true,
    });
    const actions = driver.send({ type: 'lost', reason: 'error', error: removed });
    expect(actions).toEqual([{ type: 'disconnect', isOrderly: true, dropsCreatedSlot: true }]);
    const view = driver.machine.view();
    expect(view).toMatchObject({ phase: 'held', heldState: 'gap' });
    expect(view.detail).toContain('0/5000000 on timeline 3');
    expect(view.detail).toContain('empty storage.directory');
  });
});

describe('a gate that holds', () => {
  const hold = (state: 'waiting' | 'diverged', retryMs: number): UpstreamEvent => ({
    type: 'decided',
    decision: { kind: 'hold', state, detail: `stand ${state}`, retryMs },
  });

  function toDeciding(driver: Driver): void {
    driver.send({ type: 'dialed' });
    driver.send({ type: 'logged-in' });
    driver.send({ type: 'identified' });
  }

  it('stands in the given state and asks again after the given time', () => {
    const driver = new Driver();
    driver.send({ type: 'start' });
    toDeciding(driver);
    expect(driver.names(hold('waiting', 700))).toEqual(['disconnect']);
    expect(driver.machine.view()).toMatchObject({
      phase: 'held',
      heldState: 'waiting',
      detail: 'stand waiting',
      nextAttemptAtMs: driver.now + 700,
    });
  });

  it('is the state also while it is looked whether it still holds', () => {
    const driver = new Driver();
    driver.send({ type: 'start' });
    const decision = { kind: 'hold', state: 'diverged', detail: 'x', retryMs: 5_000 } as const;
    const states: unknown[] = [];
    for (const type of ['dialed', 'logged-in', 'identified'] as const) driver.send({ type });
    driver.send({ type: 'decided', decision });
    driver.toNextAttempt();
    for (const type of ['dialed', 'logged-in', 'identified'] as const) {
      driver.send({ type });
      states.push(driver.machine.view().heldState);
    }
    driver.send({
      type: 'decided',
      decision: { kind: 'start', timeline: TIMELINE, startLsn: START },
    });
    driver.send({ type: 'copy-started' });
    states.push(driver.machine.view().heldState);
    expect(states).toEqual(['diverged', 'diverged', 'diverged', null]);
  });

  it('drops a slot that was made there when a person has to decide, and only then', () => {
    for (const [state, drops] of [
      ['waiting', false],
      ['diverged', true],
    ] as const) {
      const driver = new Driver();
      driver.send({ type: 'start' });
      toDeciding(driver);
      expect(driver.send(hold(state, 700))[0]).toMatchObject({ dropsCreatedSlot: drops });
    }
  });

  it('lets the other hosts be tried first, and remembers why the first one was left', () => {
    const driver = new Driver(2);
    driver.send({ type: 'start' });
    toDeciding(driver);
    expect(driver.names(hold('waiting', 700))).toEqual(['disconnect', 'connect 1']);
    expect(driver.fail()).toEqual(['disconnect']);
    expect(driver.machine.view()).toMatchObject({ phase: 'held', heldState: 'waiting' });
  });

  it('of one host does not slow down the reconnect to another that streamed', () => {
    const driver = new Driver(2);
    driver.send({ type: 'start' });
    toDeciding(driver);
    driver.send(hold('waiting', 700));
    driver.reachStreaming();
    driver.now += 60_000;
    const names = driver.names({ type: 'lost', reason: 'eof', error: failure('UPSTREAM_CLOSED') });
    expect(names).toEqual(['disconnect', 'connect 0']);
  });
});

describe('rejected WAL', () => {
  it('is fetched again twice, quickly; the third time at one place is corrupt', () => {
    const driver = new Driver();
    driver.toStreaming();
    expect(driver.reject('0/5002000').map((action) => action.type)).toEqual([
      'disconnect',
      'connect',
    ]);
    driver.reachStreaming();
    driver.reject('0/5002000');
    expect((driver.machine.view().nextAttemptAtMs ?? 0) - driver.now).toBe(180);
    driver.toNextAttempt();
    driver.reachStreaming();
    driver.reject('0/5002000');
    const view = driver.machine.view();
    expect(view).toMatchObject({ phase: 'held', heldState: 'corrupt' });
    expect(view.detail).toContain('0/5002000');
    expect((view.nextAttemptAtMs ?? 0) - driver.now).toBe(60_000);
  });

  it('counts a rejection further on as a new one', () => {
    const driver = new Driver();
    driver.toStreaming();
    for (const place of ['0/5002000', '0/5004000', '0/5006000', '0/5008000']) {
      driver.reject(place);
      expect(driver.machine.view().heldState).toBeNull();
      driver.toNextAttempt();
      driver.reachStreaming();
    }
  });

  it('counts a rejection before the last place as the same one: nothing was gained', () => {
    const driver = new Driver();
    driver.toStreaming();
    for (const place of ['0/5004000', '0/5002000', '0/5003000']) {
      driver.reject(place);
      driver.toNextAttempt();
      driver.reachStreaming();
    }
    expect(driver.machine.view().heldState).toBe('corrupt');
  });

  it('stays corrupt while it is tried every minute, until WAL behind the place is accepted', () => {
    const driver = new Driver();
    driver.toStreaming();
    for (let count = 0; count < 3; count += 1) {
      driver.reject('0/5002000');
      driver.toNextAttempt();
      driver.reachStreaming();
    }
    expect(driver.machine.view()).toMatchObject({ phase: 'streaming', heldState: 'corrupt' });
    driver.reject('0/5002000');
    expect((driver.machine.view().nextAttemptAtMs ?? 0) - driver.now).toBe(60_000);
    driver.toNextAttempt();
    driver.reachStreaming();
    driver.send({ type: 'progress' });
    expect(driver.machine.view()).toMatchObject({ phase: 'streaming', heldState: null });
    expect(driver.machine.rejectedLsn).toBeNull();
  });
});

describe('the end of a timeline', () => {
  const end = { timeline: TIMELINE, nextTimeline: toTimelineId(4), switchLsn: START };
  const decided = (timeline: number): UpstreamEvent => ({
    type: 'decided',
    decision: { kind: 'start', timeline: toTimelineId(timeline), startLsn: START },
  });

  function toEnd(driver: Driver): void {
    driver.toStreaming();
    expect(driver.names({ type: 'copy-done' })).toEqual(['end-copy']);
    expect(driver.machine.view().phase).toBe('ending');
    driver.send({ type: 'timeline-ended', end });
  }

  it('asks the server on the same connection who it is now, and follows', () => {
    const driver = new Driver();
    driver.toStreaming();
    driver.send({ type: 'copy-done' });
    const actions = driver.send({ type: 'timeline-ended', end });
    expect(actions).toEqual([{ type: 'identify', wanted: 'any', ended: end }]);
    expect(driver.machine.view()).toMatchObject({ phase: 'identifying', heldState: null });
    expect(driver.names({ type: 'identified' })).toEqual(['decide']);
    expect(driver.names(decided(4))).toEqual(['start-replication']);
    driver.send({ type: 'copy-started' });
    expect(driver.machine.view()).toMatchObject({ phase: 'streaming', detail: null });
  });

  it('may be the answer to a start, once for each of several timelines', () => {
    const driver = new Driver();
    driver.send({ type: 'start' });
    driver.send({ type: 'dialed' });
    driver.send({ type: 'logged-in' });
    for (const timeline of [3, 4, 5]) {
      driver.send({ type: 'identified' });
      expect(driver.names(decided(timeline))).toEqual(['start-replication']);
      const over = { ...end, timeline: toTimelineId(timeline) };
      expect(driver.names({ type: 'timeline-ended', end: over })).toEqual(['identify']);
    }
  });

  it('of which nothing comes is not asked for again and again without a delay', () => {
    const driver = new Driver();
    const delays: number[] = [];
    driver.send({ type: 'start' });
    for (let round = 0; round < 4; round += 1) {
      driver.reachStreaming();
      driver.send({ type: 'copy-done' });
      driver.send({ type: 'timeline-ended', end });
      driver.send({ type: 'identified' });
      expect(driver.names(decided(3))).toEqual(['disconnect']);
      expect(driver.machine.view()).toMatchObject({ phase: 'backoff' });
      delays.push((driver.machine.view().nextAttemptAtMs ?? 0) - driver.now);
      driver.toNextAttempt();
    }
    expect(delays).toEqual([180, 360, 720, 1440]);
  });

  it('is not followed on and on without a delay from timelines that have no WAL', () => {
    const driver = new Driver();
    driver.send({ type: 'start' });
    let timeline = 3;
    const goOn = (): string[] => {
      driver.send({ type: 'identified' });
      driver.send(decided(timeline));
      const over = { ...end, timeline: toTimelineId(timeline) };
      timeline += 1;
      return driver.names({ type: 'timeline-ended', end: over });
    };
    const login = (): void => {
      driver.send({ type: 'dialed' });
      driver.send({ type: 'logged-in' });
    };
    login();
    for (let count = 0; count < 9; count += 1) expect(goOn()).toEqual(['identify']);
    const delays: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      expect(goOn()).toEqual(['disconnect']);
      delays.push((driver.machine.view().nextAttemptAtMs ?? 0) - driver.now);
      driver.toNextAttempt();
      login();
    }
    expect(delays).toEqual([180, 360, 720]);
    // One with WAL is a real one.
    driver.send({ type: 'identified' });
    driver.send(decided(timeline));
    const further = { ...end, timeline: toTimelineId(timeline), switchLsn: lsn('0/5000100') };
    expect(driver.names({ type: 'timeline-ended', end: further })).toEqual(['identify']);
  });

  it('lets the other hosts be tried when this one does not say what comes next', () => {
    const driver = new Driver(2);
    toEnd(driver);
    driver.send({ type: 'identified' });
    expect(driver.names(decided(3))).toEqual(['disconnect', 'connect 1']);
  });

  it('does not count against the server that is asked for the same timeline on another connection', () => {
    const driver = new Driver();
    toEnd(driver);
    driver.send({ type: 'failed', error: failure('UPSTREAM_CLOSED') });
    driver.toNextAttempt();
    driver.send({ type: 'dialed' });
    driver.send({ type: 'logged-in' });
    driver.send({ type: 'identified' });
    expect(driver.names(decided(3))).toEqual(['start-replication']);
  });

  it('ends the count of rejections: places on two timelines are not compared', () => {
    const driver = new Driver();
    driver.toStreaming();
    for (let count = 0; count < 2; count += 1) {
      driver.reject('0/5002000');
      driver.toNextAttempt();
      driver.reachStreaming();
    }
    expect(driver.machine.rejectedLsn).toBe(lsn('0/5002000'));
    driver.send({ type: 'copy-done' });
    driver.send({ type: 'timeline-ended', end });
    driver.send({ type: 'identified' });
    driver.send(decided(4));
    driver.send({ type: 'copy-started' });
    expect(driver.machine.rejectedLsn).toBeNull();
    driver.reject('0/5001000');
    expect(driver.machine.view().heldState).toBeNull();
  });

  it('is left behind when walcast ends meanwhile', () => {
    const driver = new Driver();
    toEnd(driver);
    expect(driver.names({ type: 'finish' })).toEqual(['disconnect']);
    expect(driver.names({ type: 'identified' })).toEqual([]);
  });
});

describe('WAL that is other than what is stored', () => {
  it('is diverged after three times, tells what to do, and is no end of the other hosts', () => {
    const driver = new Driver(2);
    driver.toStreaming();
    const rejection = { lsn: lsn('0/5002000'), reason: 'other bytes', isDivergence: true };
    for (let count = 0; count < 2; count += 1) {
      driver.send({ type: 'rejected', rejection });
      expect(driver.machine.view().heldState).toBeNull();
      driver.toNextAttempt();
      driver.reachStreaming();
    }
    expect(driver.names({ type: 'rejected', rejection })).toEqual(['disconnect', 'connect 1']);
    driver.fail();
    const view = driver.machine.view();
    expect(view).toMatchObject({ phase: 'held', heldState: 'diverged' });
    expect(view.detail).toContain('0/5002000');
    expect(view.detail).toContain('walcast store reset');
  });
});

describe('a full store', () => {
  it('closes the connection after a while and goes on as soon as there is room', () => {
    const driver = new Driver();
    driver.toStreaming();
    expect(driver.names({ type: 'full' })).toEqual(['disconnect']);
    expect(driver.machine.view()).toMatchObject({ phase: 'held', heldState: 'full' });
    expect(driver.names({ type: 'room' })).toEqual(['connect 0']);
  });

  it('room changes nothing in any other phase', () => {
    const driver = new Driver();
    driver.toStreaming();
    expect(driver.names({ type: 'room' })).toEqual([]);
  });
});

describe('our own end', () => {
  it('finishes a running stream in order', () => {
    const driver = new Driver();
    driver.toStreaming();
    expect(driver.names({ type: 'finish' })).toEqual(['finish-stream']);
    expect(driver.names({ type: 'lost', reason: 'eof', error: failure('X') })).toEqual([]);
  });

  it('just closes where nothing streams, and never connects again', () => {
    const driver = new Driver();
    driver.send({ type: 'start' });
    expect(driver.names({ type: 'finish' })).toEqual(['disconnect']);
    driver.now += 100_000;
    expect(driver.names({ type: 'tick' })).toEqual([]);
    expect(driver.names({ type: 'start' })).toEqual([]);
  });

  it('stops at once from any phase', () => {
    const driver = new Driver();
    driver.toStreaming();
    expect(driver.send({ type: 'stop' })).toEqual([
      { type: 'disconnect', isOrderly: false, dropsCreatedSlot: false },
    ]);
    expect(driver.machine.view().phase).toBe('disconnected');
  });

  it('reconnects at once when told to', () => {
    const driver = new Driver(2);
    driver.send({ type: 'start' });
    driver.fail();
    driver.fail();
    expect(driver.machine.view().phase).toBe('backoff');
    expect(driver.names({ type: 'reconnect' })).toEqual(['disconnect', 'connect 0']);
  });
});
