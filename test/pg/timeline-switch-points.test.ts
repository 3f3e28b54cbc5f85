// Where a timeline may be left: in the middle of a record, at the end of a page, at the end of a segment; with segments of
// any size. Does everybody follow, and does every old primary come back as it is, because what it has beyond is no record?
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import type { StoreDetailJson } from '../../src/http/api-types.ts';
import { PAGE_SIZE, pageStart, parseLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import {
  parseWalFileName,
  segmentNumber,
  segmentOffset,
  walFileName,
} from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { openPromotionRig } from '../harness/promotion-rig.ts';
import type { PromotionRig } from '../harness/promotion-rig.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import { FULL_FAULTS, installedMajors, itWhen } from '../support/requirements.ts';

const MAJOR = Math.max(...installedMajors());
const LONG_RECORD_BYTES = 48_000_000;
const ATTEMPTS_MAX = 10;

/** Nothing writes of its own accord, as far as that can be had. */
const QUIET = { autovacuum: 'off', checkpoint_timeout: '1h', wal_writer_delay: '10ms' };

/** Every page that does not fit into the buffers is waited for: a long record takes its time. */
const SLOW = { wal_buffers: '64kB', wal_sync_method: 'open_datasync' };

/** Otherwise nobody would ever have a part of a record. */
const FORWARDS_PARTS = { storage: { verify: 'page' } };

let rig: PromotionRig;

afterEach(async () => {
  await rig[Symbol.asyncDispose]();
});

describe(`PostgreSQL ${MAJOR}`, () => {
  it('with segments of 1 MB is followed from the ends of a segment and of a page, and from the middle of a record', async () => {
    rig = await openPromotionRig({
      major: MAJOR,
      segmentSizeMb: 1,
      settings: { ...QUIET, ...SLOW },
      relaySettings: FORWARDS_PARTS,
    });
    const [alpha, beta, gamma] = [rig.server('alpha'), rig.server('beta'), rig.server('gamma')];

    await killedAt(rig, endSegment, (lsn) => lsn % BigInt(rig.segmentSize) === 0n);
    expect((await promoted(rig, beta, 2)) % BigInt(rig.segmentSize)).toBe(0n);
    await everybodyFollows(rig, alpha);

    await killedAt(
      rig,
      endPage,
      (lsn) => lsn % BigInt(PAGE_SIZE) === 0n && lsn % BigInt(rig.segmentSize) !== 0n,
    );
    expect((await promoted(rig, gamma, 3)) % BigInt(PAGE_SIZE)).toBe(0n);
    await everybodyFollows(rig, beta);

    const receivedLsn = await killedInRecord(rig);
    const switchLsn = await promoted(rig, alpha, 4);
    expect(switchLsn).toBeLessThanOrEqual(receivedLsn);
    await everybodyFollows(rig, gamma);
    // Nobody was told that half a record is safe.
    const dead = await deadWal(rig);
    expect([dead.bytes > 0, dead.acknowledged]).toEqual([switchLsn < receivedLsn, null]);
    expect(rig.relay.problems()).toEqual([]);
  });

  itWhen(FULL_FAULTS)(
    'with segments of 64 MB is followed from the middle of a record',
    async () => {
      rig = await openPromotionRig({
        major: MAJOR,
        segmentSizeMb: 64,
        settings: { ...QUIET, ...SLOW },
        relaySettings: FORWARDS_PARTS,
      });
      const [alpha, beta] = [rig.server('alpha'), rig.server('beta')];
      await killedInRecord(rig);
      await promoted(rig, beta, 2);
      await everybodyFollows(rig, alpha);
      expect(rig.relay.problems()).toEqual([]);
    },
  );
});

/** Ends the life of the primary when all its WAL ends where it should; that something else writes too is tried away. */
async function killedAt(
  at: PromotionRig,
  write: (primary: PostgresCluster) => Promise<void>,
  isThere: (endLsn: Lsn) => boolean,
): Promise<void> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    await write(at.primary);
    await at.settle();
    await at.primary.kill();
    if (isThere(await at.relay.flushedLsn())) return;
    await at.primary.start();
  }
  throw new Error(`the WAL did not end there in ${ATTEMPTS_MAX} attempts`);
}

async function endSegment(primary: PostgresCluster): Promise<void> {
  await primary.query('CREATE TABLE IF NOT EXISTS before_the_end (i int)');
  await primary.query('INSERT INTO before_the_end SELECT generate_series(1, 1000)');
  await primary.query('SELECT pg_switch_wal()');
}

