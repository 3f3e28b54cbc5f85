// The fleet at a glance: is every relay up, does every standby stream, how far behind is the worst, what will go wrong next?
import { lagHops } from './lag-hops.ts';
import { FIRING, TABLES } from './overview-tables.ts';
import type { DashboardSpec, PanelSpec, RowSpec } from './panel-spec.ts';
import { rate, scrapeTargets, stateCode, walcast, withCluster } from './selectors.ts';
import { atLeast, SATISFIED_WORDS, UPSTREAM_STATES, UPSTREAM_WORDS, upTo } from './words.ts';

const MIB = 1024 * 1024;

const SENT = `sum(${rate('standby_sent_bytes_total')})`;
const RECEIVED = `sum(${rate('upstream_received_bytes_total')})`;
const SENT_BY_RELAY = `sum by (job, instance) (${rate('standby_sent_bytes_total')})`;
const RECEIVED_BY_RELAY = `sum by (job, instance) (${rate('upstream_received_bytes_total')})`;
const FREE = walcast('store_filesystem_free_bytes');

const STATS: readonly PanelSpec[] = [
  {
    kind: 'stat',
    title: 'Relays',
    description:
      'Walcasts that Prometheus reaches, those that would answer /readyz with 200, and how many there were within the last hour.',
    unit: 'short',
    width: 5,
    height: 4,
    noValue: 'none',
    queries: [
      { legend: 'up', expr: `sum(${scrapeTargets()})` },
      { legend: 'ready', expr: `sum(${walcast('ready')})` },
      { legend: 'known', expr: `count(${scrapeTargets()})` },
    ],
  },
  {
    kind: 'stat',
    title: 'Upstream connections',
    description:
      'Connections to upstream servers that stream, that are catching up, and that are not there.',
    unit: 'short',
    width: 5,
    height: 4,
    noValue: 'none',
    queries: [
      { legend: 'streaming', expr: `sum(${walcast('upstream_state', 'state="streaming"')})` },
      { legend: 'catching up', expr: `sum(${walcast('upstream_state', 'state="catchup"')})` },
      {
        legend: 'away',
        expr: `sum(${walcast('upstream_state', 'state=~"disconnected|connecting|waiting_for_wal"')})`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Standbys',
    description:
      'Sessions that stream, sessions that are catching up, and standbys that own a slot or are named in synchronous_standby_names and are connected ' +
      'to no relay of their cluster.',
    unit: 'short',
    width: 5,
    height: 4,
    noValue: 'none',
    queries: [
      {
        legend: 'streaming',
        expr: `sum(${walcast('standby_connections', 'state="streaming"')})`,
      },
      {
        legend: 'catching up',
        expr: `sum(${walcast('standby_connections', 'state="catchup"')})`,
      },
      {
        legend: 'missing',
        expr:
          `sum(min by (job, system_identifier, standby) (` +
          `${withCluster(walcast('standby_state', 'state="disconnected"'))})) or vector(0)`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Furthest behind',
    description:
      'The largest lag of any standby end to end, from the upstream’s end of WAL: bytes not flushed there, and bytes not replayed.',
    unit: 'bytes',
    width: 5,
    height: 4,
    noValue: 'no standby',
    thresholds: upTo(64 * MIB, 1024 * MIB),
    queries: [
      { legend: 'flush', expr: `max(${walcast('standby_lag_bytes', 'stage="flush"')})` },
      { legend: 'replay', expr: `max(${walcast('standby_lag_bytes', 'stage="replay"')})` },
    ],
  },
  {
    kind: 'stat',
    title: 'Longest behind',
    description:
      'The same in seconds: how long the newest confirmation took, or the age of the oldest WAL not confirmed where that is more; 0 when idle.',
    unit: 's',
    width: 4,
    height: 4,
    noValue: 'no standby',
    thresholds: upTo(15, 300),
    queries: [
      { legend: 'flush', expr: `max(${walcast('standby_lag_seconds', 'stage="flush"')})` },
      { legend: 'replay', expr: `max(${walcast('standby_lag_seconds', 'stage="replay"')})` },
    ],
  },
  {
    kind: 'stat',
    title: 'Synchronous policy',
    description:
      'Whether every relay has the standbys that its synchronous_standby_names requires. While one has not, commits that wait for it hang.',
    unit: 'short',
    width: 5,
    height: 4,
    noValue: 'no relay',
    words: SATISFIED_WORDS,
    queries: [{ legend: 'policy', expr: `min(${walcast('sync_satisfied')})` }],
  },
  {
    kind: 'stat',
    title: 'Fan-out factor',
    description:
      'Bytes of WAL sent to standbys for each byte received: what the upstream would have to send, and does not. Nothing is shown while no WAL is written.',
    unit: 'none',
    width: 5,
    height: 4,
    decimals: 1,
    noValue: 'idle',
    queries: [{ legend: 'sent / received', expr: `${SENT} / (${RECEIVED} > 0)` }],
  },
  {
    kind: 'stat',
    title: 'Largest share of a slot',
    description:
      'The slot that holds back most, as a share of what its relay may keep. At 100 % it is lost. Nothing is shown without a limit or without slots.',
    unit: 'percentunit',
    width: 5,
    height: 4,
    max: 1,
    noValue: 'no limit',
    thresholds: upTo(0.5, 0.8),
    queries: [
      {
        legend: 'of the limit',
        expr:
          `max(${walcast('slot_retained_bytes')} / on (job, instance) group_left () ` +
          `sum by (job, instance) (${walcast('store_limit_bytes')} > 0))`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Time to a full disk',
    description:
      'When the fullest file system under a WAL store has no room left, at the rate of the last six hours. Nothing is shown while none is filling up. ' +
      'A store with a limit stops growing there.',
    unit: 'dtdurations',
    width: 5,
    height: 4,
    noValue: 'not filling up',
    thresholds: atLeast(4 * 3600, 2 * 86400),
    queries: [
      {
        legend: 'until full',
        expr: `min(${FREE} / -(deriv(${FREE}[6h]) < 0))`,
        isEmptyWhenHealthy: true,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Firing alerts',
    description: 'Alerts of the rules of walcast that fire now. The table below names them.',
    unit: 'short',
    width: 4,
    height: 4,
    thresholds: upTo(1, 3),
    queries: [{ legend: 'firing', expr: `count(${FIRING}) or vector(0)` }],
  },
];

const LAG: RowSpec = {
  title: 'Lag',
  panels: [
    {
      kind: 'timeseries',
      title: 'Bytes not flushed, by standby',
      description:
        'End to end: the upstream’s end of WAL minus what the standby has flushed. The 25 furthest behind at each moment.',
      unit: 'bytes',
      width: 12,
      height: 9,
      min: 0,
      queries: [
        {
          legend: '{{standby}} at {{instance}}',
          expr: `topk(25, max by (instance, standby) (${walcast('standby_lag_bytes', 'stage="flush"')}))`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Seconds until replayed, by standby',
      description:
        'End to end: from the upstream’s sending until the standby had replayed it, or the age of what it still lacks. 0 when it has everything. The 25 worst at each moment.',
      unit: 's',
      width: 12,
      height: 9,
      min: 0,
      queries: [
        {
          legend: '{{standby}} at {{instance}}',
          expr: `topk(25, max by (instance, standby) (${walcast('standby_lag_seconds', 'stage="replay"')}))`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Where the lag is, worst standby of each hop',
      description:
        'For every hop the standby that waits most there, so the hops may be of different standbys: high at the first one is the relay’s own lag, at the second the network or ' +
        'a slow reader, at the last two the standby’s disk and replay. The dashboard of one standby has the hops that add up.',
      unit: 'bytes',
      width: 12,
      height: 9,
      min: 0,
      queries: lagHops([], (expr) => `max(${expr})`),
    },
    {
      kind: 'timeseries',
      title: 'Standbys by state',
      description: 'Sessions of standbys by state, and how many the relays would take.',
      unit: 'short',
      width: 12,
      height: 9,
      min: 0,
      queries: [
        { legend: '{{state}}', expr: `sum by (state) (${walcast('standby_connections')})` },
        { legend: 'max_wal_senders', expr: `sum(${walcast('standby_connections_limit')})` },
      ],
    },
  ],
};

const THROUGHPUT: RowSpec = {
  title: 'Throughput',
  panels: [
    {
      kind: 'timeseries',
      title: 'WAL in and out',
      description:
        'WAL that relays receive from their upstream, and send to their standbys, without framing.',
      unit: 'binBps',
      width: 8,
      height: 8,
      min: 0,
      queries: [
        { legend: 'received by {{instance}}', expr: RECEIVED_BY_RELAY },
        { legend: 'sent by {{instance}}', expr: SENT_BY_RELAY },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Fan-out factor over time',
      description:
        'Bytes sent for each byte received, by relay: about the number of standbys while they all stream, more while some of them catch up.',
      unit: 'none',
      width: 8,
      height: 8,
      min: 0,
      queries: [
        {
          legend: '{{instance}}',
          expr: `${SENT_BY_RELAY} / (${RECEIVED_BY_RELAY} > 0)`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Bytes that upstreams need not send',
      description:
        'What relays sent to standbys minus what they received: the traffic that they take off their upstreams.',
      unit: 'binBps',
      width: 8,
      height: 8,
      queries: [{ legend: '{{instance}}', expr: `${SENT_BY_RELAY} - ${RECEIVED_BY_RELAY}` }],
    },
  ],
};

const UPSTREAMS: RowSpec = {
  title: 'Upstreams',
  panels: [
    {
      kind: 'statetimeline',
      title: 'State of the upstream connections',
      description:
        'What each relay does towards its upstream. waiting_for_wal: the upstream has not got, or does not give, the WAL that comes next.',
      unit: 'short',
      width: 12,
      height: 7,
      words: UPSTREAM_WORDS,
      queries: [
        {
          legend: '{{instance}} ← {{upstream}}',
          expr: stateCode('upstream_state', {
            by: 'instance, upstream',
            words: UPSTREAM_STATES,
          }),
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Bytes relays lack',
      description:
        'The relay’s own lag: the upstream’s end of WAL minus what the relay has on its disk. Every standby lags by at least that.',
      unit: 'bytes',
      width: 6,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{instance}}',
          expr: `max by (instance, upstream) (${walcast('upstream_lag_bytes')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Silence of upstreams',
      description:
        'Time since the upstream’s last message. Even an idle server answers every half wal_receiver_timeout (30 s by default).',
      unit: 's',
      width: 6,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{instance}}',
          expr: `max by (instance, upstream) (time() - ${walcast('upstream_last_message_timestamp_seconds')})`,
        },
      ],
    },
  ],
};

const DISK: RowSpec = {
  title: 'Slots and disks',
  panels: [
    {
      kind: 'timeseries',
      title: 'WAL held back by slots, and the limit',
      description:
        'How much WAL each slot keeps, the 25 largest at each moment, and the most that a relay may keep (none where there is no limit).',
      unit: 'bytes',
      width: 12,
      height: 8,
      min: 0,
      queries: [
        {
          legend: '{{slot}} at {{instance}}',
          expr: `topk(25, max by (instance, slot) (${walcast('slot_retained_bytes')}))`,
        },
        {
          legend: 'limit of {{instance}}',
          expr: `max by (instance) (${walcast('store_limit_bytes')} > 0)`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Room on the disks',
      description: 'Share of the file system under each WAL store that is free.',
      unit: 'percentunit',
      width: 12,
      height: 8,
      min: 0,
      max: 1,
      queries: [
        {
          legend: '{{instance}}',
          expr: `min by (instance) (${FREE} / ${walcast('store_filesystem_size_bytes')})`,
        },
      ],
    },
  ],
};

/** The dashboard `walcast-overview`. */
export const OVERVIEW: DashboardSpec = {
  uid: 'walcast-overview',
  title: 'walcast / Overview',
  description:
    'Every relay, every standby: who streams, how far behind, through which hop, and what will go wrong next.',
  variables: [],
  rows: [{ title: 'At a glance', panels: STATS }, TABLES, LAG, THROUGHPUT, UPSTREAMS, DISK],
};
