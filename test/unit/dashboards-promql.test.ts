// The dashboards' queries, put to made-up series by Prometheus's own tool: they parse, and give the figures that their panels claim.
import { describe, expect, it as always } from 'vitest';
import { dashboardExpressions } from '../../dashboards/src/expressions.ts';
import { checkExpressions, evaluate, withEverythingChosen } from '../support/promtool.ts';
import { requires } from '../support/requirements.ts';

const { it } = requires('promtool');

const A = 'job="walcast",instance="a:9188"';
const B = 'job="walcast",instance="b:9188"';
const all = dashboardExpressions();

/** The queries of a panel, in their order. */
function queriesOf(dashboard: string, panel: string): string[] {
  const found = all.filter((one) => one.dashboard === dashboard && one.panel === panel);
  if (found.length === 0) throw new Error(`no panel "${panel}" in ${dashboard}`);
  return found.map(({ expr }) => withEverythingChosen(expr));
}

function query(dashboard: string, panel: string, index = 0): string {
  const expr = queriesOf(dashboard, panel)[index];
  if (expr === undefined) throw new Error(`"${panel}" has no query ${index}`);
  return expr;
}

function buildInfo(relay: string): string {
  return `walcast_build_info{${relay},version="0.1.0",revision="",node_version="v20.20.2"}`;
}

function upstreamInfo(relay: string, cluster: string): string {
  return `walcast_upstream_info{${relay},upstream="default",host="pg-a",system_identifier="${cluster}",server_version="15.8",slot="w"}`;
}

describe('the queries of the dashboards', () => {
  it('are PromQL that Prometheus 2.42 understands', () => {
    const result = checkExpressions(all.map(({ expr }) => withEverythingChosen(expr)));
    expect(result.output).toContain(`${all.length} rules found`);
    expect(result.isGood).toBe(true);
  });

  always('have no variable left when everything is chosen', () => {
    for (const { expr } of all) expect(withEverythingChosen(expr)).not.toContain('$');
  });
});

describe('the lag by hop', () => {
  const lag = (stage: string): string =>
    `walcast_standby_lag_bytes{${A},standby="s1",stage="${stage}"}`;
  const hops = queriesOf('walcast-standby', 'Lag by hop: $standby');
  const hop = (expr: string, value: number): Parameters<typeof evaluate>[1][number] => ({
    expr,
    evalTime: '1m',
    samples: [{ labels: '{}', value }],
  });

  it('adds up to the lag end to end', () => {
    const series = {
      [buildInfo(A)]: '1x8',
      [`walcast_upstream_server_lsn_bytes{${A},upstream="default"}`]: '1000x8',
      [`walcast_upstream_received_lsn_bytes{${A},upstream="default"}`]: '900x8',
      [lag('send')]: '130x8',
      [lag('write')]: '180x8',
      [lag('flush')]: '300x8',
      [lag('replay')]: '800x8',
    };
    const result = evaluate(series, [
      ...hops.map((expr, index) => hop(expr, [100, 30, 50, 120, 500][index] ?? 0)),
      hop(hops.map((expr) => `(${expr})`).join(' + '), 800),
    ]);
    expect(result.output).toContain('SUCCESS');
  });

  it('is never below 0, ends where a receiver does not replay, and needs no word of the upstream', () => {
    const series = {
      [buildInfo(A)]: '1x8',
      [`walcast_upstream_received_lsn_bytes{${A},upstream="default"}`]: '900x8',
      [lag('send')]: '130x8',
      // A standby that has read its archive has more than it was sent.
      [lag('write')]: '100x8',
      [lag('flush')]: '100x8',
    };
    const [upstream = '', relay = '', write = '', flush = '', replay = ''] = hops;
    const result = evaluate(series, [
      hop(upstream, 0),
      hop(relay, 130),
      hop(write, 0),
      hop(flush, 0),
      { expr: replay, evalTime: '1m', samples: [] },
    ]);
    expect(result.output).toContain('SUCCESS');
  });
});

