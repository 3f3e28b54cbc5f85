// Reads for one stream: never beyond what may be sent, on whatever timeline; nothing from before it was taken back.
import { expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { FileCursor } from '../../src/walsender/file-cursor.ts';
import { FileReads } from '../../src/walsender/file-reads.ts';
import type { BatchRequest, FrameBatch } from '../../src/walsender/shared-frames.ts';
import { MemoryFeed, walBytes } from '../support/memory-wal.ts';

const START = toLsn(0x1000000n);

function cursorOver(
  feed: MemoryFeed,
  timeline = 1,
): { cursor: FileCursor; ready: () => Promise<void> } {
  let wake = (): void => {};
  const cursor = new FileCursor({
    reads: new FileReads(),
    feed,
    timeline: toTimelineId(timeline),
    onReady: () => wake(),
  });
  const ready = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
    });
  return { cursor, ready };
}

function request(sendableLsn: bigint): BatchRequest {
  const lsn = toLsn(sendableLsn);
  return { timeline: toTimelineId(1), startLsn: START, sendableLsn: lsn, nowMs: 0, wallMs: 0 };
}

function isBatch(taken: ReturnType<FileCursor['take']>): taken is FrameBatch {
  return taken !== null && 'chunks' in taken;
}

it('reads no further than may be sent when the end fell while it waited, on an old timeline too', async () => {
  const feed = new MemoryFeed(START, START + 50_000n);
  feed.switchTimeline(2, START + 50_000n);
  feed.takeBack(START + 10_000n);
  const { cursor, ready } = cursorOver(feed);
  cursor.readAhead(START, toLsn(START + 50_000n));
  await ready();
  const taken = cursor.take(request(START + 50_000n));
  if (!isBatch(taken)) throw new Error('no batch');
  expect(taken.endLsn).toBe(START + 10_000n);
});

it('throws away a read that is on the way, and one that is done', async () => {
  const feed = new MemoryFeed(START, START + 20_000n);
  const { cursor, ready } = cursorOver(feed);
  for (const isDone of [false, true]) {
    feed.spoiledFromLsn = START;
    const reads = feed.fileReads;
    cursor.readAhead(START, feed.sendableLsn());
    const isRead = ready();
    if (isDone) await isRead;
    feed.takeBack(START);
    cursor.discard();
    feed.append(20_000);
    await isRead;
    const isAgain = ready();
    expect(cursor.take(request(START + 20_000n))).toBeNull();
    await isAgain;
    const taken = cursor.take(request(START + 20_000n));
    if (!isBatch(taken)) throw new Error('no batch');
    const wal = Buffer.concat(taken.chunks.slice(1));
    expect(wal.equals(walBytes(START, START + 20_000n))).toBe(true);
    expect(feed.fileReads).toBe(reads + 2);
  }
});
