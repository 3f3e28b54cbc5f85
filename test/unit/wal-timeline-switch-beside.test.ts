import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { segmentStartOf } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { FileCache, isOpenForReading } from '../../src/wal/file-cache.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import type { WalStoreOptions } from '../../src/wal/wal-store.ts';
import { feedStore, storeFlushed, storeOptions } from '../support/store-rig.ts';
import { branch, endAt, historyText, identityOf, switchTo } from '../support/timeline-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

// Each test starts threads and waits for a disk that others use too.
vi.setConfig({ testTimeout: 120_000 });

const [ONE, TWO] = [toTimelineId(1), toTimelineId(2)];
let directory: string;
/** WAL of timeline 1. */
let old: WalFixture;
let store: WalStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-switch-beside-'));
  old = new WalFixture();
  old.fill(1_300_000, 3);
  old.checkpoint();
  old.fill(1_500_000, 4);
});

afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true });
});

async function openStore(more: Partial<WalStoreOptions> = {}): Promise<WalStore> {
  return await WalStore.open(storeOptions(directory, more));
}

/** A store that has all of timeline 1, on the disk. */
async function begin(more: Partial<WalStoreOptions> = {}): Promise<void> {
  store = await openStore(more);
  await store.initialize(identityOf(old), old.startLsn);
  feedStore(store, old);
  await storeFlushed(store, old.endLsn);
}

it('a reader that was closed keeps no file open, whoever reads with it still', async () => {
  await begin();
  const path = join(directory, 'pg_wal', '000000010000000000000031');
  const files = new FileCache(2);
  files.clear();
  expect(await files.use(path, async () => await Promise.resolve(isOpenForReading(path)))).toBe(
    true,
  );
  await vi.waitFor(() => expect(isOpenForReading(path)).toBe(false), 30_000);
});

describe('what else goes on during a switch', () => {
  it('is not the removal of the segment that holds the switch point, though F is far behind it', async () => {
    await begin();
    // The mark is on the disk when the store is opened again.
    await store.close();
    store = await openStore({
      walKeepSizeBytes: 0,
      onSwitchStep: (step) => {
        if (step === 'note') store.removeOldSegments(null);
      },
    });
    const switchLsn = endAt(old, 1_600_000);
    const next = branch(old, switchLsn);
    await switchTo(store, next);
    expect(store.oldestLsn() <= segmentStartOf(switchLsn, old.segmentSize)).toBe(true);
    feedStore(store, next);
    await storeFlushed(store, next.endLsn);
    expect(store.timeline()).toBe(TWO);
  });

  it('is not a release of dead WAL: what is set aside now was shown to nobody yet', async () => {
    const released: Array<Promise<unknown>> = [];
    await begin({
      onSwitchStep: (step) => {
        if (step === 'names') released.push(store.releaseDeadWal());
      },
    });
    store.noteReportedFlush(old.endLsn);
    const { bytes } = await switchTo(store, branch(old, endAt(old, 1_600_000))).then(() =>
      store.deadWal(),
    );
    expect(bytes).toBe(2 * old.segmentSize);
    expect(await Promise.all(released)).toMatchObject([
      { files: 2, acknowledged: { timeline: ONE } },
    ]);
  });

  it('is not the end of the store: the switch is done before it, and none begins behind it', async () => {
    await begin();
    const next = branch(old, endAt(old, 1_600_000));
    await store.storeHistoryFile(TWO, historyText(next.history));
    const closed = store.close();
    await switchTo(store, next);
    await closed;
    expect(store.timeline()).toBe(ONE);
    store = await openStore();
    expect([store.timeline(), store.nextLsn()]).toEqual([ONE, old.endLsn]);
    await store.storeHistoryFile(TWO, historyText(next.history));
    const [entry] = next.history.ancestors;
    const switched = store.switchTimeline({
      history: next.history,
      switchLsn: entry?.endLsn ?? INVALID_LSN,
    });
    await store.close();
    await switched;
    store = await openStore();
    expect(store.timeline()).toBe(TWO);
  });
});
