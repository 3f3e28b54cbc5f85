// What is one hostile input, and how is what comes back written down so that two answers can be compared? A transcript is
// a list of lines: one a message, with numbers that differ by nature left out, and how the connection ended.
import { connect } from 'node:net';
import { message, query, RawClient, startup, STANDBY, summary } from './raw-client.ts';
import type { RawMessage } from './raw-session.ts';

/** Who is asked: a real server, or walcast in front of it. */
export interface Side {
  readonly name: 'postgres' | 'walcast';
  readonly major: number;
  readonly port: number;
  /** Directory of its Unix socket. */
  readonly socketDirectory: string;
}

/** One input. `run` gives the transcript. */
export interface HostileCase {
  /** The row of the catalogue that it belongs to; `+` for one that is in no row. */
  readonly row: string;
  /** Unique, with the row. */
  readonly name: string;
  readonly run: (side: Side) => Promise<string[]>;
  /** It is about the deadline of the startup, which is two seconds for such cases. */
  readonly isSlow?: true;
}

/** A connection whose user needs no password. */
export const TRUSTY: Readonly<Record<string, string>> = {
  ...STANDBY,
  user: 'trusty',
  application_name: 'hostile',
};

/** As long as a test is ready to wait for what has to come; whoever needs it has failed. */
const PATIENCE_MS = 30_000;

/** Positions, pids and sizes of what was written meanwhile are not compared; identifiers and versions are. */
export function normalize(line: string): string {
  return line
    .replaceAll(/\b[0-9A-F]{1,8}\/[0-9A-F]{1,8}\b/g, 'LSN')
    .replaceAll(/\b[0-9A-F]{24}\b/g, 'SEGMENT')
    .replaceAll(/\bPID \d+/g, 'PID n');
}

/** A message as a line. */
export function line(item: RawMessage): string {
  const { type, body } = item;
  if (type === 'R') return `R ${body.readInt32BE(0)}`;
  if (type === 'v') return `v ${body.toString('hex')}`;
  return normalize(summary(item));
}

/** Opens a connection to a side, from another address of the loopback network where one is given. */
export async function open(side: Side, localAddress?: string): Promise<RawClient> {
  const address = localAddress === undefined ? {} : { localAddress };
  return await opened(connect({ port: side.port, host: '127.0.0.1', noDelay: true, ...address }));
}

/** Opens a connection to the side's Unix socket. */
export async function openLocal(side: Side): Promise<RawClient> {
  return await opened(connect(`${side.socketDirectory}/.s.PGSQL.${side.port}`));
}

async function opened(socket: ReturnType<typeof connect>): Promise<RawClient> {
  const client = new RawClient(socket);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return client;
}

/** A session that was let in, and is ready for commands. */
export async function letIn(
  side: Side,
  parameters: Readonly<Record<string, string>> = {},
): Promise<RawClient> {
  const client = await open(side);
  client.send(startup({ ...TRUSTY, ...parameters }));
  const greeting = await client.until('Z');
  if (greeting.at(-1)?.type !== 'Z') throw new Error(greeting.map(line).join('\n'));
  return client;
}

/** Everything up to the end of the connection, or up to ReadyForQuery: then it is closed by us. */
export async function said(client: RawClient): Promise<string[]> {
  const lines: string[] = [];
  for (;;) {
    const item = await patiently(client, client.next());
    if (item === null) return [...lines, ...(await remainder(client)), 'closed'];
    // The greeting is compared elsewhere; WAL and keepalives come when they come.
    if ('SKd'.includes(item.type)) continue;
    lines.push(line(item));
    if (item.type !== 'Z') continue;
    client.close();
    return lines;
  }
}

/** Bytes that are no whole message. */
async function remainder(client: RawClient): Promise<string[]> {
  const bytes = await client.closed();
  return bytes.length === 0 ? [] : [`bytes ${JSON.stringify(bytes.toString('latin1'))}`];
}

