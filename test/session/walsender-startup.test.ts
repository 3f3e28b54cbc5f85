// The first bytes of a connection, odd ones above all: what a client is answered, and that nobody else notices.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManualClock } from '../support/manual-clock.ts';
import { cstr, i32, packet, raw } from '../support/naive-writer.ts';
import { STANDBY, startup, summary } from '../support/raw-client.ts';
import { CUTS, Fixture, identityOf, rules } from '../support/wal-senders-fixture.ts';

const SSL_REQUEST = packet(80_877_103);
const GSSENC_REQUEST = packet(80_877_104);

describe.each(CUTS)('startup, bytes fed %s', (cut) => {
  let fixture: Fixture;

  beforeEach(async () => {
    fixture = await Fixture.start({ cut, beside: true });
  });

  afterEach(() => fixture.finish());

  it.each([
    ['length 3', i32(3)],
    ['negative length', i32(-5)],
    ['length 2^31-1', i32(0x7fffffff)],
    ['length 10005', raw(i32(10_005), new Uint8Array(100))],
    ['HTTP', raw('GET / HTTP/1.1\r\n\r\n')],
    ['a TLS ClientHello', raw(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc)],
  ])('closes without a byte: %s', async (_name, bytes) => {
    const client = await fixture.connect();
    client.send(bytes);
    expect(await client.closed()).toHaveLength(0);
  });

  it.each([
    ['2.0', 0x20000],
    ['1.0', 0x10000],
    ['0.1', 1],
  ])('refuses protocol %s in its own form of an error', async (version, code) => {
    const client = await fixture.connect();
    client.send(packet(code, cstr('user'), cstr('x'), 0));
    expect((await client.closed()).toString()).toBe(
      `EFATAL:  unsupported frontend protocol ${version}: server supports 3.0 to 3.0\n\0`,
    );
  });

  it.each([
    ['0.0', 0],
    ['4.0', 0x40000],
    ['1234.9', 0x04d20009],
  ])('refuses protocol %s', async (version, code) => {
    const client = await fixture.connect();
    client.send(packet(code, cstr('user'), cstr('x'), 0));
    expect(await client.rest()).toEqual([
      `E|FATAL|0A000|unsupported frontend protocol ${version}: server supports 3.0 to 3.0`,
    ]);
  });

  it.each([
    [
      'no terminator',
      packet(0x30000, cstr('user'), cstr('x')),
      'E|FATAL|08P01|invalid startup packet layout: expected terminator as last byte',
    ],
    [
      'no user',
      startup({ replication: 'true' }),
      'E|FATAL|28000|no PostgreSQL user name specified in startup packet',
    ],
    [
      'replication=maybe',
      startup({ user: 'x', replication: 'maybe' }),
      'E|FATAL|22023|invalid value for parameter "replication": "maybe"|Valid values are: "false", 0, "true", 1, "database".',
    ],
    [
      'replication=database',
      startup({ user: 'x', replication: 'database', database: 'postgres' }),
      'E|FATAL|0A000|walcast serves physical replication only|The client asked for replication=database.|Connect with replication=true, to database "walcast" for walcast\'s console, or to the upstream server itself.',
    ],
    [
      'an ordinary session',
      startup({ user: 'x' }),
      'E|FATAL|0A000|walcast serves physical replication only|The client asked for an ordinary session.|Connect with replication=true, to database "walcast" for walcast\'s console, or to the upstream server itself.',
    ],
  ])('refuses %s', async (_name, bytes, answer) => {
    const client = await fixture.connect();
    client.send(bytes);
    expect(await client.rest()).toEqual([answer]);
    expect(fixture.senders.totals().rejected.protocol).toBe(1);
  });

  it.each([
    [
      'an unknown setting',
      { options: '-c foo=1' },
      '42704|unrecognized configuration parameter "foo"',
    ],
    [
      'an unknown parameter',
      { nonsense: '1' },
      '42704|unrecognized configuration parameter "nonsense"',
    ],
    [
      'a timeout that is no time',
      { options: '-c wal_sender_timeout=soon' },
      '22023|invalid value for parameter "wal_sender_timeout": "soon"',
    ],
    [
      'a timeout out of range',
      { options: '-c wal_sender_timeout=-1' },
      '22023|-1 ms is outside the valid range for parameter "wal_sender_timeout" (0 .. 2147483647)',
    ],
  ])('lets the client in and then refuses %s', async (_name, parameters, error) => {
    const client = await fixture.connect();
    client.send(startup({ ...STANDBY, ...parameters }));
    expect(await client.rest()).toEqual(['R', `E|FATAL|${error}`]);
  });

  it('answers SSLRequest and GSSENCRequest once each with N, in either order', async () => {
    for (const requests of [
      [SSL_REQUEST, GSSENC_REQUEST],
      [GSSENC_REQUEST, SSL_REQUEST],
    ]) {
      const client = await fixture.connect();
      for (const request of requests) {
        client.send(request);
        expect((await client.bytes(1)).toString()).toBe('N');
      }
      client.send(startup(STANDBY));
      expect((await client.answer()).at(-1)).toBe('Z I');
    }
  });

  it.each([
    ['SSL', SSL_REQUEST, '1234.5679'],
    ['GSSENC', GSSENC_REQUEST, '1234.5680'],
  ])('reads a second %s request as a protocol version', async (_name, request, version) => {
    const client = await fixture.connect();
    client.send(request);
    await client.bytes(1);
    client.send(request);
    expect(await client.rest()).toEqual([
      `E|FATAL|0A000|unsupported frontend protocol ${version}: server supports 3.0 to 3.0`,
    ]);
  });

  it('accepts names of any bytes and keeps 63 of them', async () => {
    const { client, greeting } = await fixture.standby({
      user: `ab\n${'é'.repeat(4000)}`,
      application_name: 'na\u00efve\n',
    });
    const parameters = greeting
      .filter((item) => item.type === 'S')
      .map((item) => item.body.toString().split('\0').slice(0, 2).join('='));
    expect(parameters).toContain(`session_authorization=ab\n${'é'.repeat(30)}`);
    expect(parameters).toContain('application_name=na??ve?');
    client.close();
  });

  it('closes after a cancel request, whatever its key, without a byte', async () => {
    for (const key of [new Uint8Array(4), new Uint8Array(0), new Uint8Array(300)]) {
      const client = await fixture.connect();
      client.send(packet(80_877_102, i32(12_345), key));
      expect(await client.rest()).toEqual([]);
    }
    // Those that PostgreSQL would not even look at are counted.
    expect(fixture.senders.totals().rejected.protocol).toBe(2);
  });

  it('takes a command that came in the same packet as the startup', async () => {
    const client = await fixture.connect();
    client.send(startup(STANDBY), 'Q', i32(20), cstr('IDENTIFY_SYSTEM'));
    await client.answer();
    expect((await client.answer()).slice(1)).toEqual([
      'D 7300000000000000001,1,0/1236710,NULL',
      'C IDENTIFY_SYSTEM',
      'Z I',
    ]);
  });

  it('says nothing to a client that leaves before its first byte, and notes one that leaves after some', async () => {
    const silent = await fixture.connect();
    silent.socket.end();
    expect(await silent.closed()).toHaveLength(0);
    const early = await fixture.connect();
    early.socket.end(raw(0, 0));
    expect(await early.closed()).toHaveLength(0);
    expect(fixture.log.lines.filter((line) => line.includes('startup packet'))).toHaveLength(1);
  });
});

