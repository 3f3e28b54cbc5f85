// Random faults on a primary, two relays and four standbys under load, one or two at a time; after each round everything is
// healed, has to recover by itself within a bound, and is compared. (F1, F8, F20–F28, F35–F47, F57, F69, F77)
import { seededRandom } from '../harness/fault-proxy.ts';
import { systemClock } from '../../src/base/clock.ts';
import { Draw, drawFaults } from './faults/faults.ts';
import type { Fault } from './faults/faults.ts';
import { FleetChecks } from './faults/fleet-checks.ts';
import type { FleetFigures } from './faults/fleet-checks.ts';
import { openFleet } from './faults/fleet.ts';
import type { Fleet } from './faults/fleet.ts';
import { pause } from './mixed-load.ts';

/** How the campaign is run. */
export interface FaultsOptions {
  readonly major: number;
  readonly seed: number;
  /** It ends with the round in which this many milliseconds are over … */
  readonly forMs: number;
  /** … or after this many rounds. */
  readonly rounds?: number;
  /** Only faults whose kind has this text in its name. */
  readonly only?: string;
  readonly say?: (line: string) => void;
}

/** What one kind of fault cost. */
export interface KindFigures {
  count: number;
  /** Longest time from its end until everybody had everything, in milliseconds. */
  recoveryMsMax: number;
  /** Longest time without an acknowledged commit in its rounds, in milliseconds. */
  stallMsMax: number;
}

/** How it went. */
export interface FaultsResult {
  readonly seed: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly commits: number;
  readonly kinds: ReadonlyMap<string, KindFigures>;
  readonly fleet: FleetFigures;
  readonly fastStopMsMax: number;
  readonly violations: readonly string[];
}

const SAY_EVERY_ROUNDS = 10;
/** Everything has to be well again so long after the last fault of a round has ended. */
const RECOVERY_MS_MAX = 45_000;
const VIOLATIONS_MAX = 20;
const ROUND_SEED_STEP = 0x9e3779b1;

/** Runs it on servers of its own. */
export async function faultsCampaign(options: FaultsOptions): Promise<FaultsResult> {
  const fleet = await openFleet({ ...options, random: seededRandom(options.seed ^ 0x5eed) });
  try {
    const campaign = new Campaign(fleet, options);
    return await campaign.run();
  } finally {
    await fleet[Symbol.asyncDispose]();
  }
}

class Campaign {
  readonly #fleet: Fleet;
  readonly #options: FaultsOptions;
  readonly #checks: FleetChecks;
  readonly #kinds = new Map<string, KindFigures>();
  readonly #violations: string[] = [];
  readonly #startMs = systemClock.nowMs();
  #rounds = 0;

  constructor(fleet: Fleet, options: FaultsOptions) {
    this.#fleet = fleet;
    this.#options = options;
    this.#checks = new FleetChecks(fleet);
  }

