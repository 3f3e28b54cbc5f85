// Can the upstream session get stuck? From every state that any sequence of events leads to: once the servers are good,
// WAL streams within bounded time. The shell's deadlines are played, by the virtual clock.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { StartDecision } from '../../src/walreceiver/ports.ts';
import { UPSTREAM_CYCLE } from '../../src/walreceiver/relay-path.ts';
import { OTHER_SESSION_KIND } from '../../src/walreceiver/session-attrs.ts';
import type {
  UpstreamAction,
  UpstreamEvent,
  UpstreamPhase,
} from '../../src/walreceiver/upstream-events.ts';
import { UpstreamMachine } from '../../src/walreceiver/upstream-machine.ts';

/** The longest hold there is; then every step of an attempt, at every host. */
const STREAMS_WITHIN_MS = 61_000;
const START: StartDecision = {
  kind: 'start',
  timeline: toTimelineId(1),
  startLsn: toLsn(0x5000000n),
};
const HELD_STATES = ['waiting', 'gap', 'diverged', 'corrupt', 'full', 'failed'] as const;

function failure(code: string, isRetryable = true): OperationalError {
  return new OperationalError(code, `it failed with ${code}`, { isRetryable });
}

const ERRORS = [
  failure('CONNECT_FAILED'),
  failure('UPSTREAM_TIMEOUT'),
  failure('UPSTREAM_CLOSED'),
  failure('55006'),
  failure('58P01'),
  failure('57P03'),
  failure(OTHER_SESSION_KIND),
  failure(UPSTREAM_CYCLE),
  failure('UNSUPPORTED_SERVER_VERSION', false),
];

const END = {
  timeline: toTimelineId(1),
  nextTimeline: toTimelineId(2),
  switchLsn: toLsn(0x5000000n),
};

/** Everything that a world may tell; most of it at the wrong time. */
const EVENTS: readonly UpstreamEvent[] = [
  { type: 'dialed' },
  { type: 'logged-in' },
  { type: 'identified' },
  { type: 'decided', decision: START },
  ...HELD_STATES.map((state) => ({
    type: 'decided' as const,
    decision: { kind: 'hold' as const, state, detail: `held: ${state}`, retryMs: 5_000 },
  })),
  { type: 'copy-started' },
  ...ERRORS.map((error) => ({ type: 'failed' as const, error })),
  ...ERRORS.map((error) => ({ type: 'lost' as const, reason: 'error' as const, error })),
  { type: 'rejected', rejection: { lsn: toLsn(0x5000100n), reason: 'bad crc' } },
  {
    type: 'rejected',
    rejection: { lsn: toLsn(0x5000100n), reason: 'other bytes', isDivergence: true },
  },
  { type: 'progress' },
  { type: 'full' },
  { type: 'room' },
  { type: 'copy-done' },
  { type: 'timeline-ended', end: END },
  { type: 'reconnect' },
  { type: 'change-over' },
  { type: 'changed-over' },
  { type: 'hosts-changed', isListed: true },
  { type: 'hosts-changed', isListed: false },
  { type: 'again' },
  { type: 'tick' },
];

/** A machine with the shell around it, as far as time and connections go. */
class World {
  readonly machine: UpstreamMachine;
  nowMs = 0;
  /** There is a session that the machine has not ended. */
  isOpen = false;

  constructor(hostCount: number, random: () => number = () => 0) {
    this.machine = new UpstreamMachine({
      list: () => ({
        hosts: Array.from({ length: hostCount }, (_none, index) => `h${index}:5432`),
        targetSessionAttrs: 'any',
        loadBalanceHosts: 'disable',
      }),
      random,
    });
    this.tell({ type: 'start' });
  }

  get phase(): UpstreamPhase {
    return this.machine.view().phase;
  }

  tell(event: UpstreamEvent): readonly UpstreamAction[] {
    const actions = this.machine.handle(event, this.nowMs);
    for (const { type } of actions) {
      if (type === 'connect') this.isOpen = true;
      if (type === 'disconnect') this.isOpen = false;
    }
    return actions;
  }

  /** In every phase somebody has to be waited for, and what is waited for comes: a server, the store, the clock. */
  mustWaitForSomething(): void {
    const { phase, nextAttemptAtMs, detail } = this.machine.view();
    const isSoon = nextAttemptAtMs !== null && nextAttemptAtMs <= this.nowMs + 60_000;
    const isRight =
      phase === 'held' || phase === 'backoff'
        ? isSoon && !this.isOpen && (detail ?? '') !== ''
        : phase !== 'disconnected' && this.isOpen && nextAttemptAtMs === null;
    if (!isRight) throw new Error(`nothing ends ${phase} (open: ${this.isOpen}): ${detail}`);
  }

  /** Good servers answer; each step takes `stepMs`. Gives the time until WAL streams. */
  recover(stepMs: number): number {
    const fromMs = this.nowMs;
    for (let steps = 0; this.phase !== 'streaming' && steps < 200; steps += 1) {
      const { nextAttemptAtMs } = this.machine.view();
      if (nextAttemptAtMs === null) this.nowMs += stepMs;
      else this.nowMs = Math.max(this.nowMs, nextAttemptAtMs);
      this.tell(this.goodAnswer(this.phase));
    }
    if (this.phase !== 'streaming') throw new Error(`stuck in ${this.phase}`);
    return this.nowMs - fromMs;
  }

