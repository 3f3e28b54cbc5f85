// Does a connection string that was written by the rules say the same when it is read?
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CONNINFO_OPTIONS } from '../../src/pg/conninfo-options.ts';
import { parseConninfoOptions } from '../../src/pg/conninfo-syntax.ts';
import { maskConninfo } from '../../src/pg/conninfo.ts';

type Options = Readonly<Record<string, string>>;

const VALUE = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.string({ unit: fc.constantFrom(..." '\\=%&?@:/,[]\t\nü€a".split('')) }),
);
const OPTIONS: fc.Arbitrary<Options> = fc.dictionary(
  fc.constantFrom(...CONNINFO_OPTIONS.keys()),
  VALUE.filter((text) => !/\p{Cs}/u.test(text)),
);

function read(text: string): unknown {
  const options = parseConninfoOptions(text);
  return 'error' in options ? options.error : Object.fromEntries(options);
}

function quoted(value: string): string {
  return `'${value.replaceAll(/['\\]/g, '\\$&')}'`;
}

function bare(value: string): string {
  return value.replaceAll(/['\\\s]/g, '\\$&');
}

function inQuery(options: Options): string {
  return Object.entries(options)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join('&');
}

describe('a connection string', () => {
  it('gives back what was written in the keyword form', () => {
    fc.assert(
      fc.property(OPTIONS, fc.constantFrom('=', ' = ', '\n=\t'), (options, equals) => {
        const pairs = Object.entries(options);
        const text = pairs.map(([name, value]) => `${name}${equals}${quoted(value)}`).join(' ');
        expect(read(text)).toEqual(options);
        const plain = pairs.filter(([, value]) => value !== '');
        const unquoted = plain.map(([name, value]) => `${name}=${bare(value)}`).join(' ');
        expect(read(unquoted)).toEqual(Object.fromEntries(plain));
      }),
      { numRuns: 1_000 },
    );
  });

  it('gives back what was written in the URI form', () => {
    fc.assert(
      fc.property(OPTIONS, (options) => {
        expect(read(`postgresql://?${inQuery(options)}`)).toEqual(options);
        const { user = '', password = '', dbname = '', ...others } = options;
        const credentials = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
        const uri = `postgres://${credentials}@/${encodeURIComponent(dbname)}?${inQuery(others)}`;
        const parts = Object.entries({ user, password, dbname }).filter(([, text]) => text !== '');
        expect(read(uri)).toEqual({ ...others, ...Object.fromEntries(parts) });
      }),
      { numRuns: 1_000 },
    );
  });

  it('is read or refused, and masked, whatever it is', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'binary' }).map((rest) => `postgres://${rest}`),
      fc.string({ unit: fc.constantFrom(..."host= '\\:/@?&%20[],".split('')) }),
    );
    fc.assert(
      fc.property(text, (anything) => {
        const options = parseConninfoOptions(anything);
        if ('error' in options) expect(options.error).not.toBe('');
        expect(typeof maskConninfo(anything)).toBe('string');
      }),
      { numRuns: 1_000 },
    );
  });
});
