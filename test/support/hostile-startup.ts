// Hostile inputs of the catalogue's part C.1: what may come first on a connection.
import {
  closesOrWaits,
  firstBytes,
  open,
  openLocal,
  patiently,
  said,
  TRUSTY,
} from './hostile-case.ts';
import type { HostileCase, Side } from './hostile-case.ts';
import { cstr, i32, packet, raw } from './naive-writer.ts';
import { startup } from './raw-client.ts';
import type { RawClient } from './raw-client.ts';

export const CANCEL_REQUEST = 80_877_102;
export const SSL_REQUEST: Uint8Array = packet(80_877_103);
export const GSSENC_REQUEST: Uint8Array = packet(80_877_104);

/** A startup packet of a trusted standby, with `parameters` besides. */
export function trusty(parameters: Readonly<Record<string, string>> = {}): Uint8Array {
  return startup({ ...TRUSTY, ...parameters });
}

/** A startup packet whose body is given as bytes. */
export function startupBytes(...parts: (number | string | Uint8Array)[]): Uint8Array {
  return packet(0x30000, ...parts);
}

const LENGTHS: readonly [name: string, length: number][] = [
  ['length 0', 0],
  ['length 3', 3],
  ['length 4', 4],
  ['length 7', 7],
  ['length -1', -1],
  ['length -5', -5],
  ['length 0x7fffffff', 0x7f_ff_ff_ff],
  ['length -2^31', -0x80_00_00_00],
];

const VERSIONS: readonly [name: string, code: number][] = [
  ['0.0', 0],
  ['1.0', 0x1_00_00],
  ['2.0', 0x2_00_00],
  ['4.0', 0x4_00_00],
  ['1234.5677', 80_877_101],
  ['1234.5681', 80_877_105],
  ['65535.65535', 0xff_ff_ff_ff],
];

/** Sends the requests one after the other, reading the byte of each answer, and then the last of them, which gets no byte. */
function requests(row: string, name: string, ...parts: Uint8Array[]): HostileCase {
  return {
    row,
    name,
    async run(side): Promise<string[]> {
      const client = await openLocal(side);
      const bytes = await askedForEncryption(client, parts.slice(0, -1));
      client.send(parts.at(-1) ?? '');
      return [bytes, ...(await said(client))];
    },
  };
}

async function askedForEncryption(
  client: RawClient,
  parts: readonly Uint8Array[],
): Promise<string> {
  let bytes = '';
  for (const part of parts) {
    client.send(part);
    bytes += (await patiently(client, client.bytes(1))).toString('latin1');
  }
  return bytes;
}

/** What comes behind a request is there already when it is read: it may have been put there by somebody else. */
function smuggled(name: string, request: Uint8Array, behind: Uint8Array): HostileCase {
  return {
    row: 'I15',
    name,
    async run(side): Promise<string[]> {
      const client = await openLocal(side);
      client.send(raw(request, behind));
      const first = (await patiently(client, client.bytes(1))).toString('latin1');
      return [first, ...(await said(client))];
    },
  };
}

/** Nothing is ever said to whoever cancels; a session that was not meant goes on. */
function cancel(name: string, key: (pid: number, key: Buffer) => Uint8Array): HostileCase {
  return {
    row: 'I19',
    name,
    async run(side): Promise<string[]> {
      const victim = await open(side);
      victim.send(trusty());
      const greeting = await patiently(victim, victim.until('Z'));
      const keyData = greeting.find((item) => item.type === 'K')?.body ?? Buffer.alloc(8);
      const client = await open(side);
      client.send(packet(CANCEL_REQUEST, key(keyData.readInt32BE(0), keyData.subarray(4))));
      const lines = await said(client);
      const alive = await patiently(victim, victim.ask('SHOW integer_datetimes'));
      victim.close();
      return [...lines, ...alive];
    },
  };
}

/** Closed by the deadline, which nothing that is sent can put off. */
function deadline(row: string, name: string, feed: (client: RawClient) => void): HostileCase {
  return {
    row,
    name,
    isSlow: true,
    async run(side: Side): Promise<string[]> {
      // Before the other end counts: whatever comes was at least as late as it seems.
      const begun = performance.now();
      const client = await open(side);
      feed(client);
      const lines = await said(client);
      const seconds = (performance.now() - begun) / 1000;
      return [...lines, timeClass(seconds)];
    },
  };
}

/** Two seconds are set; a busy machine may be late, nobody may be early. */
function timeClass(seconds: number): string {
  if (seconds < 1.9) return 'at once';
  return seconds < 20 ? 'after the deadline' : 'late';
}

function trickle(client: RawClient, bytes: Uint8Array, everyMs: number): void {
  let sent = 0;
  const timer = setInterval(() => {
    if (client.isClosed || sent >= bytes.length) clearInterval(timer);
    else client.send(bytes.subarray(sent, sent + 1));
    sent += 1;
  }, everyMs);
}

function minor(name: string, protocolMinor: number, options: Record<string, string>): HostileCase {
  return {
    row: 'I6',
    name,
    async run(side): Promise<string[]> {
      const client = await open(side);
      client.send(startup({ ...TRUSTY, ...options }, protocolMinor));
      const greeting = await patiently(client, client.until('Z'));
      client.close();
      const negotiation = greeting.filter((item) => item.type === 'v');
      const key = greeting.find((item) => item.type === 'K');
      return [
        ...negotiation.map((item) => `v ${item.body.toString('hex')}`),
        `key of ${(key?.body.length ?? 0) - 4} bytes`,
      ];
    },
  };
}

function replication(value: string): HostileCase {
  return firstBytes('I9', `replication=${value}`, trusty({ replication: value }));
}

