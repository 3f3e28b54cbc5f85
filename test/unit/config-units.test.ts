// Do sizes, times, addresses and near misses read as PostgreSQL and its users expect?
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseListenAddress, parseTcpAddress } from '../../src/config/address.ts';
import { suggest } from '../../src/config/suggest.ts';
import { fromBaseUnit, parseNumberWithUnit } from '../../src/config/units.ts';
import type { BaseUnit } from '../../src/config/units.ts';

function read(text: string, unit: BaseUnit | null): number | string {
  const parsed = parseNumberWithUnit(text, unit);
  return 'value' in parsed ? parsed.value : parsed.problem;
}

describe('sizes and times', () => {
  test.each<[string, BaseUnit | null, number]>([
    ['1GB', 'MB', 1024],
    ['10 GB', 'MB', 10 * 1024],
    ['16', 'MB', 16],
    ['1.5GB', 'MB', 1536],
    ['512kB', 'MB', 0],
    ['1536kB', 'MB', 2],
    ['0x10', 'MB', 16],
    ['-1', 'MB', -1],
    ['1min', 'ms', 60_000],
    ['60s', 'ms', 60_000],
    ['1500us', 'ms', 2],
    ['2500us', 'ms', 2],
    ['30d', 's', 2_592_000],
    ['500ms', 's', 0],
    ['1e3', null, 1000],
    [' 7 ', null, 7],
    ['64MB', 'B', 64 * 1024 * 1024],
  ])('%s of a setting in %s is %d', (text, unit, value) => {
    expect(read(text, unit)).toBe(value);
  });

  test.each<[string, BaseUnit | null, string]>([
    ['', 'MB', 'is not a number'],
    ['GB', 'MB', 'is not a number'],
    ['1e309', 'MB', 'is out of range'],
    ['NaN', 's', 'is not a number'],
    ['10 gb', 'MB', 'has the unknown unit "gb"'],
    ['10s', 'MB', 'has the unknown unit "s"'],
    ['10MB', 's', 'has the unknown unit "MB"'],
    ['5s', null, 'takes no unit'],
    ['010', 'MB', 'starts with a zero'],
    ['1 0', 'MB', 'is not a number'],
  ])('%s of a setting in %s is refused: %s', (text, unit, problem) => {
    expect(read(text, unit)).toBe(problem);
  });

  // Strangers send them, too (GET /readyz?lag=…): with a second of its own for each, they would hold up everything else.
  test.each([
    ['digits', `${'1'.repeat(30_000)}!`],
    ['digits on both sides of a point', `${'1'.repeat(15_000)}.${'1'.repeat(15_000)}!`],
    ['digits of an exponent', `1e${'1'.repeat(30_000)}!`],
    ['digits of the other base', `0x${'1'.repeat(30_000)}!`],
    ['space', `1${' '.repeat(30_000)}!`],
    ['letters', `1 ${'k'.repeat(30_000)}!`],
    ['only space', ' '.repeat(30_000)],
  ])('however many there are, no %s take long', (_what, text) => {
    const takenMs = [1, 2, 3].map(() => {
      const startMs = performance.now();
      expect(read(text, 'B')).toBe('is not a number');
      return performance.now() - startMs;
    });
    expect(Math.min(...takenMs)).toBeLessThan(100);
  });

  test('an unknown unit is answered with the list PostgreSQL gives', () => {
    expect(parseNumberWithUnit('1 X', 'kB')).toMatchObject({
      hint: 'Valid units for this parameter are "B", "kB", "MB", "GB", and "TB".',
    });
  });

  test('a whole number of base units comes back as bytes or milliseconds', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 31 - 1), (count) => {
        const megabytes = parseNumberWithUnit(`${count}MB`, 'MB');
        expect(megabytes).toEqual({ value: count });
        expect(fromBaseUnit(count, 'MB')).toBe(count * 1024 * 1024);
        expect(fromBaseUnit(count, 's')).toBe(count * 1000);
      }),
    );
  });
});

describe('addresses', () => {
  test.each([
    ['127.0.0.1:5432', '127.0.0.1', 5432],
    ['localhost:0', 'localhost', 0],
    ['*:5432', '*', 5432],
    ['[::1]:9188', '::1', 9188],
    ['pg-a.example.com:65535', 'pg-a.example.com', 65535],
  ])('%s is a TCP address', (text, host, port) => {
    expect(parseListenAddress(text)).toEqual({ address: { kind: 'tcp', host, port } });
  });

  test.each([
    '',
    '5432',
    ':5432',
    'localhost',
    'localhost:',
    'a b:1',
    '::1:5432',
    'h:65536',
    'h:-1',
  ])('%j is refused with an example', (text) => {
    expect(parseTcpAddress(text)).toMatchObject({
      problem: expect.stringContaining('is no address'),
    });
  });

  test('a directory is a Unix socket named as PostgreSQL names it', () => {
    expect(parseListenAddress('/run/walcast/')).toEqual({
      address: {
        kind: 'unix',
        directory: '/run/walcast',
        port: 5432,
        path: '/run/walcast/.s.PGSQL.5432',
      },
    });
    expect(parseListenAddress('/run:6000')).toMatchObject({
      address: { path: '/run/.s.PGSQL.6000' },
    });
  });

  test('a socket path longer than the kernel takes is refused', () => {
    expect(parseListenAddress(`/${'d'.repeat(100)}`)).toMatchObject({
      problem: expect.stringContaining('is too long (maximum 107 bytes)'),
    });
  });
});

describe('suggestions', () => {
  const keys = ['conninfo', 'slot', 'application_name', 'wal_keep_size'];

  test.each([
    ['conninfos', 'conninfo'],
    ['wal-keep-size', 'wal_keep_size'],
    ['SLOT', 'slot'],
    ['slto', 'slot'],
    ['aplication_nmae', 'application_name'],
  ])('%s was meant to be %s', (word, meant) => {
    expect(suggest(word, keys)).toBe(meant);
  });

  test.each(['x', 'password', ''])('%j looks like none', (word) => {
    expect(suggest(word, keys)).toBeNull();
  });

  test('a very long word takes no time and suggests nothing', () => {
    expect(suggest('a'.repeat(1_000_000), keys)).toBeNull();
  });
});
