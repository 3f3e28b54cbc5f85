// One run: a seed in, a verdict with figures out.
import { unmountAll } from './machine/disk-calls.ts';
import { setLies } from './machine/lies.ts';
import { plugIn } from './machine/net-doors.ts';
import { Network } from './machine/network.ts';
import { Trace } from './machine/trace.ts';
import { World } from './machine/world.ts';
import type { PlantedBug } from './bugs.ts';
import { Faults } from './faults.ts';
import { flushIsDurable } from './invariants/i1-flush-is-durable.ts';
import { positionsMoveForward } from './invariants/i2-positions.ts';
import { bytesAreTheUpstreams } from './invariants/i3-bytes.ts';
import { neededWalStays } from './invariants/i4-retention.ts';
import { failedDiskIsBelieved } from './invariants/i5-failed-disk.ts';
import { memoryIsBounded } from './invariants/i6-bounds.ts';
import { neighboursAreServed } from './invariants/i7-neighbours.ts';
import { claimsAreClamped } from './invariants/i8-claims.ts';
import { strangersChangeNothing } from './invariants/i9-bytes.ts';
import { historyDecides } from './invariants/i9-history.ts';
import { policyIsKept } from './invariants/i11-confirmed.ts';
import { latecomers, SETTLE_MS_MAX } from './liveness.ts';
import type { Server } from './postgres/server.ts';
import { buildScene } from './scenario.ts';
import type { ScenarioWishes } from './scenario.ts';
import type { Checker, Scene } from './scene.ts';
import { Verdict } from './verdict.ts';
import type { Violation } from './verdict.ts';
import { tapOf } from './wire-taps.ts';

/** What to run. */
export interface RunOptions {
  readonly seed: number;
  readonly bug?: PlantedBug | null;
  /** Every step is printed. */
  readonly isShown?: boolean;
}

/** What came of it. */
export interface RunReport {
  readonly seed: number;
  readonly violations: readonly Violation[];
  readonly hash: string;
  readonly steps: number;
  readonly virtualMs: number;
  readonly faults: ReadonlyMap<string, number>;
  /** What came of them. */
  readonly met: ReadonlyMap<string, number>;
  readonly walBytes: number;
  readonly relayStarts: number;
  readonly timelineSwitches: number;
  readonly commits: number;
  readonly commitsAcknowledged: number;
  /** The last steps, for people. */
  readonly lines: readonly string[];
}

/** Nothing goes wrong before that: everybody gets to know each other. */
const CALM_MS = 1_500;

/** Steps at one moment of virtual time. */
const STEPS_AT_ONCE_MAX = 20_000;

/** Runs one seed. */
export async function runSeed({
  seed,
  bug = null,
  isShown = false,
}: RunOptions): Promise<RunReport> {
  const world = new World(seed, new Trace({ isShown }));
  return await world.enter(async () => {
    const network = new Network(world);
    plugIn(network);
    unmountAll();
    setLies(bug?.lies ?? null);
    const undo = bug?.plant() ?? ((): void => {});
    try {
      return await new Run(world, network, bug?.wishes ?? {}).play();
    } finally {
      undo();
      setLies(null);
      plugIn(null);
      unmountAll();
    }
  });
}

class Run {
  readonly #world: World;
  readonly #verdict: Verdict;
  readonly #scene: Scene;
  readonly #faults: Faults;
  readonly #checkers: Checker[];
  #lastMs = 0;
  #stepsAtOnce = 0;

