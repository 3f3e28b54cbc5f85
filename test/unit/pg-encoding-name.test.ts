// Are the names of character sets PostgreSQL's?
import { expect, it } from 'vitest';
import { encodingName } from '../../src/pg/encoding-name.ts';

it.each([
  ['UTF8', 'UTF8'],
  ['utf-8', 'UTF8'],
  ['Unicode', 'UTF8'],
  ["'UTF8'", 'UTF8'],
  ['latin1', 'LATIN1'],
  ['ISO_8859-1', 'LATIN1'],
  ['iso8859-15', 'LATIN9'],
  ['ISO-8859-5', 'ISO_8859_5'],
  ['sqlascii', 'SQL_ASCII'],
  ['win1252', 'WIN1252'],
  ['Windows-932', 'SJIS'],
  ['euc_jp', 'EUC_JP'],
  ['mule_internal', 'MULE_INTERNAL'],
])('%s is %s', (name, expected) => {
  expect(encodingName(name)).toBe(expected);
});

it.each(['', 'bogus', 'UTF9', '--', 'toString', `UTF8${'-'.repeat(60)}`])(
  '"%s" is none',
  (name) => {
    expect(encodingName(name)).toBeNull();
  },
);
