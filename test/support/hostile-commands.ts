// Hostile inputs of the catalogue's part C.3: what may be said in the command phase of a walsender.
import {
  closesOrWaits,
  command,
  letIn,
  line,
  patiently,
  position,
  said,
  saidUntilMarker,
  sessionBytes,
} from './hostile-case.ts';
import type { HostileCase, Side, Waiting } from './hostile-case.ts';
import { cstr, i16, i32, message, raw } from './naive-writer.ts';
import { query } from './raw-client.ts';
import type { RawClient } from './raw-client.ts';

function commands(row: string, ...texts: readonly string[]): HostileCase[] {
  return texts.map((sql) => command(row, sql, sql === '' ? 'an empty query' : sql));
}

/** A script of commands on one session, with what each of them is answered. */
function script(row: string, name: string, ...texts: readonly string[]): HostileCase {
  return {
    row,
    name,
    async run(side): Promise<string[]> {
      const client = await letIn(side);
      const lines: string[] = [];
      for (const sql of texts) lines.push(`> ${sql}`, ...(await asked(client, sql)));
      client.close();
      return lines;
    },
  };
}

async function asked(client: RawClient, sql: string): Promise<string[]> {
  client.send(query(sql));
  return (await patiently(client, client.until('Z')))
    .filter((item) => item.type !== 'd')
    .map((item) => line(item));
}

/** Two sessions: what the second one is told about what the first one holds. */
function inUse(row: string, name: string, sql: (slot: string) => string): HostileCase {
  const slot = `held_${name.replaceAll(/\W/g, '_').toLowerCase()}`;
  return {
    row,
    name,
    async run(side): Promise<string[]> {
      const other = await letIn(side, { application_name: 'another' });
      await asked(other, `CREATE_REPLICATION_SLOT ${slot} PHYSICAL RESERVE_WAL`);
      const holder = await streaming2(side, slot);
      const lines = (await asked(other, sql(slot))).map((each) =>
        each.replaceAll(slot, 'the slot'),
      );
      holder.close();
      other.send(query(`DROP_REPLICATION_SLOT ${slot} WAIT`));
      await patiently(other, other.until('Z'));
      other.close();
      return lines;
    },
  };
}

/** What can be asked for is a choice, and what is said of each of them must agree. */
const SHOW_ALL: HostileCase = {
  row: 'I39',
  name: 'SHOW ALL',
  async run(side): Promise<string[]> {
    const client = await letIn(side);
    const lines = await asked(client, 'SHOW ALL');
    client.close();
    const settings = lines.filter((each) => each.startsWith('D '));
    return [
      ...lines.filter((each) => !each.startsWith('D ')),
      settings.length > 100 ? 'all' : 'some',
    ];
  },
};

async function streaming2(side: Side, slot: string): Promise<RawClient> {
  const holder = await letIn(side);
  holder.send(
    query(`START_REPLICATION SLOT ${slot} PHYSICAL ${await position(holder)} TIMELINE 2`),
  );
  await patiently(holder, holder.next());
  return holder;
}

/** Drops with WAIT while somebody streams, who goes then. */
const DROP_WAITS: HostileCase = {
  row: 'I55',
  name: 'DROP_REPLICATION_SLOT … WAIT until its owner goes',
  async run(side): Promise<string[]> {
    const other = await letIn(side);
    await asked(other, 'CREATE_REPLICATION_SLOT awaited PHYSICAL RESERVE_WAL');
    const holder = await streaming2(side, 'awaited');
    other.send(query('DROP_REPLICATION_SLOT awaited WAIT'));
    // Its answer to a second command tells that the holder is still there while the other one waits.
    holder.send(message('c'));
    const goodbye = (await patiently(holder, holder.until('Z'))).filter(({ type }) => type !== 'd');
    holder.close();
    const answer = await saidUntilMarker(other);
    return [...goodbye.map((item) => line(item)), ...answer];
  },
};

