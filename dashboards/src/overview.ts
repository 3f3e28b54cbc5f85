// The fleet at a glance: is every relay up, does every standby stream, how far behind is the worst, what will go wrong next?
import { lagHops } from './lag-hops.ts';
import { STATS } from './overview-stats.ts';
import { TABLES } from './overview-tables.ts';
import type { DashboardSpec, RowSpec } from './panel-spec.ts';
import { ageAtScrape, rate, stateCode, walcast } from './selectors.ts';
import { UPSTREAM_STATES, UPSTREAM_WORDS } from './words.ts';

const SENT_BY_RELAY = `sum by (job, instance) (${rate('standby_sent_bytes_total')})`;
const RECEIVED_BY_RELAY = `sum by (job, instance) (${rate('upstream_received_bytes_total')})`;
const FREE = walcast('store_filesystem_free_bytes');

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
        'Time since the upstream’s last message. Even an idle server is asked for an answer after half of wal_receiver_timeout, and after 30 s at most.',
      unit: 's',
      width: 6,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{instance}}',
          expr: `max by (instance, upstream) (${ageAtScrape('upstream_last_message_timestamp_seconds')})`,
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
