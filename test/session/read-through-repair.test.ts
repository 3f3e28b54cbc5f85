// A segment damaged on our own disk: is it fetched again, does the standby that needs it only see a slow read, and does
// it alone get an error where the upstream has it no more?
import {
  copyFile,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatLsn, PAGE_SIZE, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { StoreFeed } from '../../src/relay/store-adapters.ts';
import {
  encodePageSumsHeader,
  entryOffset,
  pageSumsFile,
  pageSumsSeed,
  putPageSum,
} from '../../src/wal/page-sums.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { copyDirectory } from '../support/copy-directory.ts';
import { message } from '../support/naive-writer.ts';
import { summary } from '../support/raw-client.ts';
import { listen, openRig, SEGMENT } from '../support/read-through-rig.ts';
import type { ReadThroughRig } from '../support/read-through-rig.ts';
import {
  complete,
  COPY_BOTH,
  errorResponse,
  READY,
  walData,
} from '../support/scripted-upstream.ts';
import type { ScriptedSession } from '../support/scripted-upstream.ts';
import { feedStore, storeFlushed, storeOptions } from '../support/store-rig.ts';
import { TestWalAges } from '../support/wal-ages.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const UPSTREAM = { expectsWal: () => true, ages: new TestWalAges() };

/** Five segments and a half, all of them stored; the last two or three are in memory, too. */
async function openStored(
  options: { readonly timeoutMs?: number; readonly wal?: WalFixture } = {},
): Promise<ReadThroughRig> {
  const wal = options.wal ?? fiveSegments();
  const rig = await openRig({ wal, storeFrom: wal.startLsn, tailBytesMax: 0, ...options });
  const lastEnd = wal.records.at(-1)?.endLsn ?? wal.endLsn;
  await storeFlushed(rig.store, lastEnd);
  return rig;
}

function fiveSegments(): WalFixture {
  const wal = new WalFixture();
  wal.fill(Number(5n * SEGMENT + SEGMENT / 2n), 3);
  return wal;
}

/** The file of the segment that is `index` segments behind the first one. */
function pathOf(rig: ReadThroughRig, index: number): string {
  const segment = segmentNumber(
    toLsn(rig.wal.startLsn + BigInt(index) * SEGMENT),
    rig.wal.segmentSize,
  );
  return join(rig.directory, 'pg_wal', walFileName(toTimelineId(1), segment, rig.wal.segmentSize));
}

function bytesOf(rig: ReadThroughRig, index: number): Buffer {
  const startLsn = rig.wal.startLsn + BigInt(index) * SEGMENT;
  return rig.wal.slice(startLsn, startLsn + SEGMENT);
}

async function flip(path: string, offset: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[offset] = (bytes[offset] ?? 0) ^ 0x10;
  await writeFile(path, bytes);
}

/** Plays the upstream that has everything, on every connection; gives what it was asked for. */
function serveAll(rig: ReadThroughRig, wal: WalFixture = rig.wal): string[] {
  const asked: string[] = [];
  void (async () => {
    for (;;) {
      const session = await rig.upstream.accept();
      await session.login(rig.server);
      void serve(rig, { session, wal, asked });
    }
  })().catch(() => {});
  return asked;
}

async function serve(
  rig: ReadThroughRig,
  {
    session,
    wal,
    asked,
  }: { readonly session: ScriptedSession; readonly wal: WalFixture; readonly asked: string[] },
): Promise<void> {
  try {
    for (;;) {
      const { startLsn, command } = await rig.nextStart(session);
      asked.push(command);
      session.send(COPY_BOTH);
      for (let lsn = startLsn; lsn < wal.endLsn; lsn += 131_072n) {
        const end = lsn + 131_072n < wal.endLsn ? lsn + 131_072n : wal.endLsn;
        session.send(walData(lsn, wal.slice(lsn, end), wal.endLsn));
      }
      while ((await session.next()).type !== 'c') {
        // Status updates.
      }
      session.send(message('c'), complete('START_STREAMING'), complete('START_REPLICATION'), READY);
    }
  } catch {
    // The connection is closed.
  }
}

/** Notes sums of other pages, valid ones, for a segment. */
async function noteOthers(rig: ReadThroughRig, index: number): Promise<void> {
  const path = pathOf(rig, index);
  const { segmentSize } = rig.wal;
  const segment = segmentNumber(toLsn(rig.wal.startLsn + BigInt(index) * SEGMENT), segmentSize);
  const of = { timeline: toTimelineId(1), segment, segmentSize };
  const bytes = Buffer.alloc(entryOffset(segmentSize / PAGE_SIZE));
  encodePageSumsHeader(of).copy(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const seed = pageSumsSeed(of);
  for (let page = 0; page < segmentSize / PAGE_SIZE; page++) {
    putPageSum(view, entryOffset(page), { seed, page, sum: 4711 + page });
  }
  await writeFile(pageSumsFile(join(rig.directory, 'pg_wal'), path.slice(-24)), bytes);
}

/** As a walsender reads: again when it is told to. */
async function readNow(feed: StoreFeed, startLsn: Lsn, endLsn: Lsn, timeline = 1): Promise<Buffer> {
  for (;;) {
    const read = await feed.fromFiles(toTimelineId(timeline), startLsn, endLsn);
    if (read instanceof Uint8Array) return Buffer.from(read);
    if (read.kind !== 'later') throw new Error(JSON.stringify({ ...read, lsn: '' }));
    await read.ready;
  }
}

describe('a segment that is damaged on our disk', () => {
  it.each<[string, (rig: ReadThroughRig, path: string) => Promise<void>]>([
    ['a bit of a record body', (_, path) => flip(path, 400_000)],
    ['a bit of a page header', (_, path) => flip(path, 8192 * 40 + 9)],
    ['a bit of the first page header', (_, path) => flip(path, 25)],
    ['its last bit', (_, path) => flip(path, Number(SEGMENT) - 1)],
    [
      'a page that was lost',
      async (_, path) => {
        await writeFile(path, (await readFile(path)).fill(0, 16_384, 24_576));
      },
    ],
    ['its end', (_, path) => truncate(path, 300_001)],
    ['all of it', (_, path) => truncate(path, 0)],
    ['its file', (_, path) => unlink(path)],
    ['its name, which another one has', (rig, path) => copyFile(pathOf(rig, 0), path)],
  ])('is fetched again, and the standby gets the right bytes: %s', async (_, damage) => {
    await using rig = await openStored();
    const path = pathOf(rig, 1);
    await damage(rig, path);
    const damaged = await readFile(path).catch(() => null);
    const asked = serveAll(rig);
    const standby = await rig.stream(rig.wal.startLsn);
    await standby.readTo(rig.wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
    expect((await readFile(path)).equals(bytesOf(rig, 1))).toBe(true);
    const start = formatLsn(toLsn(rig.wal.startLsn + SEGMENT));
    expect(asked).toEqual([`START_REPLICATION PHYSICAL ${start} TIMELINE 1`]);
    expect(rig.readThrough.status()).toMatchObject({ repairedSegments: 1, failedRepairs: 0 });
    expect(rig.store.status()).toMatchObject({ rejectedFromDisk: 1, errors: { read: 1 } });
    const told = rig.log.lines.filter((line) => line.includes('damaged WAL segment'));
    expect(told).toHaveLength(2);
    for (const line of told) expect(line).toContain(path.slice(-24));
    const kept = join(rig.directory, 'dead', `${path.slice(-24)}.damaged`);
    const aside = await readFile(kept).catch(() => null);
    expect(aside === null ? aside : [...aside]).toEqual(damaged === null ? null : [...damaged]);
    expect(
      (await readdir(join(rig.directory, 'pg_wal'))).filter((name) => name.startsWith('xlog')),
    ).toEqual([]);
  });

  it('is fetched again when it went while walcast was off, and what lies before it is served', async () => {
    await using rig = await openStored();
    const { directory, wal } = rig;
    const copy = await mkdtemp(join(tmpdir(), 'walcast-hole-'));
    try {
      // A crash leaves the same; the lock is no file of the store.
      await copyDirectory(directory, copy);
      await unlink(pathOf(rig, 2).replace(directory, copy));
      const store = await WalStore.open(storeOptions(copy, { walKeepSizeBytes: 0, log: rig.log }));
      try {
        expect(store.oldestLsn()).toBe(wal.startLsn);
        const asked = serveAll(rig);
        const readThrough = rig.readThroughOf(store);
        const feed = new StoreFeed(store, readThrough, UPSTREAM);
        const startLsn = toLsn(wal.startLsn + SEGMENT);
        const endLsn = toLsn(wal.startLsn + 4n * SEGMENT);
        const read = await readNow(feed, startLsn, endLsn);
        expect(read.equals(wal.slice(startLsn, endLsn))).toBe(true);
        expect(asked).toHaveLength(1);
        expect(rig.log.lines.filter((line) => line.includes('are missing'))).toHaveLength(1);
        readThrough.close();
      } finally {
        await store.close();
      }
    } finally {
      await rm(copy, { recursive: true });
    }
  });

  it('is fetched once however many want it, and two swapped ones are both put right', async () => {
    await using rig = await openStored();
    const [one, two] = [pathOf(rig, 1), pathOf(rig, 2)];
    await rename(one, `${one}.tmp`);
    await rename(two, one);
    await rename(`${one}.tmp`, two);
    const asked = serveAll(rig);
    const standbys = await Promise.all(
      Array.from({ length: 8 }, () => rig.stream(rig.wal.startLsn)),
    );
    await Promise.all(standbys.map((standby) => standby.readTo(rig.wal.endLsn)));
    for (const standby of standbys) expect(rig.isRight(standby)).toBe(true);
    expect(asked).toHaveLength(2);
    expect((await readFile(one)).equals(bytesOf(rig, 1))).toBe(true);
    expect((await readFile(two)).equals(bytesOf(rig, 2))).toBe(true);
  });

  it('leaves a few files at most for who looks at the disk', async () => {
    await using rig = await openStored();
    serveAll(rig);
    for (const at of [100_000, 200_000]) {
      for (const index of [0, 1, 2]) await flip(pathOf(rig, index), at);
      const standby = await rig.stream(rig.wal.startLsn);
      await standby.readTo(rig.wal.endLsn);
      expect(rig.isRight(standby)).toBe(true);
      standby.client.close();
    }
    expect(rig.readThrough.status().repairedSegments).toBe(6);
    expect(await readdir(join(rig.directory, 'dead'))).toHaveLength(3);
  });
});

describe('after a timeline switch', () => {
  it.each([
    ['is damaged', false],
    ['is gone', true],
  ])(
    'segments of both are fetched again, when the one that holds the switch point %s',
    async (_, isGone) => {
      const old = new WalFixture();
      old.fill(Number(2n * SEGMENT + SEGMENT / 2n), 3);
      const switchLsn = old.endLsn;
      await using rig = await openStored({ wal: old });
      const two = toTimelineId(2);
      const wal = old.branch(switchLsn, two);
      wal.fill(Number(3n * SEGMENT), 4);
      const history = `1\t${formatLsn(switchLsn)}\tno recovery target specified\n`;
      await rig.store.storeHistoryFile(two, Buffer.from(history));
      await rig.store.switchTimeline({ history: wal.history, switchLsn });
      feedStore(rig.store, wal);
      await storeFlushed(rig.store, wal.records.at(-1)?.endLsn ?? wal.endLsn);
      const names = (await readdir(join(rig.directory, 'pg_wal')))
        .filter((name) => /^[0-9A-F]{24}$/.test(name))
        .toSorted();
      // And, perhaps, a fifth one that is made ahead.
      expect(names.map((name) => name[7]).join('')).toMatch(/^11122222?$/);
      // The third one ends at the switch point; the fourth one is of the same segment.
      const damaged = [0, 1, 3, 4].map((index) =>
        join(rig.directory, 'pg_wal', names[index] ?? ''),
      );
      const before = await Promise.all(damaged.map((path) => readFile(path)));
      for (const path of damaged) await flip(path, 123_456);
      if (isGone) await unlink(damaged[2] ?? '');
      Object.assign(rig.server, { timeline: '2', xlogPos: formatLsn(wal.endLsn) });
      rig.server.histories['2'] = ['00000002.history', history];
      const asked = serveAll(rig, wal);
      const startLsn = toLsn(wal.startLsn);
      const endLsn = toLsn(wal.startLsn + 4n * SEGMENT);
      const feed = new StoreFeed(rig.store, rig.readThrough, UPSTREAM);
      const read = await readNow(feed, startLsn, endLsn, 2);
      expect(read.equals(wal.slice(startLsn, endLsn))).toBe(true);
      expect(asked.map((command) => command.at(-1)).join('')).toBe('1122');
      for (const [index, path] of damaged.entries()) {
        expect((await readFile(path)).equals(before[index] ?? Buffer.of())).toBe(true);
      }
      expect(rig.readThrough.status()).toMatchObject({ repairedSegments: 4, failedRepairs: 0 });
    },
  );
});

describe('where the upstream cannot help', () => {
  it('that standby alone gets the error, others go on, and the upstream is not asked again at once', async () => {
    await using rig = await openStored();
    const { wal } = rig;
    const path = pathOf(rig, 1);
    await flip(path, 400_000);
    const before = await readFile(path);
    const beside = await rig.stream(wal.startLsn + 2n * SEGMENT);
    const standby = await rig.stream(wal.startLsn);
    const { session } = await rig.accept();
    session.send(
      COPY_BOTH,
      errorResponse('58P01', 'requested WAL segment x has already been removed'),
      READY,
    );
    const heard = listen(session);
    const error = summary((await standby.nextOther()) ?? { type: '?', body: Buffer.of() });
    const name = path.slice(-24);
    expect(error).toContain(`E|ERROR|XX001|could not read WAL segment ${name} at 0/31`);
    expect(error).toContain('the upstream has removed it, too');
    expect(rig.isRight(standby)).toBe(true);
    // All that is good before the page that is not.
    expect(standby.endLsn).toBe(wal.startLsn + SEGMENT + (400_000n / 8192n) * 8192n);
    await beside.readTo(wal.endLsn);
    expect(rig.isRight(beside)).toBe(true);
    // It asks again at once, as a standby does.
    const again = await rig.stream(wal.startLsn + SEGMENT);
    expect(summary((await again.nextOther()) ?? { type: '?', body: Buffer.of() })).toContain(
      'XX001',
    );
    expect(rig.readThrough.status()).toMatchObject({ repairedSegments: 0, failedRepairs: 1 });
    expect((await readFile(path)).equals(before)).toBe(true);
    rig.readThrough.close();
    expect((await heard).filter((type) => type === 'Q')).toEqual([]);
    expect(rig.upstream.accepted).toBe(1);
  });

  it('a file that is nowhere any more is told as a server tells it', async () => {
    await using rig = await openStored();
    await unlink(pathOf(rig, 1));
    const standby = await rig.stream(rig.wal.startLsn + SEGMENT);
    const { session } = await rig.accept();
    session.send(
      COPY_BOTH,
      errorResponse('58P01', 'requested WAL segment x has already been removed'),
      READY,
    );
    const name = pathOf(rig, 1).slice(-24);
    expect(await standby.client.answer()).toEqual([
      `E|ERROR|58P01|requested WAL segment ${name} has already been removed`,
      'Z I',
    ]);
  });

  it('good WAL is served all the same when only what was noted of it is wrong', async () => {
    await using rig = await openStored();
    const { wal } = rig;
    await noteOthers(rig, 1);
    const standby = await rig.stream(wal.startLsn);
    const { session } = await rig.accept();
    session.send(
      COPY_BOTH,
      errorResponse('58P01', 'requested WAL segment x has already been removed'),
      READY,
    );
    const heard = listen(session);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
    expect(rig.readThrough.status()).toMatchObject({ repairedSegments: 0, failedRepairs: 0 });
    expect(rig.log.lines.filter((line) => line.includes('prove it right'))).toHaveLength(1);
    // It is known on the disk from then on, also to another reader.
    rig.store.reader?.forget(pathOf(rig, 1).slice(-24));
    const [startLsn, endLsn] = [wal.startLsn + SEGMENT, wal.startLsn + 2n * SEGMENT];
    const again = await rig.store.fromFiles(toTimelineId(1), toLsn(startLsn), toLsn(endLsn));
    expect(again).toBeInstanceOf(Uint8Array);
    rig.readThrough.close();
    await heard;
  });

  it.each([
    [
      'are bad',
      (bytes: Buffer): void => void (bytes[500_000] = (bytes[500_000] ?? 0) ^ 1),
      'fails its check',
    ],
    ['are good, but not those that were received', null, 'is not the one that was received'],
  ])('its bytes are not taken when they %s', async (_, spoil, reason) => {
    const wal = fiveSegments();
    await using rig = await openStored({ wal });
    await flip(pathOf(rig, 1), 400_000);
    const standby = await rig.stream(wal.startLsn);
    const { session, startLsn } = await rig.accept();
    const other = new WalFixture({ startLsn });
    other.fill(Number(2n * SEGMENT), 5);
    const bytes =
      spoil === null ? other.slice(startLsn, other.endLsn) : wal.slice(startLsn, wal.endLsn);
    spoil?.(bytes);
    session.send(COPY_BOTH);
    for (let at = 0; at < bytes.length; at += 131_072) {
      session.send(walData(startLsn + BigInt(at), bytes.subarray(at, at + 131_072), wal.endLsn));
    }
    const error = summary((await standby.nextOther()) ?? { type: '?', body: Buffer.of() });
    expect(error).toContain(reason);
    expect(rig.isRight(standby)).toBe(true);
  });
});

describe('WAL whose sums are not known', () => {
  it('has its records checked before it is served, and is known afterwards', async () => {
    await using rig = await openStored();
    const sums = join(rig.directory, 'page_sums');
    for (const name of await readdir(sums)) await writeFile(join(sums, name), '');
    await flip(pathOf(rig, 2), 700_000);
    const asked = serveAll(rig);
    const standby = await rig.stream(rig.wal.startLsn);
    await standby.readTo(rig.wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
    expect(asked).toHaveLength(1);
    expect((await readFile(pathOf(rig, 2))).equals(bytesOf(rig, 2))).toBe(true);
    const known = await readFile(join(sums, pathOf(rig, 1).slice(-24)));
    expect(known.length).toBe(32 + 8 * 128);
  });

  it.each([0, 8_191, 300_000, 700_000, 1_048_575])(
    'is never served with a flipped bit at byte %i of a segment',
    async (offset) => {
      const wal = fiveSegments();
      await using rig = await openStored({ wal });
      const sums = join(rig.directory, 'page_sums');
      for (const name of await readdir(sums)) await writeFile(join(sums, name), '');
      await flip(pathOf(rig, 1), offset);
      serveAll(rig);
      const standby = await rig.stream(wal.startLsn + SEGMENT);
      await standby.readTo(wal.endLsn);
      expect(rig.isRight(standby)).toBe(true);
    },
  );
});

describe('a segment whose neighbour is damaged', () => {
  it('is taken from the upstream as good, when nothing is known of both', async () => {
    const wal = new WalFixture();
    wal.fill(Number(SEGMENT) - 60_000, 3);
    // Goes over into the second segment.
    wal.record({ body: Buffer.alloc(300_000, 7) });
    wal.fill(Number(3n * SEGMENT), 4);
    await using rig = await openStored({ wal });
    const sums = join(rig.directory, 'page_sums');
    for (const name of await readdir(sums)) await writeFile(join(sums, name), '');
    await flip(pathOf(rig, 1), 100_000);
    serveAll(rig);
    const standby = await rig.stream(wal.startLsn);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
    expect(rig.readThrough.status().failedRepairs).toBe(0);
    expect((await readFile(pathOf(rig, 1))).equals(bytesOf(rig, 1))).toBe(true);
  });
});

describe('the segment that is being written', () => {
  it('is not replaced; what is in memory of it is served', async () => {
    await using rig = await openStored();
    const last = pathOf(rig, 5);
    await flip(last, 100_000);
    const standby = await rig.stream(rig.wal.startLsn + 5n * SEGMENT);
    await standby.readTo(rig.wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
    expect(rig.upstream.accepted).toBe(0);
  });
});