  constructor(world: World, network: Network, wishes: ScenarioWishes) {
    this.#world = world;
    this.#verdict = new Verdict(world);
    this.#scene = buildScene({ world, network, verdict: this.#verdict }, wishes);
    this.#faults = new Faults(this.#scene, this.#server('p1'), wishes.favours ?? null);
    this.#checkers = [
      flushIsDurable,
      positionsMoveForward,
      bytesAreTheUpstreams,
      neededWalStays,
      failedDiskIsBelieved,
      memoryIsBounded,
      neighboursAreServed,
      claimsAreClamped,
      historyDecides,
      strangersChangeNothing,
      policyIsKept,
    ].map((make) => make(this.#scene));
    for (const host of this.#scene.relays.values()) {
      // The WAL path: segments and the control file. Others are tried again, and nothing is promised by them.
      host.mounted.disk.mayFail = (path) => /\/pg_wal\/|walcast\.control/.test(path);
    }
    this.#scene.onReleased = (...args) => {
      for (const checker of this.#checkers) checker.onReleased?.(...args);
    };
    network.onConnection = (connection) => {
      const names = [connection.process.host, connection.far.process.host];
      const isOfRelay = (host: string): boolean => this.#scene.relays.has(host);
      for (const checker of this.#checkers) checker.onDial?.(connection);
      return names.some(isOfRelay) ? tapOf(connection, this.#listener, isOfRelay) : null;
    };
  }

  async play(): Promise<RunReport> {
    const { world } = this;
    const { random, servers, relays, standbys } = this.#scene;
    for (const server of servers.values()) server.start();
    for (const host of relays.values()) host.start();
    for (const standby of standbys.values()) standby.start();
    await this.#until(CALM_MS);
    this.#faults.begin(random.pick([600, 1_200, 3_000]));
    this.#faults.restartStandbys();
    await this.#until(world.nowMs + random.real(6_000, 25_000));
    this.#faults.end();
    await this.#until(world.nowMs + 3_000);
    await this.#settle();
    return this.#report();
  }

  get world(): World {
    return this.#world;
  }

  /** Nothing more is written; everybody gets there, or does not. */
  async #settle(): Promise<void> {
    if (!this.#verdict.isClean) return;
    const { primary } = this.#faults;
    primary.isWriting = false;
    const deadlineMs = this.#world.nowMs + SETTLE_MS_MAX;
    let late = latecomers(this.#scene, primary);
    while (late.length > 0 && this.#world.nowMs < deadlineMs && this.#verdict.isClean) {
      await this.#until(this.#world.nowMs + 500);
      late = latecomers(this.#scene, primary);
    }
    if (!this.#verdict.isClean) return;
    for (const text of late) this.#verdict.violate('live', text, { by: 'after all faults' });
  }

  async #until(endMs: number): Promise<void> {
    if (!this.#verdict.isClean) return;
    await this.#world.runUntil(endMs, () => {
      for (const checker of this.#checkers) checker.afterStep?.();
      for (const { process, error } of this.#world.crashes.splice(0)) {
        const stack = error instanceof Error ? error.stack : String(error);
        this.#verdict.violate('crash', `an error that nobody expects: ${stack}`, {
          by: process?.name ?? 'the machine',
        });
      }
      this.#noteTime();
      return this.#verdict.isClean;
    });
  }

  /** A relay that wakes itself up again and again at the same moment would never let time pass. */
  #noteTime(): void {
    const { nowMs } = this.#world;
    this.#stepsAtOnce = nowMs === this.#lastMs ? this.#stepsAtOnce + 1 : 0;
    this.#lastMs = nowMs;
    if (this.#stepsAtOnce < STEPS_AT_ONCE_MAX) return;
    this.#verdict.violate(
      'live',
      'time stands still: one step after the other, all at the same moment',
      { by: 'somebody' },
    );
  }

  readonly #listener = {
    onStart: (...args: Parameters<NonNullable<Checker['onStart']>>): void => {
      for (const checker of this.#checkers) checker.onStart?.(...args);
    },
    onWal: (...args: Parameters<NonNullable<Checker['onWal']>>): void => {
      for (const checker of this.#checkers) checker.onWal?.(...args);
    },
    onStatus: (...args: Parameters<NonNullable<Checker['onStatus']>>): void => {
      for (const checker of this.#checkers) checker.onStatus?.(...args);
    },
  };

  #server(name: string): Server {
    const server = this.#scene.servers.get(name);
    if (server === undefined) throw new Error(`no server ${name}`);
    return server;
  }

  #report(): RunReport {
    const world = this.#world;
    const sum = (of: (server: Server) => number): number =>
      [...this.#scene.servers.values()].reduce((total, server) => total + of(server), 0);
    return {
      seed: world.seed,
      violations: this.#verdict.violations,
      hash: world.trace.hash(),
      steps: world.steps,
      virtualMs: world.nowMs,
      faults: this.#faults.counts,
      met: world.met,
      walBytes: sum(({ counts }) => counts.written),
      relayStarts: [...this.#scene.relays.values()].reduce(
        (total, { starts }) => total + starts,
        0,
      ),
      timelineSwitches: this.#faults.timelineSwitches,
      commits: sum(({ counts }) => counts.commits),
      commitsAcknowledged: sum(({ counts }) => counts.acknowledged),
      lines: world.trace.lines(),
    };
  }
}
