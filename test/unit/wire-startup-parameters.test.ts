import { describe, expect, it } from 'vitest';
import {
  parseReplicationParameter,
  parseStartupOptions,
} from '../../src/wire/startup-parameters.ts';

describe('parseReplicationParameter', () => {
  it.each(['true', 't', 'TRUE', 'tr', 'yes', 'y', 'on', 'ON', '1'])('takes %s for on', (value) => {
    expect(parseReplicationParameter(value)).toBe('physical');
  });

  it.each(['false', 'f', 'no', 'N', 'of', 'off', '0'])('takes %s for off', (value) => {
    expect(parseReplicationParameter(value)).toBe('off');
  });

  it('takes "database" only in lower case', () => {
    expect(parseReplicationParameter('database')).toBe('database');
    expect(() => parseReplicationParameter('Database')).toThrow(
      expect.objectContaining({ code: '22023' }),
    );
  });

  it.each(['', 'o', 'maybe', 'truee', '10', ' true', 'data'])('refuses "%s"', (value) => {
    expect(() => parseReplicationParameter(value)).toThrow(
      expect.objectContaining({
        code: '22023',
        message: `invalid value for parameter "replication": "${value}"`,
      }),
    );
  });
});

describe('parseStartupOptions', () => {
  it.each([
    ['', []],
    ['   ', []],
    ['-c a=b', [['a', 'b']]],
    ['-ca=b', [['a', 'b']]],
    ['--wal-sender-timeout=5s', [['wal_sender_timeout', '5s']]],
    [
      '-c  a=b\t--c=d',
      [
        ['a', 'b'],
        ['c', 'd'],
      ],
    ],
    ['-c a=x\\ y\\\\z', [['a', 'x y\\z']]],
    ['-c a=', [['a', '']]],
    ['-c a=b=c', [['a', 'b=c']]],
    ['-c a=b\\', [['a', 'b']]],
    ['-c a=b --', [['a', 'b']]],
    ['-- ', []],
  ])('reads %j', (options, settings) => {
    expect(parseStartupOptions(options)).toEqual(settings);
  });

  it.each([
    ['-c a', '-c a requires a value'],
    ['-c', 'invalid command-line argument for server process: -c'],
    ['-c a=b -c', 'invalid command-line argument for server process: -c'],
    ['--a', '--a requires a value'],
    ['-x', 'invalid command-line argument for server process: -x'],
    ['-- -c', 'invalid command-line argument for server process: -c'],
    ['-- a', 'invalid command-line argument for server process: a'],
    ['a=b', 'invalid command-line argument for server process: a=b'],
  ])('refuses %j', (options, message) => {
    expect(() => parseStartupOptions(options)).toThrow(
      expect.objectContaining({ code: '42601', message }),
    );
  });
});
