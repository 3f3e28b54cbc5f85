// Does psql on a replication connection see the same from walcast as from the server behind it? Texts, SQLSTATEs, columns
// and their types; positions and process ids may differ.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { formatLsn } from '../../src/pg/lsn.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { comparable, psqlAnswers } from '../support/clients-psql.ts';
import type { PsqlAnswer } from '../support/clients-psql.ts';
import { openClientsRig } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { COMMAND_SAMPLES } from '../support/command-samples.ts';
import { openRawSession, rawFields, startup } from '../support/raw-session.ts';
import type { RawMessage, RawSession } from '../support/raw-session.ts';
import { cstr, message } from '../support/naive-writer.ts';
import { spannedMajors, requires } from '../support/requirements.ts';

/** Settings that walcast answers for the server. Of the others it says 42704. */
const SHOWN = [
  'wal_segment_size',
  'wal_block_size',
  'data_directory_mode',
  'server_version',
  'server_version_num',
  'server_encoding',
  'client_encoding',
  'integer_datetimes',
  'block_size',
  'data_checksums',
  'full_page_writes',
  'hot_standby',
  'in_hot_standby',
  'listen_addresses',
  'max_connections',
  'wal_keep_size',
  'wal_level',
  'wal_log_hints',
  'wal_sender_timeout',
  'session_authorization',
  'application_name',
  'DateStyle',
  'INTERVALSTYLE',
  'timezone',
  'standard_conforming_strings',
  '"TimeZone"',
  'no_such_setting',
  'no.such',
];

/** One session; each line is one Query. */
const SLOT_COMMANDS = [
  'READ_REPLICATION_SLOT keep',
  'CREATE_REPLICATION_SLOT keep PHYSICAL',
  'READ_REPLICATION_SLOT keep',
  'CREATE_REPLICATION_SLOT keep PHYSICAL',
  'CREATE_REPLICATION_SLOT keep TEMPORARY PHYSICAL RESERVE_WAL',
  'CREATE_REPLICATION_SLOT keep LOGICAL pgoutput',
  'CREATE_REPLICATION_SLOT reserved PHYSICAL RESERVE_WAL',
  'READ_REPLICATION_SLOT reserved',
  'CREATE_REPLICATION_SLOT modern PHYSICAL (RESERVE_WAL)',
  'READ_REPLICATION_SLOT modern',
  'CREATE_REPLICATION_SLOT modest PHYSICAL (RESERVE_WAL false)',
  'READ_REPLICATION_SLOT modest',
  'CREATE_REPLICATION_SLOT brief TEMPORARY PHYSICAL',
  'READ_REPLICATION_SLOT brief',
  'CREATE_REPLICATION_SLOT brief TEMPORARY PHYSICAL',
  // The error before took the temporary slot away.
  'READ_REPLICATION_SLOT brief',
  'CREATE_REPLICATION_SLOT brief TEMPORARY PHYSICAL RESERVE_WAL',
  'READ_REPLICATION_SLOT brief',
  'DROP_REPLICATION_SLOT brief',
  'DROP_REPLICATION_SLOT brief',
  'CREATE_REPLICATION_SLOT "Upper" PHYSICAL',
  'CREATE_REPLICATION_SLOT Folded PHYSICAL',
  'CREATE_REPLICATION_SLOT "" PHYSICAL',
  'CREATE_REPLICATION_SLOT "a b" PHYSICAL',
  'CREATE_REPLICATION_SLOT "a-b" PHYSICAL',
  'CREATE_REPLICATION_SLOT "ümlaut" PHYSICAL',
  `CREATE_REPLICATION_SLOT ${'n'.repeat(63)} PHYSICAL`,
  `CREATE_REPLICATION_SLOT ${'n'.repeat(64)} PHYSICAL`,
  'CREATE_REPLICATION_SLOT ../x PHYSICAL',
  'CREATE_REPLICATION_SLOT decoded LOGICAL pgoutput',
  'CREATE_REPLICATION_SLOT decoded TEMPORARY LOGICAL test_decoding NOEXPORT_SNAPSHOT',
  'START_REPLICATION SLOT keep LOGICAL 0/0',
  'START_REPLICATION SLOT nope 0/0',
  'START_REPLICATION SLOT nope PHYSICAL 0/0 TIMELINE 1',
  'START_REPLICATION SLOT keep 0/1000000 TIMELINE 7',
  'START_REPLICATION 0/1000000 TIMELINE 7',
  'START_REPLICATION 0/0 TIMELINE 0',
  'START_REPLICATION',
  'ALTER_REPLICATION_SLOT keep (FAILOVER)',
  'ALTER_REPLICATION_SLOT nope (FAILOVER)',
  'READ_REPLICATION_SLOT keep',
  'DROP_REPLICATION_SLOT keep WAIT',
  'DROP_REPLICATION_SLOT keep WAIT',
  'DROP_REPLICATION_SLOT reserved',
  'DROP_REPLICATION_SLOT modern',
  'DROP_REPLICATION_SLOT modest',
  'DROP_REPLICATION_SLOT folded',
  `DROP_REPLICATION_SLOT ${'n'.repeat(63)}`,
  'IDENTIFY_SYSTEM',
  'DROP_REPLICATION_SLOT "Bad Name"',
  'CREATE_REPLICATION_SLOT "Bad Name" PHYSICAL',
];

