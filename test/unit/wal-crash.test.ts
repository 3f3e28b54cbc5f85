// What is left when the process dies, or the disk is full? With a real process, a real kill -9, a real file system.
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { TestContext } from 'vitest';
import { advanceLsn, maxLsn, parseLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { STORE_LIMITS } from '../../src/wal/store-options.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import type { WalStoreOptions } from '../../src/wal/wal-store.ts';
import { readStored, storeOptions } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

// Each test starts a thread and waits for a disk that others use too.
vi.setConfig({ testTimeout: 60_000 });

const STEP = 50_000;
const compiled = new URL('../../dist/wal/wal-store.js', import.meta.url);

/** Streams a file of WAL into a store from where it ends, and prints every position it flushed. */
const CHILD = `
  import { readFileSync, writeSync } from 'node:fs';
  const [directory, file, startText, verify] = process.argv.slice(1);
  const { WalStore } = await import(${JSON.stringify(compiled.href)});
  const { systemClock } = await import(${JSON.stringify(new URL('../base/clock.js', compiled).href)});
  const { silentLog } = await import(${JSON.stringify(new URL('../base/log.js', compiled).href)});
  const { formatLsn } = await import(${JSON.stringify(new URL('../pg/lsn.js', compiled).href)});
  const bytes = readFileSync(file);
  const start = BigInt(startText);
  const store = await WalStore.open({
    directory, verify, forward: 'received', walKeepSizeBytes: 1 << 30, clock: systemClock,
    log: silentLog, onFatal: (error) => { throw error; },
  });
  store.onFlush(() => writeSync(1, formatLsn(store.positions().flushedLsn) + '\\n'));
  writeSync(1, formatLsn(store.positions().flushedLsn) + '\\n');
  for (;;) {
    const at = Number(store.nextLsn() - start);
    if (at >= bytes.length) break;
    if (store.isFull()) { await new Promise((resolve) => store.onRoom(resolve)); continue; }
    const refused = store.append(store.nextLsn(), bytes.subarray(at, at + ${STEP}));
    if (refused !== null) throw new Error(refused.reason);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await store.close();
`;

let scratch: string;
let wal: WalFixture;

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'walcast-crash-'));
  wal = new WalFixture();
});

afterEach(async () => {
  await rm(scratch, { recursive: true });
});

async function initialized(
  directory: string,
  more: Partial<WalStoreOptions> = {},
): Promise<WalStore> {
  const store = await WalStore.open(storeOptions(directory, more));
  const server = { serverVersion: '15.18', parameters: new Map(), settings: new Map() };
  await store.initialize({ ...wal.origin, ...server, timeline: toTimelineId(1) }, wal.startLsn);
  return store;
}

/** Runs the child until it has printed `lines` positions, kills it, and returns the highest one it printed. */
async function runAndKill(child: ChildProcess, lines: number): Promise<Lsn> {
  let text = '';
  let errors = '';
  child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    if (text.split('\n').length > lines) child.kill('SIGKILL');
  });
  await once(child, 'close');
  expect(errors).toBe('');
  const printed = text
    .split('\n')
    .slice(0, -1)
    .map((line) => parseLsn(line));
  return printed.reduce<Lsn>((highest, lsn) => maxLsn(highest, lsn ?? highest), wal.startLsn);
}

