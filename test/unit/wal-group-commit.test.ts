// Does one flush do for everything that came while the one before it was under way?
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { feedStore, storeFlushed, storeOptions } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

let directory: string;
let wal: WalFixture;
let store: WalStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-group-'));
  wal = new WalFixture();
  store = await WalStore.open(storeOptions(directory));
  const server = { serverVersion: '15.18', parameters: new Map(), settings: new Map() };
  await store.initialize({ ...wal.origin, ...server, timeline: toTimelineId(1) }, wal.startLsn);
});

afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true });
});

function flushes(): number {
  return store.status().flushDuration.counts.reduce((sum, count) => sum + count, 0);
}

describe('small appends while a flush is under way', () => {
  it('are made durable by one flush together, and told once', async () => {
    const ends: Lsn[] = [];
    for (let count = 0; count < 200; count++) ends.push(wal.record({ xid: 700 }).endLsn);
    const told: Lsn[] = [];
    store.onFlush(() => told.push(store.positions().flushedLsn));
    // The writer answers in a later turn of the event loop: until then its first flush is under way.
    for (const endLsn of ends) feedStore(store, wal, { endLsn });
    expect(told).toEqual([]);
    await storeFlushed(store, wal.endLsn);
    expect(flushes()).toBe(2);
    // It is told of what was written, too.
    expect(new Set(told.filter((lsn) => lsn > wal.startLsn))).toEqual(
      new Set([ends[0], ends.at(-1)]),
    );
  });

  it('are more than one flush only where they are a lot', async () => {
    for (let count = 0; count < 3000; count++) wal.record({ body: Buffer.alloc(4000, count) });
    const step = 8192;
    feedStore(store, wal, { step });
    await storeFlushed(store, wal.endLsn);
    // The first one, and one for each 4 MiB and what is left.
    expect(flushes()).toBe(
      1 + Math.ceil(Number(wal.endLsn - wal.startLsn - BigInt(step)) / 2 ** 22),
    );
  });
});
