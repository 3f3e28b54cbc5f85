// The same bytes to a real server and to us: do both say the same? Numbers (positions, pids, identifiers) are left out
// of the comparison, everything else counts: order, texts, SQLSTATEs, and whether the connection stays.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { cstr, i32, i64, packet, raw } from '../support/naive-writer.ts';
import {
  message,
  query,
  RawClient,
  startup,
  STANDBY,
  statusUpdate,
  summary,
} from '../support/raw-client.ts';
import { installedMajors } from '../support/requirements.ts';
import { Fixture } from '../support/wal-senders-fixture.ts';

const SSL_REQUEST = packet(80_877_103);
const GSSENC_REQUEST = packet(80_877_104);

/** First packets, each on a connection of its own. `late`: sent after the answer to the first. */
const FIRST_PACKETS: readonly [name: string, bytes: Uint8Array, late?: Uint8Array][] = [
  ['length 3', i32(3)],
  ['negative length', i32(-5)],
  ['length 10005', raw(i32(10_005), new Uint8Array(100))],
  ['HTTP', raw('GET / HTTP/1.1\r\n\r\n')],
  ['protocol 4.0', packet(0x40000, cstr('user'), cstr('postgres'), 0)],
  ['no terminator', packet(0x30000, cstr('user'), cstr('x'))],
  ['no user', startup({ replication: 'true' })],
  ['replication=maybe', startup({ user: 'postgres', replication: 'maybe' })],
  ['SSLRequest, then plain text', raw(SSL_REQUEST, startup(STANDBY))],
  ['GSSENCRequest, then plain text', raw(GSSENC_REQUEST, startup(STANDBY))],
  ['SSLRequest twice', SSL_REQUEST, SSL_REQUEST],
  ['GSSENCRequest twice', GSSENC_REQUEST, GSSENC_REQUEST],
  ['SSLRequest, then GSSENCRequest twice', SSL_REQUEST, raw(GSSENC_REQUEST)],
  ['a cancel request', packet(80_877_102, i32(12_345), i32(1))],
  ['an unknown setting', startup({ user: 'postgres', replication: 'true', options: '-c foo=1' })],
  ['an unknown parameter', startup({ user: 'postgres', replication: 'true', nonsense: '1' })],
  [
    'a timeout that is no time',
    startup({ user: 'postgres', replication: 'true', options: '-c wal_sender_timeout=soon' }),
  ],
  [
    'a timeout of an odd unit',
    startup({ user: 'postgres', replication: 'true', options: '-c wal_sender_timeout=5parsec' }),
  ],
  [
    'a timeout out of range',
    startup({ user: 'postgres', replication: 'true', options: '-c wal_sender_timeout=-1' }),
  ],
  [
    'a timeout beyond all range',
    startup({ user: 'postgres', replication: 'true', options: '-c wal_sender_timeout=30d' }),
  ],
];

/** What is sent to a session that was let in; the answer is read up to the marker command behind it. */
const SESSION_BYTES: readonly [name: string, bytes: Uint8Array][] = [
  ...['P', 'B', 'E', 'D', 'C'].map((letter): [string, Uint8Array] => [
    `extended protocol ${letter}`,
    raw(message(letter, cstr('')), query('IDENTIFY_SYSTEM'), message('S')),
  ]),
  ['a function call', message('F', i32(0))],
  ['Sync and Flush', raw(message('S'), message('H'), message('S'))],
  ['stray COPY messages', raw(message('d', 'x'), message('c'), message('f', cstr('x')))],
  ['a query without NUL', message('Q', 'SHOW x')],
  ['a query with a NUL inside', message('Q', 'a', 0, 'b', 0)],
  ['message type ?', message('?')],
  ['message type 0', message('\0')],
  ['a password', message('p', cstr('x'))],
  ['Terminate', message('X')],
  ['a message of length 3', raw('Q', i32(3))],
  ['three commands at once', raw(query('SHOW wal_level'), query('FOO'), query('SHOW wal_level'))],
  ...[
    'IDENTIFY_SYSTEM',
    'SHOW wal_segment_size',
    'SHOW Wal_Segment_Size',
    'SHOW datestyle',
    'SHOW no_such',
    'SHOW wal_sender_timeout',
    'SHOW application_name',
    'SHOW is_superuser_',
    'TIMELINE_HISTORY 1',
    'TIMELINE_HISTORY 99',
    'READ_REPLICATION_SLOT nope',
    'DROP_REPLICATION_SLOT nope',
    'CREATE_REPLICATION_SLOT t TEMPORARY PHYSICAL',
    'CREATE_REPLICATION_SLOT l LOGICAL pgoutput',
    'START_REPLICATION SLOT nope 0/1000000',
    'START_REPLICATION SLOT nope LOGICAL 0/0',
    'START_REPLICATION FF/0 TIMELINE 2',
    'ALTER_REPLICATION_SLOT nope (FAILOVER)',
  ].map((sql): [string, Uint8Array] => [sql, query(sql)]),
];

