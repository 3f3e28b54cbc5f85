// Does the status page show the worst first, find what is looked for, and let rows stay where they are?
import { describe, expect, test } from 'vitest';
import type { SlotJson } from '../../src/http/api-types.ts';
import {
  filterSlots,
  roomText,
  slotTone,
  sortSlots,
  walStatusWord,
} from '../../page/slot-order.ts';
import {
  filterRows,
  lagSecondsOf,
  rowsOf,
  sortRows,
  stateWord,
  syncWord,
  toneOf,
} from '../../page/standby-order.ts';
import type { SortKey, StandbyRow } from '../../page/standby-order.ts';
import { pageStandby, rowOf, samplePicture } from '../support/page-picture.ts';
import { sampleAbsentStandby, sampleStandby } from '../support/relay-status.ts';

const MB = 1024 * 1024;

function goneRow(name: string, isMaybeWedged: boolean): StandbyRow {
  const absentStandbys = [sampleAbsentStandby({ applicationName: name, isMaybeWedged })];
  const row = rowsOf(samplePicture({ standbys: [], absentStandbys }))[0];
  if (row === undefined) throw new Error('there is one');
  return row;
}

function namesBy(key: SortKey, rows: readonly StandbyRow[], isReversed = false): string[] {
  return sortRows(rows, key, isReversed).map(({ standby }) => standby.application_name);
}

const GOOD = { lag_bytes: 0, replay_lag: 0 };

describe('rows', () => {
  test('are all who are connected and all who have left, each with a key of its own', () => {
    const rows = rowsOf(
      samplePicture({
        standbys: [sampleStandby({ pid: 1 }), sampleStandby({ pid: 2 })],
        absentStandbys: [
          sampleAbsentStandby({ slotName: 'a' }),
          sampleAbsentStandby({ slotName: 'b' }),
        ],
      }),
    );
    expect(rows.map(({ kind }) => kind)).toEqual(['here', 'here', 'gone', 'gone']);
    expect(new Set(rows.map(({ key }) => key)).size).toBe(4);
  });

  test('say the state in the words of pg_stat_replication, and what those do not tell', () => {
    expect(stateWord(rowOf('a', { state: 'catchup' }))).toBe('catchup');
    expect(stateWord(rowOf('a', { stalled: true }))).toBe('stalled');
    expect(stateWord(goneRow('a', false))).toBe('away');
    expect(stateWord(goneRow('a', true))).toBe('wedged?');
    expect(toneOf(rowOf('a'))).toBe('good');
    expect(toneOf(rowOf('a', { state: 'backup' }))).toBe('notice');
    expect(toneOf(goneRow('a', true))).toBe('bad');
  });

  test('say the lag of what a receiver does, where it does not replay', () => {
    expect(lagSecondsOf(pageStandby({}, { replay_lag: 3, flush_lag: 1 }))).toBe(3);
    const receiver = { replay_lag: null, flush_lag: 1, write_lag: 0.5 };
    expect(lagSecondsOf(pageStandby({}, receiver))).toBe(1);
    expect(lagSecondsOf(pageStandby({}, { ...receiver, flush_lag: null }))).toBe(0.5);
    expect(lagSecondsOf(pageStandby({}, { ...receiver, flush_lag: null, write_lag: null }))).toBe(
      null,
    );
  });

  test('say priority where there is one', () => {
    expect(syncWord(rowOf('a', { sync_state: 'sync', sync_priority: 1 }))).toBe('sync 1');
    expect(syncWord(rowOf('a', { sync_state: 'async', sync_priority: 0 }))).toBe('async');
    expect(syncWord(goneRow('a', false))).toBe('');
  });
});

describe('worst first', () => {
  test('is: stalled or wedged, away, not streaming, behind, the others', () => {
    const rows = [
      rowOf('fine', GOOD),
      rowOf('slow', { lag_bytes: 900 * MB, replay_lag: 0 }),
      rowOf('late', { lag_bytes: 0, replay_lag: 90 }),
      rowOf('backup', { ...GOOD, state: 'backup' }),
      goneRow('away', false),
      goneRow('wedged', true),
      rowOf('stalled', { lag_bytes: 5 * MB, replay_lag: 70, stalled: true }),
    ];
    expect(namesBy('worst', rows)).toEqual([
      'stalled',
      'wedged',
      'away',
      'backup',
      'late',
      'slow',
      'fine',
    ]);
    expect(namesBy('worst', rows, true)[0]).toBe('fine');
  });

  test('rows stay where they are while standbys are a page or a millisecond apart', () => {
    const rows = (lags: readonly number[]): StandbyRow[] =>
      lags.map((lag, index) =>
        rowOf(`standby_${index + 8}`, { lag_bytes: lag, replay_lag: lag / 1e6 }),
      );
    const names = ['standby_8', 'standby_9', 'standby_10'];
    expect(namesBy('worst', rows([0, 8_192, 16_384]))).toEqual(names);
    expect(namesBy('worst', rows([500_000, 0, 8_192]))).toEqual(names);
  });
});

