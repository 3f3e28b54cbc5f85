// Many seeds, one after the other, and what they come to.
import type { PlantedBug } from './bugs.ts';
import { runSeed } from './run.ts';
import type { RunReport } from './run.ts';

/** Seeds of one campaign. */
export interface CampaignOptions {
  readonly firstSeed: number;
  readonly count: number;
  /** From one seed to the next. */
  readonly step?: number;
  readonly bug?: PlantedBug | null;
  readonly isShown?: boolean;
  /** Told after each seed. */
  readonly onRun?: (report: RunReport) => void;
}

/** What a campaign came to. */
export interface CampaignReport {
  readonly runs: number;
  /** The first run in which something was violated; the campaign ended with it. */
  readonly failed: RunReport | null;
  readonly figures: readonly (readonly [name: string, value: number])[];
}

/** Runs the seeds until one of them violates something. */
export async function runCampaign(options: CampaignOptions): Promise<CampaignReport> {
  const { firstSeed, count, step = 1, bug = null, isShown = false } = options;
  const reports: RunReport[] = [];
  for (let index = 0; index < count; index += 1) {
    const report = await runSeed({ seed: firstSeed + index * step, bug, isShown });
    // Lines are kept of the last one alone.
    reports.push({ ...report, lines: [] });
    options.onRun?.(report);
    if (report.violations.length > 0) {
      return { runs: reports.length, failed: report, figures: figuresOf(reports) };
    }
  }
  return { runs: reports.length, failed: null, figures: figuresOf(reports) };
}

/** For whoever reads the output of a run. */
export function tell(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Everything counted, as lines for people. */
export function figureLines({ figures }: CampaignReport): string {
  return figures.map(([name, value]) => `  ${name}: ${value}`).join('\n');
}

/** Why a run failed, its last steps, and the command that runs it again. */
export function failureText({ seed, violations, lines }: RunReport): string {
  return [
    ...lines.slice(-80),
    '',
    ...violations.map(({ text }) => text),
    '',
    `again: npm run sim -- --seed ${seed} --seeds 1 --trace`,
  ].join('\n');
}

function figuresOf(reports: readonly RunReport[]): (readonly [string, number])[] {
  const sum = (of: (report: RunReport) => number): number =>
    reports.reduce((total, report) => total + of(report), 0);
  const counted = (
    kind: 'fault' | 'met',
    of: (report: RunReport) => ReadonlyMap<string, number>,
  ) => {
    const all = new Map<string, number>();
    for (const report of reports) {
      for (const [name, count] of of(report)) all.set(name, (all.get(name) ?? 0) + count);
    }
    return [...all]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, count]) => [`${kind}: ${name}`, count] as const);
  };
  return [
    ['runs', reports.length],
    ['steps', sum(({ steps }) => steps)],
    ['seconds of virtual time', Math.round(sum(({ virtualMs }) => virtualMs) / 1000)],
    ['bytes of WAL written', sum(({ walBytes }) => walBytes)],
    ['commits', sum(({ commits }) => commits)],
    ['commits acknowledged', sum(({ commitsAcknowledged }) => commitsAcknowledged)],
    ['starts of relays', sum(({ relayStarts }) => relayStarts)],
    ['promotions', sum(({ timelineSwitches }) => timelineSwitches)],
    ...counted('fault', ({ faults }) => faults),
    ...counted('met', ({ met }) => met),
  ];
}
