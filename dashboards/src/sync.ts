// The way of a commit through the relay: what does each step take, and is the policy over the standbys satisfied?
import type { DashboardSpec, PanelSpec, RowSpec } from './panel-spec.ts';
import { bucketGrowth, quantile, rate, stateCode, walcast } from './selectors.ts';
import { SATISFIED_WORDS, SYNC_STATES, SYNC_WORDS, upTo } from './words.ts';

const UPSTREAM = 'instance, upstream';

const NOW: readonly PanelSpec[] = [
  {
    kind: 'stat',
    title: 'Policy',
    description:
      'Whether each relay has the standbys that its synchronous_standby_names requires. An empty list is always satisfied: the relay’s own disk is enough.',
    unit: 'short',
    width: 6,
    height: 4,
    noValue: 'no relay',
    words: SATISFIED_WORDS,
    queries: [
      { legend: '{{instance}}', expr: `min by (${UPSTREAM}) (${walcast('sync_satisfied')})` },
    ],
  },
  {
    kind: 'stat',
    title: 'Standbys required, and there',
    description:
      'How many standbys must confirm before a relay confirms upstream (0: none, its own disk is enough), and how many are there that count.',
    unit: 'short',
    width: 6,
    height: 4,
    noValue: 'no relay',
    queries: [
      {
        legend: 'required, {{instance}}',
        expr: `max by (${UPSTREAM}) (${walcast('sync_required_standbys')})`,
      },
      {
        legend: 'there, {{instance}}',
        expr: `max by (${UPSTREAM}) (${walcast('sync_eligible_standbys')})`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Time to confirm',
    description:
      'Of the WAL received, 99 parts of 100 were confirmed upstream within this time: the relay’s share of the time that commits take.',
    unit: 's',
    width: 6,
    height: 4,
    noValue: 'idle',
    thresholds: upTo(0.05, 0.5),
    queries: [
      {
        legend: 'p99',
        expr: `histogram_quantile(0.99, sum by (le) (${rate('sync_confirm_duration_seconds_bucket')}))`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Time without a quorum',
    description: 'Share of the time in which a policy was not satisfied, the worst relay.',
    unit: 'percentunit',
    width: 6,
    height: 4,
    noValue: 'none',
    thresholds: upTo(0.0001, 0.01),
    queries: [{ legend: 'share', expr: `max(${rate('sync_unsatisfied_seconds_total')})` }],
  },
];

const PATH: RowSpec = {
  title: 'The way of a commit',
  panels: [
    {
      kind: 'timeseries',
      title: 'Steps of a commit, 99 of 100 quicker than',
      description:
        'From the upstream’s sending to our receiving (means something only where both clocks are synchronized), the flush on the relay’s disk, and from receiving until ' +
        'all standbys that the policy requires have confirmed. Nothing is shown while nothing is written.',
      unit: 's',
      width: 12,
      height: 9,
      min: 0,
      queries: [
        { legend: 'transit, {{instance}}', expr: quantile(0.99, 'upstream_transit_seconds') },
        { legend: 'flush, {{instance}}', expr: quantile(0.99, 'store_flush_duration_seconds') },
        { legend: 'confirm, {{instance}}', expr: quantile(0.99, 'sync_confirm_duration_seconds') },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Steps of a commit, half of them quicker than',
      description: 'The same three steps for the usual commit.',
      unit: 's',
      width: 12,
      height: 9,
      min: 0,
      queries: [
        { legend: 'transit, {{instance}}', expr: quantile(0.5, 'upstream_transit_seconds') },
        { legend: 'flush, {{instance}}', expr: quantile(0.5, 'store_flush_duration_seconds') },
        { legend: 'confirm, {{instance}}', expr: quantile(0.5, 'sync_confirm_duration_seconds') },
      ],
    },
    {
      kind: 'heatmap',
      title: 'Times to confirm',
      description: 'How much of the WAL took how long from our receiving until it was confirmed.',
      unit: 's',
      width: 12,
      height: 8,
      queries: [{ legend: '{{le}}', expr: bucketGrowth('sync_confirm_duration_seconds') }],
    },
    {
      kind: 'timeseries',
      title: 'Received and not yet confirmed',
      description:
        'Bytes of WAL that the relay has received and has not yet reported upstream as written, flushed and replayed; and those the policy waits for. ' +
        'Nothing is shown while no position is reported: the policy is not satisfied, or the relay drains.',
      unit: 'bytes',
      width: 12,
      height: 8,
      min: 0,
      queries: [
        {
          legend: 'not reported as {{stage}}, {{instance}}',
          expr:
            `max by (instance, stage) (clamp_min(-(${walcast('upstream_acknowledged_lsn_bytes')} - ` +
            `on (job, instance, upstream) group_left () ${walcast('upstream_received_lsn_bytes')}), 0))`,
        },
        {
          legend: 'waiting for standbys, {{instance}}',
          expr:
            `max by (instance) (clamp_min(${walcast('upstream_flushed_lsn_bytes')} - ` +
            `${walcast('sync_confirmed_lsn_bytes')}, 0))`,
          isEmptyWhenHealthy: true,
        },
      ],
    },
  ],
};

const QUORUM: RowSpec = {
  title: 'Quorum',
  panels: [
    {
      kind: 'statetimeline',
      title: 'Was the policy satisfied?',
      description:
        'While it is not, nothing is confirmed upstream, and commits that wait for the relay hang.',
      unit: 'short',
      width: 12,
      height: 6,
      words: SATISFIED_WORDS,
      queries: [
        { legend: '{{instance}}', expr: `min by (${UPSTREAM}) (${walcast('sync_satisfied')})` },
      ],
    },
    {
      kind: 'statetimeline',
      title: 'What the upstream makes of the relay',
      description:
        'Whether commits on the upstream wait for this relay, where it can be known: a replication connection is not told more than the list of names.',
      unit: 'short',
      width: 12,
      height: 6,
      words: SYNC_WORDS,
      queries: [
        {
          legend: '{{instance}}',
          expr: stateCode('upstream_sync_state', { by: UPSTREAM, words: SYNC_STATES }),
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Standbys that count, and how many are required',
      description:
        'Standbys connected and streaming that the policy can count on, against how many it requires.',
      unit: 'short',
      width: 12,
      height: 8,
      min: 0,
      queries: [
        {
          legend: 'there, {{instance}}',
          expr: `max by (${UPSTREAM}) (${walcast('sync_eligible_standbys')})`,
        },
        {
          legend: 'required, {{instance}}',
          expr: `max by (${UPSTREAM}) (${walcast('sync_required_standbys')})`,
        },
      ],
    },
    {
      kind: 'table',
      title: 'Synchronous standbys',
      description:
        'Standbys that the policy names, by their place in it, with what keeps their confirmation: bytes and seconds until flushed and replayed, end to end.',
      unit: 'short',
      width: 12,
      height: 8,
      noValue: 'the policy names no standby that is connected',
      sortBy: 'Not flushed',
      columns: [
        { field: 'standby', title: 'Standby' },
        { field: 'instance', title: 'Relay' },
        { field: 'Value #A', title: 'Place', unit: 'none' },
        { field: 'Value #B', title: 'Not flushed', unit: 'bytes' },
        { field: 'Value #C', title: 'Flush lag', unit: 's' },
        { field: 'Value #D', title: 'Replay lag', unit: 's' },
      ],
      queries: [
        { expr: named(''), isEmptyWhenHealthy: true },
        {
          expr: named(walcast('standby_lag_bytes', 'stage="flush"')),
          isEmptyWhenHealthy: true,
        },
        {
          expr: named(walcast('standby_lag_seconds', 'stage="flush"')),
          isEmptyWhenHealthy: true,
        },
        {
          expr: named(walcast('standby_lag_seconds', 'stage="replay"')),
          isEmptyWhenHealthy: true,
        },
      ],
    },
  ],
};

// Its metrics are those of CloudNativePG on the primary, which has neither our job nor our instance.
const PRIMARY: RowSpec = {
  title: 'Seen from the primary (CloudNativePG)',
  isCollapsed: true,
  panels: [
    {
      kind: 'timeseries',
      title: 'Bytes that relays lack, says the primary',
      description:
        'From the metrics of CloudNativePG, for receivers whose application_name begins with walcast. With a policy, replay and flush are what its standbys have.',
      unit: 'bytes',
      width: 12,
      height: 8,
      min: 0,
      queries: ['sent', 'write', 'flush', 'replay'].map((stage) => ({
        legend: `{{application_name}} ${stage}`,
        expr: `max by (application_name) (cnpg_pg_stat_replication_${stage}_diff_bytes{application_name=~"walcast.*"})`,
        isEmptyWhenHealthy: true,
      })),
    },
    {
      kind: 'timeseries',
      title: 'Seconds until relays confirm, says the primary',
      description:
        'write_lag, flush_lag and replay_lag of pg_stat_replication on the primary, from the metrics of CloudNativePG: what commits wait for.',
      unit: 's',
      width: 12,
      height: 8,
      min: 0,
      queries: ['write', 'flush', 'replay'].map((stage) => ({
        legend: `{{application_name}} ${stage}`,
        expr: `max by (application_name) (cnpg_pg_stat_replication_${stage}_lag_seconds{application_name=~"walcast.*"})`,
        isEmptyWhenHealthy: true,
      })),
    },
  ],
};

/** Of standbys with a place in the policy: `selector`, or the place itself. */
function named(selector: string): string {
  const places = `${walcast('standby_sync_priority')} > 0`;
  const by = 'max by (job, instance, standby)';
  if (selector === '') return `${by} (${places})`;
  return `${by} (${selector} and on (job, instance, standby) (${places}))`;
}

/** The dashboard `walcast-sync`. */
export const SYNC: DashboardSpec = {
  uid: 'walcast-sync',
  title: 'walcast / Synchronous replication',
  description:
    'The way of a commit through the relay, and whether the policy over its standbys is satisfied.',
  variables: [],
  rows: [{ title: 'Now', panels: NOW }, PATH, QUORUM, PRIMARY],
};
