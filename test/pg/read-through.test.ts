// A primary that was promoted twice and wrote a lot before walcast ever saw it: do old standbys, archivers and curious
// clients find through walcast what they would have found on the primary?
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { StoreDetailJson } from '../../src/http/api-types.ts';
import { formatLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentStartOf, segmentNumber, toSegmentSize, walFileName } from '../../src/pg/segment.ts';
import { parseTimelineHistory, toTimelineId } from '../../src/pg/timeline.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { runToolChecked } from '../harness/pg-tools.ts';
import { createPhysicalSlot } from '../harness/relay-scenario.ts';
import { tableDigest } from '../harness/table-digest.ts';
import { createRelay } from '../harness/walcast-process.ts';
import { connectArguments, openClientsRig, writeWal } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { query, RawClient, summary } from '../support/raw-client.ts';
import { newestMajors, itWhen, requires } from '../support/requirements.ts';

const SEGMENT_SIZE = toSegmentSize(1 << 20);

/** Debian's clients refuse servers that are newer than they are. */
const CLIENT_MAJOR = 15;

const WAIT = { timeoutMs: 30_000 };

describe.each(newestMajors())('WAL of PostgreSQL %i from before the store', (major) => {
  let rig: ClientsRig;
  let standby: PostgresCluster | null = null;
  /** Where the old standby was seeded, on timeline 1. */
  let oldLsn: Lsn;

  beforeAll(async () => {
    rig = await openClientsRig({
      major,
      segmentSizeMb: 1,
      prepare: async (primary) => {
        await writeWal(primary, 1);
        standby = await seedOldStandby(primary, major);
        oldLsn = segmentStartOf(await primary.walPosition(), SEGMENT_SIZE);
        await writeWal(primary, 8);
        await promote(primary);
        await writeWal(primary, 2);
        await promote(primary);
        await writeWal(primary, 8);
        await primary.query('SELECT pg_switch_wal()');
        await primary.query('CHECKPOINT');
      },
    });
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  async function clientOf(server: { port: number }): Promise<RawClient> {
    const { client } = await RawClient.standby(server.port, { user: 'postgres' });
    return client;
  }

  async function readThroughBytes(): Promise<number> {
    const store = await rig.relay.get('/api/v1/store');
    expect(store).toMatchObject({ read_through: { connections_max: 2 } });
    return (store as StoreDetailJson).read_bytes.upstream;
  }

  it('is no part of the store, which begins behind it', async () => {
    const { store } = await rig.relay.status();
    const files = walFileName(toTimelineId(1), segmentNumber(oldLsn, SEGMENT_SIZE), SEGMENT_SIZE);
    expect(store.oldest_lsn).not.toBeNull();
    expect(files).toMatch(/^00000001/);
    const oldest = BigInt(`0x${(store.oldest_lsn ?? '0/0').split('/')[1]}`);
    expect(oldest - oldLsn).toBeGreaterThan(10n << 20n);
  });

  it('reaches no more than two readers at once, who count for no commit', async () => {
    await rig.primary.configure({ synchronous_standby_names: '*' });
    await rig.primary.reload();
    let isDone = false;
    const readers = [1, 2, 3].map(async () => {
      while (!isDone) await readTimeline(rig.relay.port, oldLsn);
    });
    const rows = await pollUntil(
      'two connections that read old WAL',
      async () => {
        const seen = await walSenders(rig.primary);
        expect(seen.filter(([name]) => name === 'walcast_read_through').length).toBeLessThan(3);
        const reading = seen.filter(
          ([name, state]) => name === 'walcast_read_through' && state !== 'startup',
        );
        return reading.length === 2 ? seen : null;
      },
      WAIT,
    );
    expect(rows.toSorted(([a = ''], [b = '']) => String(a).localeCompare(String(b)))).toEqual([
      ['walcast', 'streaming', 'sync', 'f'],
      ['walcast_read_through', expect.stringMatching(/^(catchup|streaming)$/), 'async', 't'],
      ['walcast_read_through', expect.stringMatching(/^(catchup|streaming)$/), 'async', 't'],
    ]);
    // Returns because walcast itself has it on its disk.
    await rig.primary.query('CREATE TABLE committed (i int)');
    await rig.primary.configure({ synchronous_standby_names: '' });
    await rig.primary.reload();
    isDone = true;
    await Promise.all(readers);
  });

  it('is refused in the words of the primary where that has it no more', async () => {
    const commands = [
      'START_REPLICATION 0/1000 TIMELINE 1',
      'START_REPLICATION 0/1000',
      `START_REPLICATION ${formatLsn(oldLsn)} TIMELINE 3`,
      'TIMELINE_HISTORY 1',
      'TIMELINE_HISTORY 2',
      'TIMELINE_HISTORY 3',
      'TIMELINE_HISTORY 9',
    ];
    const [theirs, ours] = await Promise.all(
      [rig.primary, rig.relay].map(async (server) => {
        const client = await clientOf(server);
        const answers: string[][] = [];
        for (const command of commands) answers.push(await client.ask(command));
        client.close();
        return answers;
      }),
    );
    expect(ours).toEqual(theirs);
    expect(ours?.[0]).toEqual([
      'W',
      'E|ERROR|58P01|requested WAL segment 000000010000000000000000 has already been removed',
      'Z I',
    ]);
    expect(ours?.[2]?.[1]).toContain('requested WAL segment 00000003');
    expect(ours?.[4]?.[1]).toContain('00000002.history');
  });

  it('ends on an old timeline where the primary ends it, byte for byte, whatever becomes of connections', async () => {
    const end = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication
      WHERE application_name = 'walcast_read_through'`;
    const theirs = await readTimeline(rig.primary.port, oldLsn);
    let ended = 0;
    const ours = await readTimeline(rig.relay.port, oldLsn, async () => {
      ended += Number((await rig.primary.query(end))[0]?.[0] ?? 0);
    });
    expect(ended).toBeGreaterThan(0);
    expect(ours.end).toEqual(theirs.end);
    expect(ours.end[1]).toMatch(/^D 2,0\//);
    expect(theirs.wal.length).toBeGreaterThan(7_000_000);
    expect(ours.wal.equals(theirs.wal)).toBe(true);
  });

  it('comes through two relays as through one', async () => {
    const second = await createRelay(rig.workspace, {
      name: 'second',
      upstream: () => rig.relay,
      slot: '',
      settings: { upstream: { application_name: 'second' } },
    });
    await second.start();
    const theirs = await readTimeline(rig.primary.port, oldLsn);
    const ours = await readTimeline(second.port, oldLsn);
    expect(ours.end).toEqual(theirs.end);
    expect(ours.wal.equals(theirs.wal)).toBe(true);
    expect(second.problems()).toEqual([]);
    await second.stop();
  });

  it('brings a standby from timeline 1 to the end of timeline 3', async () => {
    if (standby === null) throw new Error('there is no standby');
    await createPhysicalSlot(rig.relay.target(), 'old', major);
    await standby.becomeStandby(rig.relay.target({ applicationName: 'old' }), 'old');
    await standby.start();
    await writeWal(rig.primary, 1);
    const endLsn = await rig.primary.walPosition();
    await standby.waitForReplay(endLsn);
    expect(await tableDigest(standby)).toEqual(await tableDigest(rig.primary));
    const compared = await compareWal({
      expected: rig.primary.walDirectory,
      actual: standby.walDirectory,
      segmentSize: SEGMENT_SIZE,
      fromLsn: oldLsn,
      untilLsn: endLsn,
    });
    expect(compared.differences).toEqual([]);
    expect(compared.comparedBytes).toBeGreaterThan(15_000_000);
    await rig.relay.waitForStatus('the standby streaming on timeline 3', ({ standbys }) =>
      standbys.some(
        ({ application_name: name, timeline, state }) =>
          name === 'old' && timeline === 3 && state === 'streaming',
      ),
    );
    expect(await rig.relay.get('/api/v1/slots')).toMatchObject([
      { slot_name: 'old', active: true, wal_status: 'reserved' },
    ]);
    expect(await readThroughBytes()).toBeGreaterThan(15_000_000);
    expect(rig.relay.problems()).toEqual([]);
    await standby.stop('fast');
  });

  const archiving = major <= CLIENT_MAJOR ? requires('pg_receivewal').it : itWhen(false);

  archiving('is archived by pg_receivewal from where an archive ended long ago', async () => {
    const directory = await rig.workspace.makeDirectory('archive');
    const history = await rig.primary.query(`SELECT pg_read_file('pg_wal/00000003.history')`);
    const parsed = parseTimelineHistory(toTimelineId(3), history[0]?.[0] ?? '');
    if (typeof parsed === 'string') throw new Error(parsed);
    const third = parsed.ancestors.at(-1)?.endLsn ?? toLsn(0n);
    const first = walFileName(toTimelineId(1), segmentNumber(oldLsn, SEGMENT_SIZE), SEGMENT_SIZE);
    await copyFile(join(rig.primary.walDirectory, first), join(directory, first));
    await rig.workspace.giveAway(join(directory, first));
    const endpos = toLsn(third + BigInt(3 * SEGMENT_SIZE));
    await runToolChecked(rig.workspace, 'pg_receivewal', [
      ...connectArguments(rig.relay),
      '-D',
      directory,
      `--endpos=${formatLsn(endpos)}`,
      '--no-loop',
    ]);
    const compared = await compareWal({
      expected: rig.primary.walDirectory,
      actual: directory,
      segmentSize: SEGMENT_SIZE,
      fromLsn: oldLsn,
      untilLsn: endpos,
    });
    expect(compared.differences).toEqual([]);
    expect(compared.comparedBytes).toBeGreaterThan(10_000_000);
  });

  it('does not keep the primary from stopping', async () => {
    const bytesBefore = await readThroughBytes();
    const client = await clientOf(rig.relay);
    client.send(query(`START_REPLICATION ${formatLsn(oldLsn)} TIMELINE 1`));
    expect((await client.next())?.type).toBe('W');
    client.pause();
    await pollUntil(
      'old WAL being read',
      async () => ((await readThroughBytes()) > bytesBefore ? true : null),
      WAIT,
    );
    const before = performance.now();
    await rig.primary.stop('fast');
    expect(performance.now() - before).toBeLessThan(20_000);
    client.close();
    expect(rig.relay.problems()).toEqual([]);
  });
});

/** Name, state, sync_state and whether no flush position is known, of every walsender. */
async function walSenders(primary: PostgresCluster): Promise<(string | null)[][]> {
  const rows = await primary.query(
    `SELECT application_name, state, sync_state, flush_lsn IS NULL FROM pg_stat_replication`,
  );
  return rows.map((row) => [...row]);
}

async function seedOldStandby(primary: PostgresCluster, major: number): Promise<PostgresCluster> {
  const { workspace } = primary;
  return await createStandby(workspace, {
    major,
    name: 'standby',
    backupFrom: primary.target(),
    upstream: primary.target(),
    settings: { wal_keep_size: '1GB' },
  });
}

/** Makes a running primary one of the next timeline. */
async function promote(primary: PostgresCluster): Promise<void> {
  await primary.stop('fast');
  // Nobody listens there: it has everything that there is.
  await primary.becomeStandby({ ...primary.target(), port: 1 });
  await primary.start();
  await primary.promote();
}

/** Timeline 1 from `startLsn` on, and what is said at its end. */
async function readTimeline(
  port: number,
  startLsn: Lsn,
  onMegabyte: () => Promise<void> = async () => {},
): Promise<{ wal: Buffer; end: string[] }> {
  const { client } = await RawClient.standby(port, { user: 'postgres' });
  client.send(query(`START_REPLICATION ${formatLsn(startLsn)} TIMELINE 1`));
  const chunks: Buffer[] = [];
  let bytes = 0;
  for (;;) {
    const item = await client.next();
    if (item === null) throw new Error('the stream ended');
    if (item.type === 'd' && item.body[0] === 0x77) {
      chunks.push(item.body.subarray(25));
      const before = bytes >> 20;
      bytes += item.body.length - 25;
      if (bytes >> 20 === before) continue;
      // What is not read now has to wait at the upstream.
      client.pause();
      await onMegabyte();
      client.resume();
    } else if (item.type === 'c') break;
    else if (item.type === 'E') throw new Error(summary(item));
  }
  client.send(Buffer.from([0x63, 0, 0, 0, 4]));
  const end = await client.answer();
  client.close();
  return { wal: Buffer.concat(chunks), end };
}
