// Lists of users as PgBouncer writes them, and the secrets in them.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readPasswordSecret } from '../../src/pg/password-secret.ts';
import { formatUserListLine, parseUserList } from '../../src/pg/user-list.ts';

/** Of RFC 7677's example password "pencil". */
const SCRAM =
  'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=';
const MD5 = 'md5a3556571e93b0d20722ba62be61e8c2d';

describe('a secret', () => {
  test('of SCRAM is taken apart', () => {
    expect(readPasswordSecret(SCRAM)).toMatchObject({
      kind: 'scram',
      iterations: 4_096,
      salt: Uint8Array.from(Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64')),
      storedKey: expect.objectContaining({ length: 32 }),
      serverKey: expect.objectContaining({ length: 32 }),
      text: SCRAM,
    });
  });

  test.each([
    [MD5, 'md5'],
    [MD5.toUpperCase(), 'plain'],
    [MD5.slice(0, -1), 'plain'],
    [`${MD5}0`, 'plain'],
    ['md5', 'plain'],
    ['pencil', 'plain'],
    ['SCRAM-SHA-1$x', 'plain'],
    ['scram-sha-256$4096:', 'plain'],
  ])('%s is %s, as PostgreSQL takes it', (text, kind) => {
    expect(readPasswordSecret(text)).toMatchObject({ kind });
  });

  test.each([
    ['SCRAM-SHA-256$'],
    [SCRAM.slice(0, -1)],
    [`${SCRAM}=`],
    [`${SCRAM} `],
    [SCRAM.replace('4096', '0')],
    [SCRAM.replace('4096', '-1')],
    [SCRAM.replace('4096', '4294967296')],
    [SCRAM.replace('W22ZaJ0SNY7soEsUEjb6gQ==', '')],
    [SCRAM.replace('W22ZaJ0S', 'W22Za*0S')],
    [SCRAM.replace('W22ZaJ0SNY7soEsUEjb6gQ==', 'QUJD'.repeat(400))],
    [SCRAM.replace('WG5d8oPm', '')],
  ])('%s is none, and nobody can log in with its text', (text) => {
    const read = readPasswordSecret(text);
    expect(read).toEqual({ problem: expect.stringContaining('SCRAM-SHA-256') });
    expect(JSON.stringify(read)).not.toContain('WG5d8oPm');
  });

  test.each([
    ['', 'the secret is empty'],
    ['x'.repeat(2048), 'the secret has more than 2047 characters'],
    ['a\0b', 'the secret holds a zero byte'],
    ['********', 'the secret is a mask that stands for one, as pg_user and pg_roles show it'],
    ['***', 'the secret is a mask that stands for one, as pg_user and pg_roles show it'],
  ])('%j is refused', (text, problem) => {
    expect(readPasswordSecret(text)).toEqual({ problem });
  });
});

describe('a list', () => {
  test('is read as PgBouncer reads it', () => {
    const list = parseUserList(
      [
        '; comment',
        `"anne" "${SCRAM}"`,
        '',
        `  "bert"\t"${MD5}"   "what stands here is left out"\r`,
        '"a ""b""" "se""cret"',
        '"cert" ""',
        '"dora"   "x";',
      ].join('\n'),
    );
    if (!('users' in list)) throw new Error(JSON.stringify(list));
    expect([...list.users].map(([name, { kind }]) => [name, kind])).toEqual([
      ['anne', 'scram'],
      ['bert', 'md5'],
      ['a "b"', 'plain'],
      ['dora', 'plain'],
    ]);
    expect(list.users.get('a "b"')).toEqual({ kind: 'plain', password: 'se"cret' });
    expect(list.lines.get('cert')).toBe(6);
  });

  test('with wrong lines is none, and each is told without its secret', () => {
    const text = '"a" "one"\nb "two"\n"c"\n"d" "three\n"a" "four"\n"" "five"\n"e"x "six"\n';
    const errors = parseUserList(text);
    expect(errors).toMatchObject([
      { line: 2, message: expect.stringContaining('"name" "secret"') },
      { line: 3 },
      { line: 4 },
      { line: 5, message: 'user "a" is given twice' },
      { line: 6, message: 'the name of a user is empty' },
      { line: 7 },
    ]);
    expect(JSON.stringify(errors)).not.toMatch(/one|two|three|four|five|six/);
  });

  test.each(['"a" "cut""', '"a""b"', '"a" "x""y', '"a""" b"'])(
    'with %s is none: a quote that is written twice ends no word',
    (line) => {
      expect(parseUserList(line)).toMatchObject([{ line: 1 }]);
    },
  );

  test('has names of 63 bytes at most, without control characters', () => {
    expect(parseUserList(`"${'ä'.repeat(31)}" "x"`)).toHaveProperty('users');
    expect(parseUserList(`"${'ä'.repeat(32)}" "x"`)).toMatchObject([{ line: 1 }]);
    expect(parseUserList('"a\tb" "x"')).toMatchObject([{ line: 1 }]);
  });

  test('gives back whatever was written as a line', () => {
    const name = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 15 })
      .filter((text) => !/\p{Cc}/u.test(text) && Buffer.byteLength(text) <= 63);
    const secret = fc
      .string({ minLength: 1, maxLength: 100 })
      .filter((text) => !/[\n\0]|^\*+$/.test(text) && !text.startsWith('SCRAM-SHA-256$'));
    fc.assert(
      fc.property(name, secret, (user, password) => {
        const list = parseUserList(formatUserListLine(user, password));
        const read = 'users' in list ? list.users.get(user) : undefined;
        expect(read).toEqual({ kind: 'plain', password });
      }),
    );
  });

  test('takes no longer than it is long', () => {
    const started = performance.now();
    parseUserList('"'.repeat(1_000_000));
    parseUserList(`"a" "${'""'.repeat(500_000)}`);
    parseUserList(`${' '.repeat(1_000_000)}x`);
    expect(performance.now() - started).toBeLessThan(1_000);
  });
});