describe('other orders', () => {
  const rows = [
    rowOf('standby_10', { lag_bytes: 5, replay_lag: 1, sync_state: 'quorum', sync_priority: 1 }),
    rowOf('standby_9', { lag_bytes: 9, replay_lag: null, flush_lag: null, write_lag: null }),
    rowOf('standby_2', { lag_bytes: null, replay_lag: 2, sync_state: 'sync', sync_priority: 2 }),
    rowOf('standby_1', { lag_bytes: 7, replay_lag: 1, sync_state: 'sync', sync_priority: 1 }),
  ];

  test.each([
    ['name', ['standby_1', 'standby_2', 'standby_9', 'standby_10']],
    ['sync', ['standby_1', 'standby_2', 'standby_10', 'standby_9']],
    ['lag_time', ['standby_2', 'standby_1', 'standby_10', 'standby_9']],
    ['lag_bytes', ['standby_9', 'standby_1', 'standby_10', 'standby_2']],
    ['state', ['standby_1', 'standby_2', 'standby_9', 'standby_10']],
  ] as const)('by %s, what is unknown last, and by name where they are alike', (key, names) => {
    expect(namesBy(key, rows)).toEqual(names);
  });

  test('who has left comes behind everybody in orders by lag', () => {
    expect(namesBy('lag_bytes', [goneRow('gone', true), ...rows]).at(-1)).toBe('gone');
  });
});

describe('the filter', () => {
  const rows = [
    rowOf('berlin_1', { client_addr: '10.0.0.1', slot_name: 'slot_x' }),
    rowOf('Berlin_2', { client_addr: '10.0.0.2', state: 'catchup' }),
    rowOf('paris_1', { client_addr: null, sync_state: 'sync', user: 'other' }),
    goneRow('paris_2', true),
  ];

  test.each([
    ['', ['berlin_1', 'Berlin_2', 'paris_1', 'paris_2']],
    ['  ', ['berlin_1', 'Berlin_2', 'paris_1', 'paris_2']],
    ['BERLIN', ['berlin_1', 'Berlin_2']],
    ['berlin catchup', ['Berlin_2']],
    ['10.0.0.1', ['berlin_1']],
    ['slot_x', ['berlin_1']],
    ['wedged', ['paris_2']],
    ['other', ['paris_1']],
    ['nobody', []],
    ['.*', []],
  ])('%j finds what all its words stand in', (text, names) => {
    const found = filterRows(rows, text).map(({ standby }) => standby.application_name);
    expect(found).toEqual(names);
  });
});

describe('slots', () => {
  const slot = (name: string, fields: Partial<SlotJson> = {}): SlotJson => {
    const [sample] = samplePicture().slots;
    if (sample === undefined) throw new Error('there is one');
    return { ...sample, slot_name: name, retained_bytes: 0, ...fields };
  };
  const slots = [
    slot('fine'),
    slot('idle', { active: false, active_pid: null }),
    slot('fat', { retained_bytes: 900 * MB }),
    slot('extended', { wal_status: 'extended' }),
    slot('unreserved', { wal_status: 'unreserved' }),
    slot('lost', { wal_status: 'lost', invalidation_reason: 'wal_removed', retained_bytes: null }),
  ];

  test('those that are lost or nearly so come first, then those that keep most', () => {
    const names = sortSlots(slots, 'worst', false).map(({ slot_name: name }) => name);
    expect(names).toEqual(['lost', 'unreserved', 'extended', 'idle', 'fat', 'fine']);
    const byRetained = sortSlots(slots, 'retained', false).map(({ slot_name: name }) => name);
    expect(byRetained[0]).toBe('fat');
    expect(byRetained.at(-1)).toBe('lost');
  });

  test('say in words what has become of them', () => {
    expect(slots.map(walStatusWord)).toEqual([
      'reserved',
      'reserved',
      'reserved',
      'extended',
      'unreserved',
      'lost, wal_removed',
    ]);
    expect(walStatusWord(slot('new', { wal_status: null }))).toBe('reserves nothing');
    expect(slots.map(slotTone)).toEqual(['good', 'good', 'good', 'notice', 'bad', 'bad']);
  });

  test('are found by name, state and use', () => {
    const found = (text: string): string[] =>
      filterSlots(slots, text).map(({ slot_name: name }) => name);
    expect(found('idle')).toEqual(['idle']);
    expect(found('lost wal_removed')).toEqual(['lost']);
    expect(found('in use')).toHaveLength(5);
    expect(found('')).toHaveLength(6);
  });
});

test('standbys that left and are alike in name, user and slot are rows of their own', () => {
  const absent = sampleAbsentStandby({ applicationName: 'walreceiver', slotName: null });
  const rows = rowsOf(samplePicture({ standbys: [], absentStandbys: [absent, absent] }));
  expect(new Set(rows.map(({ key }) => key)).size).toBe(2);
});

test('the row of a pid is another one after a restart that gave it to another standby', () => {
  const keyOf = (applicationName: string): string | undefined =>
    rowsOf(samplePicture({ standbys: [sampleStandby({ applicationName })] }))[0]?.key;
  expect(keyOf('a')).not.toBe(keyOf('b'));
  expect(keyOf('a')).toBe(keyOf('a'));
});

test('how much room a slot has left is said only of one that keeps something', () => {
  const [slot] = samplePicture().slots;
  if (slot === undefined) throw new Error('there is a slot');
  expect(roomText({ ...slot, safe_wal_size: null })).toBe('no limit');
  expect(roomText({ ...slot, safe_wal_size: -1 })).toBe('none');
  expect(roomText({ ...slot, safe_wal_size: null, restart_lsn: null })).toBe('–');
  expect(roomText({ ...slot, safe_wal_size: null, wal_status: 'lost' })).toBe('–');
});
