// One relay from the inside: is its disk quick, is its process well, who asks what of it?
import { CLIENTS } from './internals-clients.ts';
import { STORE } from './internals-store.ts';
import type { DashboardSpec, PanelSpec, RowSpec } from './panel-spec.ts';
import { runtime, runtimeRate, walcast } from './selectors.ts';
import { atLeast, GOOD_WORDS, upTo } from './words.ts';

const RELAY = 'instance';

const NOW: readonly PanelSpec[] = [
  {
    kind: 'table',
    title: 'Versions',
    description: 'Which version of walcast, from which revision, on which Node.js each relay runs.',
    unit: 'short',
    width: 11,
    height: 5,
    noValue: 'no relay',
    columns: [
      { field: 'instance', title: 'Relay' },
      { field: 'version', title: 'walcast' },
      { field: 'revision', title: 'Revision' },
      { field: 'node_version', title: 'Node.js' },
    ],
    queries: [
      {
        expr: `max by (job, instance, version, revision, node_version) (${walcast('build_info')})`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Running for',
    description: 'Time since the process of walcast started; the one started last.',
    unit: 'dtdurations',
    width: 3,
    height: 5,
    noValue: 'not running',
    queries: [
      {
        legend: 'since the start',
        expr: `min(time() - (${runtime('process_start_time_seconds')}))`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Configuration',
    description:
      'Whether the last reload was accepted, with all files of secrets; where one was refused, what was in effect before still is.',
    unit: 'short',
    width: 3,
    height: 5,
    noValue: 'not running',
    words: GOOD_WORDS,
    queries: [{ legend: 'last reload', expr: `min(${walcast('config_last_reload_successful')})` }],
  },
  {
    kind: 'stat',
    title: 'Configuration loaded',
    description: 'Time since the configuration in effect was loaded; the oldest of the relays.',
    unit: 'dtdurations',
    width: 3,
    height: 5,
    noValue: 'not running',
    queries: [
      {
        legend: 'ago',
        expr: `max(time() - ${walcast('config_last_reload_success_timestamp_seconds')})`,
      },
    ],
  },
  {
    kind: 'stat',
    title: 'Certificates',
    description:
      'Time until the first certificate in use expires: of the PostgreSQL port, of the HTTP port, and the one shown to the upstream.',
    unit: 'dtdurations',
    width: 4,
    height: 5,
    noValue: 'none in use',
    thresholds: atLeast(3 * 86400, 14 * 86400),
    queries: [
      {
        legend: '{{role}}',
        expr: `min by (role) (${walcast('tls_certificate_not_after_timestamp_seconds')} - time())`,
        isEmptyWhenHealthy: true,
      },
    ],
  },
];

const PROCESS: RowSpec = {
  title: 'Process',
  panels: [
    {
      kind: 'timeseries',
      title: 'Event loop lag',
      description:
        'How late timers of the process run. Everything but the disk waits for this loop: acknowledgements, keepalives, every standby.',
      unit: 's',
      width: 8,
      height: 7,
      min: 0,
      thresholds: upTo(0.1, 0.25),
      queries: [
        { legend: 'p50, {{instance}}', expr: runtime('nodejs_eventloop_lag_p50_seconds') },
        { legend: 'p99, {{instance}}', expr: runtime('nodejs_eventloop_lag_p99_seconds') },
      ],
    },
    {
      kind: 'timeseries',
      title: 'CPU',
      description:
        'CPU seconds a second, of all threads: the main one, that of the disk, those of libuv.',
      unit: 'none',
      width: 8,
      height: 7,
      min: 0,
      queries: [{ legend: '{{instance}}', expr: runtimeRate('process_cpu_seconds_total') }],
    },
    {
      kind: 'timeseries',
      title: 'Memory',
      description:
        'Resident memory of the process, JavaScript heap, and buffers outside of it. It does not grow with how far standbys are behind.',
      unit: 'bytes',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        { legend: 'resident, {{instance}}', expr: runtime('process_resident_memory_bytes') },
        { legend: 'heap, {{instance}}', expr: runtime('nodejs_heap_size_used_bytes') },
        { legend: 'external, {{instance}}', expr: runtime('nodejs_external_memory_bytes') },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Garbage collection',
      description: 'Share of the time that garbage collection takes, by kind.',
      unit: 'percentunit',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{kind}}, {{instance}}',
          expr: runtimeRate('nodejs_gc_duration_seconds_sum'),
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Open files',
      description:
        'File descriptors in use (each session takes one), and how many the process may have.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        { legend: 'open, {{instance}}', expr: runtime('process_open_fds') },
        { legend: 'limit, {{instance}}', expr: runtime('process_max_fds') },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Scrapes',
      description: 'How long Prometheus took to scrape each relay.',
      unit: 's',
      width: 4,
      height: 7,
      min: 0,
      queries: [{ legend: '{{instance}}', expr: runtime('scrape_duration_seconds') }],
    },
    {
      kind: 'timeseries',
      title: 'Standbys without a series',
      description:
        'Standbys beyond the 200 that have series of their own: the worst of them is shown under standby="_other".',
      unit: 'short',
      width: 4,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{instance}}',
          expr: `max by (${RELAY}) (${walcast('standby_series_overflow')})`,
        },
      ],
    },
  ],
};

/** The dashboard `walcast-internals`. */
export const INTERNALS: DashboardSpec = {
  uid: 'walcast-internals',
  title: 'walcast / Internals',
  description: 'One relay from the inside: its store and disk, its process, its clients.',
  variables: [],
  rows: [{ title: 'Now', panels: NOW }, STORE, PROCESS, CLIENTS],
};
