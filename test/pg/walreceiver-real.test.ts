// The walreceiver against real servers: what it keeps is what the server wrote, through restarts, crashes and refusals.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { advanceLsn, formatLsn, INVALID_LSN, lsnDistance } from '../../src/pg/lsn.ts';
import { segmentNumber, segmentOffset, segmentStartOf, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { UpstreamIdentity } from '../../src/walreceiver/ports.ts';
import { lsn, ReceiverRig } from '../support/receiver-rig.ts';
import type { RigOptions } from '../support/receiver-rig.ts';
import { spannedMajors, itWhen, NEWEST_MAJOR } from '../support/requirements.ts';

const SEGMENT_MB = 1;

describe.each(spannedMajors())('PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, {
      major,
      name: 'primary',
      segmentSizeMb: SEGMENT_MB,
      settings: { wal_keep_size: '1MB', min_wal_size: '2MB', max_wal_size: '1GB' },
    });
    await primary.start();
    await primary.query('CREATE TABLE t (i int, filler text)');
  });

  afterAll(async () => {
    await workspace.close();
  });

  /** A walreceiver whose empty store begins where the gate would let it begin. */
  function follow(options: RigOptions = {}): ReceiverRig {
    let isEmpty = true;
    return new ReceiverRig({
      port: primary.port,
      user: 'postgres',
      start: INVALID_LSN,
      decide: (identity, sink) => {
        if (isEmpty) sink.moveTo(emptyStart(identity));
        isEmpty = false;
        return { kind: 'start', timeline: identity.timeline, startLsn: sink.nextLsn() };
      },
      ...options,
    });
  }

  async function insert(rows: number): Promise<void> {
    await primary.query(
      `INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, ${rows}) i`,
    );
  }

  /** Everything the server has flushed until now was received and confirmed. */
  async function untilCaughtUp(rig: ReceiverRig): Promise<void> {
    const end = await primary.walPosition();
    await rig.until(`${formatLsn(end)} was received`, () => rig.sink.nextLsn() >= end, 30_000);
    rig.receiver.positionsMoved();
    await primary.waitForValue(
      `SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walcast'
         AND flush_lsn >= '${formatLsn(end)}' AND state = 'streaming'`,
      '1',
    );
  }

  /** The last `byteCount` received bytes are those of the server's own files. */
  async function expectSameBytes(rig: ReceiverRig): Promise<void> {
    const received = rig.sink.bytes();
    const size = rig.identities[0]?.segmentSize;
    if (size === undefined) throw new Error('not identified');
    const end = rig.sink.nextLsn();
    const start = segmentStartOf(end, size);
    const count = Math.min(received.length, lsnDistance(start, end));
    expect(count).toBeGreaterThan(0);
    const name = walFileName(toTimelineId(1), segmentNumber(start, size), size);
    const file = await readFile(join(primary.walDirectory, name));
    const to = segmentOffset(end, size);
    expect(received.subarray(-count).equals(file.subarray(to - count, to))).toBe(true);
  }

  it('is followed byte for byte, and shown the positions it is told', async () => {
    await using rig = follow();
    rig.receiver.start();
    await rig.until('it streams', () => rig.receiver.status().walMessages > 0);
    await insert(20_000);
    await untilCaughtUp(rig);
    await expectSameBytes(rig);
    const row = await primary.query(
      `SELECT state, sync_state, replay_lsn::text, write_lsn = flush_lsn FROM pg_stat_replication`,
    );
    expect(row).toEqual([['streaming', 'async', '', 't']]);
    expect(rig.receiver.status()).toMatchObject({ state: 'streaming', detail: null });
    expect(rig.identities[0]).toMatchObject({
      isInRecovery: false,
      timeline: 1,
      historyFile: null,
    });
    expect(rig.identities[0]?.facts.major).toBe(major);
    expect(rig.identities[0]?.settings.get('wal_segment_size')).toBe(`${SEGMENT_MB}MB`);
    expect(rig.identities[0]?.settings.get('data_directory_mode')).toBe('0700');
  });

  it('gives commits that wait for us their answer', async () => {
    await using rig = follow();
    rig.sink.check = () => {
      // The store's own fdatasync would call this.
      setImmediate(() => rig.receiver.positionsMoved());
      return null;
    };
    rig.receiver.start();
    await rig.until('it streams', () => rig.receiver.status().state === 'streaming');
    await primary.configure({ synchronous_standby_names: 'walcast' });
    await primary.reload();
    try {
      for (let count = 0; count < 20; count += 1) await insert(1);
      expect(await primary.value('SELECT sync_state FROM pg_stat_replication')).toBe('sync');
    } finally {
      await primary.configure({ synchronous_standby_names: null });
      await primary.reload();
    }
  });

  it('keeps the WAL for us in a slot that is created, used again, and moves with our flush', async () => {
    const slotRow = `SELECT slot_type, active, restart_lsn >= '0/0' FROM pg_replication_slots WHERE slot_name = 'keeper'`;
    {
      await using rig = follow({ slot: 'keeper' });
      rig.receiver.start();
      await rig.until('it streams', () => rig.receiver.status().state === 'streaming', 30_000);
      if (major >= 15) expect(rig.identities[0]?.slotRestartLsn).not.toBe(INVALID_LSN);
      expect(await primary.query(slotRow)).toEqual([['physical', 't', 't']]);
      await insert(100);
      await untilCaughtUp(rig);
      const end = await primary.walPosition();
      await primary.waitForValue(
        `SELECT count(*) FROM pg_replication_slots WHERE restart_lsn >= '${formatLsn(end)}'`,
        '1',
      );
    }
    await primary.waitForValue(`SELECT active FROM pg_replication_slots`, 'f');
    await using again = follow({ slot: 'keeper' });
    again.receiver.start();
    await again.until('it streams', () => again.receiver.status().state === 'streaming');
    await untilCaughtUp(again);
    again.receiver.stop();
    await primary.waitForValue(`SELECT active FROM pg_replication_slots`, 'f');
    await primary.query(`SELECT pg_drop_replication_slot('keeper')`);
  });

  it('is followed through its restart, its crash and the end of its walsender', async () => {
    await using rig = follow({ slot: 'through' });
    rig.receiver.start();
    await rig.until('it streams', () => rig.receiver.status().state === 'streaming', 30_000);
    const wounds: (() => Promise<unknown>)[] = [
      async () => {
        const startedAt = performance.now();
        const stopping = primary.stop('fast');
        // As the relay does after each fdatasync.
        const reporting = setInterval(() => rig.receiver.positionsMoved(), 10);
        await stopping;
        clearInterval(reporting);
        expect(performance.now() - startedAt).toBeLessThan(2_000);
        await primary.start();
      },
      async () => {
        await primary.kill();
        await primary.start();
      },
      () => primary.query('SELECT pg_terminate_backend(pid) FROM pg_stat_replication'),
    ];
    for (const wound of wounds) {
      const connects = rig.receiver.status().connectsSucceeded;
      await wound();
      await rig.until(
        'it came back',
        () => rig.receiver.status().connectsSucceeded > connects,
        30_000,
      );
      await insert(1_000);
      await untilCaughtUp(rig);
      await expectSameBytes(rig);
    }
    const { disconnects } = rig.receiver.status();
    expect(disconnects.shutdown).toBe(1);
    rig.receiver.stop();
    await primary.waitForValue(`SELECT active FROM pg_replication_slots`, 'f');
    await primary.query(`SELECT pg_drop_replication_slot('through')`);
  });

  it('takes our goodbye in order at the end of a drain', async () => {
    await using rig = follow();
    rig.receiver.start();
    await rig.until('it streams', () => rig.receiver.status().state === 'streaming');
    await insert(100);
    const from = primary.log.mark();
    await rig.receiver.finish();
    await primary.waitForValue('SELECT count(*) FROM pg_stat_replication', '0');
    expect(primary.log.textFrom(from)).not.toMatch(/ERROR|FATAL|unexpected EOF|reset by peer/);
  });

  // It takes five seconds, and no major differs in it.
  const once = itWhen(major === NEWEST_MAJOR);

  once(
    'hears from us while our store is full, so that its wal_sender_timeout does not fire',
    async () => {
      await primary.configure({ wal_sender_timeout: '3s' });
      await primary.reload();
      await using rig = follow();
      rig.receiver.start();
      await rig.until('it streams', () => rig.receiver.status().state === 'streaming');
      const from = primary.log.mark();
      rig.sink.full = true;
      await insert(60_000);
      await rig.until('reading is paused', () => rig.receiver.status().heldState === 'full');
      const pid = await primary.value('SELECT pid FROM pg_stat_replication');
      const replies = 'SELECT reply_time FROM pg_stat_replication';
      const pausedAt = performance.now();
      let [last, count] = [await primary.value(replies), 0];
      while (count < 5) {
        const next = await primary.value(replies);
        if (next !== last) count += 1;
        last = next;
      }
      expect(performance.now() - pausedAt).toBeGreaterThan(3_500);
      expect(await primary.value('SELECT pid FROM pg_stat_replication')).toBe(pid);
      expect(primary.log.textFrom(from)).not.toContain('replication timeout');
      rig.sink.makeRoom();
      await untilCaughtUp(rig);
      await primary.configure({ wal_sender_timeout: null });
      await primary.reload();
    },
  );

  it('that has removed the WAL we need is a gap, and keeps no slot of ours', async () => {
    await using rig = follow({
      slot: 'late',
      decide: (identity, sink) => {
        sink.moveTo(lsn('0/100000'));
        return { kind: 'start', timeline: identity.timeline, startLsn: sink.nextLsn() };
      },
    });
    await primary.query('SELECT pg_switch_wal()');
    await insert(20_000);
    await primary.query('CHECKPOINT');
    await primary.query('SELECT pg_switch_wal()');
    await primary.query('CHECKPOINT');
    rig.receiver.start();
    await rig.untilState('waiting_for_wal', 'gap');
    expect(rig.receiver.status().detail).toContain('0/100000 on timeline 1');
    expect(rig.receiver.status().detail).toContain('has already been removed');
    await primary.waitForValue('SELECT count(*) FROM pg_replication_slots', '0');
  });

  it('that has invalidated our slot gets a new one', async () => {
    await primary.configure({ max_slot_wal_keep_size: '1MB', wal_keep_size: '0' });
    await primary.reload();
    try {
      {
        await using rig = follow({ slot: 'lost' });
        rig.receiver.start();
        await rig.until('it streams', () => rig.receiver.status().state === 'streaming', 30_000);
      }
      await primary.waitForValue(`SELECT active FROM pg_replication_slots`, 'f');
      for (let round = 0; round < 8; round += 1) {
        await insert(5_000);
        await primary.query('SELECT pg_switch_wal()');
        await primary.query('CHECKPOINT');
      }
      const status = `SELECT wal_status FROM pg_replication_slots`;
      await primary.waitForValue(status, 'lost');
      await using rig = follow({ slot: 'lost' });
      rig.receiver.start();
      await rig.until('it streams', () => rig.receiver.status().state === 'streaming', 30_000);
      // Majors before 15 cannot be asked, and stream over a lost slot as if nothing were wrong.
      if (major >= 15) expect(await primary.value(status)).toBe('reserved');
      rig.receiver.stop();
      await primary.waitForValue(`SELECT active FROM pg_replication_slots`, 'f');
    } finally {
      await primary.query(`SELECT pg_drop_replication_slot('lost')`);
      await primary.configure({ max_slot_wal_keep_size: null, wal_keep_size: '1MB' });
      await primary.reload();
    }
  });

  it('asks for a SCRAM password and turns a wrong one away', async () => {
    const hba = join(primary.dataDirectory, 'pg_hba.conf');
    const before = await readFile(hba, 'utf8');
    await primary.query(
      `SET password_encryption = 'scram-sha-256'; CREATE ROLE guarded REPLICATION LOGIN PASSWORD 'pässword 1'`,
    );
    await writeFile(hba, `host replication guarded 127.0.0.1/32 scram-sha-256\n${before}`);
    await primary.reload();
    await using wrong = follow({ user: 'guarded', password: 'password 1' });
    wrong.receiver.start();
    await wrong.until('it was refused', () => wrong.receiver.status().connectsFailed > 0);
    expect(wrong.receiver.status().detail).toContain(
      'password authentication failed for user "guarded"',
    );
    wrong.receiver.stop();
    await using right = follow({ user: 'guarded', password: 'pässword 1' });
    right.receiver.start();
    await right.until('it streams', () => right.receiver.status().state === 'streaming');
    right.receiver.stop();
    await using none = follow({ user: 'guarded' });
    none.receiver.start();
    await none.until('it was refused', () => none.receiver.status().connectsFailed > 0);
    expect(none.receiver.status().detail).toContain('asks for a password and none is configured');
    none.receiver.stop();
    await writeFile(hba, before);
    await primary.reload();
  });

  it('turns a role without REPLICATION away, with what to do', async () => {
    await primary.query('CREATE ROLE plain LOGIN');
    await using rig = follow({ user: 'plain' });
    rig.receiver.start();
    await rig.until('it was refused', () => rig.receiver.status().connectsFailed > 0);
    expect(rig.receiver.status().detail).toContain('ALTER ROLE <user> REPLICATION');
  });

  once(
    'as a standby stops, though its last record is not whole and is never confirmed',
    async () => {
      const standby = await createStandby(workspace, {
        major,
        name: 'stopping',
        backupFrom: primary.target(),
        upstream: primary.target(),
      });
      await standby.start();
      await using rig = follow({ hosts: [{ host: standby.directory, port: standby.port }] });
      rig.receiver.start();
      await rig.untilState('streaming');
      const { sink } = rig;
      rig.positions = () => {
        const lastRecordLsn = advanceLsn(sink.nextLsn(), -8);
        return { writeLsn: lastRecordLsn, flushLsn: lastRecordLsn, applyLsn: INVALID_LSN };
      };
      rig.receiver.positionsMoved();
      // It would ask for ever, whatever we answer.
      await standby.stop('fast');
      await rig.until('it was let go', () => rig.receiver.status().disconnects.shutdown === 1);
      // It may have been tried again by now, and be told of that.
      expect(rig.changes.map(({ reason }) => reason).join('\n')).toContain('shutting down');
    },
  );

  it('as a standby is followed, and through its promotion on the same connection', async () => {
    const standby = await createStandby(workspace, {
      major,
      name: 'standby',
      backupFrom: primary.target(),
      upstream: primary.target(),
    });
    await standby.start();
    await standby.waitForReplay(await primary.walPosition());
    await using rig = follow({ hosts: [{ host: standby.directory, port: standby.port }] });
    rig.receiver.start();
    await rig.untilState('streaming');
    expect(rig.identities[0]?.isInRecovery).toBe(true);
    await insert(1_000);
    const end = await primary.walPosition();
    await rig.until('the standby’s WAL was received', () => rig.sink.nextLsn() >= end, 30_000);
    await standby.promote();
    await rig.until('timeline 2 is identified', () => rig.identities.length === 2, 30_000);
    await rig.untilState('streaming');
    expect(rig.ends).toHaveLength(1);
    expect(rig.ends[0]).toMatchObject({ timeline: 1, nextTimeline: 2 });
    expect(rig.identities[1]).toMatchObject({ timeline: 2, isInRecovery: false });
    expect(rig.identities[1]?.history.ancestors).toEqual([
      { timeline: 1, endLsn: rig.ends[0]?.switchLsn },
    ]);
    const before = rig.sink.nextLsn();
    await standby.query('CREATE TABLE on_two AS SELECT generate_series(1, 1000)');
    await rig.until('WAL of timeline 2 came', () => rig.sink.nextLsn() > before, 30_000);
    expect(rig.receiver.status()).toMatchObject({
      connectsSucceeded: 1,
      disconnects: { timeline_end: 1, eof: 0, error: 0 },
    });
    rig.receiver.stop();
    await standby.stop('fast');
  });
});

function emptyStart(identity: UpstreamIdentity): UpstreamIdentity['xlogPos'] {
  const wanted =
    identity.slotRestartLsn === INVALID_LSN ? identity.xlogPos : identity.slotRestartLsn;
  return segmentStartOf(wanted, identity.segmentSize);
}
