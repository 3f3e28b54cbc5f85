// Is a text of synchronous_standby_names read as PostgreSQL reads it, and refused in its words? The same texts are given to
// real servers in test/pg/sync-names.test.ts.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  parseSynchronousStandbyNames,
  SYNC_NAMES_LENGTH_MAX,
  SyncNamesError,
  syncMembership,
  syncMembershipIn,
  syncPriority,
} from '../../src/syncrep/standby-names.ts';
import type { SyncPolicy } from '../../src/syncrep/standby-names.ts';
import { SYNC_NAMES_SAMPLES } from '../support/sync-names-samples.ts';

function parse(text: string): SyncPolicy {
  const policy = parseSynchronousStandbyNames(text);
  if (policy === null) throw new Error(`no policy in ${text}`);
  return policy;
}

function refusalOf(text: string): SyncNamesError {
  try {
    parseSynchronousStandbyNames(text);
  } catch (error) {
    if (error instanceof SyncNamesError) return error;
    throw error;
  }
  throw new Error(`${text} was taken`);
}

describe('the text', () => {
  it('asks for nothing when it is empty', () => {
    expect(parseSynchronousStandbyNames('')).toBeNull();
  });

  it.each([
    ['a', 'priority', 1, ['a']],
    ['a, B ,c', 'priority', 1, ['a', 'B', 'c']],
    ['2 (a, b)', 'priority', 2, ['a', 'b']],
    ['2(a,b)', 'priority', 2, ['a', 'b']],
    ['FIRST 1 (a)', 'priority', 1, ['a']],
    ['fIrSt 3(*)', 'priority', 3, ['*']],
    ['any 2 (a, b, c)', 'quorum', 2, ['a', 'b', 'c']],
    ['ANY 1 ("*")', 'quorum', 1, ['*']],
    ['5', 'priority', 1, ['5']],
    ['5, 6', 'priority', 1, ['5', '6']],
    ['007 (008)', 'priority', 7, ['008']],
    ['"first", "any"', 'priority', 1, ['first', 'any']],
    ['firsts, any_', 'priority', 1, ['firsts', 'any_']],
    ['a$1, _b, größe', 'priority', 1, ['a$1', '_b', 'größe']],
    ['"x ""y"" (z)", ""', 'priority', 1, ['x "y" (z)', '']],
    ['\n\ta\r,\f\vb ', 'priority', 1, ['a', 'b']],
    ['5a', null, 0, []],
  ] as const)('%j is understood', (text, method, required, names) => {
    if (method === null) expect(refusalOf(text).detail).toBe('syntax error at or near "a"');
    else expect(parse(text)).toEqual({ method, required, names, text });
  });

  it.each([
    [' ', 'syntax error at end of input', 1],
    ['a b', 'syntax error at or near "b"', 2],
    ['a,', 'syntax error at end of input', 2],
    [',a', 'syntax error at or near ","', 0],
    ['FIRST', 'syntax error at end of input', 5],
    ['FIRST (a)', 'syntax error at or near "("', 6],
    ['ANY a (b)', 'syntax error at or near "a"', 4],
    ['2 (a', 'syntax error at end of input', 4],
    ['2 ()', 'syntax error at or near ")"', 3],
    ['2 (a) b', 'syntax error at or near "b"', 6],
    ['a, FIRST', 'syntax error at or near "FIRST"', 3],
    ['-1 (a)', 'syntax error at or near "-"', 0],
    ['a-b', 'syntax error at or near "-"', 1],
    ['a "b c"', 'syntax error at or near """', 2],
    ['"a', 'unterminated quoted identifier at end of input', 0],
  ] as const)('%j is refused: %s', (text, detail, index) => {
    expect(refusalOf(text)).toMatchObject({
      code: '42601',
      message: `invalid value for parameter "synchronous_standby_names": "${text}"`,
      detail,
      index,
    });
  });

  it.each([
    ['0 (a)', 0],
    ['ANY 0 (a)', 0],
    ['2147483648 (a)', -2147483648],
    ['4294967295 (a)', -1],
    ['99999999999999999999 (a)', -1],
  ])('%j asks for no number of standbys', (text, number) => {
    expect(refusalOf(text)).toMatchObject({
      code: '22023',
      message: `number of synchronous standbys (${number}) must be greater than zero`,
      detail: null,
    });
  });

  it('has a number that is read as a C program reads it', () => {
    expect(parse('4294967297 (a)').required).toBe(1);
    expect(parse('2147483647 (a)').required).toBe(2_147_483_647);
  });

  it('has an end', () => {
    const longest = 'a'.repeat(SYNC_NAMES_LENGTH_MAX);
    expect(parse(longest).names).toEqual([longest]);
    expect(refusalOf(`${longest}a`).message).toBe('synchronous_standby_names is too long');
  });

  it('says the same after it was written from what was read', () => {
    const name = fc.oneof(fc.string(), fc.constantFrom('*', 'first', '5', 'a"b', ''));
    const policies = fc.record({
      method: fc.constantFrom('priority' as const, 'quorum' as const),
      required: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      names: fc.array(name, { minLength: 1, maxLength: 20 }),
    });
    fc.assert(
      fc.property(policies, ({ method, required, names }) => {
        const quoted = names.map((one) => `"${one.replaceAll('"', '""')}"`).join(', ');
        const text = `${method === 'quorum' ? 'ANY' : 'FIRST'} ${required} (${quoted})`;
        expect(parse(text)).toEqual({ method, required, names, text });
      }),
    );
  });

  it('is either a policy or refused, whatever it is', () => {
    const piece = fc.constantFrom(...Array.from('aZ_9$ ,()*"-ä'), 'any ', 'FIRST', '12');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join('');
        if (text === '') return;
        try {
          expect(parse(text).names.length).toBeGreaterThan(0);
        } catch (error) {
          if (!(error instanceof SyncNamesError)) throw error;
          expect(error.index ?? 0).toBeLessThanOrEqual(text.length);
        }
      }),
    );
  });

  it('is among the samples in every form', () => {
    const taken = SYNC_NAMES_SAMPLES.filter((text) => {
      try {
        return parseSynchronousStandbyNames(text) !== null;
      } catch {
        return false;
      }
    });
    expect(taken.length).toBeGreaterThan(20);
    expect(SYNC_NAMES_SAMPLES.length - taken.length).toBeGreaterThan(20);
  });
});