/** Commands that enter COPY and leave it again at once; what is sent behind them meets them in either state. */
const FAILING_STARTS: readonly string[] = ['START_REPLICATION 0/0', 'START_REPLICATION FF/0'];

/** Server 13 also speaks protocol 2, which we do not, and answers in it before it knows better. */
const NOT_AS_13: readonly string[] = [
  'protocol 4.0',
  'SSLRequest, then plain text',
  'GSSENCRequest, then plain text',
  'SSLRequest twice',
  'GSSENCRequest twice',
  'SSLRequest, then GSSENCRequest twice',
  // It has no limits on short messages and waits for them.
  'CopyDone of 20 KB',
];

/** What is sent while WAL is streamed. */
const STREAM_BYTES: readonly [name: string, bytes: Uint8Array][] = [
  ['CopyDone', message('c')],
  ['CopyDone and a command', raw(message('c'), query('SHOW wal_level'))],
  ['a reply cut short', message('d', 'r', i64(1n))],
  ['feedback cut short', message('d', 'h', i64(1n))],
  ['an empty CopyData', message('d')],
  ['an unknown payload', message('d', 'z', i64(1n))],
  ['a query', query('IDENTIFY_SYSTEM')],
  ['CopyFail', message('f', cstr('x'))],
  ['Sync', message('S')],
  ['type 0', raw(0, i32(4))],
  ['Terminate', message('X')],
  ['CopyData of length 3', raw('d', i32(3))],
  ['CopyDone of 20 KB', raw('c', i32(20_000))],
  ['a reply, then CopyDone', raw(statusUpdate(1n, 1n, 1n), message('c'))],
  ['a reply with more behind it', raw(message('d', raw('r', new Uint8Array(43))), message('c'))],
];

/** A position, a pid, a system identifier: not compared. Version and sizes are. */
function normalize(line: string): string {
  return line
    .replaceAll(/\b[0-9A-F]{1,8}\/[0-9A-F]{1,8}\b/g, 'LSN')
    .replaceAll(/\b[0-9]{15,20}\b/g, 'SYSID')
    .replaceAll(/\b[0-9A-F]{24}\b/g, 'SEGMENT');
}

/** Everything that is said until the answer of the marker command, or until the connection ends. */
async function saidUntilMarker(client: RawClient): Promise<string[]> {
  client.send(message('S'), query('SHOW integer_datetimes'));
  const lines: string[] = [];
  for (;;) {
    const item = await client.next();
    if (item === null) return [...lines, 'closed'];
    const line = normalize(summary(item));
    // WAL and keepalives come when they come.
    if (line === 'd') continue;
    lines.push(line);
    if (line === 'D on') return lines;
  }
}