describe('the overview', () => {
  it('has the fan-out factor of everything sent, and none while nothing is written', () => {
    const series = {
      [`walcast_upstream_received_bytes_total{${A},upstream="default"}`]: '0+1500x40 60000x40',
      [`walcast_standby_sent_bytes_total{${A},standby="s1"}`]: '0+1500x40 60000x40',
      [`walcast_standby_sent_bytes_total{${A},standby="s2"}`]: '0+1500x40 60000x40',
      [`walcast_standby_sent_bytes_total{${A},standby="s3"}`]: '0+1500x40 60000x40',
    };
    const factor = query('walcast-overview', 'Fan-out factor');
    const result = evaluate(series, [
      { expr: factor, evalTime: '5m', samples: [{ labels: '{}', value: 3 }] },
      { expr: factor, evalTime: '15m', samples: [] },
      {
        expr: query('walcast-overview', 'Bytes that upstreams need not send'),
        evalTime: '5m',
        samples: [{ labels: `{${A}}`, value: 200 }],
      },
    ]);
    expect(result.output).toContain('SUCCESS');
  });

  it('counts a standby as missing that is connected to no relay of its cluster', () => {
    const away = (relay: string, standby: string): string =>
      `walcast_standby_state{${relay},standby="${standby}",state="disconnected"}`;
    const series = {
      [upstreamInfo(A, '7300')]: '1x8',
      [upstreamInfo(B, '7300')]: '1x8',
      [away(A, 's1')]: '1x8',
      [away(B, 's1')]: '0x8',
      [away(A, 's2')]: '1x8',
      [away(B, 's2')]: '1x8',
    };
    const missing = query('walcast-overview', 'Standbys', 2);
    const result = evaluate(series, [
      { expr: missing, evalTime: '1m', samples: [{ labels: '{}', value: 1 }] },
    ]);
    expect(result.output).toContain('SUCCESS');
    expect(
      evaluate({}, [{ expr: missing, evalTime: '1m', samples: [{ labels: '{}', value: 0 }] }])
        .output,
    ).toContain('SUCCESS');
  });

  it('counts no standby as missing that uses its slot at the other relay under another name', () => {
    const series = {
      [upstreamInfo(A, '7300')]: '1x8',
      [upstreamInfo(B, '7300')]: '1x8',
      [`walcast_standby_state{${A},standby="pg_1",state="disconnected"}`]: '0x8',
      [`walcast_slot_active{${A},slot="slot_1"}`]: '1x8',
      [`walcast_standby_state{${B},standby="slot_1",state="disconnected"}`]: '1x8',
      [`walcast_slot_active{${B},slot="slot_1"}`]: '0x8',
    };
    const missing = query('walcast-overview', 'Standbys', 2);
    const result = evaluate(series, [
      { expr: missing, evalTime: '1m', samples: [{ labels: '{}', value: 0 }] },
    ]);
    expect(result.output).toContain('SUCCESS');
  });

  it('takes the share of a slot from the relay that its standby uses, and from none where it is lost', () => {
    const share = query('walcast-overview', 'Largest share of a slot');
    const slot = (relay: string, retained: number, active: number, lost: number): object => ({
      [upstreamInfo(relay, '7300')]: '1x8',
      [`walcast_store_limit_bytes{${relay},upstream="default"}`]: '1000x8',
      [`walcast_slot_retained_bytes{${relay},slot="s1"}`]: `${retained}x8`,
      [`walcast_slot_active{${relay},slot="s1"}`]: `${active}x8`,
      [`walcast_slot_wal_status{${relay},slot="s1",status="lost"}`]: `${lost}x8`,
    });
    const shown = (series: object, value: number): void => {
      const samples = [{ labels: '{}', value }];
      const result = evaluate({ ...series }, [{ expr: share, evalTime: '1m', samples }]);
      expect(result.output).toContain('SUCCESS');
    };
    shown({ ...slot(A, 250, 1, 0), ...slot(B, 900, 0, 0) }, 0.25);
    shown({ ...slot(A, 850, 0, 0), ...slot(B, 0, 0, 1) }, 0.85);
    shown({ ...slot(A, 850, 0, 0), ...slot(B, 500, 0, 0) }, 0.5);
  });

  it('knows a relay that is down, and no other program', () => {
    const series = {
      [buildInfo(A)]: '1x80',
      [buildInfo(B)]: '1x20 stale',
      [`up{${A}}`]: '1x80',
      [`up{${B}}`]: '1x20 0x60',
      'up{job="node",instance="a:9100"}': '1x80',
    };
    const [up = '', , known = ''] = queriesOf('walcast-overview', 'Relays');
    const result = evaluate(series, [
      { expr: up, evalTime: '15m', samples: [{ labels: '{}', value: 1 }] },
      { expr: known, evalTime: '15m', samples: [{ labels: '{}', value: 2 }] },
    ]);
    expect(result.output).toContain('SUCCESS');
  });

  it('takes no time that passed since the last scrape for silence', () => {
    const upstream = query('walcast-overview', 'Silence of upstreams');
    const standby = query('walcast-standby', 'Last reply');
    const series = {
      [`walcast_upstream_last_message_timestamp_seconds{${A},upstream="default"}`]: '-1+15x4',
      [`walcast_standby_last_reply_timestamp_seconds{${A},standby="s1"}`]: '-4+15x4',
    };
    // The last scrape was after a minute.
    const result = evaluate(series, [
      {
        expr: upstream,
        evalTime: '74s',
        samples: [{ labels: '{instance="a:9188",upstream="default"}', value: 1 }],
      },
      {
        expr: standby,
        evalTime: '74s',
        samples: [{ labels: '{instance="a:9188",standby="s1"}', value: 4 }],
      },
    ]);
    expect(result.output).toContain('SUCCESS');
  });

  it('says by which state a standby is in', () => {
    const state = (word: string): string =>
      `walcast_standby_state{${A},standby="s1",state="${word}"}`;
    const words = ['disconnected', 'startup', 'catchup', 'streaming', 'backup', 'stopping'];
    const series = Object.fromEntries(
      words.map((word) => [state(word), word === 'streaming' ? '1x8' : '0x8']),
    );
    const code = query('walcast-overview', 'Standbys, furthest behind first', 1);
    const result = evaluate(series, [
      { expr: code, evalTime: '1m', samples: [{ labels: `{${A},standby="s1"}`, value: 4 }] },
    ]);
    expect(result.output).toContain('SUCCESS');
  });

  it('tells how long the disk lasts while it fills up, and nothing else', () => {
    const free = `walcast_store_filesystem_free_bytes{${A}}`;
    const expr = query('walcast-overview', 'Time to a full disk');
    const filling = evaluate({ [free]: '3600000-1500x240' }, [
      // 100 bytes a second: an hour has taken 360,000 of them.
      { expr, evalTime: '1h', samples: [{ labels: '{}', value: 32_400 }] },
    ]);
    expect(filling.output).toContain('SUCCESS');
    const steady = evaluate({ [free]: '3600000x240' }, [{ expr, evalTime: '1h', samples: [] }]);
    expect(steady.output).toContain('SUCCESS');
  });
});