describe('a name', () => {
  it.each([
    ['a, b', 'b', 2],
    ['a, b', 'B', 2],
    ['a, "B"', 'b', 2],
    ['a, *', 'a', 1],
    ['a, *', 'b', 2],
    ['*, a', 'a', 1],
    ['a, a', 'a', 1],
    ['a, b', 'ab', 0],
    ['"a "', 'a', 0],
    ['ANY 2 (a, b)', 'b', 1],
    ['ANY 2 (a, b)', 'c', 0],
    ['k', '\u212A', 0],
    ['"ä"', 'Ä', 0],
    ['""', '', 1],
  ] as const)('in %j, %j has priority %i', (text, applicationName, priority) => {
    expect(syncPriority(parse(text), applicationName)).toBe(priority);
  });

  it('has none without a policy', () => {
    expect(syncPriority(null, 'a')).toBe(0);
    expect(syncMembership(null, 'a')).toBe('none');
  });

  it('counts as named although a star is before it', () => {
    expect(syncMembership(parse('*, a'), 'A')).toBe('named');
    expect(syncMembership(parse('b, *'), 'a')).toBe('any');
    expect(syncMembership(parse('b, c'), 'a')).toBe('none');
    expect(syncMembership(parse('b, *'), '*')).toBe('any');
  });

  it.each([
    ['', 'none'],
    ['walcast', 'named'],
    ['WalCast', 'named'],
    ['a, "walcast"', 'named'],
    ['any 1 (a,walcast)', 'named'],
    ['*', 'any'],
    ['ANY 2 ("*")', 'any'],
    ['walcast2, "my walcast", "wal""cast"', 'none'],
    ['"FIRST 1 (walcast)"', 'none'],
  ] as const)('in the text %j of another server, walcast is %s', (text, membership) => {
    expect(syncMembershipIn(text, 'walcast')).toBe(membership);
  });

  it('is in no text that cannot be read', () => {
    expect(syncMembershipIn('FIRST 1 (a)', 'a')).toBe('named');
    expect(syncMembershipIn('EVERY 1 (a)', 'a')).toBe('none');
    expect(syncMembershipIn('', 'a')).toBe('none');
  });
});
