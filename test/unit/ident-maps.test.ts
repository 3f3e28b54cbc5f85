// Maps of names: who may be whom, and in which words it is told why not.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { findMapProblem, isMappedTo, NO_IDENT_MAPS, parseIdent } from '../../src/pg/ident.ts';
import type { IdentMaps } from '../../src/pg/ident.ts';

function mapsOf(...lines: string[]): IdentMaps {
  const parsed = parseIdent(lines.join('\n'));
  if ('lines' in parsed) return parsed;
  throw new Error(JSON.stringify(parsed));
}

describe('without a map', () => {
  test.each([null, ''])('(%j) names have to be the same, letter for letter', (map) => {
    const who = { map, systemUser: 'anne', user: 'anne' };
    expect(isMappedTo(NO_IDENT_MAPS, who)).toBe(true);
    expect(findMapProblem(NO_IDENT_MAPS, { ...who, user: 'Anne' })).toBe(
      'provided user name (Anne) and authenticated user name (anne) do not match',
    );
  });
});

describe('a map', () => {
  const maps = mapsOf(
    'm anne replicator',
    'm bert all',
    'm carl "all"',
    String.raw`m /^(.*)@example\.com$ \1`,
    String.raw`m "/^cn=([a-z]+),ou=(.*)$" team_\1_\1`,
    'm dora /^d[0-9]$',
    String.raw`m /^(.). \1`,
    'other emil emil',
  );

  test.each([
    ['anne', 'replicator', true],
    ['anne', 'anne', false],
    ['Anne', 'replicator', false],
    ['bert', 'anybody', true],
    ['carl', 'anybody', false],
    ['carl', 'all', true],
    ['fred@example.com', 'fred', true],
    ['fred@example.com', 'all', false],
    ['all@example.com', 'anybody', false],
    ['fred@example.com.evil', 'fred', false],
    ['fred@exampleXcom', 'fred', false],
    ['$&@example.com', '$&', true],
    [String.raw`\1@example.com`, String.raw`\1`, true],
    // Only the first place is filled in.
    ['cn=ab,ou=x', String.raw`team_ab_\1`, true],
    ['cn=ab,ou=x', 'team_ab_ab', false],
    ['dora', 'd1', true],
    ['dora', 'd12', false],
    ['emil', 'emil', false],
    ['jörg@example.com', 'jörg', true],
    // A group that ends within a character is no name at all, and not the sign for a broken one.
    ['ä', '\u{FFFD}', false],
  ])('%s as %s: %s', (systemUser, user, isAllowed) => {
    expect(isMappedTo(maps, { map: 'm', systemUser, user })).toBe(isAllowed);
  });

  test('that nobody wrote lets nobody in', () => {
    expect(findMapProblem(maps, { map: 'x', systemUser: 'anne', user: 'anne' })).toBe(
      'no match in usermap "x" for user "anne" authenticated as "anne"',
    );
  });

  test('that wants a part which the expression has not ends there, as a mistake', () => {
    const wrong = mapsOf(String.raw`m /^a$ \1`, 'm a b');
    expect(findMapProblem(wrong, { map: 'm', systemUser: 'a', user: 'b' })).toBe(
      String.raw`regular expression "^a$" has no subexpressions as requested by backreference in "\1"`,
    );
  });

  test('with a part that PostgreSQL could cut otherwise is refused', () => {
    for (const pattern of ['^(a*?)x', '^(a)*x', '^(?:(a)|b)+x', '(a)x??']) {
      expect(parseIdent(`m /${pattern} \\1`)).toMatchObject([
        { message: expect.stringContaining(String.raw`cannot be used with \1`) },
      ]);
      expect(parseIdent(`m /${pattern} anne`)).toHaveProperty('lines');
    }
  });

  test('takes any name without failing', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (systemUser, user) => {
        isMappedTo(maps, { map: 'm', systemUser, user });
      }),
    );
  });
});
