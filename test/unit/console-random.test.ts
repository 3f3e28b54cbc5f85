// Whatever a client of the console sends, it is answered in order, and nothing but its own session can end.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConsoleError } from '../../src/console/console-error.ts';
import { intervalCell, inetCell, timestamptzCell, xidCell } from '../../src/console/cells.ts';
import { ConsoleOpener } from '../../src/console/opener.ts';
import { parseStatements } from '../../src/console/statement.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { ProtocolViolation } from '../../src/base/errors.ts';
import { decodeExtendedMessage } from '../../src/wire/extended-query.ts';
import type { ExtendedLetter } from '../../src/wire/extended-query.ts';
import { sampleConsole } from '../support/console-source.ts';
import { cstr } from '../support/naive-writer.ts';

/** Words that statements are made of, and some that they are not. */
const WORDS: readonly string[] = [
  'SELECT * FROM pg_stat_replication pg_catalog . WHERE AND = <> pid state application_name sent_lsn',
  "'a' 1 ( ) , ; count AS ORDER BY DESC LIMIT IN NOT IS NULL SHOW all SET TO version BEGIN COMMIT",
  `ROLLBACK DEALLOCATE DISCARD $1 " ' /* -- \n :: text`,
  'pg_class pg_attribute pg_settings relname "Schema" relkind oid LIKE ~ OPERATOR UNION VALUES pg_replication_slots active NOT true',
  "STANDBYS UPSTREAM HBA CONFIG E'a\\\\' '^(a|b)*$' 'pg%' relchecks attname",
  'RELOAD PAUSE upstream KILL 42 CREATE DROP SLOT RESERVE_WAL SHUTDOWN WAIT_FOR_CLIENTS',
].flatMap((words) => words.split(' '));
const statements = fc
  .array(fc.constantFrom(...WORDS), { maxLength: 16 })
  .map((words) => words.join(' '));

function open(): { send: (type: string, body: Uint8Array) => unknown; types: () => string } {
  let types = '';
  const session = new ConsoleOpener(sampleConsole()).open({
    pid: 10_000_001,
    user: 'ops',
    peer: { address: '10.0.0.9', port: 50_000 },
    facts: versionFacts(18),
    serverVersion: '18.1',
    walcastVersion: '0.1.0',
    parameters: new Map([['TimeZone', 'UTC']]),
    settings: new Map(),
    ownSettings: () => new Map(),
    write: (chunks) => {
      for (const chunk of chunks) types += String.fromCharCode(chunk[0] ?? 0);
    },
  });
  return { send: (type, body) => session.onMessage(type.charCodeAt(0), body), types: () => types };
}

describe('text', () => {
  it('of any kind is read or refused, never crashed over', () => {
    fc.assert(
      fc.property(fc.oneof(statements, fc.string(), fc.string({ unit: 'binary' })), (sql) => {
        try {
          parseStatements(sql);
        } catch (error) {
          expect(error).toBeInstanceOf(ConsoleError);
        }
      }),
    );
  });

  it.each([
    ['quotes', `SELECT '${"''".repeat(30_000)}'`],
    ['blanks', `SELECT${' '.repeat(60_000)}1`],
    ['comments', `SELECT ${'/**/'.repeat(15_000)} 1`],
    ['comments in comments', `${'/*'.repeat(15_000)}${'*/'.repeat(15_000)}SELECT 1`],
    ['an open quote behind open comments', `${'/* '.repeat(20_000)}`],
    ['commas', `SELECT 1${',1'.repeat(30_000)}`],
    ['words', `SELECT ${'a.'.repeat(30_000)}b`],
    ['semicolons', ';'.repeat(60_000)],
    ['statements', 'SELECT 1;'.repeat(7_000)],
  ])('of 60 kB is taken apart in no time: %s', (_name, sql) => {
    const { send, types } = open();
    const before = process.cpuUsage().user;
    send('Q', cstr(sql));
    expect((process.cpuUsage().user - before) / 1000).toBeLessThan(500);
    expect(types().endsWith('Z')).toBe(true);
  });
});