const OTHER_COMMANDS = [
  'IDENTIFY_SYSTEM',
  'identify_system;',
  'TIMELINE_HISTORY 1',
  'TIMELINE_HISTORY 99',
  'TIMELINE_HISTORY 0',
  'SELECT 1',
  'BEGIN',
  '',
  ';',
  'IDENTIFY_SYSTEM; IDENTIFY_SYSTEM',
  'IDENTIFY_SYSTEM; SHOW wal_segment_size;',
  'UPLOAD_MANIFEST now',
  'BASE_BACKUP (',
];

const { describe: describeWithPsql } = requires('psql');

describeWithPsql.each(spannedMajors())('psql on PostgreSQL %i and on walcast', (major) => {
  let rig: ClientsRig;
  let servers: readonly { host: string; port: number }[];

  beforeAll(async () => {
    // With one major the refusal of everything logical has another reason.
    const primarySettings = major === 13 ? { wal_level: 'logical' } : {};
    rig = await openClientsRig({ major, primarySettings });
    servers = [rig.primary.target(), rig.relay];
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  async function expectSameAnswers(
    commands: readonly string[],
    options: { conninfo?: string } = {},
  ): Promise<readonly PsqlAnswer[]> {
    const [theirs = [], ours = []] = await Promise.all(
      servers.map(({ host, port }) =>
        psqlAnswers(rig.workspace, { host, port, ...options }, commands),
      ),
    );
    expect(theirs.length).toBe(commands.length);
    expect(ours).toEqual(theirs);
    return ours;
  }

  it('shows the same for commands, near-commands and no commands', async () => {
    const answers = await expectSameAnswers([...OTHER_COMMANDS, ...COMMAND_SAMPLES]);
    expect(answers[0]?.stdout).toMatch(
      /^systemid\|timeline\|xlogpos\|dbname\n\d+\|1\|LSN\|\(null\)/,
    );
    expect(answers[3]?.stderr).toContain('58P01');
  });

  it('shows the same settings', async () => {
    const answers = await expectSameAnswers(SHOWN.map((name) => `SHOW ${name}`));
    expect(answers[0]?.stdout).toBe('wal_segment_size\n16MB\n(1 row)\n');
    await expectSameAnswers(['SHOW wal_sender_timeout', 'SHOW application_name', 'SHOW timezone'], {
      conninfo:
        "replication=on application_name=someone options='-c wal_sender_timeout=5s --timezone=Europe/Berlin'",
    });
  });

  it('shows the same for everything about slots', async () => {
    const answers = await expectSameAnswers(SLOT_COMMANDS);
    expect(answers[1]?.stdout).toContain('keep|LSN|(null)|(null)');
  });

  it('is refused the extended protocol alike, and goes on', async () => {
    const file = join(rig.workspace.directory, `gdesc-${major}.sql`);
    await writeFile(file, 'IDENTIFY_SYSTEM \\gdesc\n', { mode: 0o644 });
    await rig.workspace.giveAway(file);
    const [refused] = await expectSameAnswers([`\\i ${file}`, 'IDENTIFY_SYSTEM']);
    expect(refused?.stderr).toContain('extended query protocol not supported');
  });

  it('is refused a replication parameter that is none, alike', async () => {
    const refusals = servers.map(({ host, port }) =>
      psqlAnswers(rig.workspace, { host, port, conninfo: 'replication=maybe' }, ['IDENTIFY_SYSTEM'])
        .then(() => 'no refusal')
        .catch((error: unknown) => comparable(String(error))),
    );
    const [theirs, ours] = await Promise.all(refusals);
    expect(theirs).toContain('invalid value for parameter "replication": "maybe"');
    expect(ours).toBe(theirs);
  });

  it('cannot drop or use a slot that is in use, and waits for it where asked to', async () => {
    await expectSameAnswers(['CREATE_REPLICATION_SLOT busy PHYSICAL RESERVE_WAL']);
    const holders = await Promise.all(servers.map((server) => holdSlot(server)));
    const [refused] = await expectSameAnswers([
      'DROP_REPLICATION_SLOT busy',
      'START_REPLICATION SLOT busy 0/1000000',
    ]);
    expect(refused?.stderr).toContain('55006: replication slot "busy" is active for PID n');
    const before = await drops();
    const waiting = expectSameAnswers(['DROP_REPLICATION_SLOT busy WAIT', 'IDENTIFY_SYSTEM']);
    await dropsAreWaiting(before);
    for (const holder of holders) holder.close();
    const [dropped] = await waiting;
    expect(dropped?.stderr).toBe('');
    await expectSameAnswers(['DROP_REPLICATION_SLOT busy']);
  });

  it('is told the same when it asks for WAL that is not there any more', async () => {
    await expectSameAnswers(['START_REPLICATION 0/0']);
  });

  it('gets messages of the same letters, columns, types and fields', async () => {
    const commands = [
      ...OTHER_COMMANDS,
      ...COMMAND_SAMPLES,
      ...SHOWN.map((name) => `SHOW ${name}`),
      ...SLOT_COMMANDS,
    ];
    const [theirs, ours] = await Promise.all(servers.map((server) => transcript(server, commands)));
    expect(theirs?.length).toBeGreaterThan(commands.length * 2);
    expect(ours).toEqual(theirs);
  });

  /** Streams with the slot until it is closed. */
  async function holdSlot(server: { host: string; port: number }): Promise<RawSession> {
    const startLsn = formatLsn(await rig.primary.walPosition());
    const session = await openRawSession(server);
    session.send(startup({ user: 'postgres', replication: 'true' }));
    await session.until('Z');
    session.send(message('Q', cstr(`START_REPLICATION SLOT busy ${startLsn}`)));
    const answer = await session.until('WE');
    expect(answer.at(-1)?.type).toBe('W');
    return session;
  }

  /** How many DROP_REPLICATION_SLOT walcast was given. */
  async function drops(): Promise<number> {
    const pattern = /^walcast_client_commands_total\{command="DROP_REPLICATION_SLOT"\} (\d+)$/m;
    return Number(pattern.exec(await rig.relay.metrics())?.[1]);
  }

  async function dropsAreWaiting(before: number): Promise<void> {
    await rig.primary.waitForValue(
      "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'ReplicationSlotDrop'",
      '1',
    );
    await pollUntil(
      'a DROP_REPLICATION_SLOT that has come to walcast',
      async () => ((await drops()) === before + 1 ? true : null),
      { timeoutMs: 20_000 },
    );
  }
});

/** Everything a server says from the startup packet on. */
async function transcript(
  server: { host: string; port: number },
  commands: readonly string[],
): Promise<string[]> {
  const session = await openRawSession(server);
  session.send(startup({ user: 'postgres', replication: 'true' }));
  const lines = (await session.until('Z')).map(describeMessage);
  for (const command of commands) {
    lines.push(`> ${command}`);
    session.send(message('Q', cstr(command)));
    lines.push(...(await session.until('Z')).map(describeMessage));
  }
  session.close();
  return lines;
}

function describeMessage({ type, body }: RawMessage): string {
  if (type === 'K') return 'K';
  if (type === 'E' || type === 'N') {
    // File, line and routine of the server's source.
    const { F: _file, L: _line, R: _routine, ...fields } = rawFields(body);
    return comparable(`${type} ${JSON.stringify(fields)}`);
  }
  if (type === 'D') return `D ${comparable(rowValues(body).join('|'))}`;
  const text = `${type} ${readableBytes(body)}`;
  // walcast's clients have no role in the database.
  return text.replace(/^S is_superuser<0>on/, 'S is_superuser<0>off');
}

function rowValues(body: Buffer): string[] {
  const values: string[] = [];
  let offset = 2;
  for (let left = body.readInt16BE(0); left > 0; left -= 1) {
    const length = body.readInt32BE(offset);
    offset += 4;
    values.push(length < 0 ? '(null)' : body.toString('utf8', offset, offset + length));
    offset += Math.max(length, 0);
  }
  if (offset !== body.length) values.push(`${body.length - offset} bytes too many`);
  return values;
}

/** Control bytes as hexadecimal between angle brackets. */
function readableBytes(body: Buffer): string {
  return [...body]
    .map((byte) =>
      byte < 0x20 || byte > 0x7e ? `<${byte.toString(16)}>` : String.fromCharCode(byte),
    )
    .join('');
}
