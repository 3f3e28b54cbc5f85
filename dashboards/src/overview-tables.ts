// The tables of the overview: one line an alert, a standby, a slot, an upstream.
import type { ColumnSpec, PanelSpec, RowSpec } from './panel-spec.ts';
import { rate, stateCode, walcast } from './selectors.ts';
import {
  ACTIVE_WORDS,
  SLOT_STATES,
  SLOT_WORDS,
  STANDBY_STATES,
  STANDBY_WORDS,
  UPSTREAM_STATES,
  UPSTREAM_WORDS,
  upTo,
} from './words.ts';

/** Firing alerts of walcast's rules. Those about a whole job or cluster have no `instance`, the one for no walcast at all no `job` either. */
export const FIRING: string =
  'ALERTS{job=~"$job|",instance=~"$instance|",alertname=~"Walcast.+",alertstate="firing"}';

const STANDBY = 'job, instance, standby';
const SLOT = 'job, instance, slot';
const UPSTREAM = 'job, instance, upstream';

const byStandby = (expr: string): string => `max by (${STANDBY}) (${expr})`;
const lag = (family: 'standby_lag_bytes' | 'standby_lag_seconds', stage: string): string =>
  byStandby(walcast(family, `stage="${stage}"`));

const MIB = 1024 * 1024;
const LAG_BYTES = { unit: 'bytes', thresholds: upTo(16 * MIB, 1024 * MIB) };
const LAG_SECONDS = { unit: 's', thresholds: upTo(15, 300) };

const STANDBY_COLUMNS: readonly ColumnSpec[] = [
  {
    field: 'standby',
    title: 'Standby',
    link: {
      title: 'Look at this standby',
      url: '/d/walcast-standby?${datasource:queryparam}&${job:queryparam}&var-instance=$__all&var-standby=${__value.raw:percentencode}&${__url_time_range}',
    },
  },
  { field: 'instance', title: 'Relay' },
  { field: 'Value #B', title: 'State', words: STANDBY_WORDS },
  { field: 'client_addr', title: 'Address' },
  { field: 'slot', title: 'Slot' },
  { field: 'Value #C', title: 'Priority', unit: 'short' },
  { field: 'Value #D', title: 'Not sent', ...LAG_BYTES },
  { field: 'Value #E', title: 'Not written', ...LAG_BYTES },
  { field: 'Value #F', title: 'Not flushed', ...LAG_BYTES },
  { field: 'Value #G', title: 'Not replayed', ...LAG_BYTES },
  { field: 'Value #H', title: 'Flush lag', ...LAG_SECONDS },
  { field: 'Value #I', title: 'Replay lag', ...LAG_SECONDS },
  { field: 'Value #J', title: 'Throughput', unit: 'binBps' },
];

const ALERTS: PanelSpec = {
  kind: 'table',
  title: 'Alerts',
  description:
    'Alerts of the rules of walcast that fire now. Each has a page of its name among the runbooks: what it means, what to look at, what to do.',
  unit: 'short',
  width: 24,
  height: 5,
  noValue: 'nothing fires',
  columns: [
    { field: 'alertname', title: 'Alert' },
    { field: 'severity', title: 'Severity' },
    { field: 'job', title: 'Job' },
    { field: 'instance', title: 'Relay' },
    { field: 'standby', title: 'Standby' },
    { field: 'slot', title: 'Slot' },
  ],
  queries: [{ expr: FIRING, isEmptyWhenHealthy: true }],
};

const STANDBYS: PanelSpec = {
  kind: 'table',
  title: 'Standbys, furthest behind first',
  description:
    'Every standby: its state, place in synchronous_standby_names (0 = none), lag end to end in bytes and seconds, and what it is sent. Beyond 200 names ' +
    'the rest is shown together as _other.',
  unit: 'short',
  width: 24,
  height: 11,
  noValue: 'no standby',
  sortBy: 'Not replayed',
  columns: STANDBY_COLUMNS,
  queries: [
    {
      expr: `max by (${STANDBY}, client_addr, slot) (${walcast('standby_info')})`,
    },
    { expr: stateCode('standby_state', { by: STANDBY, words: STANDBY_STATES }) },
    { expr: byStandby(walcast('standby_sync_priority')) },
    { expr: lag('standby_lag_bytes', 'send') },
    { expr: lag('standby_lag_bytes', 'write') },
    { expr: lag('standby_lag_bytes', 'flush') },
    { expr: lag('standby_lag_bytes', 'replay') },
    { expr: lag('standby_lag_seconds', 'flush') },
    { expr: lag('standby_lag_seconds', 'replay') },
    { expr: `sum by (${STANDBY}) (${rate('standby_sent_bytes_total')})` },
  ],
};

const SLOTS: PanelSpec = {
  kind: 'table',
  title: 'Slots, largest first',
  description:
    'Replication slots that relays keep: in use or not, what became of their WAL, how much of it they hold back, and for how long nobody has used them.',
  unit: 'short',
  width: 12,
  height: 9,
  noValue: 'no slot',
  sortBy: 'Holds back',
  columns: [
    { field: 'slot', title: 'Name' },
    { field: 'instance', title: 'Relay' },
    { field: 'Value #A', title: 'Use', words: ACTIVE_WORDS },
    { field: 'Value #B', title: 'WAL', words: SLOT_WORDS },
    { field: 'Value #C', title: 'Holds back', unit: 'bytes' },
    { field: 'Value #D', title: 'Unused for', unit: 'dtdurations' },
  ],
  queries: [
    { expr: `max by (${SLOT}) (${walcast('slot_active')})` },
    {
      expr: stateCode('slot_wal_status', { by: SLOT, words: SLOT_STATES, label: 'status' }),
    },
    { expr: `max by (${SLOT}) (${walcast('slot_retained_bytes')})` },
    { expr: `max by (${SLOT}) (${walcast('slot_inactive_seconds')})` },
  ],
};

const RELAYS: PanelSpec = {
  kind: 'table',
  title: 'Relays and their upstreams',
  description:
    'What each relay is connected to: server, its version, cluster (system identifier), slot there, timeline, and how far behind the relay itself is.',
  unit: 'short',
  width: 12,
  height: 9,
  noValue: 'no relay',
  sortBy: 'Lacks',
  columns: [
    { field: 'instance', title: 'Relay' },
    { field: 'host', title: 'Upstream' },
    { field: 'Value #B', title: 'State', words: UPSTREAM_WORDS },
    { field: 'server_version', title: 'Version' },
    { field: 'system_identifier', title: 'Cluster' },
    { field: 'slot', title: 'Slot there' },
    { field: 'Value #C', title: 'Timeline', unit: 'none' },
    { field: 'Value #D', title: 'Lacks', ...LAG_BYTES },
  ],
  queries: [
    {
      expr: `max by (${UPSTREAM}, host, server_version, system_identifier, slot) (${walcast('upstream_info')})`,
    },
    { expr: stateCode('upstream_state', { by: UPSTREAM, words: UPSTREAM_STATES }) },
    { expr: `max by (${UPSTREAM}) (${walcast('upstream_timeline')})` },
    { expr: `max by (${UPSTREAM}) (${walcast('upstream_lag_bytes')})` },
  ],
};

/** The row of tables. */
export const TABLES: RowSpec = {
  title: 'Now',
  panels: [ALERTS, STANDBYS, SLOTS, RELAYS],
};