describe('startup', () => {
  let fixture: Fixture;

  afterEach(() => fixture.finish());

  it.each([
    ['SSL request', SSL_REQUEST],
    ['GSSAPI encryption request', GSSENC_REQUEST],
  ])('refuses plain text that came in one packet with an %s', async (name, request) => {
    fixture = await Fixture.start({ beside: true });
    const client = await fixture.connect();
    client.send(request, startup(STANDBY));
    expect((await client.bytes(1)).toString()).toBe('N');
    expect(await client.error()).toMatchObject({
      S: 'FATAL',
      C: '08P01',
      M: `received unencrypted data after ${name}`,
    });
    expect(await client.closed()).toHaveLength(0);
  });

  it('greets with the upstream parameters, its own where they belong to the session', async () => {
    fixture = await Fixture.start();
    const { greeting, pid, key } = await fixture.standby({ datestyle: 'German' });
    const text = greeting.map((item) =>
      item.type === 'S'
        ? `S ${item.body.toString().split('\0').slice(0, 2).join('=')}`
        : summary(item),
    );
    expect(text).toEqual([
      'R',
      'S application_name=standby1',
      'S client_encoding=SQL_ASCII',
      'S DateStyle=German',
      'S integer_datetimes=on',
      'S is_superuser=off',
      'S server_version=15.1',
      'S session_authorization=replicator',
      'S server_encoding=SQL_ASCII',
      'K',
      'Z I',
    ]);
    expect(pid).toBeGreaterThan(4_194_304);
    expect(key).toHaveLength(4);
  });

  it.each([
    ['utf-8', 'UTF8'],
    ['LATIN1', 'LATIN1'],
  ])(
    'tells a client that calls its encoding %s %s, as drivers want to hear',
    async (name, told) => {
      fixture = await Fixture.start();
      const { greeting } = await fixture.standby({ client_encoding: name });
      const texts = greeting.map(({ body }) => body.toString());
      expect(texts).toContain(`client_encoding\0${told}\0`);
      expect(texts).toContain('server_encoding\0SQL_ASCII\0');
    },
  );

  it('refuses a client of an encoding that is none, behind its login', async () => {
    fixture = await Fixture.start();
    const client = await fixture.connect();
    client.send(startup({ ...STANDBY, client_encoding: 'bogus' }));
    expect((await client.until('E')).map(summary)).toEqual([
      'R',
      'E|FATAL|22023|invalid value for parameter "client_encoding": "bogus"',
    ]);
  });

  it.each([
    // major, minor asked, options, answer (minor, options) or null, key bytes
    [15, 0, [], null, 4],
    [15, 2, [], [0x30000, []], 4],
    [15, 0, ['_pq_.foo'], [0x30000, ['_pq_.foo']], 4],
    [
      15,
      9999,
      ['_pq_.test_protocol_negotiation'],
      [0x30000, ['_pq_.test_protocol_negotiation']],
      4,
    ],
    [18, 0, [], null, 4],
    [18, 1, [], null, 4],
    [18, 2, [], null, 32],
    [18, 0, ['_pq_.foo'], [0x30000, ['_pq_.foo']], 4],
    [18, 9999, ['_pq_.a', '_pq_.b'], [0x30002, ['_pq_.a', '_pq_.b']], 32],
  ] as const)('negotiates as PostgreSQL %i: 3.%i with %j', async (...row) => {
    const [major, minor, options, negotiation, keyBytes] = row;
    fixture = await Fixture.start({ major });
    const client = await fixture.connect();
    client.send(
      startup({ ...STANDBY, ...Object.fromEntries(options.map((name) => [name, '1'])) }, minor),
    );
    const messages = await client.until('Z');
    const first = messages[0];
    if (negotiation === null) {
      expect(first?.type).toBe('R');
    } else {
      expect(first?.type).toBe('v');
      expect(first?.body.readInt32BE(0)).toBe(negotiation[0]);
      expect(first?.body.readInt32BE(4)).toBe(negotiation[1].length);
      const names = first?.body.toString('utf8', 8).split('\0').slice(0, -1);
      expect(names).toEqual(negotiation[1]);
    }
    expect(messages.find((item) => item.type === 'K')?.body).toHaveLength(4 + keyBytes);
  });

  it('sends 57P03 until the upstream has been identified', async () => {
    fixture = await Fixture.start();
    fixture.identity = null;
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    expect(await client.rest()).toEqual(['E|FATAL|57P03|the database system is starting up']);
    fixture.identity = identityOf(15);
    const second = await fixture.standby();
    expect(second.pid).toBeGreaterThan(0);
    expect(fixture.senders.totals().rejected.draining).toBe(1);
  });

  it.each([
    [
      13,
      '',
      'no pg_hba.conf entry for replication connection from host "127.0.0.1", user "replicator", SSL off',
    ],
    [
      14,
      '',
      'no pg_hba.conf entry for replication connection from host "127.0.0.1", user "replicator", no encryption',
    ],
    [
      15,
      'host all all all trust',
      'no pg_hba.conf entry for replication connection from host "127.0.0.1", user "replicator", no encryption',
    ],
    [
      15,
      'host replication all samehost reject',
      'pg_hba.conf rejects replication connection for host "127.0.0.1", user "replicator", no encryption',
    ],
  ])('applies the access rules as PostgreSQL %i: %s', async (major, text, message) => {
    fixture = await Fixture.start({ major });
    fixture.hba = rules(text);
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    expect(await client.rest()).toEqual([`E|FATAL|28000|${message}`]);
    expect(fixture.senders.totals().rejected.hba).toBe(1);
  });

  it.each([
    [15, 'max_wal_senders'],
    [17, '"max_wal_senders"'],
  ])('refuses sessions beyond the limit as PostgreSQL %i', async (major, name) => {
    fixture = await Fixture.start({ major });
    fixture.settings = { ...fixture.settings, maxWalSenders: 1 };
    const first = await fixture.standby();
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    expect(await client.rest()).toEqual([
      `E|FATAL|53300|number of requested standby connections exceeds ${name} (currently 1)`,
    ]);
    first.client.send('X', i32(4));
    await first.client.closed();
    expect((await fixture.standby()).pid).not.toBe(first.pid);
  });

  it('gives every session a pid of its own', async () => {
    fixture = await Fixture.start();
    const sessions = await Promise.all(Array.from({ length: 20 }, () => fixture.standby()));
    expect(new Set(sessions.map((session) => session.pid)).size).toBe(20);
    expect(fixture.senders.statuses()).toHaveLength(20);
    for (const { client } of sessions) client.close();
    await Promise.all(sessions.map(({ client }) => client.closed()));
  });
});

describe('a client that sends nothing, or one byte now and then', () => {
  it.each(['nothing', 'one byte now and then'])(
    'is closed 60 s after it connected: %s',
    async (what) => {
      const clock = new ManualClock();
      const fixture = await Fixture.start({ clock });
      const client = await fixture.connect();
      const first = await fixture.standby();
      for (let second = 1; second <= 59; second += 1) {
        if (what !== 'nothing' && second <= 3) client.send(0);
        clock.advance(1000);
      }
      expect((await first.client.ask('SHOW walcast_version')).at(-1)).toBe('Z I');
      expect(client.isClosed).toBe(false);
      clock.advance(1000);
      expect(await client.closed()).toHaveLength(0);
      expect((await first.client.ask('SHOW walcast_version')).at(-1)).toBe('Z I');
      fixture.close();
    },
  );
});
