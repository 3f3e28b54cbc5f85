// Does /metrics say what the status says, under the names that dashboards and alerts use?
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { CATALOGUE } from '../../src/metrics/catalogue.ts';
import { openMetrics } from '../../src/metrics/registry.ts';
import type { Metrics } from '../../src/metrics/registry.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { sampleStandby, sampleStatus, unknownStatus } from '../support/relay-status.ts';
import { requires } from '../support/requirements.ts';

interface Family {
  help: string;
  type: string;
  labels: Set<string>;
  series: Map<string, number>;
}

function open(status: () => RelayStatus, clock: Clock = new LeapingClock()): Metrics {
  return openMetrics({ source: { status }, clock });
}

/** Families by name; series by their label text, as `name{…}` has it. */
function parse(exposition: string): Map<string, Family> {
  const families = new Map<string, Family>();
  let family: Family | null = null;
  for (const line of exposition.split('\n')) {
    const [, kind, name = '', text = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (kind === 'HELP') {
      family = { help: text, type: '', labels: new Set(), series: new Map() };
      families.set(name, family);
    } else if (kind === 'TYPE' && family !== null) {
      family.type = text;
    } else if (line !== '' && family !== null) {
      const [, series = '', value = ''] = /^(.*) (\S+)$/.exec(line) ?? [];
      family.series.set(series, Number(value));
      for (const [, label = ''] of series.matchAll(/[{,]([a-z_]+)="/g)) family.labels.add(label);
    }
  }
  return families;
}

async function scrape(metrics: Metrics): Promise<Map<string, Family>> {
  return parse((await metrics.render()).body);
}

async function seriesOf(metrics: Metrics, family: string): Promise<Record<string, number>> {
  return Object.fromEntries((await scrape(metrics)).get(`walcast_${family}`)?.series ?? []);
}

/** A clock moved by hand. */
class HandClock implements Clock {
  ms = 0;
  nowMs = (): number => this.ms;
  wallMs = (): number => 1_700_000_000_000 + this.ms;
  setTimer = (): never => {
    throw new Error('metrics start no timers');
  };
}

/** A clock on which every rendering is old by the next scrape. */
class LeapingClock extends HandClock {
  override nowMs = (): number => (this.ms += 2_000);
}

describe('names', () => {
  const published = parse(
    readFileSync(new URL('../support/metrics-catalogue.prom', import.meta.url), 'utf8'),
  );

  test.each(CATALOGUE)(
    '$name is the published family of that name',
    ({ name, type, labels, help }) => {
      const family = published.get(`walcast_${name}`);
      expect(family?.type).toBe(type);
      expect(family?.help).toBe(help);
      const own = [...(family?.labels ?? [])].filter((label) => label !== 'le');
      expect([...labels].toSorted()).toEqual(own.toSorted());
    },
  );

  test('every family is rendered, with these labels and no others', async () => {
    const metrics = open(() => sampleStatus());
    metrics.observeRequest({ method: 'GET', route: '/metrics', statusCode: 200, seconds: 0.002 });
    const families = await scrape(metrics);
    const unknown = ['tls_certificate_not_after_timestamp_seconds'];
    for (const { name, type, labels } of CATALOGUE) {
      const family = families.get(`walcast_${name}`);
      expect(family?.type, name).toBe(type);
      if (unknown.includes(name)) continue;
      const shown = [...(family?.labels ?? [])].filter((label) => label !== 'le');
      expect(shown.toSorted(), name).toEqual([...labels].toSorted());
    }
    const ours = [...families.keys()].filter((name) => name.startsWith('walcast_'));
    expect(ours).toHaveLength(CATALOGUE.length);
  });

  test('the process metrics that alerts use are there', async () => {
    const families = await scrape(open(() => sampleStatus()));
    for (const name of [
      'nodejs_eventloop_lag_p99_seconds',
      'process_resident_memory_bytes',
      'process_open_fds',
      'process_start_time_seconds',
    ]) {
      expect(families.has(name), name).toBe(true);
    }
  });

  requires('promtool').it('promtool finds nothing to complain about', async () => {
    const { body } = await open(() => sampleStatus()).render();
    const result = spawnSync('promtool', ['check', 'metrics'], {
      input: body,
      encoding: 'utf8',
    });
    expect([result.status, result.stdout, result.stderr]).toEqual([0, '', '']);
  });
});

describe('values', () => {
  test('the content type is the one Prometheus insists on', async () => {
    const { contentType } = await open(() => sampleStatus()).render();
    expect(contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
  });

  test('positions, lags and states are those of the status', async () => {
    const families = await scrape(open(() => sampleStatus()));
    const value = (series: string): number | undefined =>
      families.get(series.split('{')[0] ?? '')?.series.get(series);
    expect(value('walcast_upstream_server_lsn_bytes{upstream="default"}')).toBe(0x3000100);
    expect(value('walcast_upstream_lag_bytes{upstream="default"}')).toBe(256);
    expect(value('walcast_upstream_state{upstream="default",state="streaming"}')).toBe(1);
    expect(value('walcast_upstream_state{upstream="default",state="catchup"}')).toBe(0);
    expect(value('walcast_standby_lag_bytes{standby="standby_a",stage="replay"}')).toBe(4352);
    expect(value('walcast_standby_lag_seconds{standby="standby_a",stage="replay"}')).toBe(2.5);
    expect(value('walcast_standby_state{standby="standby_a",state="streaming"}')).toBe(1);
    expect(value('walcast_standby_last_reply_timestamp_seconds{standby="standby_a"}')).toBe(
      1_700_000_100.001,
    );
    expect(value('walcast_slot_retained_bytes{slot="slot_a"}')).toBe(0x2000060);
    expect(value('walcast_slot_wal_status{slot="slot_a",status="reserved"}')).toBe(1);
    expect(value('walcast_store_limit_bytes{upstream="default"}')).toBe(64 * 1024 ** 3);
    const removed = 'walcast_store_segments_removed_total{upstream="default",reason';
    expect(value(`${removed}="retention"}`)).toBe(0);
    expect(value(`${removed}="size_limit"}`)).toBe(1);
    expect(value('walcast_client_commands_total{command="IDENTIFY_SYSTEM"}')).toBe(4);
    expect(value('walcast_client_commands_total{command="other"}')).toBe(2);
  });

  test('a lost slot is lost, and holds nothing back', async () => {
    const [slot] = sampleStatus().slots;
    const lost = {
      ...slot!,
      walStatus: 'lost' as const,
      invalidationReason: 'idle_timeout' as const,
    };
    const metrics = open(() => sampleStatus({ slots: [lost] }));
    expect(await seriesOf(metrics, 'slot_wal_status')).toMatchObject({
      'walcast_slot_wal_status{slot="slot_a",status="lost"}': 1,
      'walcast_slot_wal_status{slot="slot_a",status="reserved"}': 0,
    });
    expect(await seriesOf(metrics, 'slot_retained_bytes')).toEqual({
      'walcast_slot_retained_bytes{slot="slot_a"}': 0,
    });
  });

  test('the timeline is the one that is received, not one the server has gone on to', async () => {
    const { upstream } = sampleStatus();
    const metrics = open(() =>
      sampleStatus({ upstream: { ...upstream, timeline: toTimelineId(2) } }),
    );
    expect(await seriesOf(metrics, 'upstream_timeline')).toEqual({
      'walcast_upstream_timeline{upstream="default"}': 1,
    });
  });

  test('a reload that was refused shows, and when the configuration was loaded that counts', async () => {
    const configuration = {
      ...sampleStatus().configuration,
      isLastReloadGood: false,
      loadedAtMs: 1_700_000_000_500,
    };
    const metrics = open(() => sampleStatus({ configuration }));
    expect(await seriesOf(metrics, 'config_last_reload_successful')).toEqual({
      walcast_config_last_reload_successful: 0,
    });
    expect(await seriesOf(metrics, 'config_last_reload_success_timestamp_seconds')).toEqual({
      walcast_config_last_reload_success_timestamp_seconds: 1_700_000_000.5,
    });
  });

  test('a slot is inactive since it was let go, and for no time while it is in use', async () => {
    const [slot] = sampleStatus().slots;
    const clock = new HandClock();
    const slots = [
      { ...slot!, name: 'idle', activePid: null, inactiveSinceMs: clock.wallMs() - 90_500 },
      { ...slot!, name: 'used' },
      { ...slot!, name: 'stepped', activePid: null, inactiveSinceMs: clock.wallMs() + 5_000 },
    ];
    expect(
      await seriesOf(
        open(() => sampleStatus({ slots }), clock),
        'slot_inactive_seconds',
      ),
    ).toEqual({
      'walcast_slot_inactive_seconds{slot="idle"}': 90.5,
      'walcast_slot_inactive_seconds{slot="used"}': 0,
      'walcast_slot_inactive_seconds{slot="stepped"}': 0,
    });
  });

  test('WAL comes from memory, disk and upstream, and how late it is shows', async () => {
    const families = await scrape(open(() => sampleStatus()));
    const value = (series: string): number | undefined =>
      families.get(series.split('{')[0] ?? '')?.series.get(series);
    expect(value('walcast_store_read_bytes_total{source="upstream"}')).toBe(4096);
    expect(value('walcast_upstream_lag_seconds{upstream="default"}')).toBe(0.125);
    const transit = families.get('walcast_upstream_transit_seconds')?.series;
    expect(transit?.get('walcast_upstream_transit_seconds_count{upstream="default"}')).toBe(6);
  });

  test('a histogram counted elsewhere is rendered cumulatively', async () => {
    expect(
      await seriesOf(
        open(() => sampleStatus()),
        'store_flush_duration_seconds',
      ),
    ).toEqual({
      'walcast_store_flush_duration_seconds_bucket{upstream="default",le="0.001"}': 3,
      'walcast_store_flush_duration_seconds_bucket{upstream="default",le="0.01"}': 5,
      'walcast_store_flush_duration_seconds_bucket{upstream="default",le="+Inf"}': 6,
      'walcast_store_flush_duration_seconds_sum{upstream="default"}': 0.75,
      'walcast_store_flush_duration_seconds_count{upstream="default"}': 6,
    });
  });

  test('what is not known is left out', async () => {
    const families = await scrape(open(unknownStatus));
    for (const name of [
      'upstream_timeline',
      'upstream_last_message_timestamp_seconds',
      'upstream_server_lsn_bytes',
      'upstream_received_lsn_bytes',
      'upstream_acknowledged_lsn_bytes',
      'upstream_lag_bytes',
      'upstream_lag_seconds',
      'store_oldest_lsn_bytes',
      'store_filesystem_free_bytes',
      'standby_lag_bytes',
    ]) {
      expect([...(families.get(`walcast_${name}`)?.series ?? [])], name).toEqual([]);
    }
  });

  test('what is no finite number is left out, and the scrape goes on', async () => {
    const standbys = [
      sampleStandby({
        endToEndLag: { writeSeconds: 0, flushSeconds: 0.02, applySeconds: Number.NaN },
        lastReplyAtMs: Number.POSITIVE_INFINITY,
        sentBytes: Number.NaN,
      }),
    ];
    const { body } = await open(() => sampleStatus({ standbys })).render();
    expect(body).not.toMatch(/^walcast_\S+ (?:NaN|[+-]?Inf)/m);
    expect(body).toContain('walcast_standby_lag_seconds{standby="standby_a",stage="flush"} 0.02');
  });

  test('counters whose labels are known beforehand start at zero', async () => {
    const families = await scrape(open(unknownStatus));
    const rejected = families.get('walcast_client_connections_rejected_total');
    expect(rejected?.series.get('walcast_client_connections_rejected_total{reason="limit"}')).toBe(
      0,
    );
    const commands = families.get('walcast_client_commands_total');
    expect(commands?.series.get('walcast_client_commands_total{command="START_REPLICATION"}')).toBe(
      0,
    );
    const errors = families.get('walcast_store_errors_total');
    expect(errors?.series.get('walcast_store_errors_total{operation="fsync"}')).toBe(0);
  });

  test('the file system of the store is shown as the status has it', async () => {
    const filesystem = { freeBytes: 4_096, sizeBytes: 8_192 };
    const metrics = open(() => sampleStatus({ filesystem }));
    expect(await seriesOf(metrics, 'store_filesystem_free_bytes')).toEqual({
      walcast_store_filesystem_free_bytes: 4_096,
    });
    expect(await seriesOf(metrics, 'store_filesystem_size_bytes')).toEqual({
      walcast_store_filesystem_size_bytes: 8_192,
    });
  });

  test('requests are counted by template and class', async () => {
    const metrics = open(() => sampleStatus());
    metrics.observeRequest({ method: 'GET', route: '/metrics', statusCode: 204, seconds: 0.002 });
    metrics.observeRequest({ method: 'PROPFIND', route: 'none', statusCode: 404, seconds: 0.002 });
    const series = await seriesOf(metrics, 'http_request_duration_seconds');
    expect(
      series[
        'walcast_http_request_duration_seconds_count{method="GET",route="/metrics",status_class="2xx"}'
      ],
    ).toBe(1);
    expect(
      series[
        'walcast_http_request_duration_seconds_count{method="other",route="none",status_class="4xx"}'
      ],
    ).toBe(1);
  });

  test('scrapes that overlap, or follow within a second, ask for the status once', async () => {
    let asked = 0;
    const clock = new HandClock();
    const metrics = open(() => {
      asked++;
      return sampleStatus();
    }, clock);
    await Promise.all(Array.from({ length: 100 }, () => metrics.render()));
    expect(asked).toBe(1);
    clock.ms += 999;
    await metrics.render();
    expect(asked).toBe(1);
    clock.ms += 1;
    await metrics.render();
    expect(asked).toBe(2);
  });

  test('a failing scrape does not break the next one', async () => {
    let isBroken = true;
    const metrics = open(() => {
      if (isBroken) throw new Error('broken');
      return sampleStatus();
    });
    await expect(metrics.render()).rejects.toThrow('broken');
    isBroken = false;
    expect((await metrics.render()).body).toContain('walcast_ready 1');
  });
});

describe('standbys', () => {
  const crowd = (count: number, prefix = 's'): RelayStatus['standbys'] =>
    Array.from({ length: count }, (_, index) =>
      sampleStandby({ pid: index + 1, applicationName: `${prefix}${index}`, slotName: null }),
    );

  test('a scrape with a thousand standbys and slots is text that holds every series once', async () => {
    const slots = crowd(1000).flatMap(({ applicationName: name }) =>
      sampleStatus().slots.map((slot) => ({ ...slot, name })),
    );
    const metrics = open(() => sampleStatus({ standbys: crowd(1000), slots }));
    const { body } = await metrics.render();
    const series = body
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.slice(0, line.lastIndexOf(' ')));
    expect(series.length).toBeGreaterThan(10_000);
    expect(new Set(series).size).toBe(series.length);
  });

  test('names beyond the cap are folded into one, and counted', async () => {
    const metrics = open(() => sampleStatus({ standbys: crowd(250), slots: [] }));
    const families = await scrape(metrics);
    expect(families.get('walcast_standby_sent_lsn_bytes')?.series.size).toBe(201);
    expect(families.get('walcast_standby_info')?.series.size).toBe(200);
    expect(await seriesOf(metrics, 'standby_series_overflow')).toEqual({
      walcast_standby_series_overflow: 50,
    });
    const sent = await seriesOf(metrics, 'standby_sent_bytes_total');
    expect(sent['walcast_standby_sent_bytes_total{standby="_other"}']).toBe(50 * 5000);
    expect(await seriesOf(metrics, 'standby_connections')).toMatchObject({
      'walcast_standby_connections{state="streaming"}': 250,
    });
  });

  test('a name that left gives its place back after a while', async () => {
    const clock = new HandClock();
    let standbys = crowd(200);
    const metrics = open(() => sampleStatus({ standbys, slots: [] }), clock);
    await metrics.render();
    standbys = crowd(1, 'late');
    clock.ms += 1_000;
    expect(await seriesOf(metrics, 'standby_series_overflow')).toEqual({
      walcast_standby_series_overflow: 1,
    });
    clock.ms += 16 * 60_000;
    await metrics.render();
    clock.ms += 1_000;
    expect(await seriesOf(metrics, 'standby_series_overflow')).toEqual({
      walcast_standby_series_overflow: 0,
    });
    const sent = await seriesOf(metrics, 'standby_sent_bytes_total');
    expect(Object.keys(sent)).toEqual([
      'walcast_standby_sent_bytes_total{standby="_other"}',
      'walcast_standby_sent_bytes_total{standby="late0"}',
    ]);
  });

  test('a name made to break the format is shown harmless', async () => {
    const names = ['a"b\\c\nd', '\u0000\u{1F600}', 'x'.repeat(300), '', '_other'];
    const standbys = names.map((applicationName, index) =>
      sampleStandby({ pid: index + 1, applicationName, slotName: null }),
    );
    const { body } = await open(() => sampleStatus({ standbys, slots: [] })).render();
    const lines = body
      .split('\n')
      .filter((line) => line.startsWith('walcast_standby_sent_lsn_bytes'));
    expect(lines.map((line) => /standby="(.*)"/.exec(line)?.[1])).toEqual([
      'a\\"b\\\\c?d',
      '???',
      'x'.repeat(63),
      '_unnamed',
      '_other_',
    ]);
  });

  test('two sessions of one name are shown as the one that is further behind, once', async () => {
    const ahead = sampleStandby({ pid: 1 });
    const behind = sampleStandby({
      pid: 2,
      applyLsn: toLsn(0x2000000n),
      endToEndLag: { writeSeconds: 0, flushSeconds: null, applySeconds: 9 },
      sentBytes: 1,
    });
    const metrics = open(() => sampleStatus({ standbys: [ahead, behind] }));
    const { body } = await metrics.render();
    expect(body).toContain(`walcast_standby_replay_lsn_bytes{standby="standby_a"} ${0x2000000}\n`);
    expect(body).toContain('walcast_standby_lag_seconds{standby="standby_a",stage="replay"} 9\n');
    expect(body).toContain('walcast_standby_sent_bytes_total{standby="standby_a"} 5001\n');
  });

  test('a counter never goes back when the session behind it ends or starts anew', async () => {
    const total = 'walcast_standby_sent_bytes_total{standby="standby_a"}';
    let standbys = [
      sampleStandby({ pid: 1, sentBytes: 100 }),
      sampleStandby({ pid: 2, sentBytes: 1000 }),
    ];
    let endedBytes = 0;
    const metrics = open(() => {
      const sentByEnded = new Map([['standby_a', { sentBytes: endedBytes, blockedSeconds: 0 }]]);
      return sampleStatus({
        standbys,
        standbyTotals: { ...sampleStatus().standbyTotals, sentByEnded },
      });
    });
    const read = async (): Promise<number | undefined> =>
      (await seriesOf(metrics, 'standby_sent_bytes_total'))[total];
    expect(await read()).toBe(1100);
    // What a session sends between the last scrape and its end counts, too.
    standbys = [sampleStandby({ pid: 1, sentBytes: 150 })];
    endedBytes = 1020;
    expect(await read()).toBe(1170);
    standbys = [sampleStandby({ pid: 3, sentBytes: 7 })];
    endedBytes += 150;
    expect(await read()).toBe(1177);
    standbys = [];
    endedBytes += 8;
    expect(await read()).toBe(1178);
    // One that came and went between two scrapes.
    endedBytes += 40;
    expect(await read()).toBe(1218);
  });

  test('a standby that came and went between two scrapes is counted under its own name', async () => {
    const standbyTotals = {
      ...sampleStatus().standbyTotals,
      connects: new Map([['flapping', 7]]),
    };
    const metrics = open(() => sampleStatus({ standbys: [], standbyTotals }));
    expect(await seriesOf(metrics, 'standby_connects_total')).toEqual({
      'walcast_standby_connects_total{standby="flapping"}': 7,
    });
  });

  test('lag is end to end: what was not reported has none, and the hop is not shown', async () => {
    const nothing = { writeSeconds: 0, flushSeconds: 0, applySeconds: 0 };
    const standbys = [
      sampleStandby({ pid: 1, applicationName: 'idle', endToEndLag: nothing, applyLagSeconds: 9 }),
      sampleStandby({
        pid: 3,
        applicationName: 'receiver',
        endToEndLag: { writeSeconds: 4, flushSeconds: null, applySeconds: null },
      }),
    ];
    const metrics = open(() => sampleStatus({ standbys, slots: [] }));
    const name = 'walcast_standby_lag_seconds';
    expect(await seriesOf(metrics, 'standby_lag_seconds')).toEqual({
      [`${name}{standby="idle",stage="write"}`]: 0,
      [`${name}{standby="idle",stage="flush"}`]: 0,
      [`${name}{standby="idle",stage="replay"}`]: 0,
      [`${name}{standby="receiver",stage="write"}`]: 4,
    });
  });

  test('the place in the policy is that of the name, whichever session has reported', async () => {
    const standbys = [
      sampleStandby({ pid: 1, syncPriority: 0 }),
      sampleStandby({ pid: 2, syncPriority: 2 }),
    ];
    const metrics = open(() => sampleStatus({ standbys }));
    expect(await seriesOf(metrics, 'standby_sync_priority')).toEqual({
      'walcast_standby_sync_priority{standby="standby_a"}': 2,
    });
  });

  test('a standby that owns a slot and is away is shown as disconnected, under its last name', async () => {
    let isConnected = true;
    const metrics = open(() => {
      const { slots } = sampleStatus();
      return sampleStatus({
        standbys: isConnected ? [sampleStandby()] : [],
        slots: slots.map((slot) => ({ ...slot, activePid: isConnected ? 42 : null })),
      });
    });
    const state = 'walcast_standby_state{standby="standby_a",state="disconnected"}';
    expect((await seriesOf(metrics, 'standby_state'))[state]).toBe(0);
    isConnected = false;
    const states = await seriesOf(metrics, 'standby_state');
    expect(states[state]).toBe(1);
    expect(Object.values(states).reduce((sum, value) => sum + value, 0)).toBe(1);
  });

  test('a slot that was never used since the start stands for a standby of its name', async () => {
    const [slot] = sampleStatus().slots;
    const metrics = open(() =>
      sampleStatus({ standbys: [], slots: [{ ...slot!, name: 'lost', activePid: null }] }),
    );
    expect(await seriesOf(metrics, 'standby_state')).toMatchObject({
      'walcast_standby_state{standby="lost",state="disconnected"}': 1,
    });
  });
});
