import { expect, test } from 'vitest';
import { runSeed } from './run.ts';

test('the same seed gives the same run, step for step, and another seed another one', async () => {
  const first = await runSeed({ seed: 4 });
  const other = await runSeed({ seed: 5 });
  const again = await runSeed({ seed: 4 });
  expect(again.steps).toBe(first.steps);
  expect(again.hash).toBe(first.hash);
  expect(other.hash).not.toBe(first.hash);
});
