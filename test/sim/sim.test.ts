import { expect, test } from 'vitest';
import { PLANTED_BUGS } from './bugs.ts';
import { runSeed } from './run.ts';

const FIRST = Number(process.env['WALCAST_SIM_SEED'] ?? 1);
const COUNT = Number(process.env['WALCAST_SIM_SEEDS'] ?? 5);
const BUG = process.env['WALCAST_SIM_BUG'];
test('runs', async () => {
  const bugs = BUG === undefined ? [null] : BUG === 'all' ? PLANTED_BUGS : PLANTED_BUGS.filter((b) => b.invariant === BUG);
  for (const bug of bugs) {
  for (let seed = FIRST; seed < FIRST + COUNT; seed += 1) {
    const cpu = process.cpuUsage();
    const report = await runSeed({ seed, bug, isShown: process.env['WALCAST_SIM_TRACE'] === '1' });
    const { lines, violations, faults, ...rest } = report;
    console.log(bug?.invariant, JSON.stringify(rest), Math.round(process.cpuUsage(cpu).user / 1000), 'ms cpu', JSON.stringify([...faults]));
    if (violations.length > 0 && bug === null) console.log(lines.slice(-60).join('\n'));
    for (const v of violations) console.log('FOUND ' + v.text.slice(0, 300));
    if (bug !== null && violations.length > 0) break;
  }}
  expect(1).toBe(1);
}, 900_000);