  async run(): Promise<FaultsResult> {
    const { forMs, rounds = Number.POSITIVE_INFINITY } = this.#options;
    await this.#fleet.recovered(RECOVERY_MS_MAX);
    // What passed while everything was made is older than the servers that were made last.
    this.#violations.push(...(await this.#checks.look([], false)));
    while (this.#elapsedMs() < forMs && this.#rounds < rounds) {
      if (!(await this.#round(this.#rounds))) break;
      this.#rounds += 1;
      if (this.#rounds % SAY_EVERY_ROUNDS === 0) this.#say(this.#progress());
    }
    const { load, fastStopMsMax } = this.#fleet;
    return {
      seed: this.#options.seed,
      seconds: Math.round(this.#elapsedMs() / 1_000),
      rounds: this.#rounds,
      commits: load.commits,
      kinds: this.#kinds,
      fleet: this.#checks.figures,
      fastStopMsMax,
      violations: this.#violations,
    };
  }

  /** False: the campaign cannot go on. */
  async #round(index: number): Promise<boolean> {
    const { seed, only, major } = this.#options;
    const draw = new Draw(seededRandom((seed + (index + 1) * ROUND_SEED_STEP) >>> 0));
    const faults = drawFaults(this.#fleet, draw, only);
    const name = faults.map(({ kind, what }) => `${kind} (${what})`).join(' + ');
    const fail = (text: string): void => {
      this.#violations.push(`round ${index}, ${name}: ${text}`);
      this.#say(
        `VIOLATION in round ${index}, ${name}: ${text}\n  again: npm run soak -- faults --seed ${seed} --rounds ${index + 1} --major ${major}${only === undefined ? '' : ` --only '${only}'`}`,
      );
    };
    try {
      this.#fleet.load.takeLongestStallMs();
      for (const fault of faults) await fault.strike();
      await healInTurn(faults);
      const recoveryMs = await this.#fleet.recovered(RECOVERY_MS_MAX);
      this.#count(faults, { recoveryMs, stallMs: this.#fleet.load.takeLongestStallMs() });
      const expected = faults.flatMap((fault) => fault.expected ?? []);
      const isThorough = (index + 1) % SAY_EVERY_ROUNDS === 0;
      for (const text of await this.#checks.look(expected, isThorough)) fail(text);
      return this.#violations.length < VIOLATIONS_MAX;
    } catch (error) {
      fail(`it did not come to its end: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  }

  #count(faults: readonly Fault[], { recoveryMs, stallMs }: RoundTimes): void {
    for (const { kind } of faults) {
      const figures = this.#kinds.get(kind) ?? { count: 0, recoveryMsMax: 0, stallMsMax: 0 };
      this.#kinds.set(kind, figures);
      figures.count += 1;
      figures.recoveryMsMax = Math.max(figures.recoveryMsMax, recoveryMs);
      figures.stallMsMax = Math.max(figures.stallMsMax, stallMs);
    }
  }

  #progress(): string {
    const slowest = [...this.#kinds].toSorted(
      ([, a], [, b]) => b.recoveryMsMax - a.recoveryMsMax,
    )[0];
    return `faults: ${this.#rounds} rounds, ${Math.round(this.#elapsedMs() / 1_000)} s, ${this.#fleet.load.commits} commits; slowest recovery ${seconds(slowest?.[1].recoveryMsMax ?? 0)} (${slowest?.[0] ?? 'none'})`;
  }

  #elapsedMs(): number {
    return systemClock.nowMs() - this.#startMs;
  }

  #say(line: string): void {
    this.#options.say?.(line);
  }
}

interface RoundTimes {
  readonly recoveryMs: number;
  readonly stallMs: number;
}

/** Each fault ends when its time is over, the shortest one first. */
async function healInTurn(faults: readonly Fault[]): Promise<void> {
  let passedMs = 0;
  for (const fault of faults.toSorted((a, b) => a.holdMs - b.holdMs)) {
    await pause(fault.holdMs - passedMs);
    passedMs = fault.holdMs;
    await fault.heal();
  }
}

/** The result as lines for a person. */
export function describeFaults(result: FaultsResult): string[] {
  const { fleet } = result;
  const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
  const kinds = [...result.kinds].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return [
    `faults: seed ${result.seed}, ${result.rounds} rounds in ${result.seconds} s, ${result.commits} acknowledged commits`,
    `  ${'kind'.padEnd(36)} times  longest recovery  longest stall of commits`,
    ...kinds.map(
      ([kind, { count, recoveryMsMax, stallMsMax }]) =>
        `  ${kind.padEnd(36)} ${String(count).padStart(5)}  ${seconds(recoveryMsMax).padStart(16)}  ${seconds(stallMsMax).padStart(24)}`,
    ),
    `  WAL compared in files: ${mib(fleet.comparedBytes)}; relays at most ${mib(fleet.rssMax)}, ${fleet.descriptorsMax} descriptors; longest fast stop of a primary: ${seconds(result.fastStopMsMax)}`,
    result.violations.length === 0
      ? '  0 lost commits, 0 differing bytes, everything recovered by itself'
      : `  ${result.violations.length} VIOLATIONS:\n${result.violations.map((text) => `    ${text}`).join('\n')}`,
  ];
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
