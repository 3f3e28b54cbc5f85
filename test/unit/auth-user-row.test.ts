// What is made of the answer to auth_query?
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readUserRows } from '../../src/auth/user-row.ts';
import type { UserRows } from '../../src/auth/user-row.ts';

function read(
  values: readonly (string | null)[],
  more: readonly (string | null)[][] = [],
): unknown {
  const rows: UserRows = { columns: values.length, rows: [values, ...more] };
  return readUserRows('repl', rows);
}

/** The third column, as PostgreSQL writes it. */
function until(text: string | null): unknown {
  const answer = read(['repl', 'x', text]);
  return typeof answer === 'object' && answer !== null && 'validUntilMs' in answer
    ? answer.validUntilMs
    : answer;
}

describe('a row', () => {
  test('of name and secret is enough', () => {
    expect(read(['repl', 'x'])).toEqual({
      kind: 'found',
      secret: { kind: 'plain', password: 'x' },
      validUntilMs: null,
      mayReplicate: null,
    });
  });

  test('without secret is a user who cannot log in', () => {
    expect(read(['repl', null])).toMatchObject({ kind: 'found', secret: null });
  });

  test('may be missing', () => {
    expect(readUserRows('repl', { columns: 2, rows: [] })).toEqual({
      kind: 'unknown',
      isSure: true,
    });
  });

  test('of nothing but NULLs is what a function answers that always returns one', () => {
    expect(read([null, null, null, null])).toEqual({ kind: 'unknown', isSure: true });
    expect(read([null, 'x'])).toHaveProperty('problem');
  });

  test('that the server has no answer for is a problem', () => {
    expect(readUserRows('repl', { columns: 0, rows: [], problem: 'why' })).toEqual({
      problem: 'why',
    });
  });

  test.each([
    [['repl', '********'], /mask/],
    [['repl'], /1 columns/],
    [['repl', 'x', null, null, null], /5 columns/],
    [['REPL', 'x'], /not the name/],
    [[null, 'x'], /not the name/],
    [['repl', ''], /empty/],
    [['repl', 'SCRAM-SHA-256$geheim'], /begins with SCRAM-SHA-256/],
    [['repl', 'x', 'tomorrow'], /third column/],
    [['repl', 'x', '2030-01-01 00:00:00'], /third column/],
    [['repl', 'x', null, 'maybe'], /fourth column/],
  ])('%j is a problem, of which no value is repeated', (values, problem) => {
    expect(read(values)).toEqual({ problem: expect.stringMatching(problem) });
    expect(JSON.stringify(read(values))).not.toMatch(/geheim|REPL|tomorrow|maybe/);
  });

  test('with another behind it is a problem', () => {
    expect(read(['repl', 'x'], [['repl', 'y']])).toEqual({ problem: 'it has more than one row' });
  });

  test('without enough columns is a problem also where it is missing', () => {
    expect(readUserRows('repl', { columns: 0, rows: [] })).toHaveProperty('problem');
  });
});

describe('VALID UNTIL', () => {
  test.each([
    [null, null],
    ['infinity', Number.POSITIVE_INFINITY],
    ['-infinity', Number.NEGATIVE_INFINITY],
    ['1970-01-01 00:00:00+00', 0],
    ['1969-12-31 23:59:59.999+00', -1],
    ['2026-11-23 04:05:06.7+00', Date.UTC(2026, 10, 23, 4, 5, 6, 700)],
    ['2026-11-23 04:05:06.789123+00', Date.UTC(2026, 10, 23, 4, 5, 6, 789)],
    ['2026-11-23 04:05:06+05:30', Date.UTC(2026, 10, 22, 22, 35, 6)],
    ['2026-11-23 04:05:06-08', Date.UTC(2026, 10, 23, 12, 5, 6)],
    ['0099-01-01 00:00:00+00', Date.parse('0099-01-01T00:00:00Z')],
    ['0044-03-15 00:00:00+00 BC', Number.NEGATIVE_INFINITY],
    ['294276-12-31 23:59:59+00', Number.POSITIVE_INFINITY],
  ])('%s is read', (text, expected) => {
    expect(until(text)).toBe(expected);
  });

  test('any moment comes out as it went in', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true }),
        (at) => {
          const text = at.toISOString().replace('T', ' ').replace('Z', '+00');
          expect(until(text)).toBe(at.getTime());
        },
      ),
    );
  });
});

test.each([
  ['t', true],
  ['f', false],
  ['true', true],
  ['false', false],
  [null, null],
])('%s says whether the user may replicate', (text, expected) => {
  expect(read(['repl', 'x', null, text])).toMatchObject({ mayReplicate: expected });
});