describe('after kill -9', () => {
  it.each(['page', 'record'] as const)(
    'the store ends at or behind everything it called flushed, with the right bytes (verify: %s)',
    { timeout: 60_000 },
    async (verify) => {
      wal.fill(9_000_000, 3);
      wal.switchSegment();
      wal.record({ body: Buffer.alloc(2_500_000, 4) });
      wal.fill(6_000_000, 5);
      const directory = join(scratch, 'data');
      const file = join(scratch, 'wal');
      await writeFile(file, wal.bytes());
      await (await initialized(directory)).close();
      const ends = new Set([wal.startLsn, ...wal.records.map((record) => record.endLsn)]);
      let reached = wal.startLsn;
      for (let round = 1; reached < wal.endLsn && round < 40; round++) {
        const child = spawn(
          process.execPath,
          ['--input-type=module', '-e', CHILD, directory, file, String(wal.startLsn), verify],
          { stdio: ['ignore', 'pipe', 'pipe'] },
        );
        const promised = await runAndKill(child, 1 + ((round * 7) % 17));
        const store = await WalStore.open(storeOptions(directory, { verify }));
        const { flushedLsn, receivedLsn } = store.positions();
        expect(flushedLsn >= promised, `round ${round}`).toBe(true);
        expect(receivedLsn).toBe(flushedLsn);
        expect(ends).toContain(flushedLsn);
        if (flushedLsn > wal.startLsn) {
          const read = await readStored(store, toTimelineId(1), [wal.startLsn, flushedLsn]);
          const expected = wal.slice(wal.startLsn, flushedLsn);
          expect(read, `round ${round}`).toBeInstanceOf(Uint8Array);
          expect(expected.equals(read as Uint8Array), `round ${round}`).toBe(true);
        }
        await store.close();
        reached = flushedLsn;
      }
      expect(reached > wal.startLsn).toBe(true);
    },
  );
});

/** Mounts a small tmpfs; null where that is not allowed. */
function mountSmall(path: string, bytes: number): (() => void) | null {
  const mounted = spawnSync('mount', [
    '-t',
    'tmpfs',
    '-o',
    `size=${bytes},mode=0700`,
    'tmpfs',
    path,
  ]);
  if (mounted.status !== 0) return null;
  return () => spawnSync('umount', ['-l', path]);
}

