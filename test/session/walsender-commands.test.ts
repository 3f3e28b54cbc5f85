// Replication commands and everything else a client may send between them; odd input above all.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { historyRow } from '../support/memory-wal.ts';
import { cstr, i32, raw } from '../support/naive-writer.ts';
import { message, query, StreamReader, summary } from '../support/raw-client.ts';
import type { RawClient } from '../support/raw-client.ts';
import { CUTS, Fixture, identityOf, START_LSN } from '../support/wal-senders-fixture.ts';

const SQL_REFUSED =
  'E|ERROR|0A000|cannot execute SQL commands in WAL sender for physical replication';

describe.each(CUTS)('commands, bytes fed %s', (cut) => {
  let fixture: Fixture;
  let client: RawClient;
  let pid: number;

  beforeEach(async () => {
    fixture = await Fixture.start({ cut, beside: true });
    ({ client, pid } = await fixture.standby());
  });

  afterEach(() => fixture.finish());

  it.each([
    ['identify_system', SQL_REFUSED],
    ['SELECT 1', SQL_REFUSED],
    ['', SQL_REFUSED],
    [';', SQL_REFUSED],
    ['FOO', SQL_REFUSED],
    ['ALTER_REPLICATION_SLOT x (FAILOVER)', SQL_REFUSED],
    ['UPLOAD_MANIFEST', SQL_REFUSED],
    ['IDENTIFY_SYSTEM; IDENTIFY_SYSTEM', 'E|ERROR|42601|syntax error'],
    ['IDENTIFY_SYSTEM foo', 'E|ERROR|42601|syntax error'],
    ['IDENTIFY_SYSTEM -- comment', 'E|ERROR|42601|syntax error'],
    ['SHOW no_such', 'E|ERROR|42704|unrecognized configuration parameter "no_such"'],
    ['DROP_REPLICATION_SLOT "x', 'E|ERROR|42601|unterminated quoted string'],
    ['TIMELINE_HISTORY 0', 'E|ERROR|42601|invalid timeline 0'],
    ['TIMELINE_HISTORY -1', 'E|ERROR|42601|syntax error'],
    ['TIMELINE_HISTORY 4294967297', 'E|ERROR|42601|syntax error'],
    ['START_REPLICATION 123456789/0', 'E|ERROR|42601|syntax error'],
    ['START_REPLICATION ZZ/1', 'E|ERROR|42601|syntax error'],
    ['START_REPLICATION 1/', 'E|ERROR|42601|syntax error'],
    ['START_REPLICATION', 'E|ERROR|42601|syntax error'],
    ['START_REPLICATION 0/1000000 TIMELINE 4294967297', 'E|ERROR|42601|syntax error'],
    [
      'START_REPLICATION 0/1000000 TIMELINE 2',
      "E|ERROR|XX000|requested timeline 2 is not in this server's history",
    ],
    [
      'START_REPLICATION SLOT nope 0/1000000',
      'E|ERROR|42704|replication slot "nope" does not exist',
    ],
    [
      'START_REPLICATION SLOT "Bad Name" 0/1000000',
      'E|ERROR|42704|replication slot "Bad Name" does not exist',
    ],
    [
      'START_REPLICATION SLOT x LOGICAL 0/0',
      'E|ERROR|55000|logical decoding requires wal_level >= logical',
    ],
    [
      'CREATE_REPLICATION_SLOT x LOGICAL pgoutput',
      'E|ERROR|55000|logical decoding requires wal_level >= logical',
    ],
    ['CREATE_REPLICATION_SLOT x PHYSICAL (bogus)', 'E|ERROR|XX000|unrecognized option: bogus'],
    ['DROP_REPLICATION_SLOT nope', 'E|ERROR|42704|replication slot "nope" does not exist'],
  ])('answers %j with an error and stays usable', async (sql, error) => {
    expect(await client.ask(sql)).toEqual([error, 'Z I']);
    expect((await client.ask('IDENTIFY_SYSTEM')).at(-1)).toBe('Z I');
  });

  it('identifies the system', async () => {
    expect(await client.ask('IDENTIFY_SYSTEM')).toEqual([
      'T',
      'D 7300000000000000001,1,0/1236710,NULL',
      'C IDENTIFY_SYSTEM',
      'Z I',
    ]);
  });

  it.each([
    ['wal_segment_size', '16MB'],
    ['WAL_SEGMENT_SIZE', '16MB'],
    ['data_directory_mode', '0700'],
    ['application_name', 'standby1'],
    ['server_version', '15.1'],
    ['wal_sender_timeout', '1min'],
    ['max_wal_senders', '100'],
    ['max_replication_slots', '50'],
    ['walcast_version', '0.1.0-test'],
    ['is_superuser', 'off'],
  ])('shows %s', async (name, value) => {
    expect(await client.ask(`SHOW ${name}`)).toEqual(['T', `D ${value}`, 'C SHOW', 'Z I']);
  });

  it('names a shown column as the server spells it', async () => {
    client.send(query('SHOW datestyle'));
    const [description] = await client.until('Z');
    expect(description?.body.toString('utf8', 2).split('\0')[0]).toBe('DateStyle');
  });

  it('shows all settings by name', async () => {
    const rows = (await client.ask('SHOW ALL')).filter((line) => line.startsWith('D '));
    expect(rows).toContain('D wal_segment_size,16MB,');
    expect(rows.map((row) => row.toLowerCase())).toEqual(
      rows.map((row) => row.toLowerCase()).toSorted(),
    );
  });

  it.each([1, 99])(
    'answers TIMELINE_HISTORY %i with the description, then the error',
    async (timeline) => {
      const name = `${timeline.toString(16).padStart(8, '0')}.history`;
      expect(await client.ask(`TIMELINE_HISTORY ${timeline}`)).toEqual([
        'T',
        `E|ERROR|58P01|could not open file "pg_wal/${name}": No such file or directory`,
        'Z I',
      ]);
    },
  );

  it('sends a history file byte for byte', async () => {
    const content = '1\t0/5000000\tno reason\n\n# x\n';
    fixture.feed.historyFiles.set(2, Buffer.from(content));
    expect(await client.ask('TIMELINE_HISTORY 2')).toEqual([
      'T',
      historyRow(2, content),
      'C TIMELINE_HISTORY',
      'Z I',
    ]);
  });

  it('creates, reads and drops slots', async () => {
    expect(await client.ask('READ_REPLICATION_SLOT s')).toEqual([
      'T',
      'D NULL,NULL,NULL',
      'C READ_REPLICATION_SLOT',
      'Z I',
    ]);
    expect(await client.ask('CREATE_REPLICATION_SLOT "s" PHYSICAL (RESERVE_WAL)')).toEqual([
      'T',
      'D s,0/0,NULL,NULL',
      'C CREATE_REPLICATION_SLOT',
      'Z I',
    ]);
    expect((await client.ask('READ_REPLICATION_SLOT s'))[1]).toBe('D physical,0/1000000,1');
    expect(await client.ask('CREATE_REPLICATION_SLOT s PHYSICAL')).toEqual([
      'E|ERROR|42710|replication slot "s" already exists',
      'Z I',
    ]);
    expect(await client.ask('DROP_REPLICATION_SLOT s')).toEqual(['C DROP_REPLICATION_SLOT', 'Z I']);
    expect(fixture.slots.slots.size).toBe(0);
  });

  it('shows a slot that reserves nothing with NULLs', async () => {
    await client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    expect((await client.ask('READ_REPLICATION_SLOT s'))[1]).toBe('D physical,NULL,NULL');
  });

  it('notes that a name is cut to 63 bytes', async () => {
    const name = 'x'.repeat(70);
    expect((await client.ask(`CREATE_REPLICATION_SLOT ${name} PHYSICAL`)).slice(0, 3)).toEqual([
      `N|NOTICE|42622|identifier "${name}" will be truncated to "${'x'.repeat(63)}"`,
      'T',
      `D ${'x'.repeat(63)},0/0,NULL,NULL`,
    ]);
  });

  it('drops temporary slots at any error, and only those of the session', async () => {
    const other = await fixture.standby();
    await client.ask('CREATE_REPLICATION_SLOT mine TEMPORARY PHYSICAL');
    await client.ask('CREATE_REPLICATION_SLOT kept PHYSICAL');
    await other.client.ask('CREATE_REPLICATION_SLOT theirs TEMPORARY PHYSICAL');
    await client.ask('TIMELINE_HISTORY 7');
    expect([...fixture.slots.slots.keys()]).toEqual(['kept', 'theirs']);
    other.client.send('X', i32(4));
    await other.client.closed();
    await client.ask('SHOW application_name');
    expect([...fixture.slots.slots.keys()]).toEqual(['kept']);
  });

  it('leaves no temporary slot behind when the client goes while it is being created', async () => {
    client.send(query('CREATE_REPLICATION_SLOT gone TEMPORARY PHYSICAL'));
    client.socket.end();
    await client.closed();
    const other = await fixture.standby();
    await other.client.ask('CREATE_REPLICATION_SLOT mine PHYSICAL');
    expect([...fixture.slots.slots.keys()]).toEqual(['mine']);
  });

  it('leaves no temporary slot behind when the session is ended while it is being created', async () => {
    let create: () => void = () => {};
    fixture.slots.creating = new Promise((resolve) => {
      create = resolve;
    });
    client.send(query('CREATE_REPLICATION_SLOT gone TEMPORARY PHYSICAL'));
    await eventually(() => fixture.senders.totals().commands.get('CREATE_REPLICATION_SLOT')).toBe(
      1,
    );
    fixture.senders.kill(pid);
    expect(await client.rest()).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    await eventually(() => fixture.senders.statuses().length).toBe(1);
    create();
    const other = await fixture.standby();
    await other.client.ask('CREATE_REPLICATION_SLOT mine PHYSICAL');
    expect([...fixture.slots.slots.keys()]).toEqual(['mine']);
  });

  it('refuses a slot that another session streams with', async () => {
    await client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    const parameters = { application_name: 'another' };
    const reader = await fixture.stream(START_LSN, { slot: 's', parameters });
    expect(await client.ask('START_REPLICATION SLOT s 0/1234000')).toEqual([
      `E|ERROR|55006|replication slot "s" is active for PID ${reader.pid}`,
      'Z I',
    ]);
    reader.client.close();
    await reader.client.closed();
    await eventually(() => fixture.slots.slots.get('s')?.activePid).toBeNull();
    client.send(query('START_REPLICATION SLOT s 0/1234000'));
    expect((await client.next())?.type).toBe('W');
    expect(fixture.slots.slots.get('s')?.activePid).toBe(pid);
  });

  it.each(['P', 'B', 'E', 'D', 'C'])(
    'refuses the extended protocol (%s) and skips to Sync',
    async (letter) => {
      client.send(message(letter, cstr('')), query('IDENTIFY_SYSTEM'), message('H'), message('S'));
      expect(await client.answer()).toEqual([
        'E|ERROR|08P01|extended query protocol not supported in a replication connection',
        'Z I',
      ]);
      expect((await client.ask('SHOW wal_segment_size'))[1]).toBe('D 16MB');
    },
  );

  it('refuses a function call', async () => {
    client.send(message('F', i32(0)));
    expect(await client.answer()).toEqual([
      'E|ERROR|08P01|fastpath function calls not supported in a replication connection',
      'Z I',
    ]);
  });

  it.each([
    ['without NUL', message('Q', 'SHOW x'), 'invalid string in message'],
    ['with an embedded NUL', message('Q', 'SHOW', 0, 'x', 0), 'invalid message format'],
  ])('refuses a query %s', async (_name, bytes, text) => {
    client.send(bytes);
    expect(await client.answer()).toEqual([`E|ERROR|08P01|${text}`, 'Z I']);
  });

  it('takes a query of invalid UTF-8 for text', async () => {
    client.send(message('Q', 0xc3, 0x28, 0xff, 0));
    expect(await client.answer()).toEqual([SQL_REFUSED, 'Z I']);
  });

  it.each([
    ['63', message('?')],
    ['0', message('\0')],
    ['112', message('p', cstr('secret'))],
  ])('ends the session at message type %s', async (type, bytes) => {
    client.send(bytes);
    expect(await client.rest()).toEqual([`E|FATAL|08P01|invalid frontend message type ${type}`]);
  });

  it.each([
    ['2 GB', raw('Q', i32(0x7fffffff))],
    ['900 MB', raw('Q', i32(900_000_000), 'abc')],
    ['3', raw('Q', i32(3))],
    ['-1', raw('X', i32(-1))],
    ['20 KB of Sync', raw('S', i32(20_000))],
  ])('closes at a message of length %s', async (_name, bytes) => {
    client.send(bytes);
    expect(await client.closed()).toHaveLength(0);
  });

  it('answers commands that came in one packet in their order, also behind one that has to wait', async () => {
    client.send(
      query('CREATE_REPLICATION_SLOT s PHYSICAL'),
      query('READ_REPLICATION_SLOT s'),
      query('SHOW wal_segment_size'),
    );
    const answers = [await client.answer(), await client.answer(), await client.answer()];
    expect(answers.map((answer) => answer[1])).toEqual([
      'D s,0/0,NULL,NULL',
      'D physical,NULL,NULL',
      'D 16MB',
    ]);
  });

  it('ignores what is left of a COPY, and Flush', async () => {
    client.send(message('d', 'junk'), message('c'), message('f', cstr('x')), message('H'));
    expect((await client.ask('SHOW wal_segment_size'))[1]).toBe('D 16MB');
  });

  it('ends with Terminate and with the end of the connection', async () => {
    client.send('X', i32(4));
    expect(await client.closed()).toHaveLength(0);
    const other = await fixture.standby();
    other.client.socket.end();
    expect(await other.client.closed()).toHaveLength(0);
    await eventually(() => fixture.senders.statuses().length).toBe(1);
    expect(fixture.senders.totals().disconnects.client).toBe(2);
  });
});

