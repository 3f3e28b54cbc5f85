import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sanitizeApplicationName } from '../../src/pg/application-name.ts';
import { versionFacts } from '../../src/pg/server-version.ts';

const before16 = versionFacts(15);
const since16 = versionFacts(16);

describe('sanitizeApplicationName', () => {
  it('leaves printable ASCII alone', () => {
    expect(sanitizeApplicationName('standby_a ~!', since16)).toBe('standby_a ~!');
    expect(sanitizeApplicationName('', since16)).toBe('');
  });

  it('replaces each other byte as the version does', () => {
    expect(sanitizeApplicationName('a\tü\x7f', before16)).toBe('a????');
    expect(sanitizeApplicationName('a\tü\x7f', since16)).toBe('a\\x09\\xc3\\xbc\\x7f');
  });

  it('keeps 63 bytes', () => {
    expect(sanitizeApplicationName('x'.repeat(64), since16)).toBe('x'.repeat(63));
    expect(sanitizeApplicationName(`${'x'.repeat(62)}ü`, before16)).toBe(`${'x'.repeat(62)}?`);
    expect(sanitizeApplicationName(`${'x'.repeat(61)}ü`, since16)).toBe(`${'x'.repeat(61)}\\x`);
  });

  it('gives at most 63 printable characters, and cleans its own output no further', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (name) => {
        const clean = sanitizeApplicationName(name, since16);
        expect(clean).toMatch(/^[\x20-\x7e]{0,63}$/);
        expect(sanitizeApplicationName(clean, since16)).toBe(clean);
      }),
    );
  });
});
