// Which rows does WHERE keep, with values written out and with values bound to parameters?
import { describe, expect, it } from 'vitest';
import { parameterTypes, readParameters } from '../../src/console/parameters.ts';
import { i32, i64 } from '../support/naive-writer.ts';
import { sampleConsole } from '../support/console-source.ts';
import { paperSession } from '../support/console-session.ts';
import type { PaperSession } from '../support/console-session.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';

const FREE = {
  name: 'free',
  temporary: false,
  activePid: null,
  inactiveSinceMs: 0,
  safeWalSize: null,
};

function session(): PaperSession {
  const status = sampleStatus({ standbys: [sampleStandby(), sampleStandby({ pid: 43 })] });
  const [slot] = status.slots;
  const slots = slot === undefined ? [] : [slot, { ...slot, ...FREE }];
  return paperSession(sampleConsole(() => ({ ...status, slots })));
}

function names(where: string, parameters?: readonly (string | null)[]): string[] | string {
  const sql = `SELECT slot_name FROM pg_replication_slots WHERE ${where}`;
  const { rows, error } =
    parameters === undefined ? session().ask(sql) : session().prepare(sql, { parameters });
  return error ?? rows.map(([name]) => name?.toString() ?? '');
}

describe('a condition', () => {
  it.each([
    ['active', ['slot_a']],
    ['NOT active', ['free']],
    ['active = true', ['slot_a']],
    ["active = 'f'", ['free']],
    ['active <> false AND NOT temporary', ['slot_a']],
    ['active IS NOT NULL', ['slot_a', 'free']],
    ["slot_name IN ('free', 'other')", ['free']],
    ['active_pid = 42', ['slot_a']],
    ['active_pid <> 42', []],
    ['safe_wal_size = 60000000', ['slot_a']],
    ["safe_wal_size IN (' +60000000 ')", ['slot_a']],
    ['safe_wal_size IS NULL', ['free']],
    ['slot_name', '42804 argument of WHERE must be type boolean'],
    ['NOT slot_type', '42804 argument of NOT must be type boolean'],
    ['active = 2', "0A000 this statement is not supported by walcast's console"],
    ["active = 'maybe'", "0A000 this statement is not supported by walcast's console"],
    ["active_pid = 'x'", "0A000 this statement is not supported by walcast's console"],
    ['slot_name = 1', "0A000 this statement is not supported by walcast's console"],
    ["restart_lsn = '0/1'", "0A000 this statement is not supported by walcast's console"],
  ])('%s', (where, wanted) => {
    expect(names(where)).toEqual(wanted);
  });
});

it.each([
  'SELECT DISTINCT state FROM pg_stat_replication',
  'SELECT true',
  'SELECT NULL',
  'SELECT current_timestamp',
  'SELECT CASE WHEN active THEN 1 END FROM pg_replication_slots',
  'SELECT FROM pg_stat_replication',
  'SELECT pid FROM pg_stat_replication WHERE NOT NOT pid',
  'SELECT pid FROM pg_stat_replication ORDER BY CASE pid WHEN 1 THEN 2 END',
])('what is not understood is not looked for among the columns: %s', (sql) => {
  expect(session().ask(sql).error).toMatch(/^0A000 /);
  expect(session().ask('SELECT "distinct" FROM pg_stat_replication').error).toMatch(/^42703 /);
});

describe('a parameter', () => {
  it.each([
    ['slot_name = $1', ['free'], ['free']],
    ['slot_name = $1::text', ['slot_a'], ['slot_a']],
    ['slot_name IN ($2, $1)', ['free', 'slot_a'], ['slot_a', 'free']],
    ['active = $1', ['no'], ['free']],
    ['active_pid = $1', ['42'], ['slot_a']],
    ['active_pid = $1', ['many'], "0A000 this statement is not supported by walcast's console"],
    ['slot_name = $1', [null], []],
    ['slot_name <> $1', [null], []],
    ['slot_name IN ($1, $2)', [null, 'free'], ['free']],
    ['slot_name NOT IN ($1, $2)', [null, 'free'], []],
  ])('%s', (where, values, wanted) => {
    expect(names(where, values)).toEqual(wanted);
  });

  it('is as many values as the statement has, and none in a simple query', () => {
    expect(names('slot_name = $1', [])).toBe(
      '08P01 bind message supplies 0 parameters, but prepared statement "" requires 1',
    );
    expect(names('slot_name = $1')).toBe('42P02 there is no parameter $1');
    expect(names('slot_name = $0')).toBe('42P02 there is no parameter $0');
    expect(names('slot_name = $99999', [])).toBe('42P02 there is no parameter $99999');
  });

  it('counts also where rows are counted, or sorted by', () => {
    const sql = 'SELECT count(*) FROM pg_stat_replication WHERE pid = $1';
    const { rows } = session().prepare(sql, { parameters: ['43'] });
    expect(rows.map(String)).toEqual(['1']);
  });

  it('has the type of the column beside it, unless the client says otherwise', () => {
    expect(parameterTypes([], [25, 0, 23])).toEqual([25, 25, 23]);
    expect(parameterTypes([20, 0], [25, 19, 23])).toEqual([20, 19, 23]);
    expect(parameterTypes([1043], [])).toEqual([1043]);
  });

  it('is read in binary as its type is sent, and refused where that is not known', () => {
    const read = (value: Uint8Array, type: number): unknown =>
      readParameters([value], [type], ['binary'])[0];
    expect(read(Buffer.from('größer'), 25)).toBe('größer');
    expect(read(i32(-7), 23)).toBe('-7');
    expect(read(i64(1n << 40n), 20)).toBe('1099511627776');
    expect(read(Uint8Array.of(0xff, 0xfe), 21)).toBe('-2');
    // oid and xid have no sign.
    for (const type of [26, 28]) expect(read(i32(-2), type)).toBe('4294967294');
    expect(read(Uint8Array.of(1), 16)).toBe('t');
    expect(() => read(Uint8Array.of(1, 2), 23)).toThrow('incorrect binary data format');
    expect(() => read(Uint8Array.of(1, 2), 1700)).toThrow('parameters of type 1700');
    expect(readParameters([null, Buffer.from('a')], [25, 25], [])).toEqual([null, 'a']);
  });
});
