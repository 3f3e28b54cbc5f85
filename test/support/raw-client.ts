// A client of a walsender that sends any bytes and keeps every byte it gets, in order.
import { connect } from 'node:net';
import { cstr, i64, message } from './naive-writer.ts';
import { rawFields, RawSession, startup } from './raw-session.ts';
import type { RawFields, RawMessage } from './raw-session.ts';

export { message, startup };

/** Microseconds since 2000-01-01 that tests put into replies. */
const CLIENT_TIME = 700_000_000_000_000n;

/** One message as a test compares it: errors by their fields, everything else by letter and text. */
export function summary(message: RawMessage): string {
  const { type, body } = message;
  if (type === 'E' || type === 'N') {
    const fields = rawFields(body);
    const extras = [fields['D'], fields['H']].filter((text) => text !== undefined);
    return [type, fields['S'], fields['C'], fields['M'], ...extras].join('|');
  }
  if (type === 'C') return `C ${body.toString('utf8', 0, body.length - 1)}`;
  if (type === 'Z') return `Z ${body.toString()}`;
  if (type === 'D') return `D ${rowValues(body).join(',')}`;
  return type;
}

/** Values of a DataRow as text; NULL as the word. */
export function rowValues(body: Buffer): string[] {
  const values: string[] = [];
  let offset = 2;
  for (let index = 0; index < body.readInt16BE(0); index += 1) {
    const length = body.readInt32BE(offset);
    offset += 4;
    values.push(length < 0 ? 'NULL' : body.toString('utf8', offset, offset + length));
    offset += Math.max(0, length);
  }
  return values;
}

/** A Query. */
export function query(sql: string): Uint8Array {
  return message('Q', cstr(sql));
}

/** A standby status update inside CopyData. */
export function statusUpdate(
  write: bigint,
  flush: bigint,
  apply: bigint,
  replyRequested = 0,
): Uint8Array {
  return message('d', 'r', i64(write), i64(flush), i64(apply), i64(CLIENT_TIME), replyRequested);
}

/** Parameters of a standby. */
export const STANDBY: Readonly<Record<string, string>> = {
  user: 'replicator',
  database: 'replication',
  replication: 'true',
  application_name: 'standby1',
};

/** A session with the words of a standby. */
export class RawClient extends RawSession {
  /** Connects to a port of the loopback interface. */
  static async open(port: number): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const client = new RawClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return client;
  }

  /** Connects and is let in as a standby. */
  static async standby(
    port: number,
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<{ client: RawClient; pid: number; key: Buffer; greeting: RawMessage[] }> {
    const client = await RawClient.open(port);
    client.send(startup({ ...STANDBY, ...parameters }));
    const greeting = await client.until('Z');
    const keyData = greeting.find((item) => item.type === 'K');
    if (keyData === undefined) throw new Error(greeting.map(summary).join('\n'));
    return {
      client,
      pid: keyData.body.readInt32BE(0),
      key: keyData.body.subarray(4),
      greeting,
    };
  }

  /** Summaries of all messages up to ReadyForQuery, or up to the end of the connection. */
  async answer(): Promise<string[]> {
    return (await this.until('Z')).map(summary);
  }

  /** Summaries of everything up to the end of the connection. */
  async rest(): Promise<string[]> {
    return (await this.until('')).map(summary);
  }

  /** Sends a query and gives its answer. */
  async ask(sql: string): Promise<string[]> {
    this.send(query(sql));
    return this.answer();
  }

  /** Fields of the next message, which must be an error. */
  async error(): Promise<RawFields> {
    const item = await this.next();
    if (item?.type !== 'E')
      throw new Error(`no error but ${item === null ? 'end' : summary(item)}`);
    return rawFields(item.body);
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }
}

/** The WAL that a stream delivers, checked for gaps and message ends as it comes. */
export class StreamReader {
  readonly client: RawClient;
  endLsn: bigint;
  readonly chunks: Buffer[] = [];
  keepalives: { walEnd: bigint; replyRequested: number }[] = [];
  /** Ends (exclusive) of the messages received. */
  readonly messageEnds: bigint[] = [];

  constructor(client: RawClient, startLsn: bigint) {
    this.client = client;
    this.endLsn = startLsn;
  }

  /** Reads until everything up to `lsn` has come; gives the message that came instead of more WAL, if any. */
  async readTo(lsn: bigint): Promise<RawMessage | null> {
    while (this.endLsn < lsn) {
      const item = await this.client.next();
      if (item === null) throw new Error(`stream ended at ${this.endLsn}`);
      if (!this.take(item)) return item;
    }
    return null;
  }

  /** The next message that is no WAL and, unless asked for, no keepalive. */
  async nextOther(options: { keepalives?: boolean } = {}): Promise<RawMessage | null> {
    for (;;) {
      const seen = this.keepalives.length;
      const item = await this.client.next();
      if (item === null || !this.take(item)) return item;
      if (options.keepalives === true && this.keepalives.length > seen) return item;
    }
  }

  wal(): Buffer {
    return Buffer.concat(this.chunks);
  }

  /** True when the message was WAL or a keepalive. */
  take(item: RawMessage): boolean {
    if (item.type !== 'd') return false;
    const { body } = item;
    if (body[0] === 0x6b) {
      const walEnd = body.readBigUInt64BE(1);
      this.keepalives.push({ walEnd, replyRequested: body[17] ?? -1 });
      return true;
    }
    if (body[0] !== 0x77) return false;
    const startLsn = body.readBigUInt64BE(1);
    const walEnd = body.readBigUInt64BE(9);
    const data = body.subarray(25);
    if (startLsn !== this.endLsn) throw new Error(`gap: got ${startLsn}, expected ${this.endLsn}`);
    if (data.length === 0 || data.length > 131_072) throw new Error(`${data.length} bytes`);
    this.endLsn += BigInt(data.length);
    if (walEnd < this.endLsn) throw new Error('server end lies before the data');
    this.chunks.push(data);
    this.messageEnds.push(this.endLsn);
    return true;
  }
}
