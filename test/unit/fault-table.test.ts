// Is the page about faults true of the suites? Every test that it names is there, and every fault of the list that concerns
// upstreams, the network, standbys and the process has a row, or a reason why not.
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const ROOT = new URL('../../', import.meta.url);
const TEXT: string = readFileSync(new URL('docs/reliability.md', ROOT), 'utf8');
const ROWS: readonly string[] = TEXT.split('\n').filter((line) => line.startsWith('| '));

/** From and to, both included. */
const RANGES = [
  [20, 28],
  [35, 48],
  [56, 64],
  [68, 69],
  [76, 77],
  [80, 80],
] as const;

describe('the table of faults', () => {
  it('names only tests that are there', () => {
    const named = new Set(
      ROWS.flatMap((row) => row.match(/\b(?:fault|pg|session|soak|unit)\/[a-z0-9-]+/g) ?? []),
    );
    const absent = [...named].filter(
      (name) =>
        !existsSync(new URL(`test/${name}.test.ts`, ROOT)) &&
        !existsSync(new URL(`test/${name}.ts`, ROOT)),
    );
    expect(absent).toEqual([]);
    expect(named.size).toBeGreaterThan(30);
  });

  it.each(RANGES)('has F%i to F%i', (first, last) => {
    const numbers = Array.from({ length: last - first + 1 }, (_, index) => `F${first + index}`);
    const lines = [...ROWS, ...TEXT.split('\n').filter((line) => line.startsWith('* F'))];
    const absent = numbers.filter(
      (name) => !lines.some((line) => new RegExp(`\\b${name}\\b`).test(line)),
    );
    expect(absent).toEqual([]);
  });
});