/** A length that is announced, some bytes, and then nothing. */
function announced(name: string, head: Uint8Array, waiting: Waiting = 'nobody'): HostileCase {
  return {
    row: 'I61',
    name,
    async run(side): Promise<string[]> {
      const client = await letIn(side);
      client.send(head);
      return await closesOrWaits(client, side, waiting);
    },
  };
}

/** Many commands are in the pipe before one answer is read. */
const PIPELINE: HostileCase = {
  row: 'I64',
  name: 'two thousand commands before an answer is read',
  async run(side): Promise<string[]> {
    const client = await letIn(side);
    client.pause();
    client.send(...Array.from({ length: 2000 }, () => query('IDENTIFY_SYSTEM')));
    client.resume();
    const counts = new Map<string, number>();
    while ((counts.get('Z') ?? 0) < 2000) {
      const item = await patiently(client, client.next());
      if (item === null) return ['closed'];
      counts.set(item.type, (counts.get(item.type) ?? 0) + 1);
    }
    client.close();
    return [...counts].map(([type, count]) => `${type} × ${count}`);
  },
};

const EXTENDED: readonly [name: string, bytes: Uint8Array][] = [
  ['Parse', message('P', cstr(''), cstr('SELECT 1'), i16(0))],
  ['Bind', message('B', cstr(''), cstr(''), i16(0), i16(0), i16(0))],
  ['Execute', message('E', cstr(''), i32(0))],
  ['Describe', message('D', 'S', cstr(''))],
  ['Close', message('C', 'S', cstr(''))],
  ['Parse without a body', message('P')],
  ['Bind with rubbish', message('B', 'rubbish')],
];

const LONG = 'A'.repeat(70);