describe('messages', () => {
  it('of the extended protocol are read, or refused with 08P01 or 22023', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<ExtendedLetter>('P', 'B', 'D', 'E', 'C'),
        fc.uint8Array(),
        (letter, body) => {
          try {
            decodeExtendedMessage(letter, body);
          } catch (error) {
            expect(error).toBeInstanceOf(ProtocolViolation);
          }
        },
      ),
    );
  });

  it('each Query and each Sync gets one ReadyForQuery, whatever came before', () => {
    const body = fc.oneof(
      statements.map(cstr),
      statements.map((sql) => Buffer.concat([cstr(''), cstr(sql), Buffer.alloc(2)])),
      fc.constantFrom(
        Buffer.alloc(8),
        Buffer.from('S\0'),
        Buffer.from('P\0'),
        Buffer.from('\0\0\0\0\0'),
      ),
      fc.uint8Array({ maxLength: 40 }),
    );
    const letters = fc.constantFrom('Q', 'P', 'B', 'D', 'E', 'C', 'H', 'S', 'd', 'c', 'F');
    fc.assert(
      fc.property(fc.array(fc.tuple(letters, body), { maxLength: 30 }), (messages) => {
        const { send, types } = open();
        for (const [letter, bytes] of messages) {
          const before = types().length;
          expect(send(letter, bytes)).toBe('open');
          const answer = types().slice(before);
          if (letter === 'S') expect(answer).toBe(bytes.length === 0 ? 'Z' : 'EZ');
        }
        send('S', Buffer.alloc(0));
        const before = types().length;
        send('Q', cstr('ROLLBACK; SELECT 1'));
        expect(types().slice(before)).toMatch(/^N?CTDCZ$/);
      }),
    );
  });
});

describe('values', () => {
  it.each([
    [0, '00:00:00'],
    [0.0001234, '00:00:00.000123'],
    [1.5, '00:00:01.5'],
    [59.999999, '00:00:59.999999'],
    [3600, '01:00:00'],
    [360_000.25, '100:00:00.25'],
    [-1.5, '-00:00:01.5'],
  ])('an interval of %d s is written %s', (seconds, text) => {
    expect(intervalCell(seconds).text).toBe(text);
  });

  it('a time is written with as many digits as it has', () => {
    expect(timestamptzCell(1_700_000_000_000)?.text).toBe('2023-11-14 22:13:20+00');
    expect(timestamptzCell(1_700_000_000_120.5)?.text).toBe('2023-11-14 22:13:20.1205+00');
  });

  it.each([
    [-62_135_596_800_000, '0001-01-01 00:00:00+00'],
    [-62_135_596_800_001, undefined],
    [-1, '1969-12-31 23:59:59.999+00'],
    [253_402_300_799_999, '9999-12-31 23:59:59.999+00'],
    [253_402_300_800_000, undefined],
    [9.3e15, undefined],
    [-9.3e15, undefined],
    [Number.NaN, undefined],
    [Number.POSITIVE_INFINITY, undefined],
  ])('a clock that a peer made up, %d, is written or unknown', (unixMs, text) => {
    expect(timestamptzCell(unixMs)?.text).toBe(text);
  });

  it('an address has no zone, a transaction id no epoch', () => {
    expect(inetCell('fe80::1%eth0')?.text).toBe('fe80::1');
    expect(inetCell('10.0.0.7')?.binary()).toEqual(Uint8Array.of(2, 32, 0, 4, 10, 0, 0, 7));
    expect(inetCell('::1')?.binary().slice(0, 4)).toEqual(Uint8Array.of(3, 128, 0, 16));
    expect(inetCell('nowhere')).toBeNull();
    expect(xidCell((5n << 32n) + 4_294_967_295n).text).toBe('4294967295');
  });
});
