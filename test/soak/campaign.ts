// What the campaigns share: how long they go on, what they say, how they end.
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../harness/fault-proxy.ts';
import type { CrashFigures } from './crash-rig.ts';

/** How a campaign is run. */
export interface CampaignOptions {
  readonly major: number;
  /** It ends after this many rounds … */
  readonly rounds: number;
  /** … or with the round in which this many milliseconds are over. */
  readonly forMs?: number;
  readonly seed: number;
  /** A line for whoever waits. */
  readonly say?: (line: string) => void;
}

/** How it went. */
export interface CampaignResult {
  readonly name: string;
  readonly seed: number;
  readonly seconds: number;
  readonly figures: CrashFigures;
  /** Rounds by what was hit. */
  readonly moments: Readonly<Record<string, number>>;
  /** Everything that is not as promised. */
  readonly violations: readonly string[];
}

/** One round: what it hit, and what was wrong afterwards. */
export interface RoundResult {
  readonly moment: string;
  readonly violations: readonly string[];
}

const SAY_EVERY_ROUNDS = 10;
/** A campaign that has found so much has shown what it can. */
const VIOLATIONS_MAX = 20;

/** Runs `round` until the campaign is over. */
export async function runRounds(
  name: string,
  options: CampaignOptions,
  campaign: {
    readonly figures: CrashFigures;
    readonly round: (index: number) => Promise<RoundResult>;
    readonly finish: () => Promise<readonly string[]>;
  },
): Promise<CampaignResult> {
  const startedMs = systemClock.nowMs();
  const elapsedMs = (): number => systemClock.nowMs() - startedMs;
  const moments: Record<string, number> = {};
  const violations: string[] = [];
  for (let index = 0; index < options.rounds; index += 1) {
    if (elapsedMs() >= (options.forMs ?? Number.POSITIVE_INFINITY)) break;
    const result = await campaign.round(index).catch((error: unknown) => {
      throw new Error(`${name}, seed ${options.seed}, round ${index}: ${String(error)}`, {
        cause: error,
      });
    });
    moments[result.moment] = (moments[result.moment] ?? 0) + 1;
    violations.push(
      ...result.violations.map((text) => `round ${index}, ${result.moment}: ${text}`),
    );
    for (const text of result.violations) options.say?.(`VIOLATION in round ${index}: ${text}`);
    if ((index + 1) % SAY_EVERY_ROUNDS === 0) {
      options.say?.(`${name}: ${index + 1} rounds, ${Math.round(elapsedMs() / 1_000)} s`);
    }
    if (violations.length >= VIOLATIONS_MAX) break;
  }
  violations.push(...(await campaign.finish()));
  const seconds = Math.round(elapsedMs() / 1_000);
  return { name, seed: options.seed, seconds, figures: campaign.figures, moments, violations };
}

/** Numbers of a campaign: one sequence for what is hit, another for the load, which runs at its own pace. */
export function campaignRandom(seed: number): { strike: () => number; load: () => number } {
  return { strike: seededRandom(seed), load: seededRandom(seed ^ 0x5eed) };
}

/** The result as lines for a person. */
export function describeResult(result: CampaignResult): string[] {
  const { figures, moments } = result;
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const hits = Object.entries(moments).map(([name, count]) => `${name} ${count}`);
  return [
    `${result.name}: seed ${result.seed}, ${figures.rounds} rounds in ${result.seconds} s`,
    `  hit: ${hits.join(', ')}`,
    ...(figures.comparedBytes === 0
      ? []
      : [
          `  acknowledged WAL compared in the store: ${mib(figures.comparedBytes)}; in the standby: ${mib(figures.standbyBytes)}`,
          `  arrived but not acknowledged at the crashes: ${mib(figures.unacknowledgedBytes)}; standby ahead of the store: ${figures.standbyAhead} times; slots moved: ${figures.slotMoves}`,
        ]),
    result.violations.length === 0
      ? '  0 acknowledged bytes lost, 0 differing bytes'
      : `  ${result.violations.length} VIOLATIONS:\n${result.violations.map((text) => `    ${text}`).join('\n')}`,
  ];
}
