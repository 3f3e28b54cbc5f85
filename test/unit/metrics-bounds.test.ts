// Is what a scrape does in one turn of the event loop bounded, and the number of its series, whoever connects?
import { describe, expect, test } from 'vitest';
import { readBuildInfo } from '../../src/config/build-info.ts';
import {
  METRICS_FORGET_STANDBY_MS,
  METRICS_ROWS_PER_PIECE,
  METRICS_SLICE_MS,
} from '../../src/config/limits.ts';
import { HttpDurations } from '../../src/metrics/http-durations.ts';
import { openMetrics } from '../../src/metrics/registry.ts';
import { Samples } from '../../src/metrics/samples.ts';
import { Rendering, Sampler } from '../../src/metrics/scrape.ts';
import type { RelayStatus, SlotStatus, StandbyStatus } from '../../src/status/status.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStandby, sampleStatus, sampleSync } from '../support/relay-status.ts';

const STANDBYS = 5_000;
const SLOTS = 1_500;

/** Standbys and slots whose every look is counted, and a name in the totals for each. */
function crowd(onLook: () => void = () => {}): RelayStatus {
  const standbys = Array.from({ length: STANDBYS }, (_, index): StandbyStatus =>
    watched(sampleStandby({ pid: index, applicationName: `s${index}`, slotName: null }), onLook),
  );
  const [slot] = sampleStatus().slots;
  const slots = Array.from({ length: SLOTS }, (_, index): SlotStatus =>
    watched({ ...slot!, name: `slot${index}`, activePid: null }, onLook),
  );
  const connects = new Map(standbys.slice(0, 1_000).map(({ pid }) => [`s${pid}`, 1]));
  const standbyTotals = { ...sampleStatus().standbyTotals, connects };
  return sampleStatus({ standbys, slots, standbyTotals });
}

/** The same object; `onLook` hears of each time that its name is asked for. */
function watched<Row extends StandbyStatus | SlotStatus>(row: Row, onLook: () => void): Row {
  const key = 'applicationName' in row ? 'applicationName' : 'name';
  const name = 'applicationName' in row ? row.applicationName : row.name;
  return Object.defineProperty(row, key, {
    get: () => {
      onLook();
      return name;
    },
  });
}

function stepsOf(status: () => RelayStatus, samples: Samples): Generator<undefined, void> {
  const http = new HttpDurations();
  for (let route = 0; route < 100; route += 1) {
    http.observe({ method: 'GET', route: `/${route}`, statusCode: 200, seconds: 0.1 });
  }
  return new Sampler().steps(samples, {
    source: { status },
    build: readBuildInfo(),
    http,
    nowMs: 0,
    wallMs: 1_700_000_000_000,
  });
}

/** The lines of a family. */
function linesOf(body: string, family: string): string[] {
  return body.split('\n').filter((line) => line.startsWith(`walcast_${family}{`));
}

async function render(status: RelayStatus): Promise<string> {
  const source = { status: () => status };
  const metrics = openMetrics({ source, clock: new ManualClock() });
  return (await metrics.render()).body;
}

