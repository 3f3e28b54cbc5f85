// Hostile inputs that are in no row: cuts at every offset, phases run into each other, far too much of something.
import { connect } from 'node:net';
import {
  firstBytes,
  leftStream,
  letIn,
  line,
  open,
  openLocal,
  patiently,
  position,
  said,
  saidUntilMarker,
  sessionBytes,
  streamBytes,
  streaming,
  TIMELINE,
} from './hostile-case.ts';
import type { HostileCase, Side } from './hostile-case.ts';
import {
  CANCEL_REQUEST,
  GSSENC_REQUEST,
  SSL_REQUEST,
  startupBytes,
  trusty,
} from './hostile-startup.ts';
import { feedback } from './hostile-stream.ts';
import { cstr, i32, i64, message, packet, raw } from './naive-writer.ts';
import { query, statusUpdate } from './raw-client.ts';
import type { RawClient } from './raw-client.ts';

type Run = (side: Side) => Promise<string[]>;

function invention(name: string, run: Run): HostileCase {
  return { row: '+', name, run };
}

/** Two writes, the second once the first has certainly been read by the kernel of the other end. */
async function inTwo(client: RawClient, bytes: Uint8Array, at: number): Promise<void> {
  const { socket } = client;
  await new Promise<void>((resolve) => {
    socket.write(bytes.subarray(0, at), () => setImmediate(resolve));
  });
  socket.write(bytes.subarray(at));
}

/** The answers to bytes cut in two at every so many offsets; all have to be one answer, which is given. */
async function cutEverywhere(
  bytes: Uint8Array,
  step: number,
  ask: (at: number) => Promise<string[]>,
): Promise<string[]> {
  const answers = new Set<string>();
  let example: string[] = [];
  for (let at = 1; at < bytes.length; at += step) {
    example = await ask(at);
    answers.add(example.join('\n'));
  }
  return answers.size === 1 ? example : ['not the same everywhere', ...answers];
}

const WHOLE_SESSION = raw(
  trusty(),
  query('SHOW wal_level'),
  message('Q', 'no end'),
  query('IDENTIFY_SYSTEM;'),
  message('X'),
);

const CUT_SESSION = invention('a whole session, cut in two anywhere', async (side) =>
  cutEverywhere(WHOLE_SESSION, 7, async (at) => {
    const client = await open(side);
    await inTwo(client, WHOLE_SESSION, at);
    return (await patiently(client, client.until('')))
      .filter((item) => !'SK'.includes(item.type))
      .map(line);
  }),
);

const REQUESTS = [GSSENC_REQUEST, SSL_REQUEST, trusty({ replication: 'maybe' })];

const CUT_REQUESTS = invention('requests for encryption, cut in two anywhere', async (side) =>
  cutEverywhere(raw(...REQUESTS), 5, async (at) => {
    const client = await openLocal(side);
    let sent = 0;
    let answers = '';
    for (const request of REQUESTS) {
      const cut = at - sent;
      if (cut > 0 && cut < request.length) await inTwo(client, request, cut);
      else client.send(request);
      sent += request.length;
      if (request !== REQUESTS.at(-1))
        answers += (await patiently(client, client.bytes(1))).toString();
    }
    return [answers, ...(await said(client))];
  }),
);

const CUT_STREAM = invention(
  'the way into and out of a stream, cut in two anywhere',
  async (side) => {
    const first = await letIn(side);
    const start = query(`START_REPLICATION ${await position(first)} TIMELINE ${TIMELINE}`);
    first.close();
    const bytes = raw(
      start,
      statusUpdate(1n, 1n, 1n),
      message('c'),
      query('SHOW wal_level'),
      start,
      message('c'),
      query('SHOW integer_datetimes'),
    );
    return await cutEverywhere(bytes, 11, async (at) => {
      const client = await letIn(side);
      await inTwo(client, bytes, at);
      const lines: string[] = [];
      while (lines.at(-1) !== 'D on') {
        const item = await patiently(client, client.next());
        if (item === null) return [...lines, 'closed'];
        if (item.type !== 'd') lines.push(line(item));
      }
      client.close();
      return lines;
    });
  },
);

