// One relay from the inside: is its disk quick, is its process well, who asks what of it?
import type { DashboardSpec, PanelSpec, RowSpec } from './panel-spec.ts';
import {
  bucketGrowth,
  increase,
  quantile,
  rate,
  runtime,
  runtimeRate,
  walcast,
} from './selectors.ts';
import { atLeast, GOOD_WORDS, upTo } from './words.ts';

const RELAY = 'instance';

const NOW: readonly PanelSpec[] = [
  {
    kind: 'table',
    title: 'Versions',
    description: 'Which version of walcast, from which revision, on which Node.js each relay runs.',
    unit: 'short',
    width: 12,
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
    width: 4,
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
    width: 4,
    height: 5,
    noValue: 'not running',
    words: GOOD_WORDS,
    queries: [{ legend: 'last reload', expr: `min(${walcast('config_last_reload_successful')})` }],
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

const STORE: RowSpec = {
  title: 'Store',
  panels: [
    {
      kind: 'timeseries',
      title: 'Size of the store',
      description:
        'Bytes of WAL on the disk, the most that may be kept (none where there is no limit), and what is free on the file system.',
      unit: 'bytes',
      width: 8,
      height: 8,
      min: 0,
      queries: [
        {
          legend: 'size, {{instance}}',
          expr: `sum by (${RELAY}) (${walcast('store_size_bytes')})`,
        },
        {
          legend: 'limit, {{instance}}',
          expr: `sum by (${RELAY}) (${walcast('store_limit_bytes')} > 0)`,
        },
        {
          legend: 'free, {{instance}}',
          expr: `min by (${RELAY}) (${walcast('store_filesystem_free_bytes')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'How far back WAL is kept',
      description:
        'From the oldest position that can be served to the newest on the disk: how far behind a standby may be and still find its WAL here.',
      unit: 'bytes',
      width: 8,
      height: 8,
      min: 0,
      queries: [
        {
          legend: '{{instance}}',
          expr: `max by (${RELAY}) (${walcast('upstream_flushed_lsn_bytes')} - ${walcast('store_oldest_lsn_bytes')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Segments removed',
      description:
        'Segment files that nobody needed any more (retention), and those that had to go because of a limit although a slot wanted them (size_limit).',
      unit: 'short',
      width: 8,
      height: 8,
      min: 0,
      queries: [
        {
          legend: '{{reason}}',
          expr: `sum by (reason) (${increase('store_segments_removed_total')})`,
        },
      ],
    },
    {
      kind: 'heatmap',
      title: 'Flush times',
      description:
        'How many fdatasync calls took how long. Commits that wait for the relay take at least as long.',
      unit: 's',
      width: 12,
      height: 8,
      queries: [{ legend: '{{le}}', expr: bucketGrowth('store_flush_duration_seconds') }],
    },
    {
      kind: 'heatmap',
      title: 'Write times',
      description: 'How many writes of a batch of WAL into the page cache took how long.',
      unit: 's',
      width: 12,
      height: 8,
      queries: [{ legend: '{{le}}', expr: bucketGrowth('store_write_duration_seconds') }],
    },
    {
      kind: 'timeseries',
      title: 'Flush and write times, quantiles',
      description:
        'Half of the flushes and writes, and 99 of 100, are quicker than this. Nothing is shown while nothing is written.',
      unit: 's',
      width: 12,
      height: 8,
      min: 0,
      queries: [
        { legend: 'flush p50, {{instance}}', expr: quantile(0.5, 'store_flush_duration_seconds') },
        { legend: 'flush p99, {{instance}}', expr: quantile(0.99, 'store_flush_duration_seconds') },
        { legend: 'write p50, {{instance}}', expr: quantile(0.5, 'store_write_duration_seconds') },
        { legend: 'write p99, {{instance}}', expr: quantile(0.99, 'store_write_duration_seconds') },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Where sent WAL came from',
      description:
        'Bytes sent to standbys from the window in memory, from segment files, and from the upstream for standbys that need WAL from before the store.',
      unit: 'binBps',
      width: 12,
      height: 8,
      min: 0,
      isStacked: true,
      queries: [
        { legend: '{{source}}', expr: `sum by (source) (${rate('store_read_bytes_total')})` },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Share sent from memory',
      description:
        'Of the bytes sent to standbys, those that never had to be read from the disk. Low while standbys catch up. Nothing is shown while nothing is sent.',
      unit: 'percentunit',
      width: 8,
      height: 7,
      min: 0,
      max: 1,
      queries: [
        {
          legend: '{{instance}}',
          expr:
            `sum by (${RELAY}) (${rate('store_read_bytes_total', 'source="memory"')}) / ` +
            `(sum by (${RELAY}) (${rate('store_read_bytes_total')}) > 0)`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Window in memory',
      description:
        'Bytes of WAL in the window that all standbys share, and the most that it may be.',
      unit: 'bytes',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: 'in use, {{instance}}',
          expr: `sum by (${RELAY}) (${walcast('buffer_size_bytes')})`,
        },
        {
          legend: 'limit, {{instance}}',
          expr: `sum by (${RELAY}) (${walcast('buffer_limit_bytes')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Errors of the disk and checks that failed',
      description:
        'Calls to the disk that failed, and WAL whose checksum was wrong: as it came from the upstream, or as it was read from the own disk. Always 0 on a sound machine.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{operation}}',
          expr: `sum by (operation) (${increase('store_errors_total')})`,
        },
        {
          legend: 'checksum, {{source}}',
          expr: `sum by (source) (${increase('store_crc_failures_total')})`,
        },
      ],
    },
  ],
};

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
      width: 8,
      height: 7,
      min: 0,
      queries: [{ legend: '{{instance}}', expr: runtime('scrape_duration_seconds') }],
    },
  ],
};

const CLIENTS: RowSpec = {
  title: 'Clients',
  panels: [
    {
      kind: 'timeseries',
      title: 'Upstream connections begun and ended',
      description: 'Attempts to connect by outcome, and ends of the stream by cause.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: 'connect: {{outcome}}',
          expr: `sum by (outcome) (${increase('upstream_connects_total')})`,
        },
        {
          legend: 'end: {{reason}}',
          expr: `sum by (reason) (${increase('upstream_disconnects_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Messages of upstreams',
      description: 'Messages a second that carry WAL, and keepalives.',
      unit: 'ops',
      width: 8,
      height: 7,
      min: 0,
      queries: [{ legend: '{{type}}', expr: `sum by (type) (${rate('upstream_messages_total')})` }],
    },
    {
      kind: 'timeseries',
      title: 'Ends of standbys’ sessions',
      description: 'Sessions of standbys that ended, by cause.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{reason}}',
          expr: `sum by (reason) (${increase('standby_disconnects_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Logins',
      description: 'Logins by the method of the rule that decided, with their outcome.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{method}} {{outcome}}',
          expr: `sum by (method, outcome) (${increase('client_authentications_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Connections refused',
      description: 'Connections that were turned away before replication began, by reason.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{reason}}',
          expr: `sum by (reason) (${increase('client_connections_rejected_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Replication commands',
      description: 'Commands of the replication protocol that were served.',
      unit: 'short',
      width: 8,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{command}}',
          expr: `sum by (command) (${increase('client_commands_total')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'HTTP requests',
      description: 'Requests a second to the HTTP port, by route and class of status.',
      unit: 'reqps',
      width: 12,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{method}} {{route}} {{status_class}}',
          expr: `sum by (method, route, status_class) (${rate('http_request_duration_seconds_count')})`,
        },
      ],
    },
    {
      kind: 'timeseries',
      title: 'HTTP answers, 99 of 100 quicker than',
      description:
        'How long answers of the HTTP port take, by route. Nothing is shown for routes that nobody asks.',
      unit: 's',
      width: 12,
      height: 7,
      min: 0,
      queries: [
        {
          legend: '{{route}}',
          expr: `histogram_quantile(0.99, sum by (route, le) (${rate('http_request_duration_seconds_bucket')}))`,
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