/** Rows I36 to I65. */
export const COMMAND_CASES: readonly HostileCase[] = [
  ...commands('I36', 'identify_system', 'Identify_System', 'start_replication 0/0'),
  ...commands('I37', 'SELECT 1', '', ';', ' ', 'FOO', 'ALTER_REPLICATION_SLOT nope (FAILOVER)'),
  ...commands('I37', 'BEGIN', 'VACUUM', 'COPY pg_authid TO STDOUT', 'SELECT pg_sleep(9)', '\u0001'),
  ...commands(
    'I38',
    'IDENTIFY_SYSTEM; IDENTIFY_SYSTEM',
    'IDENTIFY_SYSTEM now',
    'IDENTIFY_SYSTEM;;',
  ),
  ...commands('I38', 'IDENTIFY_SYSTEM -- now', 'IDENTIFY_SYSTEM /* now */', 'SHOW a; DROP TABLE b'),
  ...commands('I39', 'SHOW no_such', 'SHOW a.b', 'SHOW "', 'SHOW', `SHOW ${LONG}`),
  ...commands('I39', 'SHOW wal_segment_size', 'SHOW data_directory_mode', 'SHOW server_version'),
  ...commands('I39', 'SHOW wal_block_size', 'SHOW in_hot_standby', 'SHOW server_version_num'),
  SHOW_ALL,
  ...commands('I40', "IDENTIFY_SYSTEM 'open", '"open', "TIMELINE_HISTORY 'open", "''''"),
  ...commands('I41', 'TIMELINE_HISTORY 0', 'TIMELINE_HISTORY -1', 'TIMELINE_HISTORY'),
  ...commands('I41', 'TIMELINE_HISTORY x', 'TIMELINE_HISTORY 1.5', 'TIMELINE_HISTORY 0x1'),
  ...commands('I42', 'TIMELINE_HISTORY 4294967297', 'TIMELINE_HISTORY 18446744073709551617'),
  ...commands('I43', 'TIMELINE_HISTORY 1', 'TIMELINE_HISTORY 2', 'TIMELINE_HISTORY 99'),
  ...commands('I43', 'TIMELINE_HISTORY 4294967295'),
  ...commands('I44', 'START_REPLICATION 0/0 TIMELINE 2', 'START_REPLICATION 0/1'),
  ...commands('I44', 'START_REPLICATION 0/0'),
  ...commands('I45', 'START_REPLICATION FF/0', 'START_REPLICATION FFFFFFFF/FFFFFFFF'),
  ...commands('I46', 'START_REPLICATION 123456789/0', 'START_REPLICATION 0/123456789'),
  ...commands('I47', 'START_REPLICATION ZZ/1', 'START_REPLICATION 1/', 'START_REPLICATION'),
  ...commands('I47', 'START_REPLICATION /1', 'START_REPLICATION 0', 'START_REPLICATION 0 / 0'),
  ...commands('I47', 'START_REPLICATION PHYSICAL', "START_REPLICATION '0/0'"),
  ...commands('I48', 'START_REPLICATION 0/1000000 TIMELINE 3', 'START_REPLICATION FF/0 TIMELINE 9'),
  ...commands('I48', 'START_REPLICATION 0/0 TIMELINE 0', 'START_REPLICATION 0/0 TIMELINE -2'),
  ...commands('I49', 'START_REPLICATION FF/0 TIMELINE 4294967298'),
  ...commands('I50', 'START_REPLICATION FF/0 TIMELINE 1', 'START_REPLICATION 1/0 TIMELINE 1'),
  ...commands('I51', 'START_REPLICATION SLOT nope 0/0', 'START_REPLICATION SLOT "Bad Name" 0/0'),
  ...commands('I51', 'START_REPLICATION SLOT "" 0/0', `START_REPLICATION SLOT ${LONG} 0/0`),
  ...commands('I51', 'START_REPLICATION SLOT nope LOGICAL 0/0', 'START_REPLICATION SLOT 0/0'),
  inUse('I52', 'START on a slot in use', (slot) => `START_REPLICATION SLOT ${slot} 0/0`),
  inUse('I52', 'CREATE of a slot in use', (slot) => `CREATE_REPLICATION_SLOT ${slot} PHYSICAL`),
  ...commands('I53', 'CREATE_REPLICATION_SLOT "Upper" PHYSICAL', 'CREATE_REPLICATION_SLOT'),
  ...commands('I53', 'CREATE_REPLICATION_SLOT "" PHYSICAL', 'CREATE_REPLICATION_SLOT UP PHYSICAL'),
  ...commands(
    'I53',
    'CREATE_REPLICATION_SLOT "a-b" PHYSICAL',
    'CREATE_REPLICATION_SLOT é PHYSICAL',
  ),
  ...commands('I53', `CREATE_REPLICATION_SLOT ${LONG.toLowerCase()} TEMPORARY PHYSICAL`),
  ...commands('I53', `CREATE_REPLICATION_SLOT "${LONG}" PHYSICAL`, 'CREATE_REPLICATION_SLOT x'),
  ...commands('I53', 'CREATE_REPLICATION_SLOT "../../etc" PHYSICAL'),
  ...commands('I53', 'CREATE_REPLICATION_SLOT pg_conflict_detection TEMPORARY PHYSICAL'),
  script(
    'I54',
    'CREATE twice',
    'CREATE_REPLICATION_SLOT twice TEMPORARY PHYSICAL',
    'CREATE_REPLICATION_SLOT twice PHYSICAL',
    'CREATE_REPLICATION_SLOT twice TEMPORARY PHYSICAL RESERVE_WAL',
  ),
  ...commands(
    'I54',
    'CREATE_REPLICATION_SLOT l LOGICAL pgoutput',
    'CREATE_REPLICATION_SLOT l LOGICAL',
  ),
  ...commands(
    'I54',
    'CREATE_REPLICATION_SLOT b PHYSICAL (bogus)',
    'CREATE_REPLICATION_SLOT b PHYSICAL bogus',
  ),
  ...commands('I54', 'CREATE_REPLICATION_SLOT b PHYSICAL (RESERVE_WAL maybe)'),
  ...commands('I54', 'CREATE_REPLICATION_SLOT b PHYSICAL (RESERVE_WAL, RESERVE_WAL)'),
  ...commands('I54', 'CREATE_REPLICATION_SLOT b PHYSICAL (SNAPSHOT nothing)'),
  ...commands('I55', 'DROP_REPLICATION_SLOT nope', 'DROP_REPLICATION_SLOT nope WAIT'),
  ...commands(
    'I55',
    'DROP_REPLICATION_SLOT ""',
    'DROP_REPLICATION_SLOT "../x"',
    'DROP_REPLICATION_SLOT',
  ),
  inUse('I55', 'DROP of a slot in use', (slot) => `DROP_REPLICATION_SLOT ${slot}`),
  DROP_WAITS,
  script(
    'I55',
    'a temporary slot of its own',
    'CREATE_REPLICATION_SLOT own TEMPORARY PHYSICAL',
    'DROP_REPLICATION_SLOT own',
    'DROP_REPLICATION_SLOT own',
  ),
  ...commands('I56', 'READ_REPLICATION_SLOT nope', 'READ_REPLICATION_SLOT "Bad Name"'),
  ...commands('I56', 'READ_REPLICATION_SLOT ""', 'READ_REPLICATION_SLOT'),
  ...commands('I57', "BASE_BACKUP (CHECKPOINT 'soon')", 'BASE_BACKUP (NONSENSE)', 'BASE_BACKUP ('),
  ...commands('I57', 'UPLOAD_MANIFEST now', "BASE_BACKUP (TARGET 'nowhere')"),
  ...EXTENDED.map(([name, bytes]) =>
    sessionBytes('I58', name, raw(bytes, query('SHOW wal_level'))),
  ),
  sessionBytes('I59', 'FunctionCall', message('F', i32(1598), i16(0), i16(0), i16(0))),
  sessionBytes('I59', 'FunctionCall without a body', message('F')),
  sessionBytes('I60', 'a query without NUL', message('Q', 'SHOW wal_level')),
  sessionBytes('I60', 'a query with a NUL inside', message('Q', 'IDENTIFY_SYSTEM', 0, 'x', 0)),
  sessionBytes('I60', 'a query without a body', message('Q')),
  sessionBytes('I60', 'a query of invalid UTF-8', message('Q', 'SHOW ', raw(0xff, 0xfe), 0)),
  sessionBytes('I60', 'rubbish of invalid UTF-8', message('Q', raw(0xc3, 0x28, 0x80), 0)),
  announced('a query of 2 GB', raw('Q', i32(0x7f_ff_ff_ff), 'SHOW x')),
  announced('a query of 900 MB', raw('Q', i32(900_000_000), 'SHOW x'), 'postgres'),
  announced('a query of negative length', raw('Q', i32(-100), 'SHOW x')),
  announced('a Sync of 20 KB', raw('S', i32(20_000))),
  announced('Terminate of 20 KB', raw('X', i32(20_000))),
  announced('a Parse of 2 GB', raw('P', i32(0x7f_ff_ff_ff), 'SHOW x')),
  announced('COPY data of 1 GB', raw('d', i32(0x3f_ff_ff_ff), 'SHOW x')),
  announced('COPY data of 1 GB less a byte', raw('d', i32(0x3f_ff_ff_fe), 'SHOW x'), 'postgres'),
  sessionBytes('I62', 'message type ?', message('?')),
  sessionBytes('I62', 'message type 0', message('\0')),
  sessionBytes('I62', 'message type 255', raw(0xff, i32(4))),
  sessionBytes('I62', 'a password where none was asked for', message('p', cstr('x'))),
  sessionBytes('I62', 'a message of a server', message('Z', 'I')),
  sessionBytes(
    'I63',
    'three commands at once',
    raw(query('SHOW wal_level'), query('FOO'), query('SHOW wal_level')),
  ),
  PIPELINE,
  sessionBytes(
    'I65',
    'COPY messages outside COPY',
    raw(message('d', 'x'), message('c'), message('f', cstr('x'))),
  ),
  sessionBytes('I65', 'Sync and Flush', raw(message('S'), message('H'), message('S'))),
  {
    row: 'I65',
    name: 'Terminate with a command behind it',
    async run(side): Promise<string[]> {
      const client = await letIn(side);
      client.send(message('X'), query('IDENTIFY_SYSTEM'));
      return await said(client);
    },
  },
];
