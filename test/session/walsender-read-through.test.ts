// A walsender whose standby is before the store, over older WAL in memory: what it sends and when, what it says when there
// is none, and when it lets go of it.
import { afterEach, expect, it } from 'vitest';
import { advanceLsn, minLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import type {
  OlderWal,
  OlderWalFailure,
  OlderWalReader,
  OlderWalRequest,
} from '../../src/walsender/ports.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { walBytes } from '../support/memory-wal.ts';
import { message } from '../support/naive-writer.ts';
import { statusUpdate } from '../support/raw-client.ts';
import type { StreamReader } from '../support/raw-client.ts';
import { Fixture, OLDEST_LSN, START_LSN } from '../support/wal-senders-fixture.ts';

const BEFORE = OLDEST_LSN - 0x100000n;

/** Older WAL that comes in pieces of a size, as far as the test lets it come. */
class Older implements OlderWalReader {
  readonly request: OlderWalRequest;
  readonly pieceBytes: number;
  arrivedLsn: Lsn;
  failure: OlderWalFailure | null = null;
  isClosed = false;
  takes = 0;
  #nextLsn: Lsn;

  constructor(request: OlderWalRequest, pieceBytes: number) {
    this.request = request;
    this.pieceBytes = pieceBytes;
    this.arrivedLsn = request.startLsn;
    this.#nextLsn = request.startLsn;
  }

  arrive(lsn: bigint): void {
    this.arrivedLsn = lsn as Lsn;
    this.request.onReady();
  }

  take(limitLsn: Lsn): OlderWal | OlderWalFailure | null {
    this.takes += 1;
    const endLsn = minLsn(
      minLsn(advanceLsn(this.#nextLsn, this.pieceBytes), this.arrivedLsn),
      limitLsn,
    );
    if (endLsn <= this.#nextLsn) return this.failure;
    const views = [walBytes(this.#nextLsn, endLsn)];
    this.#nextLsn = endLsn;
    return { endLsn, views };
  }

  close(): void {
    this.isClosed = true;
  }
}

let fixture: Fixture;

afterEach(() => {
  fixture.close();
});

/** Standbys of the fixture get older WAL in pieces of `pieceBytes`; all readers that were opened. */
function withOlder(pieceBytes: number): Older[] {
  const readers: Older[] = [];
  fixture.feed.older = (request) => {
    const reader = new Older(request, pieceBytes);
    readers.push(reader);
    return reader;
  };
  return readers;
}

function only(readers: Older[]): Older {
  const [reader] = readers;
  if (reader === undefined || readers.length !== 1) throw new Error(`${readers.length} readers`);
  return reader;
}

function expectBytes(standby: StreamReader, fromLsn: bigint): void {
  expect(standby.wal().equals(walBytes(fromLsn, standby.endLsn))).toBe(true);
}

it.each([8_192, 131_072, 1 << 19])(
  'sends pieces of %i bytes one after the other without waiting for anything else, then goes on with the store',
  async (pieceBytes) => {
    fixture = await Fixture.start();
    const readers = withOlder(pieceBytes);
    const standby = await fixture.stream(BEFORE);
    only(readers).arrive(OLDEST_LSN);
    await standby.readTo(START_LSN);
    expectBytes(standby, BEFORE);
    expect(standby.messageEnds).toContain(OLDEST_LSN);
    expect(only(readers).isClosed).toBe(true);
    expect(only(readers).request.limitLsn).toBe(OLDEST_LSN);
    await standby.readTo(fixture.feed.append(5_000));
    expectBytes(standby, BEFORE);
  },
);

it('is fed from there again when the store has moved on below it', async () => {
  fixture = await Fixture.start();
  const readers = withOlder(1 << 16);
  fixture.feed.tailBytes = 0;
  fixture.feed.append(8 << 20);
  fixture.feed.onFileRead = (count) => {
    if (count === 2) fixture.feed.removeBefore(OLDEST_LSN + (4n << 20n));
  };
  const standby = await fixture.stream(OLDEST_LSN);
  await eventually(() => readers.length).toBe(1);
  const from = only(readers).request.startLsn;
  expect(from).toBeGreaterThan(OLDEST_LSN);
  only(readers).arrive(OLDEST_LSN + (4n << 20n));
  await standby.readTo(fixture.feed.sendableLsn());
  expectBytes(standby, OLDEST_LSN);
  expect(only(readers).isClosed).toBe(true);
});

it('tells a standby that waits that it is there, and listens to it', async () => {
  const clock = new ManualClock();
  fixture = await Fixture.start({ clock });
  const readers = withOlder(8_192);
  const standby = await fixture.stream(BEFORE);
  only(readers).arrive(BEFORE + 8_192n);
  await standby.readTo(BEFORE + 8_192n);
  clock.advance(5_000);
  await standby.nextOther({ keepalives: true });
  clock.advance(4_999);
  clock.advance(1);
  await standby.nextOther({ keepalives: true });
  expect(standby.keepalives).toEqual([
    { walEnd: BEFORE + 8_192n, replyRequested: 0 },
    { walEnd: BEFORE + 8_192n, replyRequested: 0 },
  ]);
  // It asks, and is answered; what it confirms counts.
  standby.client.send(statusUpdate(BEFORE + 8_192n, BEFORE + 4_096n, 0n, 1));
  await standby.nextOther({ keepalives: true });
  expect(fixture.senders.statuses()).toMatchObject([
    { state: 'catchup', sentLsn: BEFORE + 8_192n, flushLsn: BEFORE + 4_096n },
  ]);
  only(readers).arrive(OLDEST_LSN);
  await standby.readTo(START_LSN);
  expectBytes(standby, BEFORE);
});

it.each<[OlderWalFailure, string]>([
  [
    { kind: 'removed', walFileName: '00000002000000000000000F', reason: null },
    'E|ERROR|58P01|requested WAL segment 00000002000000000000000F has already been removed',
  ],
  [
    { kind: 'removed', walFileName: '00000001000000000000000F', reason: 'no route to host' },
    'E|ERROR|58P01|requested WAL segment 00000001000000000000000F has already been removed|' +
      'walcast does not keep it any more and could not read it from the upstream: no route to host',
  ],
  [
    {
      kind: 'mismatch',
      walFileName: '00000001000000000000000F',
      lsn: OLDEST_LSN as Lsn,
      reason: 'invalid magic number 0000',
    },
    'E|ERROR|XX001|could not read WAL segment 00000001000000000000000F at 0/1000000: invalid magic number 0000|' +
      'walcast does not keep it any more, and what the upstream sent instead failed its check.',
  ],
])('says why there is no more, and takes the next command: %o', async (failure, text) => {
  fixture = await Fixture.start();
  const readers = withOlder(8_192);
  const standby = await fixture.stream(BEFORE);
  const reader = only(readers);
  reader.arrive(BEFORE + 16_384n);
  await standby.readTo(BEFORE + 16_384n);
  reader.failure = failure;
  reader.request.onReady();
  expect(await standby.client.answer()).toEqual([text, 'Z I']);
  expect(reader.isClosed).toBe(true);
  expect((await standby.client.ask('IDENTIFY_SYSTEM')).at(-1)).toBe('Z I');
});

it('lets go of it with the standby, however that ends', async () => {
  fixture = await Fixture.start();
  const readers = withOlder(8_192);
  const gone = await fixture.stream(BEFORE);
  gone.client.close();
  const done = await fixture.stream(BEFORE);
  done.client.send(message('c'));
  expect(await done.client.answer()).toEqual([
    'c',
    'C START_STREAMING',
    'C START_REPLICATION',
    'Z I',
  ]);
  const killed = await fixture.stream(BEFORE);
  fixture.senders.kill(killed.pid);
  await killed.client.closed();
  await eventually(() => readers.map(({ isClosed }) => isClosed)).toEqual([true, true, true]);
  // Nothing is sent for what comes afterwards.
  for (const reader of readers) reader.arrive(OLDEST_LSN);
  expect(await done.client.ask('SHOW wal_level')).toContain('D replica');
});

it('is no hurdle for a drain: the standby gets what it can in the time', async () => {
  fixture = await Fixture.start();
  fixture.settings = { ...fixture.settings, drainTimeoutMs: 300 };
  const readers = withOlder(8_192);
  const slow = await fixture.stream(BEFORE);
  const quick = await fixture.stream(BEFORE);
  const drained = fixture.senders.drain(START_LSN as Lsn);
  readers[1]?.arrive(OLDEST_LSN);
  await quick.readTo(START_LSN);
  quick.client.send(statusUpdate(START_LSN, START_LSN, 0n));
  expect((await quick.nextOther())?.type).toBe('C');
  await drained;
  expect((await slow.nextOther())?.type).toBe('C');
  expect(readers[0]?.isClosed).toBe(true);
});

it('occupies no place of those who read files', async () => {
  fixture = await Fixture.start();
  withOlder(8_192);
  for (let count = 0; count < 8; count += 1) await fixture.stream(BEFORE);
  fixture.feed.tailBytes = 0;
  const reader = await fixture.stream(OLDEST_LSN);
  await reader.readTo(START_LSN);
  expectBytes(reader, OLDEST_LSN);
});
