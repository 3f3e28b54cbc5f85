// The same life of a slot on a real server and on walcast in front of it: is it kept, threatened, lost, refused and dropped
// at the same byte and in the same words? Both may keep eight segments for slots, two without.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { SlotJson, StoreDetailJson } from '../../src/http/api-types.ts';
import { formatLsn, INVALID_LSN, parseLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentStartOf, toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { runTool } from '../harness/pg-tools.ts';
import { connectArguments, openClientsRig } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { eventually } from '../support/eventually.ts';
import { query, RawClient, summary } from '../support/raw-client.ts';
import { clientMajor, spannedMajors, itWhen, requires } from '../support/requirements.ts';

const SEGMENT_SIZE = toSegmentSize(1 << 20);
const SETTINGS = { wal_keep_size: '2MB', max_slot_wal_keep_size: '8MB' };

/** Segments that slots may keep before the one that is written. */
const SEGMENTS_MAX = 8;

describe.each(spannedMajors())('a slot on PostgreSQL %i and on walcast', (major) => {
  const facts = versionFacts(major);
  let rig: ClientsRig;
  let server: RawClient;
  let walcast: RawClient;

  beforeAll(async () => {
    rig = await openClientsRig({
      major,
      segmentSizeMb: 1,
      primarySettings: { ...SETTINGS, max_wal_size: '2MB', min_wal_size: '2MB' },
      relaySettings: { storage: SETTINGS },
    });
    server = await openClient(rig.primary.port);
    walcast = await openClient(rig.relay.port);
  });

  afterAll(async () => {
    server.close();
    walcast.close();
    await rig[Symbol.asyncDispose]();
  });

  async function openClient(port: number): Promise<RawClient> {
    return (await RawClient.standby(port, { user: 'postgres' })).client;
  }

  /** Asks both, expects the same answer, gives it. */
  async function both(sql: string): Promise<string[]> {
    await caughtUp();
    const [said, ours] = [await server.ask(sql), await walcast.ask(sql)];
    expect(ours, sql).toEqual(said);
    return said;
  }

  /** Both have the same WAL, to the byte. Gives its end. */
  async function caughtUp(): Promise<Lsn> {
    return await pollUntil(
      'walcast having written what the server has',
      async () => {
        const store = (await rig.relay.get('/api/v1/store')) as StoreDetailJson;
        const end = await rig.primary.walPosition();
        return parseLsn(store.written_lsn ?? '') === end ? end : null;
      },
      { timeoutMs: 20_000 },
    );
  }

  /** Goes on by `count` segments of WAL. */
  async function writeSegments(count: number): Promise<void> {
    for (let done = 0; done < count; done++) {
      await rig.primary.query("SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()");
      await keptUp();
    }
  }

  /** The limit is for walcast's own slot on the server, too: a walcast that is behind on a busy machine would lose it. */
  async function keptUp(): Promise<void> {
    await pollUntil(
      "the server's slot for walcast being close to its end",
      async () => {
        const [row] = await rig.primary.query(
          `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) < ${SEGMENT_SIZE}
           FROM pg_replication_slots WHERE slot_name = 'walcast'`,
        );
        return row?.[0] === 't' ? true : null;
      },
      { timeoutMs: 20_000 },
    );
  }

  /** A checkpoint is when a server looks at its slots. Afterwards the current segment has just begun. */
  async function checkpoint(): Promise<void> {
    await rig.primary.query('CHECKPOINT');
  }

  async function ourSlot(name: string): Promise<SlotJson | null> {
    const slots = (await rig.relay.get('/api/v1/slots')) as SlotJson[];
    return slots.find((slot) => slot.slot_name === name) ?? null;
  }

  /** wal_status, restart_lsn, the LSN at which the slot is lost, and the reason where the server tells it. */
  async function theirs(name: string): Promise<unknown[]> {
    const reason = major < 17 ? 'NULL' : 'invalidation_reason';
    const [row] = await rig.primary.query(
      `SELECT coalesce(wal_status, ''), coalesce(restart_lsn::text, ''), pg_current_wal_lsn(), coalesce(safe_wal_size::text, ''), coalesce(${reason}, '')
       FROM pg_replication_slots WHERE slot_name = '${name}'`,
    );
    if (row === undefined) return [];
    const [status, restartLsn, end = '', safe = '', why] = row;
    return [status, restartLsn, failLsn(end, safe === '' ? null : Number(safe)), why];
  }

  async function ours(name: string): Promise<unknown[]> {
    const end = await caughtUp();
    const slot = await ourSlot(name);
    const safe = slot?.safe_wal_size ?? null;
    const reason = major < 17 ? '' : (slot?.invalidation_reason ?? '');
    return [slot?.wal_status ?? '', slot?.restart_lsn ?? '', failLsn(formatLsn(end), safe), reason];
  }

  async function bothAre(name: string, status: string): Promise<void> {
    await eventually(() => ours(name)).toEqual(await theirs(name));
    expect((await theirs(name))[0]).toBe(status);
  }

  async function dropBoth(name: string): Promise<void> {
    await both(`DROP_REPLICATION_SLOT ${name}`);
  }

  it('reserves nothing until it is used, unless it is told to: then from the last checkpoint', async () => {
    await checkpoint();
    await both('CREATE_REPLICATION_SLOT plain PHYSICAL');
    await both('CREATE_REPLICATION_SLOT plain PHYSICAL');
    await both('CREATE_REPLICATION_SLOT kept PHYSICAL RESERVE_WAL');
    if (facts.hasReadReplicationSlot) {
      await both('READ_REPLICATION_SLOT plain');
      await both('READ_REPLICATION_SLOT kept');
    }
    await bothAre('kept', 'reserved');
    // A server computes a safe size from position 0 here.
    expect((await theirs('plain')).slice(0, 2)).toEqual(['', '']);
    expect(await ours('plain')).toEqual(['', '', '', '']);
    await dropBoth('plain');
    await dropBoth('plain');
    await dropBoth('kept');
  });

  it('goes through the same states at the same segments, until both have lost it', async () => {
    await checkpoint();
    await both('CREATE_REPLICATION_SLOT s PHYSICAL RESERVE_WAL');
    const seen: unknown[] = [];
    for (let segment = 0; segment < SEGMENTS_MAX; segment++) {
      await writeSegments(1);
      await eventually(() => ours('s')).toEqual(await theirs('s'));
      seen.push((await theirs('s'))[0]);
    }
    expect(new Set(seen)).toEqual(new Set(['reserved', 'extended']));
    await writeSegments(2);
    await checkpoint();
    await bothAre('s', 'lost');
    const lost = `${rig.relay.log.find((line) => line.includes('invalidating obsolete replication slot \\"s\\"'))}`;
    expect(lost).toMatch(/restart_lsn [0-9A-F]+\/[0-9A-F]+ exceeds the limit by [0-9]+ bytes\./);
    if (facts.hasReadReplicationSlot) await both('READ_REPLICATION_SLOT s');
    expect(await rig.relay.metrics()).toContain(
      'walcast_slot_wal_status{slot="s",status="lost"} 1',
    );
  });

  it('answers the use of a lost slot in the words of a server that does not refuse it before it looks for the WAL', async () => {
    // The first segment of any server with segments of this size.
    const sql = 'START_REPLICATION SLOT s PHYSICAL 0/100000 TIMELINE 1';
    const answers = await Promise.all(
      [rig.primary.port, rig.relay.port].map(async (port) => {
        const client = await openClient(port);
        client.send(query(sql));
        const messages = await client.until('E');
        client.close();
        // Keepalives may come in between.
        return messages.map(summary).filter((line) => line !== 'd');
      }),
    );
    // From 18 on the server refuses at once. Here the upstream may still have the WAL, so it is asked first.
    if (facts.refusesInvalidatedPhysicalSlot) {
      expect(answers[0]?.at(-1)).toContain('can no longer access replication slot');
    } else {
      expect(answers[1]).toEqual(answers[0]);
    }
    expect(answers[1]?.at(-1)).toContain('has already been removed');
    if (facts.hasAlterReplicationSlot) await both('ALTER_REPLICATION_SLOT s ( FAILOVER )');
    await both('START_REPLICATION SLOT nobody PHYSICAL 0/100000');
    await dropBoth('s');
  });

  it('ends the session that uses it in the same way when it is lost', async () => {
    await checkpoint();
    await both('CREATE_REPLICATION_SLOT busy PHYSICAL RESERVE_WAL');
    const startLsn = segmentStartOf(await caughtUp(), SEGMENT_SIZE);
    const sql = `START_REPLICATION SLOT busy PHYSICAL ${formatLsn(startLsn)} TIMELINE 1`;
    const clients = await Promise.all([rig.primary.port, rig.relay.port].map(openClient));
    for (const client of clients) {
      client.send(query(sql));
      await client.until('W');
    }
    const ends = clients.map((client) => client.rest());
    await writeSegments(SEGMENTS_MAX + 2);
    await checkpoint();
    const [said, oursSaid] = (await Promise.all(ends)).map((lines) =>
      lines.map(String).filter((line) => line.startsWith('E|')),
    );
    expect(oursSaid).toEqual(said);
    expect(said?.join()).toContain('57P01');
    await bothAre('busy', 'lost');
    await dropBoth('busy');
  });

  it('is revived by a stream that begins where WAL is still stored', async () => {
    await walcast.ask('CREATE_REPLICATION_SLOT again PHYSICAL RESERVE_WAL');
    await writeSegments(SEGMENTS_MAX + 2);
    await eventually(async () => (await ourSlot('again'))?.wal_status).toBe('lost');
    const startLsn = segmentStartOf(await caughtUp(), SEGMENT_SIZE);
    const client = await openClient(rig.relay.port);
    client.send(query(`START_REPLICATION SLOT again PHYSICAL ${formatLsn(startLsn)} TIMELINE 1`));
    await client.until('W');
    expect(await ourSlot('again')).toMatchObject({
      wal_status: 'reserved',
      restart_lsn: formatLsn(startLsn),
      invalidation_reason: null,
    });
    client.close();
    expect(rig.relay.log.join('\n')).toContain('lost replication slot is in use again');
    await eventually(async () => (await ourSlot('again'))?.active).toBe(false);
    await walcast.ask('DROP_REPLICATION_SLOT again');
  });

  it('lost to idleness serves a standby again that comes back for WAL that is stored', async () => {
    await walcast.ask('CREATE_REPLICATION_SLOT st PHYSICAL RESERVE_WAL');
    const standby = await createStandby(rig.workspace, {
      major,
      name: 'standby',
      backupFrom: rig.primary.target(),
      upstream: rig.relay.target({ applicationName: 'st' }),
      slot: 'st',
    });
    await standby.start();
    await standby.waitForReplay(await rig.primary.walPosition());
    await standby.stop();
    await reload({ idle_replication_slot_timeout: '1s' });
    await eventually(async () => (await ourSlot('st'))?.invalidation_reason).toBe('idle_timeout');
    await reload({ idle_replication_slot_timeout: '0' });
    expect((await ourSlot('st'))?.wal_status).toBe('lost');
    await standby.start();
    await standby.waitForReplay(await rig.primary.walPosition());
    // It may have had everything before it was stopped, and replayed that before it connects.
    await eventually(async () => await ourSlot('st')).toMatchObject({
      active: true,
      invalidation_reason: null,
    });
    await standby.stop();
    await eventually(async () => (await ourSlot('st'))?.active).toBe(false);
    await walcast.ask('DROP_REPLICATION_SLOT st');
  });

  it('exists when the configuration names it, is made anew when dropped, and stays when no longer named', async () => {
    await reload({ slots: ['fixed_a', 'fixed_b'] });
    await eventually(async () => (await ourSlot('fixed_b'))?.wal_status).toBe('reserved');
    expect(await walcast.ask('DROP_REPLICATION_SLOT fixed_a')).toContain('C DROP_REPLICATION_SLOT');
    await eventually(async () => (await ourSlot('fixed_a'))?.wal_status).toBe('reserved');
    await reload({ slots: [] });
    expect(await ourSlot('fixed_a')).not.toBeNull();
    for (const name of ['fixed_a', 'fixed_b']) {
      const said = await walcast.ask(`DROP_REPLICATION_SLOT ${name}`);
      expect(said).toContain('C DROP_REPLICATION_SLOT');
      expect(await ourSlot(name)).toBeNull();
    }
  });

  it('is made by the stream that uses it, where that is configured', async () => {
    await reload({ auto_create_slots: 'on' });
    const startLsn = segmentStartOf(await caughtUp(), SEGMENT_SIZE);
    const client = await openClient(rig.relay.port);
    client.send(query(`START_REPLICATION SLOT made PHYSICAL ${formatLsn(startLsn)} TIMELINE 1`));
    await client.until('W');
    expect(await ourSlot('made')).toMatchObject({ active: true, restart_lsn: formatLsn(startLsn) });
    client.close();
    await eventually(async () => (await ourSlot('made'))?.active).toBe(false);
    await reload({ auto_create_slots: 'off' });
    await walcast.ask('DROP_REPLICATION_SLOT made');
  });

  const { it: itWithTool } = requires('pg_receivewal');
  const archiving = major <= clientMajor('pg_receivewal') ? itWithTool : itWhen(false);

  archiving('is created, lost and used again by pg_receivewal as on the server', async () => {
    const said: string[][] = [];
    for (const target of [rig.primary.target(), rig.relay])
      said.push(await archiveThroughLoss(target));
    const [theirsSaid, oursSaid] = said.map((lines) => lines.slice(0, 3));
    expect(oursSaid).toEqual(theirsSaid);
    expect(oursSaid?.at(-1)).toContain('has already been removed');
    // The server takes its lost slot back to where the failed run stood, if it reads that run's status before it fails: a
    // race there. Here the slot is moved to no WAL that is gone.
    expect(said[1]?.at(-1)).toMatch(/^0:/);
    expect(await ourSlot('archive')).toMatchObject({ wal_status: 'reserved' });
  });

  /** What pg_receivewal says at the ends of its runs: before the loss of its slot, after it, and in an empty directory. */
  async function archiveThroughLoss(target: { host: string; port: number }): Promise<string[]> {
    const directory = await rig.workspace.makeDirectory(`archive-${target.port}`);
    const empty = await rig.workspace.makeDirectory(`empty-${target.port}`);
    const run = async (...more: string[]): Promise<string> => {
      const args = [...connectArguments(target), '--slot=archive', ...more];
      const { exitCode, stderr } = await runTool(rig.workspace, 'pg_receivewal', args);
      return `${exitCode}: ${stderr.replaceAll(String(target.port), 'PORT')}`;
    };
    /** Something lies behind the end, which the tool waits for. */
    const endpos = async (): Promise<string> => {
      const end = await caughtUp();
      await rig.primary.query("SELECT pg_create_restore_point('behind')");
      return `--endpos=${formatLsn(end)}`;
    };
    const created = await run('--create-slot');
    await writeSegments(1);
    const first = await run('-D', directory, '--no-loop', '--synchronous', await endpos());
    await writeSegments(SEGMENTS_MAX + 2);
    await checkpoint();
    await eventually(async () => (await theirs('archive'))[0] ?? 'lost').toBe('lost');
    await eventually(async () => (await ourSlot('archive'))?.wal_status ?? 'lost').toBe('lost');
    const late = await run('-D', directory, '--no-loop', '--synchronous', await endpos());
    const anew = await run('-D', empty, '--no-loop', '--synchronous', await endpos());
    return [created, first, late, anew].map((text) => text.replace(/[0-9A-F]{24}/g, 'SEGMENT'));
  }

  /** Changes the configuration of the running relay, and waits until it is in effect. */
  async function reload(change: Record<string, unknown>): Promise<void> {
    const { process } = rig.relay;
    const file = join(rig.workspace.directory, 'walcast-1.yaml');
    const keys = parse(await readFile(file, 'utf8')) as Record<string, unknown>;
    await writeFile(file, stringify({ ...keys, ...change }));
    const before = reloads();
    process.signal('SIGHUP');
    await eventually(() => reloads()).toBe(before + 1);
  }

  function reloads(): number {
    return rig.relay.log.filter((line) => line.includes('the configuration was read again')).length;
  }
});

/** Where a slot is lost when the WAL ends at `end` and so many bytes are safe. */
function failLsn(end: string, safeBytes: number | null): string {
  if (safeBytes === null) return '';
  return formatLsn(toLsn((parseLsn(end) ?? INVALID_LSN) + BigInt(safeBytes)));
}