/** Rows I1 to I19 without TLS. */
export const STARTUP_CASES: readonly HostileCase[] = [
  ...LENGTHS.map(([name, length]) => firstBytes('I1', name, raw(i32(length), new Uint8Array(20)))),
  firstBytes('I2', 'length 10005', raw(i32(10_005), new Uint8Array(100))),
  firstBytes(
    'I2',
    'a packet of the greatest length',
    startup({ user: 'x', replication: 'maybe', padding: 'p'.repeat(9953) }),
  ),
  firstBytes('I3', 'HTTP', raw('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')),
  firstBytes('I3', 'SSH', raw('SSH-2.0-OpenSSH_9.2\r\n')),
  firstBytes('I3', 'SMB', raw(0, 0, 0, 0x2f, 0xff, 'SMBr', new Uint8Array(42))),
  ...VERSIONS.map(([name, code]) =>
    firstBytes('I5', `protocol ${name}`, packet(code, cstr('user'), cstr('trusty'), 0)),
  ),
  minor('protocol 3.1', 1, {}),
  minor('protocol 3.2', 2, {}),
  minor('protocol 3.9999', 9999, {}),
  minor('protocol 3.65535', 65_535, {}),
  minor('an option of the protocol', 0, { '_pq_.x': '1' }),
  minor('options of a newer protocol', 2, { '_pq_.a': '', '_pq_.b': 'c', '_pq_.': '' }),
  firstBytes('I7', 'no terminator', startupBytes(cstr('user'), cstr('trusty'))),
  firstBytes('I7', 'a name without a value', startupBytes(cstr('user'))),
  firstBytes('I7', 'a value without an end', startupBytes(cstr('user'), 'trusty')),
  firstBytes('I7', 'no body', startupBytes()),
  firstBytes('I7', 'bytes behind the terminator', startupBytes(cstr('user'), cstr('x'), 0, 'abc')),
  firstBytes(
    'I7',
    'two terminators',
    startupBytes(cstr('user'), cstr('trusty'), cstr('replication'), cstr('true'), 0, 0),
  ),
  firstBytes('I8', 'no user', startup({ replication: 'true' })),
  firstBytes('I8', 'an empty user', trusty({ user: '' })),
  firstBytes('I8', 'no parameters', startupBytes(0)),
  ...['maybe', '', 'TRUE', 'T', 'of', 'o', '2', ' true', 'databases', 'DATABASE'].map(replication),
  firstBytes('I10', 'replication=database', trusty({ replication: 'database' })),
  firstBytes('I10', 'no replication', startup({ user: 'trusty', database: 'postgres' })),
  requests('I17', 'SSLRequest twice', SSL_REQUEST, SSL_REQUEST),
  requests('I17', 'SSLRequest, then a session', SSL_REQUEST, trusty()),
  requests('I18', 'GSSENCRequest, then a session', GSSENC_REQUEST, trusty()),
  requests('I18', 'GSSENCRequest twice', GSSENC_REQUEST, GSSENC_REQUEST),
  requests('I18', 'both, then a session', GSSENC_REQUEST, SSL_REQUEST, trusty()),
  requests('I18', 'both, then again', GSSENC_REQUEST, SSL_REQUEST, GSSENC_REQUEST),
  requests('I18', 'both the other way round, then again', SSL_REQUEST, GSSENC_REQUEST, SSL_REQUEST),
  smuggled('SSLRequest and a session in one segment', SSL_REQUEST, trusty()),
  smuggled('SSLRequest twice in one segment', SSL_REQUEST, SSL_REQUEST),
  smuggled('SSLRequest and one byte', SSL_REQUEST, raw(0)),
  smuggled('GSSENCRequest and a session in one segment', GSSENC_REQUEST, trusty()),
  requests('I18', 'SSLRequest with a body', raw(i32(12), i32(80_877_103), i32(0)), trusty()),
  requests('I18', 'GSSENCRequest with a body', raw(i32(9), i32(80_877_104), 0), trusty()),
  cancel('a wrong key', (pid) => raw(i32(pid), i32(1))),
  cancel('a key that is too long', (pid) => raw(i32(pid), new Uint8Array(200))),
  cancel('a key of 300 bytes', (pid) => raw(i32(pid), new Uint8Array(300))),
  cancel('no key', (pid) => i32(pid)),
  cancel('nothing at all', () => raw()),
  cancel('half of the key', (pid, key) => raw(i32(pid), key.subarray(0, 2))),
  cancel('another pid', (pid, key) => raw(i32(pid ^ 0x5555), key)),
  cancel('pid 0', (_pid, key) => raw(i32(0), key)),
  cancel('pid -1', (_pid, key) => raw(i32(-1), key)),
  deadline('I13', 'silence', () => {}),
  deadline('I13', 'half of a length', (client) => client.send(raw(0, 0))),
  deadline('I13', 'SSLRequest and then silence', (client) => client.send(SSL_REQUEST)),
  deadline('I14', 'a byte now and then', (client) => trickle(client, trusty(), 100)),
  {
    row: 'I14',
    name: 'a packet byte by byte',
    async run(side): Promise<string[]> {
      const client = await open(side);
      trickle(client, trusty(), 1);
      return await said(client);
    },
  },
  {
    row: 'I1',
    name: 'a packet that is not complete, then the end',
    async run(side): Promise<string[]> {
      const client = await open(side);
      client.send(trusty().subarray(0, 40));
      client.socket.end();
      return await said(client);
    },
  },
  {
    row: 'I2',
    name: 'half of a packet of the greatest length',
    async run(side): Promise<string[]> {
      const client = await open(side);
      client.send(raw(i32(10_004), new Uint8Array(5000)));
      return await closesOrWaits(client, side, 'both');
    },
  },
];
