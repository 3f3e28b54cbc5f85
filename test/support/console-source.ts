// What a console reads of a relay with made-up figures.
import type { ConsoleSource } from '../../src/console/source.ts';
import { parseHba } from '../../src/pg/hba.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { sampleStatus } from './relay-status.ts';

const HBA = `local all all trust
hostssl replication,walcast "all",/^rep 10.0.0.0/8 cert map=standbys clientname=DN
host walcast ops .example.org scram-sha-256
`;

/** A relay that has seen one promotion; `status` is asked each time. */
export function sampleConsole(
  status: () => RelayStatus = sampleStatus,
  overrides: Partial<ConsoleSource> = {},
): ConsoleSource {
  return {
    build: {
      version: '0.1.0',
      revision: '0123456789ab',
      nodeVersion: '20.20.2',
      postgresqlMajors: [13, 14, 15, 16, 17, 18],
    },
    pid: 4711,
    nowMs: () => 1_700_000_100_500,
    status,
    configuration: () => [
      {
        key: 'upstream.conninfo',
        value: 'host=pg-a password=********',
        defaultValue: null,
        origin: 'file',
        place: 'walcast.yaml:2:3',
        isReloadable: true,
        isPendingRestart: false,
      },
      {
        key: 'storage.wal_keep_size',
        value: '1GB',
        defaultValue: '1GB',
        origin: 'default',
        place: null,
        isReloadable: true,
        isPendingRestart: false,
      },
      {
        key: 'listen',
        value: '0.0.0.0:5433',
        defaultValue: '127.0.0.1:5432',
        origin: 'flag',
        place: '--listen',
        isReloadable: false,
        isPendingRestart: true,
      },
    ],
    logLevels: () => [
      { component: 'default', level: 'info', origin: 'default' },
      { component: 'wal', level: 'debug', origin: 'runtime' },
    ],
    hbaRules: () => {
      const rules = parseHba(HBA, { source: 'pg_hba.conf' });
      return 'rules' in rules ? rules.rules : [];
    },
    history: () => ({
      timeline: toTimelineId(2),
      ancestors: [{ timeline: toTimelineId(1), endLsn: toLsn(0x2000000n) }],
    }),
    memory: () => ({
      rss: 90_000_000,
      heapTotal: 30_000_000,
      heapUsed: 20_000_000,
      external: 4_000_000,
      arrayBuffers: 3_000_000,
    }),
    ...overrides,
  };
}
