// Is there a test for every row of the catalogue of bad inputs, I1 to I108? A test that was renamed or taken away has to be
// named anew.
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { AUTH_CASES } from '../support/hostile-auth.ts';
import { COMMAND_CASES } from '../support/hostile-commands.ts';
import { WITNESSES } from '../support/hostile-rows.ts';
import { STARTUP_CASES } from '../support/hostile-startup.ts';
import { STREAM_CASES } from '../support/hostile-stream.ts';
import { TLS_CASES } from '../support/hostile-tls.ts';

const ROWS = Array.from({ length: 108 }, (_, index) => `I${index + 1}`);

const COMPARED = new Set(
  [STARTUP_CASES, AUTH_CASES, COMMAND_CASES, STREAM_CASES, TLS_CASES]
    .flat()
    .map(({ row }) => row)
    .filter((row) => row !== '+'),
);

describe('the catalogue of bad inputs', () => {
  it('has a test for every row', () => {
    expect(ROWS.filter((row) => !COMPARED.has(row) && WITNESSES[row] === undefined)).toEqual([]);
  });

  it('names no row that it does not have', () => {
    const named = [...COMPARED, ...Object.keys(WITNESSES)];
    expect(named.filter((row) => !ROWS.includes(row))).toEqual([]);
  });

  it.each(Object.entries(WITNESSES))('has the tests that are named for %s', (_row, witnesses) => {
    expect(witnesses.length).toBeGreaterThan(0);
    for (const { file, text } of witnesses) {
      const content = existsSync(file) ? readFileSync(file, 'utf8') : '';
      expect({ file, text, isThere: content.includes(text) }).toEqual({
        file,
        text,
        isThere: true,
      });
    }
  });
});