describe.each(installedMajors())('PostgreSQL %i and we', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let fixture: Fixture;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major, name: 'primary' });
    await primary.start();
    const { client, greeting } = await RawClient.standby(primary.port, { user: 'postgres' });
    const settings = new Map<string, string>();
    for (const name of ['wal_segment_size', 'wal_level', 'datestyle', 'integer_datetimes']) {
      const row = (await client.ask(`SHOW ${name}`)).find((line) => line.startsWith('D '));
      settings.set(name, row?.slice(2) ?? '');
    }
    client.close();
    fixture = await Fixture.start({ major });
    const parameters = greeting
      .filter((item) => item.type === 'S')
      .map((item) => item.body.toString().split('\0'))
      .map(([name = '', value = '']) => [name, value] as const);
    fixture.feed.isMoving = false;
    if (fixture.identity === null) throw new Error('no identity');
    fixture.identity = { ...fixture.identity, parameters: new Map(parameters), settings };
  });

  afterAll(async () => {
    fixture.close();
    await workspace.close();
  });

  async function both(run: (port: number) => Promise<string[]>): Promise<void> {
    const [theirs, ours] = await Promise.all([run(primary.port), run(fixture.port)]);
    expect(ours).toEqual(theirs);
  }

  function comparable<T extends readonly [name: string, ...rest: unknown[]]>(
    cases: readonly T[],
  ): T[] {
    return cases.filter(([name]) => major > 13 || !NOT_AS_13.includes(name));
  }

  it.each(comparable(FIRST_PACKETS))('answer alike: %s', async (_name, bytes, late) => {
    await both(async (port) => {
      const client = await RawClient.open(port);
      client.send(bytes);
      let first = '';
      if (bytes[7] === 0x2f || bytes[7] === 0x30) first = (await client.bytes(1)).toString();
      if (late !== undefined) client.send(late);
      if (late?.[7] === 0x30 && bytes[7] === 0x2f) {
        first += (await client.bytes(1)).toString();
        client.send(late);
      }
      const lines = await client.rest();
      return [first, ...lines.map(normalize)];
    });
  });

  it('greet alike', async () => {
    await both(async (port) => {
      const { client, greeting } = await RawClient.standby(port, {
        user: 'postgres',
        application_name: 'näme\n',
        timezone: 'UTC',
      });
      client.close();
      return greeting
        .map((item) =>
          item.type === 'S' ? item.body.toString() : `${item.type} ${item.body.length}`,
        )
        .filter((line) => !line.startsWith('is_superuser'))
        .toSorted();
    });
  });

  it.each([
    [0, {}],
    [2, {}],
    [9999, { '_pq_.test_protocol_negotiation': '' }],
    [0, { '_pq_.foo': '1' }],
  ])('negotiate alike: 3.%i %j', async (minor, options) => {
    await both(async (port) => {
      const client = await RawClient.open(port);
      client.send(startup({ ...STANDBY, user: 'postgres', ...options }, minor));
      const greeting = await client.until('Z');
      client.close();
      const [first] = greeting;
      const key = greeting.find((item) => item.type === 'K');
      return [
        first?.type === 'v' ? `v ${first.body.toString('hex')}` : `${first?.type}`,
        `K ${key?.body.length}`,
      ];
    });
  });

  it.each(SESSION_BYTES)('answer alike: %s', async (_name, bytes) => {
    await both(async (port) => {
      const { client } = await RawClient.standby(port, { user: 'postgres' });
      client.send(bytes);
      const lines = await saidUntilMarker(client);
      client.close();
      return lines;
    });
  });

  it.each(FAILING_STARTS)('answer alike: %s', async (sql) => {
    await both(async (port) => {
      const { client } = await RawClient.standby(port, { user: 'postgres' });
      const lines = (await client.ask(sql)).map(normalize);
      lines.push(...(await saidUntilMarker(client)));
      client.close();
      return lines;
    });
  });

  it.each(comparable(STREAM_BYTES))('answer alike while streaming: %s', async (_name, bytes) => {
    await both(async (port) => {
      const { client } = await RawClient.standby(port, { user: 'postgres' });
      const position = /[0-9A-F]+\/[0-9A-F]+/.exec((await client.ask('IDENTIFY_SYSTEM'))[1] ?? '');
      client.send(query(`START_REPLICATION ${position?.[0]} TIMELINE 1`));
      if ((await client.next())?.type !== 'W') throw new Error('not streaming');
      client.send(bytes);
      // A marker would be one odd message more; what stays open says so by a CopyDone's answer or an error.
      const lines: string[] = [];
      while (lines.at(-1) !== 'Z I') {
        const item = await client.next();
        if (item === null) return [...lines, 'closed'];
        const line = normalize(summary(item));
        if (line !== 'd') lines.push(line);
      }
      lines.push(...(await saidUntilMarker(client)));
      client.close();
      return lines;
    });
  });
});
