// Can a secret of a connection string be read in a log?
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SECRET_OPTIONS } from '../../src/pg/conninfo-options.ts';
import { parseConninfoOptions } from '../../src/pg/conninfo-syntax.ts';
import { maskConninfo, parseConninfo } from '../../src/pg/conninfo.ts';

describe('maskConninfo', () => {
  it.each([
    ['host=a user=b', 'host=a user=b'],
    ['host=a password=secret user=b', 'host=a password=*** user=b'],
    ["password = 'sec ret' user=b", 'password = *** user=b'],
    ["password='sec\\'ret'", 'password=***'],
    ['sslpassword=secret', 'sslpassword=***'],
    ['scram_client_key=secret', 'scram_client_key=***'],
    ['oauth_client_secret=secret', 'oauth_client_secret=***'],
    ['host=a password=sec ret', 'host=a password=*** ***'],
    ["host=a password='secret", 'host=a ***'],
    ['pasword=secret host=a', 'pasword=*** host=a'],
    ['requiressl=1 host=a', 'requiressl=1 host=a'],
    ['postgres://u@h/d', 'postgres://u@h/d'],
    ['postgres://h:5432/d', 'postgres://h:5432/d'],
    ['postgres://h:5432/d?options=a@b', 'postgres://h:5432/d?options=a@b'],
    ['postgres://u:secret@h:1/d?user=y', 'postgres://u:***@h:1/d?user=y'],
    ['postgres://u:secret@h:1/d?x=y', 'postgres://u:***@h:1/d?***'],
    ['postgres://u:sec@ret@h', 'postgres://u:***@h'],
    ['postgres://u:sec/ret@h', 'postgres://u:***@h'],
    ['postgres://u:sec?ret@h/d?user=x', 'postgres://u:***@h/d?user=x'],
    ['postgres://u:sec/r?et@h', 'postgres://u:***@h'],
    ['postgres://:secret@h', 'postgres://:***@h'],
    ['postgres://h?user=u&password=secret&port=1', 'postgres://h?user=u&password=***&port=1'],
    ['postgres://h?ssl=true&', 'postgres://h?ssl=true&'],
    ['postgres://h? password =secret', 'postgres://h? password =***'],
    ['postgres://h?pass%77ord=secret', 'postgres://h?pass%77ord=***'],
    ['postgres://h?pass%zz=secret', 'postgres://h?***'],
    ['postgres://h?user=password=secret', 'postgres://h?***'],
    ['postgres://[a?b]/d?password=secret', 'postgres://[a?***'],
  ])('shows %s as %s', (text, shown) => {
    expect(maskConninfo(text)).toBe(shown);
  });

  it('never shows a secret that was given by the rules', () => {
    const password = fc.string({ minLength: 1 }).map((text) => `<${text}>`);
    const keyword = fc.constantFrom(...SECRET_OPTIONS);
    fc.assert(
      fc.property(password, keyword, (secret, name) => {
        const quoted = `'${secret.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
        expect(maskConninfo(`host=h ${name}=${quoted} user=u`)).toBe(`host=h ${name}=*** user=u`);
        const encoded = encodeURIComponent(secret);
        expect(maskConninfo(`postgres://u:${encoded}@h/d?${name}=${encoded}`)).toBe(
          `postgres://u:***@h/d?${name}=***`,
        );
      }),
    );
  });

  it('shows no secret of any text that is accepted', () => {
    const piece = fc.constantFrom(
      ...'SECRET SECRET password user host ssl sslpassword pass%77ord'.split(' '),
      ..."= = ' \\ , @ @ : : / ? ? & % [ ] %20 a".split(' '),
      ' ',
    );
    const start = fc.constantFrom('', 'postgres://', 'postgresql://u:', 'postgres://u:SECRET');
    let accepted = 0;
    fc.assert(
      fc.property(start, fc.array(piece, { maxLength: 12 }), (prefix, pieces) => {
        // Each has its own name: the same word as a password and as a host that a later option replaces is no leak.
        let count = 0;
        const text = (prefix + pieces.join('')).replaceAll('SECRET', () => `SECRET${count++}.`);
        const options = parseConninfoOptions(text);
        if ('error' in options) return;
        const secrets = [...options]
          .filter(([name]) => SECRET_OPTIONS.has(name))
          .flatMap(([, value]) => value.match(/SECRET\d+\./g) ?? []);
        if (secrets.length === 0) return;
        accepted += 1;
        const shown = maskConninfo(text);
        expect(secrets.filter((secret) => shown.includes(secret))).toEqual([]);
      }),
      {
        numRuns: 20_000,
        examples: [['postgres://u:SECRET', ['@', 'SECRET', '?', 'host', '=']]],
      },
    );
    expect(accepted).toBeGreaterThan(100);
  });
});

describe('what is said about a URI whose password should have been percent-encoded holds no part of it:', () => {
  it.each([
    'postgres://u:SEC/RET@h',
    'postgres://u:SEC/RET@h:5432/d?sslmode=require',
    'postgres://u:SEC@RET@h',
    'postgres://u:SEC@RET@h:5432,h2',
    'postgres://u:1/S?SECRET@h',
    'postgres://u:1/S?SEC=RET@h',
    'postgres://u:1/S?SEC=RET@h=x',
    'postgres://u:1/SEC%RET@h',
    'postgres://u:1/SEC RET@h',
    'postgres://u:SEC RET@h',
    'postgres://u:SEC%RET@h',
    'postgres://u:SEC%00RET@h',
  ])('%s', (uri) => {
    const parsed = parseConninfo(uri);
    expect('error' in parsed ? parsed.error : 'taken').not.toMatch(/SEC|RET|taken/);
  });
});