describe('work', () => {
  test('the status is taken once, and a step beyond it reads and writes so many rows at most', () => {
    let taken = 0;
    let looks = 0;
    const status = crowd(() => (looks += 1));
    const samples = new Samples();
    const steps = stepsOf(() => {
      taken += 1;
      return status;
    }, samples);
    const costs: { looks: number; lines: number }[] = [];
    for (let isDone = false; !isDone;) {
      const before = { looks, lines: samples.count };
      isDone = steps.next().done === true;
      costs.push({ looks: looks - before.looks, lines: samples.count - before.lines });
    }
    expect(taken).toBe(1);
    const rows = costs.reduce((sum, cost) => sum + cost.looks, 0);
    expect(rows).toBeGreaterThan(STANDBYS + SLOTS);
    expect(Math.max(...costs.map((cost) => cost.looks))).toBeLessThanOrEqual(
      METRICS_ROWS_PER_PIECE,
    );
    // Families with a fixed number of series, counted together, are the largest piece besides.
    expect(Math.max(...costs.map(({ lines }) => lines))).toBeLessThan(METRICS_ROWS_PER_PIECE + 50);
    expect(costs.length).toBeGreaterThan((STANDBYS + SLOTS) / METRICS_ROWS_PER_PIECE);
  });

  test('a turn ends when its time is over, and others go on before the next piece', async () => {
    let looks = 0;
    // Each look at the clock takes a millisecond: there is one before each piece.
    let nowMs = 0;
    const clock = Object.assign(new ManualClock(), { nowMs: () => (nowMs += 1) });
    const status = crowd(() => (looks += 1));
    const metrics = openMetrics({
      source: { status: () => status },
      clock,
    });
    const inTurn: number[] = [];
    let isOver = false;
    const rendering = metrics.render().finally(() => (isOver = true));
    for (let last = looks; !isOver; last = looks) {
      await new Promise(setImmediate);
      inTurn.push(looks - last);
    }
    await rendering;
    const most = (METRICS_SLICE_MS + 1) * METRICS_ROWS_PER_PIECE;
    expect(Math.max(...inTurn)).toBeLessThanOrEqual(most);
    expect(inTurn.filter((count) => count > 0).length).toBeGreaterThan((STANDBYS + SLOTS) / most);
  });

  test('of scrapers that wait for one rendering each is answered in a turn of its own', async () => {
    const metrics = openMetrics({
      source: { status: () => sampleStatus() },
      clock: new ManualClock(),
    });
    let answered = 0;
    const scrapes = Array.from({ length: 100 }, async (_, index) => {
      const accept = index % 2 === 0 ? undefined : 'application/openmetrics-text';
      await metrics.render(accept);
      answered += 1;
    });
    const inTurn: number[] = [];
    for (let last = 0; answered < scrapes.length; last = answered) {
      await new Promise(setImmediate);
      inTurn.push(answered - last);
    }
    expect(Math.max(...inTurn)).toBe(1);
  });

  test('figures of one scrape are of one moment, whatever happens between its turns', async () => {
    const clock = Object.assign(new ManualClock(), {
      nowMs: (
        (ms) => () =>
          (ms += METRICS_SLICE_MS)
      )(0),
    });
    let moment = 0;
    const tick = setInterval(() => (moment += 1), 0);
    const metrics = openMetrics({
      source: {
        status: () => {
          const standbys = crowd().standbys.map((standby) =>
            Object.assign(standby, { sentBytes: moment, sendQueueBytes: moment }),
          );
          return sampleStatus({ standbys });
        },
      },
      clock,
    });
    const before = moment;
    const { body } = await metrics.render();
    clearInterval(tick);
    expect(moment).toBeGreaterThan(before);
    const queues = linesOf(body, 'standby_send_queue_bytes').filter((line) => !/_other/.test(line));
    expect(new Set(queues.map((line) => line.split(' ').at(-1))).size).toBe(1);
  });
});

