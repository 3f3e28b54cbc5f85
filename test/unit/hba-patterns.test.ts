// Regular expressions of rules: none takes long, whatever it and the name look like. What they match is compared with a
// real server in test/pg/hba-differential.test.ts.
import { describe, expect, test } from 'vitest';
import { parseHba } from '../../src/pg/hba.ts';
import { parseIdent } from '../../src/pg/ident.ts';
import {
  matchName,
  MATCHED_NAME_BYTES_MAX,
  PATTERN_CHARACTERS_MAX,
  readNamePattern,
} from '../../src/pg/name-pattern.ts';

/** What the first group took, true when there is none, false for no match. */
function match(pattern: string, name: string): string | boolean {
  const read = readNamePattern(pattern);
  if ('problem' in read) throw new Error(read.problem);
  const found = matchName(read, name);
  return found === null ? false : (found.group ?? true);
}

describe('a pattern', () => {
  test.each([
    ['^repl', 'replicator', true],
    ['^repl$', 'replicator', false],
    ['', 'anything', true],
    ['a|b', 'xb', true],
    ['^(?:a|b)+$', 'abba', true],
    ['^(.*)@example\\.com$', 'anne@example.com', 'anne'],
    ['(a+)(b+)', 'xaabb', 'aa'],
    ['(a)|b', 'b', true],
    // Bytes, not characters, as in a server that no one has connected to yet.
    ['^.$', 'ä', false],
    ['^..$', 'ä', true],
    ['^[ä]$', 'ä', false],
    ['^[^x]$', 'ä', false],
    ['^\\u00e4$', 'ä', false],
    ['^ä$', 'ä', true],
    ['^ä{2}$', 'ää', false],
    ['^(?:ä){2}$', 'ää', true],
    ['^[a-ÿ]+$', 'ä', true],
    ['^.{4}$', '\u{1F600}', true],
    ['[[:upper:]]', 'aÄ', false],
    ['\\mrep', 'a rep', true],
    ['\\mrep', 'arep', false],
    ['^a{2,3}$', 'aaaa', false],
    ['***=a.b', 'xa.b', true],
    ['***=a.b', 'xaxb', false],
    ['***:^a', 'ab', true],
    ['[]x]', ']', true],
    ['[^]x]', ']', false],
    ['\\x41', 'A', true],
  ])('%s on %s: %s', (pattern, name, expected) => {
    expect(match(pattern, name)).toBe(expected);
  });

  test.each([
    ['(a)\\1', 'back references cannot be used'],
    ['a(?=b)', 'looking ahead or behind cannot be used'],
    ['a(?<!b)', 'looking ahead or behind cannot be used'],
    ['(?i)a', 'embedded options cannot be used'],
    ['a'.repeat(PATTERN_CHARACTERS_MAX + 1), 'regular expression is too complex'],
    ['('.repeat(200) + ')'.repeat(200), 'regular expression is too complex'],
    ['((a{99}){99}){99}', 'regular expression is too complex'],
    ['(?:(?:(?:(?:){99}){99}){99}){99}', 'regular expression is too complex'],
  ])('%s is refused', (pattern, problem) => {
    expect(readNamePattern(pattern)).toEqual({ problem });
  });
});

describe('the time', () => {
  const long = 'a'.repeat(MATCHED_NAME_BYTES_MAX - 1);
  test.each([
    ['^(a+)+$', `${long}!`],
    ['^(a|a)*$', `${long}!`],
    ['^(a|aa)+$', `${long}!`],
    ['(.*)*x', long],
    ['(.*a){20}x', long],
    ['(((a*)*)*)*b', long],
    ['a?'.repeat(300) + 'a'.repeat(300) + 'b', long],
    [`[${'ä-ü'.repeat(250)}]{255}x`, 'ö'.repeat(MATCHED_NAME_BYTES_MAX / 2)],
  ])('of %.20s is bounded', (pattern, name) => {
    const started = performance.now();
    expect(match(pattern, name)).toBe(false);
    // A search that goes back would take longer than anybody waits.
    expect(performance.now() - started).toBeLessThan(2_000);
  });

  test('of a name without an end is none: it matches nothing', () => {
    expect(match('a', 'a'.repeat(MATCHED_NAME_BYTES_MAX + 1))).toBe(false);
  });

  test('of all patterns of a file together is bounded', () => {
    const wanted = [{ message: 'regular expressions are too complex, all of them together' }];
    expect(parseHba('host /^(?:a?){200}$ all all reject\n'.repeat(200))).toMatchObject(wanted);
    expect(parseIdent('m /^(?:a?){200}$ anne\n'.repeat(200))).toMatchObject(wanted);
    expect(parseHba('host /^anne all all reject\n'.repeat(200))).toHaveProperty('rules');
  });
});