describe('commands', () => {
  let fixture: Fixture;

  afterEach(() => fixture.finish());

  it.each([
    [15, 23, 4],
    [16, 20, 8],
  ])('describes the timeline as PostgreSQL %i does', async (major, typeOid, length) => {
    fixture = await Fixture.start({ major });
    const { client } = await fixture.standby();
    client.send(query('IDENTIFY_SYSTEM'));
    const [description] = await client.until('Z');
    const at = (description?.body.indexOf('timeline\0') ?? 0) + 'timeline\0'.length + 6;
    expect(description?.body.readInt32BE(at)).toBe(typeOid);
    expect(description?.body.readInt16BE(at + 4)).toBe(length);
  });

  it.each([
    [13, 17, 0],
    [14, 25, 0],
    [16, 25, -1],
  ])('describes history content as PostgreSQL %i does', async (major, typeOid, modifier) => {
    fixture = await Fixture.start({ major });
    const { client } = await fixture.standby();
    client.send(query('TIMELINE_HISTORY 5'));
    const [description] = await client.until('Z');
    const at = (description?.body.indexOf('content\0') ?? 0) + 'content\0'.length + 6;
    expect(description?.body.readInt32BE(at)).toBe(typeOid);
    expect(description?.body.readInt32BE(at + 6)).toBe(modifier);
  });

  it('prints positions as PostgreSQL 19 does', async () => {
    fixture = await Fixture.start({ major: 19 });
    const { client } = await fixture.standby();
    expect((await client.ask('IDENTIFY_SYSTEM'))[1]).toBe(
      'D 7300000000000000001,1,0/01234000,NULL',
    );
    expect((await client.ask('CREATE_REPLICATION_SLOT s PHYSICAL'))[1]).toBe(
      'D s,0/00000000,NULL,NULL',
    );
  });

  it('knows ALTER_REPLICATION_SLOT from 17 on, for nothing physical', async () => {
    fixture = await Fixture.start({ major: 17 });
    const { client } = await fixture.standby();
    await client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    expect(await client.ask('ALTER_REPLICATION_SLOT s (FAILOVER)')).toEqual([
      'E|ERROR|0A000|cannot use ALTER_REPLICATION_SLOT with a physical replication slot',
      'Z I',
    ]);
    expect(await client.ask('ALTER_REPLICATION_SLOT nope (FAILOVER)')).toEqual([
      'E|ERROR|42704|replication slot "nope" does not exist',
      'Z I',
    ]);
    expect(fixture.slots.slots.get('s')?.activePid).toBeNull();
  });

  it('answers logical commands as the upstream with wal_level = logical would', async () => {
    fixture = await Fixture.start({ major: 17 });
    const { client } = await fixture.standby();
    expect((await client.ask('CREATE_REPLICATION_SLOT x LOGICAL pgoutput'))[0]).toBe(
      'E|ERROR|55000|logical decoding requires "wal_level" >= "logical"',
    );
    const identity = identityOf(17);
    fixture.identity = { ...identity, settings: new Map([['wal_level', 'logical']]) };
    expect((await client.ask('CREATE_REPLICATION_SLOT x LOGICAL pgoutput'))[0]).toBe(
      'E|ERROR|55000|logical decoding requires a database connection',
    );
  });

  it('does not read on while a flood of commands is not read back, and answers every one of it later', async () => {
    fixture = await Fixture.start({ beside: true });
    const { client, pid } = await fixture.standby();
    const count = 20_000;
    const blocked = (): number =>
      fixture.senders.statuses().find((entry) => entry.pid === pid)?.sendQueueBytes ?? 0;
    client.pause();
    client.socket.write(
      Buffer.concat(Array.from({ length: count }, () => Buffer.from(query('SHOW ALL')))),
    );
    await eventually(blocked).toBeGreaterThan(0);
    const reader = await fixture.stream(START_LSN);
    await reader.readTo(START_LSN + 10_000n);
    expect(blocked()).toBeLessThan(256 * 1024);
    const answered = (): number => fixture.senders.totals().commands.get('SHOW') ?? 0;
    expect(answered()).toBeLessThan(count);
    client.resume();
    for (let index = 0; index < count; index += 1) await client.until('Z');
    expect(answered()).toBe(count);
  });

  it('starts no stream while paused', async () => {
    fixture = await Fixture.start({ beside: true });
    const { client } = await fixture.standby();
    fixture.senders.setPaused(true);
    expect((await client.ask('START_REPLICATION 0/1234000'))[0]).toContain(
      'E|ERROR|55000|walcast is paused',
    );
    fixture.senders.setPaused(false);
    client.send(query('START_REPLICATION 0/1234000'));
    expect((await client.next())?.type).toBe('W');
  });

  it('tells an idle client when an administrator ends its session', async () => {
    fixture = await Fixture.start({ beside: true });
    const { client, pid } = await fixture.standby();
    expect(fixture.senders.kill(pid)).toBe(true);
    expect(await client.rest()).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    await eventually(() => fixture.senders.kill(pid)).toBe(false);
    expect(fixture.senders.totals().disconnects.admin).toBe(1);
  });

  it('streams again on a connection whose last stream ended with an error', async () => {
    fixture = await Fixture.start({ beside: true });
    const { client } = await fixture.standby();
    expect(await client.ask('START_REPLICATION 0/0')).toEqual([
      'W',
      'E|ERROR|58P01|requested WAL segment 000000010000000000000000 has already been removed',
      'Z I',
    ]);
    client.send(query('START_REPLICATION 0/1234000'));
    expect(summary((await client.next()) ?? { type: 'none', body: Buffer.alloc(0) })).toBe('W');
    const reader = new StreamReader(client, START_LSN);
    await reader.readTo(fixture.feed.sendableLsn());
    expect(toLsn(reader.endLsn)).toBe(fixture.feed.sendableLsn());
  });
});