describe('the dashboard of the commit path', () => {
  it('says of each relay how many standbys it requires and has, and does not mix them up', () => {
    const series = Object.fromEntries(
      [
        [A, 2, 3],
        [B, 0, 0],
      ].flatMap(([relay, required, there]) => [
        [`walcast_sync_required_standbys{${relay},upstream="default"}`, `${required}x8`],
        [`walcast_sync_eligible_standbys{${relay},upstream="default"}`, `${there}x8`],
      ]),
    );
    const [required = '', there = ''] = queriesOf('walcast-sync', 'Standbys required, and there');
    const of = (instance: string, value: number): { labels: string; value: number } => ({
      labels: `{instance="${instance}",upstream="default"}`,
      value,
    });
    const result = evaluate(series, [
      { expr: required, evalTime: '1m', samples: [of('a:9188', 2), of('b:9188', 0)] },
      { expr: there, evalTime: '1m', samples: [of('a:9188', 3), of('b:9188', 0)] },
    ]);
    expect(result.output).toContain('SUCCESS');
  });

  it('shows what is received and not reported, by stage', () => {
    const stage = (word: string): string =>
      `walcast_upstream_acknowledged_lsn_bytes{${A},upstream="default",stage="${word}"}`;
    const series = {
      [`walcast_upstream_received_lsn_bytes{${A},upstream="default"}`]: '1000x8',
      [stage('write')]: '1000x8',
      [stage('flush')]: '700x8',
    };
    const expr = query('walcast-sync', 'Received and not yet confirmed');
    const result = evaluate(series, [
      {
        expr,
        evalTime: '1m',
        samples: [
          { labels: '{instance="a:9188",stage="flush"}', value: 300 },
          { labels: '{instance="a:9188",stage="write"}', value: 0 },
        ],
      },
    ]);
    expect(result.output).toContain('SUCCESS');
  });
});
