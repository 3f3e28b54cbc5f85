// Which settings of the upstream are remembered, so that SHOW can be answered in its place.
import { OperationalError } from '../base/errors.ts';
import { toSegmentSize } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';

/** What replication clients ask a walsender for. A major that does not know one of them leaves it out. */
export const REMEMBERED_SETTINGS: readonly string[] = [
  'wal_segment_size',
  'wal_block_size',
  'data_directory_mode',
  'server_version',
  'server_version_num',
  'server_encoding',
  'integer_datetimes',
  'in_hot_standby',
  'transaction_read_only',
  'default_transaction_read_only',
  'block_size',
  'data_checksums',
  'full_page_writes',
  'hot_standby',
  'listen_addresses',
  'max_connections',
  'max_replication_slots',
  'max_wal_senders',
  'wal_keep_size',
  'wal_level',
  'wal_log_hints',
  // Not to be repeated: what these say of walcast itself is another thing.
  'synchronous_standby_names',
  'max_slot_wal_keep_size',
];

const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1 << 10,
  MB: 1 << 20,
  GB: 1 << 30,
};

/** Reads wal_segment_size as SHOW prints it (`16MB`). Throws {@link OperationalError} for anything that is none. */
export function parseSegmentSize(text: string): SegmentSize {
  const match = /^(\d{1,10})(B|kB|MB|GB)$/.exec(text);
  const bytes = Number(match?.[1]) * (UNITS[match?.[2] ?? ''] ?? Number.NaN);
  try {
    return toSegmentSize(bytes);
  } catch (cause) {
    throw new OperationalError(
      'INVALID_UPSTREAM_ANSWER',
      `the upstream's wal_segment_size "${text.slice(0, 40)}" is no segment size`,
      { isRetryable: true, cause },
    );
  }
}
