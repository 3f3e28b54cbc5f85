// A store over a directory, as tests open, fill and wait for it.
import { expect } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineId } from '../../src/pg/timeline.ts';
import { saveControl } from '../../src/wal/control-file.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import type { StoredReadFailure } from '../../src/wal/wal-reader.ts';
import type { WalStore, WalStoreOptions } from '../../src/wal/wal-store.ts';
import type { WalFixture } from './wal-fixture.ts';

/** Options of a store that keeps a gigabyte and throws where walcast would end. */
export function storeOptions(
  directory: string,
  more: Partial<WalStoreOptions> = {},
): WalStoreOptions {
  return {
    directory,
    verify: 'page',
    forward: 'received',
    walKeepSizeBytes: 1 << 30,
    clock: systemClock,
    log: silentLog,
    onFatal: (error) => {
      throw error;
    },
    ...more,
  };
}

/** Appends the fixture's WAL from the store's end on, up to `endLsn` (exclusive), in messages as a server makes them. */
export function feedStore(
  store: WalStore,
  wal: WalFixture,
  { endLsn = wal.endLsn, step = 65_536 }: { endLsn?: Lsn; step?: number } = {},
): void {
  while (store.nextLsn() < endLsn) {
    const start = store.nextLsn();
    const end = start + BigInt(step) < endLsn ? start + BigInt(step) : endLsn;
    expect(store.append(start, wal.slice(start, end))).toBeNull();
  }
}

/** Resolves when everything before `lsn` is on the disk. */
export function storeFlushed(store: WalStore, lsn: Lsn): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (store.positions().flushedLsn >= lsn) resolve();
    };
    store.onFlush(check);
    check();
  });
}

/** Reads from the files, and waits where it cannot be said yet whether they are good. */
export async function readStored(
  store: WalStore,
  timeline: TimelineId,
  [startLsn, endLsn]: readonly [Lsn, Lsn],
): Promise<Uint8Array | StoredReadFailure> {
  for (;;) {
    const read = await store.fromFiles(timeline, startLsn, endLsn);
    if (read instanceof Uint8Array || read.kind !== 'later') return read;
    await read.ready;
  }
}

/** Writes the control file of a store whose segments in `directory` hold the fixture's WAL [firstLsn, endLsn), stopped in order. */
export async function saveControlOf(
  directory: string,
  wal: WalFixture,
  { firstLsn, endLsn = wal.endLsn }: { firstLsn: bigint; endLsn?: Lsn },
): Promise<void> {
  const start = toLsn(firstLsn);
  const walk = new RecordWalk({ ...wal.origin, checksums: true }, chainStart(start));
  expect(walk.scan(wal.slice(start, endLsn))).toBeNull();
  await saveControl(directory, {
    systemIdentifier: wal.systemIdentifier,
    major: wal.facts.major,
    segmentSize: wal.segmentSize,
    timeline: toTimelineId(1),
    server: { serverVersion: '15.1', parameters: new Map(), settings: new Map() },
    firstLsn: start,
    durableMark: walk.position(),
    reportedFlushLsn: INVALID_LSN,
    maybeReportedLsn: INVALID_LSN,
    wasCleanStop: true,
    pendingSwitch: null,
    acknowledgedBeyond: null,
  });
}
