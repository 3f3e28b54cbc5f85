// One standby: does it stream, and where on its way is the WAL that it has not got yet?
import { lagHops } from './lag-hops.ts';
import type { DashboardSpec, PanelSpec, RowSpec } from './panel-spec.ts';
import { ageAtScrape, increase, rate, stateCode, walcast } from './selectors.ts';
import type { SeriesName } from './selectors.ts';
import { STANDBY_STATES, STANDBY_WORDS, upTo } from './words.ts';

const STANDBY = 'standby=~"$standby"';
const MIB = 1024 * 1024;
const BY = 'instance, standby';

const one = (name: SeriesName, ...matchers: readonly string[]): string =>
  `max by (${BY}) (${walcast(name, STANDBY, ...matchers)})`;

const NOW: readonly PanelSpec[] = [
  {
    kind: 'stat',
    title: 'Lag in bytes',
    description: 'End to end: from the upstream’s end of WAL to what the standby has reported.',
    unit: 'bytes',
    width: 6,
    height: 4,
    noValue: 'unknown',
    thresholds: upTo(16 * MIB, 1024 * MIB),
    queries: [
      {
        legend: '{{stage}}',
        expr: `max by (stage) (${walcast('standby_lag_bytes', STANDBY)})`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Lag in seconds',
    description:
      'End to end: how long the newest confirmation took, or the age of the oldest WAL that is not confirmed. 0 when the standby has everything.',
    unit: 's',
    width: 6,
    height: 4,
    noValue: 'unknown',
    thresholds: upTo(15, 300),
    queries: [
      {
        legend: '{{stage}}',
        expr: `max by (stage) (${walcast('standby_lag_seconds', STANDBY)})`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Last reply',
    description:
      'Time since the standby’s last status update. A receiver sends one every wal_receiver_status_interval (10 s by default), or is asked.',
    unit: 's',
    width: 4,
    height: 4,
    noValue: 'not connected',
    thresholds: upTo(15, 45),
    queries: [
      {
        legend: '{{standby}}',
        expr: `max by (${BY}) (${ageAtScrape('standby_last_reply_timestamp_seconds', STANDBY)})`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Place in synchronous_standby_names',
    description: 'From 1; 0 for a standby whose confirmations the relay does not wait for.',
    unit: 'none',
    width: 4,
    height: 4,
    noValue: 'not connected',
    queries: [{ legend: '{{standby}}', expr: one('standby_sync_priority') }],
  },
  {
    kind: 'stat',
    title: 'Where it is connected',
    description: 'The relay that serves the standby, and the address that it comes from.',
    unit: 'short',
    width: 4,
    height: 4,
    noValue: 'not connected',
    queries: [
      {
        legend: '{{client_addr}} at {{instance}}',
        expr: `max by (${BY}, client_addr) (${walcast('standby_info', STANDBY)})`,
      },
    ],
  },
  {
    kind: 'statetimeline',
    title: 'State',
    description:
      'What the standby’s session did. disconnected is known of standbys that own a slot or are named in synchronous_standby_names.',
    unit: 'short',
    width: 24,
    height: 4,
    words: STANDBY_WORDS,
    queries: [
      {
        legend: '{{standby}} at {{instance}}',
        expr: stateCode('standby_state', {
          by: BY,
          words: STANDBY_STATES,
          matchers: [STANDBY],
        }),
      },
    ],
  },
];

const LAG: RowSpec = {
  title: 'Lag',
  panels: [
    {
      kind: 'timeseries',
      title: 'Lag by hop: $standby',
      description:
        'The bytes that the standby has not replayed, by where they wait: still at the upstream, at the relay, on the way, written and not flushed, flushed and not replayed. ' +
        'The height of all is the lag end to end.',
      unit: 'bytes',
      width: 24,
      height: 10,
      min: 0,
      isStacked: true,
      repeat: 'standby',
      queries: lagHops([STANDBY], (expr) => `max(${expr})`),
    },
    {
      kind: 'timeseries',
      title: 'Seconds behind, by stage',
      description:
        'How long WAL took from the upstream’s sending until the standby had written, flushed and replayed it, and until the relay itself had it on disk.',
      unit: 's',
      width: 12,
      height: 8,
      min: 0,
      queries: [
        {
          legend: 'relay {{instance}}',
          expr: `max by (instance) (${walcast('upstream_lag_seconds')})`,
        },
        {
          legend: '{{standby}} {{stage}}',
          expr: `max by (standby, stage) (${walcast('standby_lag_seconds', STANDBY)})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Progress of positions',
      description:
        'Bytes of WAL a second by which each position advances: where replay is slower than flush, the lag of replay grows.',
      unit: 'binBps',
      width: 12,
      height: 8,
      queries: [
        { legend: '{{standby}} sent', expr: progress('standby_sent_lsn_bytes') },
        { legend: '{{standby}} write', expr: progress('standby_write_lsn_bytes') },
        { legend: '{{standby}} flush', expr: progress('standby_flush_lsn_bytes') },
        { legend: '{{standby}} replay', expr: progress('standby_replay_lsn_bytes') },
      ],
    },
  ],
};

const CONNECTION: RowSpec = {
  title: 'Connection',
  panels: [
    {
      kind: 'timeseries',
      title: 'WAL sent',
      description: 'WAL sent to the standby, without framing.',
      unit: 'binBps',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{standby}}',
          expr: `sum by (standby) (${rate('standby_sent_bytes_total', STANDBY)})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Send queue',
      description:
        'Bytes in the relay’s socket buffers for this standby. It has a bound: a slow standby makes its own session wait, nobody else’s.',
      unit: 'bytes',
      width: 8,
      height: 7,
      min: 0,
      queries: [{ legend: '{{standby}}', expr: one('standby_send_queue_bytes') }],
    },
    {
      kind: 'timeseries',
      title: 'Blocked by the standby',
      description:
        'Share of the time in which the socket took no more data: the network or the standby is the slower side.',
      unit: 'percentunit',
      width: 8,
      height: 7,
      min: 0,
      max: 1,
      queries: [
        {
          legend: '{{standby}}',
          expr: `max by (standby) (${rate('standby_send_blocked_seconds_total', STANDBY)})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Connects',
      description:
        'Streams that the standby began. More than one now and then is a standby that loses its connection.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{standby}} at {{instance}}',
          expr: `sum by (${BY}) (${increase('standby_connects_total', STANDBY)})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Time since the last reply',
      description:
        'It should stay below the standby’s wal_receiver_status_interval; at wal_sender_timeout the relay ends the session.',
      unit: 's',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{standby}} at {{instance}}',
          expr: `max by (${BY}) (${ageAtScrape('standby_last_reply_timestamp_seconds', STANDBY)})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'WAL held back by its slot',
      description:
        'What the relay keeps for the slot that the standby uses; nothing for a standby without a slot.',
      unit: 'bytes',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{slot}} at {{instance}}',
          expr:
            `max by (instance, slot) (${walcast('slot_retained_bytes')} and on (job, instance, slot) ` +
            `${walcast('standby_info', STANDBY, 'slot!=""')})`,
        },
      ],
    },
  ],
};

function progress(name: SeriesName): string {
  return `max by (${BY}) (deriv(${walcast(name, STANDBY)}[$__rate_interval]))`;
}

/** The dashboard `walcast-standby`. */
export const STANDBY_DASHBOARD: DashboardSpec = {
  uid: 'walcast-standby',
  title: 'walcast / Standby',
  description:
    'One standby: its state, its lag hop by hop from the upstream to its replay, and its connection.',
  variables: [
    {
      name: 'standby',
      label: 'Standby',
      query: `label_values(${walcast('standby_state')}, standby)`,
    },
  ],
  rows: [{ title: 'Now', panels: NOW }, LAG, CONNECTION],
};
