// Is the table of what differs between majors true? Every fact that a server can be asked for is asked of a real one.
import { open, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { TRUST_HBA } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { INVALID_LSN, formatLsn } from '../../src/pg/lsn.ts';
import { SUPPORTED_MAJORS, versionFacts } from '../../src/pg/server-version.ts';
import { query, RawClient, rowValues, startup, summary } from '../support/raw-client.ts';
import type { RawMessage } from '../support/raw-session.ts';
import { installedMajors } from '../support/requirements.ts';

const TEXT = 25;
const NO_COMMAND = /^E\|ERROR\|0A000\|cannot execute SQL commands/;

/** Columns of a RowDescription: name, type OID, type length, type modifier. */
function columns(body: Buffer): [name: string, type: number, length: number, modifier: number][] {
  const list: [string, number, number, number][] = [];
  let at = 2;
  for (let index = 0; index < body.readInt16BE(0); index += 1) {
    const end = body.indexOf(0, at);
    const name = body.toString('utf8', at, end);
    // Neither a table nor one of its columns, and the text format.
    expect([body.readInt32BE(end + 1), body.readInt16BE(end + 5)]).toEqual([0, 0]);
    expect(body.readInt16BE(end + 17)).toBe(0);
    list.push([
      name,
      body.readInt32BE(end + 7),
      body.readInt16BE(end + 11),
      body.readInt32BE(end + 13),
    ]);
    at = end + 19;
  }
  return list;
}

describe.each(installedMajors())('PostgreSQL %i', (major) => {
  const facts = versionFacts(major);
  let workspace: Workspace;
  let primary: PostgresCluster;
  let client: RawClient;
  let greeting: RawMessage[];

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, {
      major,
      name: 'primary',
      segmentSizeMb: 1,
      settings: {
        max_replication_slots: '1',
        max_wal_senders: '1',
        wal_keep_size: '0',
        max_slot_wal_keep_size: '1MB',
        min_wal_size: '2MB',
      },
    });
    await primary.start();
    ({ client, greeting } = await RawClient.standby(primary.port, {
      user: 'postgres',
      application_name: 'nä\u0001',
    }));
  });

  afterAll(async () => {
    client.close();
    await workspace.close();
  });

  async function ask(sql: string): Promise<RawMessage[]> {
    client.send(query(sql));
    return await client.until('Z');
  }

  /** The answer's row, tag or error, as a line. Parameters may be reported at any time. */
  async function answer(sql: string): Promise<string> {
    return (await ask(sql)).filter(({ type }) => 'DCE'.includes(type)).map(summary)[0] ?? '';
  }

  async function columnsOf(sql: string): Promise<ReturnType<typeof columns>> {
    const description = (await ask(sql)).find(({ type }) => type === 'T');
    return description === undefined ? [] : columns(description.body);
  }

  /** What a login that is refused says; as walsender unless told otherwise. */
  async function refusal(parameters: Record<string, string>): Promise<string> {
    const other = await RawClient.open(primary.port);
    other.send(startup({ user: 'postgres', replication: 'true', ...parameters }));
    const lines = (await other.rest()).map(String);
    other.close();
    return lines.find((line) => line.startsWith('E|')) ?? '';
  }

  const text = (name: string): [string, number, number, number] => [name, TEXT, -1, -1];

  it('is one that walcast calls verified', () => {
    expect(facts).toMatchObject({ major, isVerified: true });
  });

  it('reports these parameters at login', () => {
    const names = greeting
      .filter(({ type }) => type === 'S')
      .map(({ body }) => body.toString().split('\0')[0] ?? '');
    expect(names.toSorted()).toEqual(facts.reportedParameters.toSorted());
  });

  it('cleans application names like this', () => {
    const shown = greeting
      .map(({ body }) => body.toString().split('\0'))
      .find(([name]) => name === 'application_name')?.[1];
    expect(shown).toBe(facts.escapesApplicationName ? 'n\\xc3\\xa4\\x01' : 'n???');
  });

  it('answers with columns of these types', async () => {
    const timelineType = facts.identifyTimelineTypeOid;
    expect(await columnsOf('IDENTIFY_SYSTEM')).toEqual([
      text('systemid'),
      ['timeline', timelineType, timelineType === 23 ? 4 : 8, -1],
      text('xlogpos'),
      text('dbname'),
    ]);
    expect(await columnsOf('SHOW wal_level')).toEqual([text('wal_level')]);
    // Said before the file is looked for, which timeline 1 has not.
    expect(await columnsOf('TIMELINE_HISTORY 1')).toEqual([
      ['filename', TEXT, -1, facts.historyTypeModifier],
      ['content', facts.historyContentTypeOid, -1, facts.historyTypeModifier],
    ]);
    expect(await columnsOf('CREATE_REPLICATION_SLOT s TEMPORARY PHYSICAL')).toEqual([
      text('slot_name'),
      text('consistent_point'),
      text('snapshot_name'),
      text('output_plugin'),
    ]);
    expect(await answer('DROP_REPLICATION_SLOT s')).toBe('C DROP_REPLICATION_SLOT');
    expect(await columnsOf('READ_REPLICATION_SLOT nope')).toEqual(
      facts.hasReadReplicationSlot
        ? [text('slot_type'), text('restart_lsn'), ['restart_tli', 20, 8, -1]]
        : [],
    );
  });

  it('writes positions like this', async () => {
    const created = await ask('CREATE_REPLICATION_SLOT s TEMPORARY PHYSICAL');
    const row = created.find(({ type }) => type === 'D');
    expect(rowValues(row?.body ?? Buffer.alloc(2))[1]).toBe(
      formatLsn(INVALID_LSN, facts.padsLsnText),
    );
    expect(await answer('DROP_REPLICATION_SLOT s')).toBe('C DROP_REPLICATION_SLOT');
  });

  it('has these commands', async () => {
    const knows = async (sql: string): Promise<boolean> => !NO_COMMAND.test(await answer(sql));
    expect({
      hasReadReplicationSlot: await knows('READ_REPLICATION_SLOT'),
      hasAlterReplicationSlot: await knows('ALTER_REPLICATION_SLOT'),
      hasUploadManifest: await knows('UPLOAD_MANIFEST x'),
    }).toEqual({
      hasReadReplicationSlot: facts.hasReadReplicationSlot,
      hasAlterReplicationSlot: facts.hasAlterReplicationSlot,
      hasUploadManifest: facts.hasUploadManifest,
    });
    expect(await knows('IDENTIFY_SYSTEM')).toBe(true);
    expect(await knows('identify_system')).toBe(false);
  });

  it('takes these options', async () => {
    const isSyntaxError = async (sql: string): Promise<boolean> =>
      (await answer(sql)) === 'E|ERROR|42601|syntax error';
    const isUnknownOption = async (sql: string): Promise<boolean> =>
      (await answer(sql)).startsWith('E|ERROR|XX000|unrecognized option');
    const create = 'CREATE_REPLICATION_SLOT s LOGICAL p';
    expect(await isSyntaxError(`${create} (SNAPSHOT 'use')`)).toBe(!facts.hasParenthesizedOptions);
    expect(await isSyntaxError(`${create} TWO_PHASE`)).toBe(!facts.hasParenthesizedOptions);
    expect(await isSyntaxError('BASE_BACKUP (X)')).toBe(!facts.hasParenthesizedOptions);
    expect(await isSyntaxError('SHOW\vwal_level')).toBe(!facts.hasVerticalTabAsSpace);
    if (facts.hasParenthesizedOptions) {
      expect(await isUnknownOption(`${create} (FAILOVER)`)).toBe(!facts.hasAlterReplicationSlot);
    }
    if (facts.hasAlterReplicationSlot) {
      const alter = 'ALTER_REPLICATION_SLOT nope';
      expect(await isUnknownOption(`${alter} (FAILOVER)`)).toBe(false);
      expect(await isUnknownOption(`${alter} (TWO_PHASE)`)).toBe(!facts.altersTwoPhase);
    }
  });

  it('words its refusals like this', async () => {
    const quote = facts.quotesSettingNames ? '"' : '';
    expect(await refusal({})).toBe(
      `E|FATAL|53300|number of requested standby connections exceeds ${quote}max_wal_senders${quote} (currently 1)`,
    );
    const ordinary = { replication: 'false', database: 'postgres' };
    expect(await refusal({ ...ordinary, options: '-c wal_sender_timeout=-1' })).toContain(
      facts.saysUnitsOfLimits ? '(0 ms .. 2147483647 ms)' : '(0 .. 2147483647)',
    );
    expect(await answer('CREATE_REPLICATION_SLOT one PHYSICAL')).toMatch(/^D one,/);
    expect(await answer('CREATE_REPLICATION_SLOT two PHYSICAL')).toBe(
      `E|ERROR|53400|all replication slots are in use|Free one or increase ${quote}max_replication_slots${quote}.`,
    );
    expect(await answer('START_REPLICATION SLOT one LOGICAL 0/0')).toBe(
      `E|ERROR|55000|logical decoding requires ${quote}wal_level${quote} >= ${quote}logical${quote}`,
    );
    expect(await answer('DROP_REPLICATION_SLOT one')).toBe('C DROP_REPLICATION_SLOT');
    await writeFile(
      join(primary.dataDirectory, 'pg_hba.conf'),
      `host all nobody 127.0.0.1/32 reject\n${TRUST_HBA}`,
    );
    await primary.reload();
    expect(await refusal({ ...ordinary, user: 'nobody' })).toContain(
      facts.saysEncryptionInHbaErrors ? '"postgres", no encryption' : '"postgres", SSL off',
    );
  });

  it('speaks protocols up to this one', async () => {
    const other = await RawClient.open(primary.port);
    other.send(startup({ user: 'postgres', database: 'postgres' }, 9_999));
    const negotiated = (await other.until('Z')).find(({ type }) => type === 'v');
    other.close();
    expect(negotiated?.body.readInt32BE(0)).toBe(0x30000 + facts.protocolMinorMax);
  });

  it('writes pages with this mark, and records of these resource managers', async () => {
    const names = (await readdir(primary.walDirectory)).filter((name) =>
      /^[\dA-F]{24}$/.test(name),
    );
    const file = await open(join(primary.walDirectory, names[0] ?? ''));
    const head = Buffer.alloc(4);
    await file.read(head, 0, 4, 0);
    await file.close();
    expect(head.readUInt16LE(0)).toBe(facts.walPageMagic);
    expect(head.readUInt16LE(2) & ~facts.walPageFlagsMask).toBe(0);
    expect(facts.walPageFlagsMask & facts.walPageOverwriteFlag).toBe(facts.walPageOverwriteFlag);
    const list = 'pg_get_wal_resource_managers()';
    const exists = `SELECT count(*) FROM pg_proc WHERE proname = 'pg_get_wal_resource_managers'`;
    expect(await primary.value(exists)).toBe(facts.hasCustomRmgrs ? '1' : '0');
    if (!facts.hasCustomRmgrs) return;
    expect(await primary.value(`SELECT max(rm_id) FROM ${list} WHERE rm_builtin`)).toBe(
      String(facts.rmgrIdMax),
    );
  });

  it('treats a slot that it gave up like this', async () => {
    const reserve = facts.hasParenthesizedOptions ? '(RESERVE_WAL)' : 'RESERVE_WAL';
    expect(await answer(`CREATE_REPLICATION_SLOT lost PHYSICAL ${reserve}`)).toMatch(/^D lost,/);
    for (let round = 0; round < 4; round += 1) {
      await primary.query(
        'SELECT pg_switch_wal(); CREATE TABLE IF NOT EXISTS t (i int); CHECKPOINT',
      );
    }
    await primary.waitForValue('SELECT wal_status FROM pg_replication_slots', 'lost');
    const letters = (await ask('START_REPLICATION SLOT lost 0/0')).map(({ type }) => type);
    expect(letters).toContain('E');
    // The position is refused inside COPY where the slot was not refused before.
    expect(letters.includes('W')).toBe(!facts.refusesInvalidatedPhysicalSlot);
    expect(await answer('DROP_REPLICATION_SLOT lost')).toBe('C DROP_REPLICATION_SLOT');
  });
});

it('every major of the table is asked, but those that are called unverified', () => {
  const verified = SUPPORTED_MAJORS.filter((major) => versionFacts(major).isVerified);
  expect(verified).toEqual([13, 14, 15, 16, 17, 18]);
  expect(SUPPORTED_MAJORS.filter((major) => !versionFacts(major).isVerified)).toEqual([19]);
});
