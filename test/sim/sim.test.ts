import { expect, test } from 'vitest';
import { runSeed } from './run.ts';

const FIRST = Number(process.env['WALCAST_SIM_SEED'] ?? 1);
const COUNT = Number(process.env['WALCAST_SIM_SEEDS'] ?? 5);
test('runs', async () => {
  for (let seed = FIRST; seed < FIRST + COUNT; seed += 1) {
    const cpu = process.cpuUsage();
    const report = await runSeed({ seed, isShown: process.env['WALCAST_SIM_TRACE'] === '1' });
    const { lines, violations, faults, ...rest } = report;
    console.log(JSON.stringify(rest), Math.round(process.cpuUsage(cpu).user / 1000), 'ms cpu', JSON.stringify([...faults]));
    if (violations.length > 0) console.log(lines.slice(-60).join('\n'));
    for (const v of violations) console.log(v.text);
  }
  expect(1).toBe(1);
}, 600_000);
