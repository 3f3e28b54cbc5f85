// Where does the time of a test run go? Names the files that took longest, before the summary.
import type { Reporter, TestModule } from 'vitest/node';

const NAMED = 10;

/** A reporter besides the usual one. */
export class SlowestFiles implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    if (modules.length <= NAMED) return;
    const timed = modules.map((module) => {
      const { duration, collectDuration, environmentSetupDuration, prepareDuration } =
        module.diagnostic();
      return {
        name: module.relativeModuleId,
        ms: duration + collectDuration + environmentSetupDuration + prepareDuration,
      };
    });
    const slowest = timed.toSorted((one, other) => other.ms - one.ms).slice(0, NAMED);
    const lines = slowest.map(
      ({ name, ms }) => `${(ms / 1_000).toFixed(1).padStart(8)} s  ${name}\n`,
    );
    process.stdout.write(`\n Slowest files\n${lines.join('')}`);
  }
}
