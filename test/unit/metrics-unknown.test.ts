// Is anything shown that nobody knows, or under a name that is somebody else's?
import { describe, expect, test } from 'vitest';
import { METRICS_FORGET_STANDBY_MS, METRICS_STANDBYS_MAX } from '../../src/config/limits.ts';
import { openMetrics } from '../../src/metrics/registry.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { StatusBoard } from '../../src/relay/status-board.ts';
import type { BoardParts } from '../../src/relay/status-board.ts';
import type { AdminCommand, RelayStatus, SlotStatus } from '../../src/status/status.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';

/** Scrapes a status that may change; each scrape is one of its own. */
class Scrapes {
  status: RelayStatus;
  #nowMs = 0;
  readonly #metrics;

  constructor(status: RelayStatus) {
    this.status = status;
    this.#metrics = openMetrics({
      source: { status: () => this.status },
      clock: Object.assign(new ManualClock(), { nowMs: () => this.#nowMs }),
    });
  }

  /** The lines that match, `afterMs` later. */
  async lines(pattern: RegExp, afterMs = 1_000): Promise<string[]> {
    this.#nowMs += afterMs;
    const { body } = await this.#metrics.render();
    return body.split('\n').filter((line) => pattern.test(line));
  }
}

function slotNamed(name: string, overrides: Partial<SlotStatus> = {}): SlotStatus {
  const [slot] = sampleStatus().slots;
  return { ...slot!, name, activePid: null, ...overrides };
}

const IS_DISCONNECTED = /^walcast_standby_state\{.*state="disconnected"\} 1$/;

/** As many names as have series of their own. */
function crowd(): RelayStatus['standbys'] {
  return Array.from({ length: METRICS_STANDBYS_MAX }, (_, pid) =>
    sampleStandby({ pid, applicationName: `s${pid}`, slotName: null }),
  );
}

function emptyBoard(adminCommands: BoardParts['adminCommands']): StatusBoard {
  const { upstreamDelay, standbyTotals, retention, readThrough, feedback, sync } = sampleStatus();
  return new StatusBoard({
    version: '1',
    clock: new ManualClock(),
    parts: {
      upstream: () => null,
      upstreamDelay: () => upstreamDelay,
      store: () => null,
      filesystem: () => null,
      standbys: () => [],
      sync: () => ({ status: sync, stateOf: () => ({ state: 'async', priority: 0 }) }),
      feedback: () => feedback,
      absentStandbys: () => [],
      standbyTotals: () => standbyTotals,
      slots: () => [],
      retention: () => retention,
      identity: () => null,
      readThrough: () => readThrough,
      certificates: () => [],
      adminCommands,
    },
  });
}

describe('the store', () => {
  test('that is not open yet has no size, no segments and no buffer; its counters begin', async () => {
    const status = emptyBoard(() => new Map()).status();
    const scrapes = new Scrapes(status);
    expect(
      await scrapes.lines(/^walcast_(store|buffer)_(size|limit|segments\b|\w+_seconds)/),
    ).toEqual([]);
    expect(await scrapes.lines(/^walcast_store_errors_total/)).toHaveLength(5);
  });
});

describe('a picture', () => {
  test('does not change when a command is given after it was taken', () => {
    const counts = new Map<AdminCommand, number>([['reload', 1]]);
    const { adminCommands } = emptyBoard(() => counts).status();
    counts.set('reload', 2);
    expect(adminCommands.get('reload')).toBe(1);
  });
});

describe('slots beyond the cap', () => {
  test('that reserve no WAL hold back what nobody knows, not nothing', async () => {
    const slots = Array.from({ length: 1_002 }, (_, index) =>
      slotNamed(`slot${index}`, { restartLsn: INVALID_LSN, walStatus: null }),
    );
    const scrapes = new Scrapes(sampleStatus({ standbys: [], slots }));
    expect(await scrapes.lines(/^walcast_slot_active\{slot="_other"/)).toHaveLength(1);
    expect(await scrapes.lines(/^walcast_slot_retained_bytes/)).toEqual([]);
  });
});

describe('those beyond the cap', () => {
  test('are nobody when nobody is: a name that was forgotten is not one of them', async () => {
    const scrapes = new Scrapes(sampleStatus({ standbys: [], slots: [] }));
    expect(await scrapes.lines(/^walcast.*standby="standby_a"/)).toHaveLength(1);
    expect(await scrapes.lines(/^walcast.*standby="/, METRICS_FORGET_STANDBY_MS + 1)).toEqual([]);
    expect(await scrapes.lines(/^walcast.*standby="/)).toEqual([]);
  });

  test('are not the owner of a slot that is called like them', async () => {
    const slots = [slotNamed('_other')];
    const scrapes = new Scrapes(sampleStatus({ standbys: [], slots }));
    expect(await scrapes.lines(IS_DISCONNECTED)).toEqual([
      'walcast_standby_state{standby="_other_",state="disconnected"} 1',
    ]);
  });

  test('are counted also when they are away', async () => {
    const slots = Array.from({ length: METRICS_STANDBYS_MAX + 3 }, (_, i) => slotNamed(`slot${i}`));
    const scrapes = new Scrapes(sampleStatus({ standbys: [], slots }));
    expect(await scrapes.lines(/^walcast_standby_series_overflow/)).toEqual([
      'walcast_standby_series_overflow 3',
    ]);
  });
});

test('a slot that somebody beyond the cap used last is not missed under the name that used it before', async () => {
  const scrapes = new Scrapes(sampleStatus({ standbys: crowd(), slots: [slotNamed('slot_a')] }));
  const [first, ...others] = crowd();
  const use = { slotName: 'slot_a' };
  scrapes.status = sampleStatus({ standbys: [{ ...first!, ...use }, ...others] });
  await scrapes.lines(/^$/);
  const late = sampleStandby({ pid: 9_999, applicationName: 'late', ...use });
  scrapes.status = sampleStatus({ standbys: [...others, late] });
  await scrapes.lines(/^$/);
  scrapes.status = sampleStatus({ standbys: others, slots: [slotNamed('slot_a')] });
  expect(await scrapes.lines(IS_DISCONNECTED)).toEqual([
    'walcast_standby_state{standby="slot_a",state="disconnected"} 1',
  ]);
});

test.each([
  ['ä'.repeat(40), 'ä'.repeat(31)],
  [`${'x'.repeat(61)}\u{1F600}`, 'x'.repeat(61)],
  [`${'x'.repeat(59)}\u{1F600}`, `${'x'.repeat(59)}\u{1F600}`],
])(
  'a name is cut to 63 bytes where a character begins, as a server does: %s',
  async (user, shown) => {
    const scrapes = new Scrapes(sampleStatus({ standbys: [sampleStandby({ user })] }));
    const [line] = await scrapes.lines(/^walcast_standby_info/);
    expect(/user="([^"]*)"/.exec(line ?? '')?.[1]).toBe(shown);
  },
);
