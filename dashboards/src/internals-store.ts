// What a relay's disk does: how much is kept, how quick it is, where WAL comes from that is sent.
import type { RowSpec } from './panel-spec.ts';
import { bucketGrowth, increase, quantile, rate, walcast } from './selectors.ts';

const RELAY = 'instance';

/** Its row. */
export const STORE: RowSpec = {
  title: 'Store',
  panels: [
    {
      kind: 'timeseries',
      title: 'Size of the store',
      description:
        'Bytes of WAL on the disk, the most that may be kept (none where there is no limit), and what is free on the file system.',
      unit: 'bytes',
      width: 6,
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
      width: 6,
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
      title: 'Segment files',
      description:
        'Files of WAL that the store holds, those that wait to be used again not counted.',
      unit: 'short',
      width: 6,
      height: 8,
      min: 0,
      queries: [
        { legend: '{{instance}}', expr: `sum by (${RELAY}) (${walcast('store_segments')})` },
      ],
    },
    {
      kind: 'timeseries',
      title: 'Segments removed',
      description:
        'Segment files that nobody needed any more (retention), and those that had to go because of a limit although a slot wanted them (size_limit).',
      unit: 'short',
      width: 6,
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