describe('on a full disk', () => {
  it('the store stops taking, serves what it has, and goes on by itself when there is space', (context) =>
    onSmallDisk(context, fillUpAndRecover));

  it('the store starts, and serves what it has', (context) =>
    onSmallDisk(context, startOnFullDisk));

  it('the store makes room by itself when WAL in it is needed no longer', (context) =>
    onSmallDisk(context, fillUpAndLetGo));

  async function onSmallDisk(
    context: TestContext,
    work: (directory: string) => Promise<void>,
  ): Promise<void> {
    const directory = join(scratch, 'small');
    await mkdir(directory, { mode: 0o700 });
    const unmount = mountSmall(directory, 4 << 20);
    if (unmount === null) {
      process.stderr.write('skipped: no tmpfs can be mounted here\n');
      context.skip();
    }
    try {
      await work(directory);
    } finally {
      unmount();
    }
  }

  async function fillUpAndLetGo(directory: string): Promise<void> {
    wal.fill(4_600_000, 3);
    const limits = { ...STORE_LIMITS, noSpaceRetryMs: 20, controlIntervalMs: 1 };
    const store = await initialized(directory, { limits, walKeepSizeBytes: 0 });
    let slotLsn: Lsn | null = wal.startLsn;
    store.setRetention(() => slotLsn);
    const half = toLsn(wal.startLsn + 2_500_000n);
    appendTo(store, half);
    await vi.waitFor(() => expect(store.positions().flushedLsn + 100_000n > half).toBe(true));
    appendTo(store, wal.endLsn);
    while (store.status().errors.write < 3) await new Promise((resolve) => setImmediate(resolve));
    slotLsn = null;
    await vi.waitFor(() => expect(store.positions().flushedLsn).toBe(wal.endLsn));
    expect(store.isFull()).toBe(false);
    await store.close();
  }

  async function startOnFullDisk(directory: string): Promise<void> {
    wal.fill(400_000, 3);
    const first = await initialized(directory);
    appendTo(first, wal.endLsn);
    await first.close();
    const before = await readFile(join(directory, 'walcast.control'), 'utf8');
    const ballast = join(directory, 'pg_wal', 'ballast');
    await expect(writeFile(ballast, Buffer.alloc(8 << 20))).rejects.toMatchObject({
      code: 'ENOSPC',
    });
    const more = { limits: { ...STORE_LIMITS, controlIntervalMs: 10 } };
    const store = await WalStore.open(storeOptions(directory, more));
    expect(store.positions().flushedLsn).toBe(wal.endLsn);
    const read = await readStored(store, toTimelineId(1), [wal.startLsn, wal.endLsn]);
    expect(Buffer.from(read as Uint8Array).equals(wal.bytes())).toBe(true);
    expect(await readFile(join(directory, 'walcast.control'), 'utf8')).toBe(before);
    await rm(ballast);
    await vi.waitFor(async () =>
      expect(await readFile(join(directory, 'walcast.control'), 'utf8')).toMatch(
        /"was_clean_stop": false/,
      ),
    );
    await store.close();
  }

  async function fillUpAndRecover(directory: string): Promise<void> {
    wal.fill(2_800_000, 3);
    const ballast = join(directory, 'pg_wal', 'ballast');
    const store = await initialized(directory, { limits: { ...STORE_LIMITS, noSpaceRetryMs: 20 } });
    await writeFile(ballast, Buffer.alloc(1_500_000));
    appendTo(store, wal.endLsn);
    while (store.status().errors.write < 3) await new Promise((resolve) => setImmediate(resolve));
    const stuck = store.positions().flushedLsn;
    expect(store.isFull()).toBe(true);
    expect(stuck < wal.endLsn).toBe(true);
    // Everything received can be sent, whatever the disk does.
    const all = Buffer.concat(store.fromMemory(wal.startLsn, wal.endLsn) ?? []);
    expect(all.equals(wal.bytes())).toBe(true);
    const hasRoom = new Promise<void>((resolve) => store.onRoom(resolve));
    await rm(ballast);
    await hasRoom;
    expect(store.isFull()).toBe(false);
    while (store.positions().flushedLsn < wal.endLsn) {
      await new Promise<void>((resolve) => store.onFlush(resolve));
    }
    await store.close();
    const left = await readdir(join(directory, 'pg_wal'));
    expect(left.filter((name) => name.startsWith('xlogtemp'))).toEqual([]);
  }
});

describe('no space for the segment that is made ahead of time', () => {
  it('is nobody’s trouble: it is made again when it is needed', async () => {
    wal.fill(1_800_000, 3);
    const directory = join(scratch, 'data');
    const store = await initialized(directory);
    const half = join(directory, 'pg_wal', 'xlogtemp.000000010000000000000031');
    await symlink('/dev/full', half);
    appendTo(store, toLsn(wal.startLsn + 600_000n));
    await vi.waitFor(
      async () => await expect(lstat(half)).rejects.toMatchObject({ code: 'ENOENT' }),
    );
    appendTo(store, wal.endLsn);
    await store.close();
    const again = await WalStore.open(storeOptions(directory));
    expect(again.positions().flushedLsn).toBe(wal.endLsn);
    await again.close();
  });
});