  /** {@link recover} and the rest that must hold after any event; throws when it does not. */
  mustStreamWithin(ms: number): void {
    this.mustWaitForSomething();
    const tookMs = this.recover(100);
    if (tookMs > ms) throw new Error(`it took ${tookMs} ms`);
    this.mustWaitForSomething();
  }

  /** Streams that break at once are no storm: ten of them take twelve seconds. */
  mustNotStorm(): void {
    const fromMs = this.nowMs;
    for (let count = 0; count < 10; count += 1) {
      this.tell({ type: 'lost', reason: 'eof', error: failure('UPSTREAM_CLOSED') });
      this.recover(0);
    }
    const tookMs = this.nowMs - fromMs;
    if (tookMs < 12_000) throw new Error(`10 streams broke within ${tookMs} ms`);
  }

  goodAnswer(phase: UpstreamPhase): UpstreamEvent {
    switch (phase) {
      case 'connecting':
        return { type: 'dialed' };
      case 'login':
        return { type: 'logged-in' };
      case 'identifying':
        return { type: 'identified' };
      case 'deciding':
        return { type: 'decided', decision: START };
      case 'starting':
        return { type: 'copy-started' };
      case 'ending':
        // One that the shell ends itself, or the deadline of one that the server ends.
        return this.tell({ type: 'changed-over' }).length > 0
          ? { type: 'tick' }
          : { type: 'lost', reason: 'timeout', error: failure('UPSTREAM_TIMEOUT') };
      case 'disconnected':
      case 'streaming':
      case 'held':
      case 'backoff':
        return { type: 'tick' };
    }
  }
}

const history = fc.record({
  hostCount: fc.integer({ min: 1, max: 3 }),
  jitter: fc.double({ min: 0, max: 0.99, noNaN: true }),
  events: fc.array(
    fc.tuple(
      fc.oneof(
        { weight: 3, arbitrary: fc.constant('good answer' as const) },
        { weight: 2, arbitrary: fc.constantFrom(...EVENTS) },
      ),
      fc.integer({ min: 0, max: 70_000 }),
    ),
    { maxLength: 80 },
  ),
});

describe('the upstream session', () => {
  it('streams again from wherever events led it, once servers are good, within the longest hold', () => {
    const reached = new Set<string>();
    fc.assert(
      fc.property(history, ({ hostCount, jitter, events }) => {
        const world = new World(hostCount, () => jitter);
        for (const [event, afterMs] of events) {
          world.nowMs += afterMs;
          world.tell(event === 'good answer' ? world.goodAnswer(world.phase) : event);
          world.mustWaitForSomething();
          reached.add(`${world.phase} ${world.machine.view().heldState}`);
        }
        world.mustStreamWithin(STREAMS_WITHIN_MS);
        world.mustNotStorm();
      }),
      { numRuns: 1_000, seed: 20 },
    );
    // The events above do lead there: states are reached that nobody wrote a sequence for.
    for (const state of HELD_STATES) expect(reached).toContain(`held ${state}`);
    for (const phase of ['streaming', 'ending', 'backoff', 'deciding', 'starting']) {
      expect([...reached].some((text) => text.startsWith(phase))).toBe(true);
    }
  });

  /** Walks from the start to each phase by the shortest way. */
  const WAYS: Readonly<Record<string, readonly UpstreamEvent[]>> = (() => {
    const steps: readonly UpstreamEvent[] = [
      { type: 'dialed' },
      { type: 'logged-in' },
      { type: 'identified' },
      { type: 'decided', decision: START },
      { type: 'copy-started' },
    ];
    const streaming = steps;
    const held = (state: (typeof HELD_STATES)[number]): readonly UpstreamEvent[] => [
      ...steps.slice(0, 3),
      {
        type: 'decided',
        decision: { kind: 'hold', state, detail: `held: ${state}`, retryMs: 5_000 },
      },
    ];
    return {
      connecting: [],
      login: steps.slice(0, 1),
      identifying: steps.slice(0, 2),
      deciding: steps.slice(0, 3),
      starting: steps.slice(0, 4),
      streaming,
      'ending by the server': [...streaming, { type: 'copy-done' }],
      'ending by us': [...streaming, { type: 'change-over' }],
      backoff: [{ type: 'failed', error: failure('CONNECT_FAILED') }],
      'held full while streaming': [...streaming, { type: 'full' }],
      ...Object.fromEntries(HELD_STATES.map((state) => [`held ${state}`, held(state)])),
    };
  })();

  it.each(Object.keys(WAYS))('gets from %s to a stream whatever happens next', (name) => {
    for (const first of EVENTS) {
      for (const second of EVENTS) {
        const world = new World(2);
        for (const event of WAYS[name] ?? []) world.tell(event);
        world.tell(first);
        world.nowMs += 1_000;
        world.tell(second);
        world.mustStreamWithin(STREAMS_WITHIN_MS);
      }
    }
  });

  it('needs nobody to come out of a hold: a reload, another list of hosts and room end it at once', () => {
    for (const state of HELD_STATES) {
      const way = WAYS[`held ${state}`] ?? [];
      const ends: readonly UpstreamEvent[] = [
        { type: 'reconnect' },
        { type: 'hosts-changed', isListed: true },
        { type: 'hosts-changed', isListed: false },
        ...(state === 'full' ? [{ type: 'room' } as const] : []),
      ];
      for (const end of ends) {
        const world = new World(1);
        for (const event of way) world.tell(event);
        expect(world.phase).toBe('held');
        expect(world.tell(end).map(({ type }) => type)).toContain('connect');
        world.mustStreamWithin(1_000);
      }
    }
  });
});