const BYTE_BY_BYTE = invention('a whole session byte by byte', async (side) => {
  const client = await open(side);
  for (const byte of WHOLE_SESSION) client.send(byte);
  return (await patiently(client, client.until('')))
    .filter((item) => !'SK'.includes(item.type))
    .map(line);
});

/** Many connections that all say the same; what the last of them is told, and that a session goes on. */
function flood(name: string, count: number, bytes: (pid: number) => Uint8Array): HostileCase {
  return invention(name, async (side) => {
    const victim = await open(side);
    victim.send(trusty());
    const greeting = await patiently(victim, victim.until('Z'));
    const pid = greeting.find((item) => item.type === 'K')?.body.readInt32BE(0) ?? 0;
    const ends = new Set<string>();
    for (let done = 0; done < count; done += 20) {
      const batch = Array.from({ length: 20 }, async () => {
        const client = await open(side);
        client.send(bytes(pid));
        return await said(client);
      });
      for (const lines of await Promise.all(batch)) ends.add(lines.join('\n'));
    }
    const alive = await patiently(victim, victim.ask('SHOW integer_datetimes'));
    victim.close();
    return [...ends, ...alive];
  });
}

/** Closes without a word in the middle of something; the server goes on for others. */
const GONE = invention('a client that is gone in the middle of everything', async (side) => {
  const pieces = [SSL_REQUEST, trusty().subarray(0, 30), trusty(), WHOLE_SESSION.subarray(0, 150)];
  for (const piece of pieces) {
    const socket = connect({ port: side.port, host: '127.0.0.1' });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.on('error', reject);
    });
    await new Promise<void>((resolve) => {
      socket.write(piece, () => resolve());
    });
    socket.resetAndDestroy();
  }
  return await saidUntilMarker(await letIn(side));
});

/** Whoever sends his end while a command of his waits for others is taken for gone; nobody else is, as at a server. */
const HALF_CLOSED = invention('a client that sends no more', async (side) => {
  const client = await letIn(side);
  const lines = await patiently(client, client.ask('SHOW wal_level'));
  client.socket.end();
  return [...lines, ...(await said(client))];
});

const HALF_CLOSED_STREAM = invention('a stream whose client sends no more', async (side) => {
  const client = await streaming(side);
  client.socket.end();
  return await said(client);
});

/** All of it is there before anything is answered, the end, too. */
function halfClosedAtOnce(name: string, bytes: Uint8Array): HostileCase {
  return invention(name, async (side) => {
    const client = await open(side);
    client.socket.end(bytes);
    return (await patiently(client, client.until('')))
      .filter((item) => !'SK'.includes(item.type))
      .map(line);
  });
}

/** What a session is told it is called. */
function named(name: string, value: string | Uint8Array): HostileCase {
  return invention(name, async (side) => {
    const client = await open(side);
    const rest = ['user', 'trusty', 'replication', 'true', 'application_name'].map(cstr);
    client.send(startupBytes(...rest, value, 0, 0));
    const greeting = await patiently(client, client.until('Z'));
    client.close();
    const shown = greeting.filter(
      (item) => item.type === 'S' && item.body.toString().startsWith('application_name'),
    );
    return [...shown.map((item) => item.body.toString('latin1')), ...greeting.slice(-1).map(line)];
  });
}

function options(name: string, text: string): HostileCase {
  return firstBytes('+', name, trusty({ options: text }));
}