describe('when the disk fails', () => {
  it('the store says so once, takes nothing more, and calls nothing flushed', async () => {
    wal.fill(2_500_000, 3);
    const directory = join(scratch, 'data');
    const failures: string[] = [];
    let onFailure: () => void = () => {};
    const failed = new Promise<void>((resolve) => (onFailure = resolve));
    const store = await initialized(directory, {
      onFatal: (error) => {
        failures.push(error.message);
        onFailure();
      },
    });
    // A directory where the second segment belongs.
    await mkdir(join(directory, 'pg_wal', '000000010000000000000031'));
    const start = store.nextLsn();
    expect(store.append(start, wal.slice(start, toLsn(start + 2_000_000n)))).toBeNull();
    await failed;
    expect(failures).toEqual([expect.stringMatching(/could not be made durable/)]);
    expect(store.positions().flushedLsn).toBe(wal.startLsn);
    expect(store.isFull()).toBe(true);
    const next = store.nextLsn();
    expect(store.append(next, wal.slice(next, advanceLsn(next, 100)))?.reason).toMatch(
      /has failed/,
    );
    expect(store.status().errors.write).toBe(1);
    await store.close();
    const control = await readFile(join(directory, 'walcast.control'), 'utf8');
    expect(control).toMatch(/"was_clean_stop": false/);
  });

  it('the store fails as well when only the segment that is made ahead of time cannot be made', async () => {
    wal.fill(900_000, 3);
    const directory = join(scratch, 'data');
    const { failure, onFatal } = firstFailure();
    const store = await initialized(directory, { onFatal });
    // A directory where that segment would be put together.
    await mkdir(join(directory, 'pg_wal', 'xlogtemp.000000010000000000000031'));
    appendTo(store, toLsn(wal.startLsn + 600_000n));
    expect(await failure).toMatch(/could not be made durable/);
    expect(store.isFull()).toBe(true);
    await store.close();
    const control = await readFile(join(directory, 'walcast.control'), 'utf8');
    expect(control).toMatch(/"was_clean_stop": false/);
  });

  it('the store does not stop cleanly when that fails during the stop', async () => {
    wal.fill(900_000, 3);
    const directory = join(scratch, 'data');
    const { failure, onFatal } = firstFailure();
    const store = await initialized(directory, { onFatal });
    await mkdir(join(directory, 'pg_wal', 'xlogtemp.000000010000000000000031'));
    appendTo(store, toLsn(wal.startLsn + 600_000n));
    await store.close();
    expect(await failure).toMatch(/could not be made durable/);
    const control = await readFile(join(directory, 'walcast.control'), 'utf8');
    expect(control).toMatch(/"was_clean_stop": false/);
  });
});

describe('a disk that does not answer', () => {
  it('holds a stop with a time limit no longer than that, and nothing is called clean', async () => {
    wal.fill(300_000, 3);
    const directory = join(scratch, 'data');
    const store = await initialized(directory);
    // The thread waits for a reader when it opens the file that the first segment is put together in.
    const pipe = join(directory, 'pg_wal', 'xlogtemp.000000010000000000000030');
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
    appendTo(store, wal.endLsn);
    await store.close({ timeoutMs: 100 });
    try {
      expect(store.isFull()).toBe(true);
      expect(store.positions().flushedLsn).toBe(wal.startLsn);
      const control = await readFile(join(directory, 'walcast.control'), 'utf8');
      expect(control).toMatch(/"was_clean_stop": false/);
    } finally {
      // Lets it go, so that this process can end.
      await (await open(pipe, 'r+')).close();
    }
  });

  it('that answers in time leaves a clean stop', async () => {
    wal.fill(300_000, 3);
    const directory = join(scratch, 'data');
    const store = await initialized(directory);
    appendTo(store, wal.endLsn);
    await store.close({ timeoutMs: 30_000 });
    expect(store.positions().flushedLsn).toBe(wal.endLsn);
    const control = await readFile(join(directory, 'walcast.control'), 'utf8');
    expect(control).toMatch(/"was_clean_stop": true/);
  });
});

function appendTo(store: WalStore, end: Lsn): void {
  while (store.nextLsn() < end) {
    const start = store.nextLsn();
    const to = start + BigInt(STEP) < end ? start + BigInt(STEP) : end;
    expect(store.append(start, wal.slice(start, toLsn(to)))).toBeNull();
  }
}

function firstFailure(): { failure: Promise<string>; onFatal: WalStoreOptions['onFatal'] } {
  let onFatal: WalStoreOptions['onFatal'] = () => {};
  const failure = new Promise<string>((resolve) => (onFatal = (error) => resolve(error.message)));
  return { failure, onFatal };
}