/** Everything that is said until the answer of a marker command behind it, or until the connection ends. */
export async function saidUntilMarker(client: RawClient): Promise<string[]> {
  client.send(message('S'), query('SHOW integer_datetimes'));
  const lines: string[] = [];
  for (;;) {
    const item = await patiently(client, client.next());
    if (item === null) return [...lines, 'closed'];
    if (item.type === 'd') continue;
    lines.push(line(item));
    if (lines.at(-1) !== 'D on') continue;
    client.close();
    return lines;
  }
}

/** Rejects when nothing comes although something has to, and says what the peer was doing instead: nothing. */
export async function patiently<T>(client: RawClient, waiting: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      client.close();
      reject(new Error(`nothing came for ${PATIENCE_MS} ms`));
    }, PATIENCE_MS);
  });
  try {
    return await Promise.race([waiting, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Who waits for more, without a word, as long as more may come. */
export type Waiting = 'both' | 'postgres' | 'nobody';

/** As {@link said}, of a side that is known to wait where `waiting` says so: then its silence is what is to be seen. */
export async function closesOrWaits(
  client: RawClient,
  side: Side,
  waiting: Waiting,
): Promise<string[]> {
  if (waiting === 'nobody' || (waiting === 'postgres' && side.name === 'walcast')) {
    return await said(client);
  }
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<string[]>((resolve) => {
    timer = setTimeout(() => resolve(['waits']), SILENCE_MS);
  });
  const answer = said(client);
  const lines = await Promise.race([answer, silence]);
  clearTimeout(timer);
  client.close();
  await answer.catch(() => []);
  return lines;
}

/** What is too short shows nothing, and what is too long costs time: nobody fails by it. */
const SILENCE_MS = 2_000;

/** Sends bytes as the first of a connection and gives what comes back. */
export function firstBytes(row: string, name: string, bytes: Uint8Array): HostileCase {
  return {
    row,
    name,
    async run(side): Promise<string[]> {
      const client = await open(side);
      client.send(bytes);
      return await said(client);
    },
  };
}

/** Sends bytes to a session that was let in, and gives what comes back up to a marker command. */
export function sessionBytes(row: string, name: string, bytes: Uint8Array): HostileCase {
  return {
    row,
    name,
    async run(side): Promise<string[]> {
      const client = await letIn(side);
      client.send(bytes);
      return await saidUntilMarker(client);
    },
  };
}

/** Sends a command, and a marker once it has been answered: what comes in between may be a stream. */
export function command(row: string, sql: string, name: string = sql): HostileCase {
  return {
    row,
    name,
    async run(side): Promise<string[]> {
      const client = await letIn(side);
      client.send(query(sql));
      return await leftStream(client);
    },
  };
}

/** Sends bytes while WAL is streamed, and gives what comes back up to ReadyForQuery and the marker behind it. */
export function streamBytes(row: string, name: string, bytes: Uint8Array): HostileCase {
  return {
    row,
    name,
    async run(side): Promise<string[]> {
      const client = await streaming(side);
      client.send(bytes);
      return await leftStream(client);
    },
  };
}

/** A session that streams from the server's present position. */
export async function streaming(
  side: Side,
  parameters: Readonly<Record<string, string>> = {},
): Promise<RawClient> {
  const client = await letIn(side, parameters);
  client.send(query(`START_REPLICATION ${await position(client)} TIMELINE ${TIMELINE}`));
  const first = await patiently(client, client.next());
  if (first?.type !== 'W') throw new Error(first === null ? 'closed' : line(first));
  return client;
}

/** The timeline of the servers of the suite: they were promoted once. */
export const TIMELINE = 2;

/** The server's position as IDENTIFY_SYSTEM gives it. */
export async function position(client: RawClient): Promise<string> {
  const [, row = ''] = await client.ask('IDENTIFY_SYSTEM');
  return row.split(',')[2] ?? '';
}

/** What is said up to ReadyForQuery, and to a marker command behind it. */
export async function leftStream(client: RawClient): Promise<string[]> {
  const lines: string[] = [];
  while (lines.at(-1) !== 'Z I') {
    const item = await patiently(client, client.next());
    if (item === null) return [...lines, 'closed'];
    if (item.type !== 'd') lines.push(line(item));
  }
  return [...lines, ...(await saidUntilMarker(client))];
}