describe('series', () => {
  test('of standbys and slots are no more than their caps, however many there are', async () => {
    const body = await render(crowd());
    expect(linesOf(body, 'standby_info')).toHaveLength(200);
    expect(linesOf(body, 'standby_sent_lsn_bytes')).toHaveLength(201);
    expect(linesOf(body, 'standby_connects_total')).toHaveLength(201);
    // Those that are there, those that slots stand for, and one for all others.
    expect(linesOf(body, 'standby_state').length).toBeLessThanOrEqual(6 * (200 + 200 + 1));
    expect(linesOf(body, 'slot_active')).toHaveLength(1_001);
    expect(body.length).toBeLessThan(2_000_000);
  });

  test('a slot beyond the cap shows by the worst of its figures', async () => {
    const status = crowd();
    const slots = status.slots.map((slot, index) =>
      index === SLOTS - 1
        ? { ...slot, walStatus: 'lost' as const, invalidationReason: 'wal_removed' as const }
        : { ...slot, name: `slot${index}`, inactiveSinceMs: 1_735_689_600_000 - index * 1000 },
    );
    const body = await render({ ...status, slots });
    const others = body.split('\n').filter((line) => /^walcast_slot.*slot="_other"/.test(line));
    expect(others).toEqual([
      'walcast_slot_active{slot="_other"} 0',
      `walcast_slot_restart_lsn_bytes{slot="_other"} ${0x1000000}`,
      `walcast_slot_retained_bytes{slot="_other"} ${0x2000060}`,
      `walcast_slot_inactive_seconds{slot="_other"} ${SLOTS - 2}`,
      'walcast_slot_wal_status{slot="_other",status="reserved"} 0',
      'walcast_slot_wal_status{slot="_other",status="extended"} 0',
      'walcast_slot_wal_status{slot="_other",status="unreserved"} 0',
      'walcast_slot_wal_status{slot="_other",status="lost"} 1',
    ]);
  });

  test('a slot that was dropped gives its series to another one', async () => {
    let status = crowd();
    let nowMs = 0;
    const clock = Object.assign(new ManualClock(), { nowMs: () => nowMs });
    const source = { status: (): RelayStatus => status };
    const metrics = openMetrics({ source, clock });
    const isShown = async (slot: string): Promise<boolean> => {
      nowMs += 1_000;
      return (await metrics.render()).body.includes(`slot_active{slot="${slot}"}`);
    };
    expect(await isShown('slot0')).toBe(true);
    expect(await isShown('slot1400')).toBe(false);
    status = { ...status, slots: status.slots.slice(600) };
    expect(await isShown('slot1400')).toBe(false);
    expect(await isShown('slot1400')).toBe(true);
    expect(await isShown('slot0')).toBe(false);
    expect(await isShown('_other')).toBe(false);
  });

  test('of a standby that left are its counters for a while, and then none', async () => {
    let standbys = [sampleStandby({ slotName: null })];
    let nowMs = 0;
    const clock = Object.assign(new ManualClock(), { nowMs: () => nowMs });
    const { standbyTotals } = sampleStatus();
    const source = { status: () => sampleStatus({ standbys, slots: [], standbyTotals }) };
    const metrics = openMetrics({ source, clock });
    const families = async (): Promise<string[]> => {
      const { body } = await metrics.render();
      const lines = body.split('\n').filter((line) => line.includes('standby="standby_a"'));
      return [...new Set(lines.map((line) => line.slice(0, line.indexOf('{'))))];
    };
    expect((await families()).length).toBeGreaterThan(10);
    standbys = [];
    nowMs += 1_000;
    expect(await families()).toEqual([
      'walcast_standby_sent_bytes_total',
      'walcast_standby_send_blocked_seconds_total',
      'walcast_standby_connects_total',
    ]);
    nowMs += METRICS_FORGET_STANDBY_MS + 1;
    expect(await families()).toEqual([]);
  });

  test('a standby beyond the cap shows by the worst state of all of those', async () => {
    const stateOfOthers = async (status: RelayStatus): Promise<string | undefined> =>
      linesOf(await render(status), 'standby_state')
        .filter((line) => line.includes('standby="_other"') && line.endsWith(' 1'))
        .map((line) => /state="(\w+)"/.exec(line)?.[1])
        .join();
    const status = { ...crowd(), slots: [] };
    expect(await stateOfOthers(status)).toBe('streaming');
    const last = sampleStandby({ pid: STANDBYS, applicationName: 'z', state: 'catchup' });
    expect(await stateOfOthers({ ...status, standbys: [...status.standbys, last] })).toBe(
      'catchup',
    );
    expect(await stateOfOthers(crowd())).toBe('disconnected');
  });

  test('whom the policy names has series of its own in any crowd, also when it is not there', async () => {
    const status = crowd();
    const sync = sampleSync({ names: ['s4999', 'nobody'] });
    const body = await render({ ...status, slots: [], sync });
    expect(linesOf(body, 'standby_state')).toEqual(
      expect.arrayContaining([
        'walcast_standby_state{standby="s4999",state="streaming"} 1',
        'walcast_standby_state{standby="nobody",state="disconnected"} 1',
      ]),
    );
  });

  test('of a policy that names more than there are places, somebody missing shows among the others', async () => {
    const names = Array.from({ length: 300 }, (_, index) => `s${index}`);
    const status = { ...crowd(), slots: [] };
    const missing = async (policy: readonly string[]): Promise<string[]> => {
      const body = await render({ ...status, sync: sampleSync({ names: policy }) });
      return linesOf(body, 'standby_state').filter((line) => line.endsWith('disconnected"} 1'));
    };
    expect(await missing(names)).toEqual([]);
    expect(await missing([...names, 'nobody'])).toEqual([
      'walcast_standby_state{standby="_other",state="disconnected"} 1',
    ]);
  });

  test('names of users, hosts and servers are cut, and written as what they are', async () => {
    const { upstream } = sampleStatus();
    const body = await render(
      sampleStatus({
        upstream: { ...upstream, host: `${'h'.repeat(300)}"`, serverVersion: '\n"18' },
        standbys: [sampleStandby({ user: `müller\\${'x'.repeat(100)}` })],
      }),
    );
    expect(linesOf(body, 'upstream_info')[0]).toContain(
      `host="${'h'.repeat(255)}",system_identifier="7301234567890123456",server_version="\\n\\"18"`,
    );
    expect(linesOf(body, 'standby_info')[0]).toContain(`user="müller\\\\${'x'.repeat(55)}"`);
  });

  test('of HTTP are as many as there are routes, whatever is asked', () => {
    const samples = new Samples();
    const http = new HttpDurations();
    const status = sampleStatus();
    for (let count = 0; count < 1_000; count += 1) {
      http.observe({ method: `M${count}`, route: 'none', statusCode: 404, seconds: count });
    }
    const steps = new Sampler().steps(samples, {
      source: { status: () => status },
      build: readBuildInfo(),
      http,
      nowMs: 0,
      wallMs: 0,
    });
    expect([...steps].length).toBeGreaterThan(0);
    const body = new Rendering(samples, '').text();
    expect(linesOf(body, 'http_request_duration_seconds_count')).toEqual([
      'walcast_http_request_duration_seconds_count{method="other",route="none",status_class="4xx"} 1000',
    ]);
    expect(linesOf(body, 'http_request_duration_seconds_bucket')).toHaveLength(15);
  });
});