/** A message of just the length that is left on the page: 24 + 5 bytes of headers, 24 + 2 of its own, and its text. */
async function endPage(primary: PostgresCluster): Promise<void> {
  await primary.query(`
    DO $$
    DECLARE at bigint; room int;
    BEGIN
      LOOP
        at := pg_current_wal_insert_lsn() - '0/0';
        room := 8192 - at % 8192;
        IF room < 1024 THEN
          PERFORM pg_logical_emit_message(false, 'a', repeat('f', 1024));
        ELSE
          at := pg_logical_emit_message(false, 'a', repeat('e', room - 55)) - '0/0';
          EXIT WHEN at % 8192 = 0;
        END IF;
      END LOOP;
    END $$`);
  // Without a commit it is flushed by the WAL writer; what is inserted next comes behind the header of the next page.
  await primary.waitForValue(
    'SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() <= 40',
    't',
  );
}

/**
 * Ends the life of the primary while it writes one long record. Gives the end of what walcast received of it. Nobody's WAL
 * ends with a segment then: who has a part of a record up to there asks any upstream for the next segment, on the new
 * timeline, again and again, until there is WAL, and PostgreSQL 18 then ends with a PANIC, as it misses those before.
 */
async function killedInRecord({ primary, standbys, relay }: PromotionRig): Promise<Lsn> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    const startLsn = await primary.walPosition();
    const session = await primary.session();
    const writing = session
      .query(`SELECT pg_logical_emit_message(true, 'long', repeat('x', ${LONG_RECORD_BYTES}))`)
      .catch(() => []);
    await relay.waitForStatus(
      'a part of the long record',
      ({ upstream }) => lsnOf(upstream.received_lsn) > startLsn + 1_000_000n,
    );
    await primary.kill();
    await writing;
    session.close();
    await relay.waitForStatus(
      'the end of the stream',
      ({ state }) => state !== 'streaming' && state !== 'catchup',
    );
    // A promotion now would cut the streams of those who are behind at the end of a batch, and so of a segment.
    const { upstream } = await relay.waitForStatus(
      'all of it at the standbys',
      (status) =>
        status.standbys.length === standbys.length &&
        status.standbys.every(
          ({ flush_lsn: lsn }) => lsnOf(lsn) >= lsnOf(status.upstream.received_lsn),
        ),
    );
    const receivedLsn = lsnOf(upstream.received_lsn);
    const isWhole = await hasWritten(primary, toLsn(startLsn + BigInt(LONG_RECORD_BYTES)));
    const isAtSegmentEnd = segmentOffset(receivedLsn, rig.segmentSize) === 0;
    if (!isWhole && !isAtSegmentEnd && !(await endsWithSegment(primary))) return receivedLsn;
    await primary.start();
  }
  throw new Error(`the record was whole, or cut at the end of a segment, ${ATTEMPTS_MAX} times`);
}

/**
 * True when a stopped server has written the last segment file that it has to the end: it was killed while it made the
 * next one, which takes much of its time.
 */
async function endsWithSegment(server: PostgresCluster): Promise<boolean> {
  const names = await readdir(server.walDirectory);
  const segments = names.flatMap((name) => parseWalFileName(name, rig.segmentSize)?.segment ?? []);
  const last = segments.reduce((highest, segment) => (segment > highest ? segment : highest), 0n);
  const endLsn = (last + 1n) * BigInt(rig.segmentSize);
  return hasWritten(server, toLsn(endLsn - BigInt(PAGE_SIZE)));
}

/** True when the page that holds `lsn` is in the WAL of a stopped server. */
async function hasWritten(server: PostgresCluster, lsn: Lsn): Promise<boolean> {
  const timeline = toTimelineId((await rig.relay.status()).timeline ?? 1);
  const name = walFileName(timeline, segmentNumber(lsn, rig.segmentSize), rig.segmentSize);
  const file = await open(join(server.walDirectory, name)).catch(() => null);
  if (file === null) return false;
  const header = Buffer.alloc(16);
  await file.read(header, 0, 16, segmentOffset(pageStart(lsn), rig.segmentSize));
  await file.close();
  return header.readBigUInt64LE(8) === pageStart(lsn);
}

/** Promotes `server` to `timeline`, and gives the place where the one before was left. */
async function promoted(at: PromotionRig, server: PostgresCluster, timeline: number): Promise<Lsn> {
  await at.promote(server);
  await at.followed(timeline);
  return (await at.history()).ancestors.at(-1)?.endLsn ?? toLsn(0n);
}

/** The old primary comes back, everybody gets what is written now, and nothing is wrong anywhere. */
async function everybodyFollows(at: PromotionRig, old: PostgresCluster): Promise<void> {
  await at.rejoin(old);
  const load = await startWriteLoad(at.primary);
  await load.waitForCommits(100);
  await load.stop();
  const endLsn = await at.settle();
  expect(await load.lostOn(old)).toEqual([]);
  expect(await at.violations(endLsn)).toEqual([]);
}

async function deadWal(at: PromotionRig): Promise<StoreDetailJson['dead']> {
  return ((await at.relay.get('/api/v1/store')) as StoreDetailJson).dead;
}

function lsnOf(text: string | null): Lsn {
  return parseLsn(text ?? '0/0') ?? toLsn(0n);
}
