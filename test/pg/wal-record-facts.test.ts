// Does the walk over WAL know what the server that wrote it says of itself: its next transaction id, its newest commit, its
// checkpoints, and which commit waits for standbys to apply it?
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { SqlSession } from '../../src/demo/sql-session.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { parseWalFileName, segmentStart, toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import { installedMajors } from '../support/requirements.ts';

const SEGMENT_SIZE = toSegmentSize(1 << 20);
const EPOCH_MICROS = 946_684_800_000_000n;

/** What the server said when its WAL ended at `lsn` and no transaction was open. */
interface Moment {
  readonly what: string;
  readonly lsn: Lsn;
  readonly nextFullXid: bigint;
  readonly commitAt: bigint;
  readonly redoLsn: Lsn;
  readonly checkpointNextXid: bigint;
}

const SUBTRANSACTIONS = `DO $$ BEGIN FOR i IN 1..%N LOOP
  BEGIN PERFORM pg_current_xact_id(); %A EXCEPTION WHEN division_by_zero THEN NULL; END;
END LOOP; END $$`;

/** Each is one or more transactions; the settings of the session stay. */
const WORK: readonly [string, readonly string[]][] = [
  ['a commit', ['INSERT INTO t VALUES (1)']],
  ['a commit with subtransactions that write nothing', [subtransactions(3, '')]],
  ['a commit with hundreds of subtransactions', [subtransactions(300, '')]],
  ['subtransactions that abort', [subtransactions(70, 'PERFORM 1/0;')]],
  ['an abort', ['BEGIN', 'INSERT INTO t VALUES (2)', 'ROLLBACK']],
  [
    'a prepared transaction',
    ['BEGIN', 'INSERT INTO t VALUES (3)', "PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'"],
  ],
  ['a commit with cache invalidations', ['CREATE TABLE u (i int)', 'DROP TABLE u']],
  ['a checkpoint', ['CHECKPOINT']],
  ['a commit behind it', ['INSERT INTO t VALUES (4)']],
];

function subtransactions(count: number, action: string): string {
  return SUBTRANSACTIONS.replace('%N', String(count)).replace('%A', action);
}

async function look(session: SqlSession, what: string): Promise<Moment> {
  const [row] = await session.query(`
    SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot()),
      extract(epoch FROM date_trunc('second', c.timestamp))::bigint * 1000000 +
        extract(microseconds FROM c.timestamp)::bigint % 1000000,
      k.redo_lsn, k.next_xid
    FROM pg_last_committed_xact() c, pg_control_checkpoint() k`);
  const [lsn, xmax, commitAt, redo, nextXid] = row ?? [];
  const [epoch, xid] = (nextXid ?? '').split(':');
  return {
    what,
    lsn: asLsn(lsn),
    nextFullXid: BigInt(xmax ?? ''),
    commitAt: BigInt(commitAt ?? '') - EPOCH_MICROS,
    redoLsn: asLsn(redo),
    checkpointNextXid: (BigInt(epoch ?? '') << 32n) | BigInt(xid ?? ''),
  };
}

function asLsn(text: string | undefined): Lsn {
  const lsn = parseLsn(text ?? '');
  if (lsn === null) throw new TypeError(`not an LSN: ${text}`);
  return lsn;
}

describe.each(installedMajors())('WAL of PostgreSQL %i tells', (major) => {
  let workspace: Workspace;
  const moments: Moment[] = [];
  let beforeFeedback: Lsn;
  let afterFeedback: Lsn;
  let startLsn: Lsn;
  let bytes: Buffer;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    const primary = await createPrimary(workspace, { major, name: 'p', segmentSizeMb: 1 });
    await primary.configure({
      wal_level: 'logical',
      wal_keep_size: '128MB',
      fsync: 'off',
      autovacuum: 'off',
      track_commit_timestamp: 'on',
      max_prepared_transactions: '2',
    });
    await primary.start();
    const session = await primary.session();
    await session.query('CREATE TABLE t (i int)');
    for (const [what, statements] of WORK) {
      for (const statement of statements) await session.query(statement);
      moments.push(await look(session, what));
    }
    // Nobody is asked to be synchronous, so the commit returns, but says in its record what it wanted.
    await session.query('SET synchronous_commit = remote_apply');
    beforeFeedback = (await look(session, '')).lsn;
    await session.query('INSERT INTO t VALUES (5)');
    afterFeedback = (await look(session, '')).lsn;
    moments.push(await look(session, 'a commit that waits for apply feedback'));
    session.close();
    await primary.stop('fast');
    ({ startLsn, bytes } = await readWal(join(primary.dataDirectory, 'pg_wal')));
  });

  afterAll(async () => {
    await workspace.close();
  });

  async function readWal(directory: string): Promise<{ startLsn: Lsn; bytes: Buffer }> {
    const names = (await readdir(directory)).toSorted();
    const segments = names.flatMap((name) => parseWalFileName(name, SEGMENT_SIZE) ?? []);
    const files = names.filter((name) => parseWalFileName(name, SEGMENT_SIZE) !== null);
    const read = await Promise.all(files.map((name) => readFile(join(directory, name))));
    const [first] = segments;
    if (first === undefined) throw new Error(`no WAL in ${directory}`);
    return { startLsn: segmentStart(first.segment, SEGMENT_SIZE), bytes: Buffer.concat(read) };
  }

  function walkTo(lsn: Lsn, checksums: boolean, step: number): RecordWalk {
    const origin = {
      facts: versionFacts(major),
      segmentSize: SEGMENT_SIZE,
      systemIdentifier: bytes.readBigUInt64LE(24).toString(),
      history: rootHistory(toTimelineId(1)),
    };
    const walk = new RecordWalk({ ...origin, checksums }, chainStart(startLsn));
    const end = Number(lsn - startLsn);
    for (let at = 0; at < end; at += step) {
      expect(walk.push(bytes.subarray(at, Math.min(end, at + step)))).toBeNull();
    }
    return walk;
  }

  it.each([
    ['headers alone', false, 131_072],
    ['headers alone, in small pieces', false, 1_000],
    ['every checksum', true, 131_072],
  ])('its next transaction id and newest commit, walked with %s', (_how, checksums, step) => {
    for (const moment of moments) {
      const facts = walkTo(moment.lsn, checksums, step).facts();
      expect({ what: moment.what, next: facts.nextFullXid, at: facts.newestCommitAt }).toEqual({
        what: moment.what,
        next: moment.nextFullXid,
        at: moment.commitAt,
      });
    }
    expect(moments).toHaveLength(WORK.length + 1);
  });

  it('its newest checkpoint', () => {
    const last = moments.at(-1);
    const walk = walkTo(last?.lsn ?? startLsn, true, 8_192);
    expect(walk.redoLsn()).toBe(last?.redoLsn);
    expect(last?.checkpointNextXid).toBeLessThanOrEqual(walk.facts().nextFullXid ?? 0n);
  });

  it('which commit waits for standbys to apply it', () => {
    expect(walkTo(beforeFeedback, true, 8_192).facts().applyFeedbackLsn).toBeNull();
    for (const checksums of [true, false]) {
      const walk = walkTo(afterFeedback, checksums, 131_072);
      const lsn = walk.facts().applyFeedbackLsn ?? startLsn;
      expect(walk.facts().applyFeedbackLsn).not.toBeNull();
      expect(lsn >= beforeFeedback && lsn < afterFeedback).toBe(true);
    }
  });
});