/** Cancels a stream with the right key, again and again, and streams on. */
const CANCELLED = invention('a stream that is cancelled three times', async (side) => {
  const client = await open(side);
  client.send(trusty());
  const greeting = await patiently(client, client.until('Z'));
  const key = greeting.find((item) => item.type === 'K')?.body ?? Buffer.alloc(8);
  const lines: string[] = [];
  for (let time = 0; time < 3; time += 1) {
    client.send(query(`START_REPLICATION ${await position(client)} TIMELINE ${TIMELINE}`));
    await patiently(client, client.next());
    const canceller = await open(side);
    canceller.send(packet(CANCEL_REQUEST, key));
    lines.push(...(await said(canceller)));
    const end = await patiently(client, client.until('Z'));
    lines.push(...end.filter((item) => item.type !== 'd').map(line));
  }
  client.close();
  return lines;
});

const TWO_STARTUPS = raw(trusty(), trusty());
const MANY_C = Array.from({ length: 700 }, (_, index) => `-c a.b${index}=1`).join(' ');

/** In no row. */
export const INVENTED_CASES: readonly HostileCase[] = [
  CUT_SESSION,
  CUT_REQUESTS,
  CUT_STREAM,
  BYTE_BY_BYTE,
  GONE,
  HALF_CLOSED,
  HALF_CLOSED_STREAM,
  halfClosedAtOnce(
    'a session whose end comes with it',
    raw(trusty(), query('SHOW wal_level'), query('FOO'), query('TIMELINE_HISTORY 2')),
  ),
  halfClosedAtOnce('a user with a password whose end comes at once', trusty({ user: 'scram' })),
  halfClosedAtOnce(
    'a user whom no rule lets in, whose end comes at once',
    trusty({ user: 'rejected' }),
  ),
  CANCELLED,
  firstBytes('+', 'a startup packet and a query in one segment', raw(trusty(), query('FOO'))),
  firstBytes('+', 'two startup packets in one segment', TWO_STARTUPS),
  firstBytes(
    '+',
    'a cancel request and a startup packet',
    raw(packet(CANCEL_REQUEST, i32(1), i32(2)), trusty()),
  ),
  firstBytes('+', 'a startup packet and a typed message of no length', raw(trusty(), 'Q', i32(0))),
  firstBytes('+', 'a password before it is asked for', raw(message('p', cstr('x')), trusty())),
  firstBytes('+', 'a typed message instead of a startup packet', query('IDENTIFY_SYSTEM')),
  firstBytes(
    '+',
    'parameters twice',
    startupBytes(
      ...['user', 'nobody', 'user', 'trusty', 'replication', 'no', 'replication', 'true'].map(cstr),
      0,
    ),
  ),
  firstBytes(
    '+',
    'a parameter in capital letters',
    parametersOf('USER', 'trusty', 'replication', 'true'),
  ),
  firstBytes('+', 'a parameter of no name behind others', parametersOf('user', 'trusty', '', 'x')),
  firstBytes(
    '+',
    'four hundred parameters',
    parametersOf(
      'user',
      'trusty',
      'replication',
      'true',
      ...Array.from({ length: 400 }, (_, index) => [`x.y${index}`, 'z']).flat(),
    ),
  ),
  firstBytes('+', 'an unknown parameter', trusty({ nonsense: '1' })),
  firstBytes('+', 'a parameter that only the server may set', trusty({ port: '1' })),
  firstBytes('+', 'a parameter of a superuser', trusty({ log_statement: 'all' })),
  firstBytes('+', 'search_path with SQL in it', trusty({ search_path: "'; DROP TABLE x; --" })),
  firstBytes('+', 'an encoding that is none', trusty({ client_encoding: 'EBCDIC' })),
  firstBytes('+', 'a date style that is none', trusty({ datestyle: 'nonsense' })),
  firstBytes('+', 'a database of 9000 bytes', trusty({ database: 'd'.repeat(9000) })),
  options('options with seven hundred settings', MANY_C),
  options('options without a setting', '-c'),
  options('options with a setting without a value', '-c wal_sender_timeout'),
  options('options that end in a backslash', '-c wal_sender_timeout=5s\\'),
  options('options with a switch of the server', '-d 5'),
  options('options with a switch that is none', '--'),
  options('options with a word', 'wal_sender_timeout=5s'),
  options('options with an empty name', '-c =5'),
  options('options with a NUL written out', '-c application_name=a\\000b'),
  options('options with role and session_authorization', '-c role=postgres'),
  options('options that make everybody superuser', '-c is_superuser=on'),
  options('options with a timeout of 2^31', '-c wal_sender_timeout=2147483648'),
  options('options with a timeout that is no number', '-c wal_sender_timeout=NaN'),
  options('options with a timeout of hexadecimal digits', '-c wal_sender_timeout=0x10'),
  options('options with a timeout of 1e3', '-c wal_sender_timeout=1e3'),
  named('an application_name of 8000 bytes', 'n'.repeat(8000)),
  named('an application_name of control characters', raw(1, 9, 10, 13, 27, '[31m', 127)),
  named('an application_name of invalid UTF-8', raw(0xff, 0xc3, 0x28, 0xe2, 0x82)),
  named('an application_name of quotes', `a'b"c\\d;--{}<script>`),
  flood('two hundred cancel requests with wrong keys', 200, (pid) =>
    packet(CANCEL_REQUEST, i32(pid), i32(7)),
  ),
  flood('a hundred connections of rubbish', 100, () => raw('EHLO localhost\r\n')),
  sessionBytes('+', 'a query of 60 KB', query(`SHOW ${'x'.repeat(60_000)}`)),
  sessionBytes('+', 'a thousand Syncs', raw(...Array.from({ length: 1000 }, () => message('S')))),
  sessionBytes(
    '+',
    'an error for every kind of message',
    raw(...['P', 'B', 'E', 'D', 'C', 'F', 'S', 'P', 'S'].map((type) => message(type, cstr('')))),
  ),
  sessionBytes('+', 'a command of white space and semicolons', query(`${' \t\n'.repeat(3000)};;;`)),
  sessionBytes('+', 'ten thousand quotes', query('"'.repeat(10_000))),
  sessionBytes('+', 'ten thousand parentheses', query(`BASE_BACKUP ${'('.repeat(10_000)}`)),
  sessionBytes('+', 'a name of 60 KB', query(`DROP_REPLICATION_SLOT "${'n'.repeat(60_000)}"`)),
  sessionBytes('+', 'a startup packet in a session', trusty()),
  sessionBytes(
    '+',
    'the bytes of a TLS ClientHello in a session',
    raw(0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0),
  ),
  streamBytes(
    '+',
    'a reply and a Query in one segment',
    raw(statusUpdate(1n, 1n, 1n), query('FOO')),
  ),
  streamBytes(
    '+',
    'feedback, reply and CopyDone in one segment',
    raw(feedback(1000, 0), statusUpdate(1n, 1n, 1n), message('c')),
  ),
  streamBytes(
    '+',
    'thirty thousand replies, then CopyDone',
    raw(...Array.from({ length: 30_000 }, () => statusUpdate(0n, 0n, 0n)), message('c')),
  ),
  streamBytes(
    '+',
    'a reply whose time is the end of all times',
    raw(message('d', 'r', i64(1n), i64(1n), i64(1n), i64(2n ** 63n - 1n), 0), message('c')),
  ),
  streamBytes('+', 'a startup packet in a stream', trusty()),
  streamBytes('+', 'CopyDone and Terminate', raw(message('c'), message('X'))),
  invention('the same name three times', async (side) => {
    const clients = await Promise.all(
      [1, 2, 3].map(() => streaming(side, { application_name: 'same' })),
    );
    const lines = await Promise.all(
      clients.map(async (client) => {
        client.send(message('c'));
        return await leftStream(client);
      }),
    );
    return lines.flat();
  }),
];

function parametersOf(...names: readonly string[]): Uint8Array {
  return startupBytes(...names.map(cstr), 0);
}
