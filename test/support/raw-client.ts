// A client of a walsender that sends any bytes and keeps every byte it gets, in order.
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { cstr, i32, i64, packet, raw } from './naive-writer.ts';
import { rawFields } from './raw-session.ts';
import type { RawFields, RawMessage } from './raw-session.ts';

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

/** A typed message. */
export function message(type: string, ...parts: (number | string | Uint8Array)[]): Uint8Array {
  const body = Buffer.concat(parts.map((part) => (part instanceof Uint8Array ? part : raw(part))));
  return new Uint8Array(Buffer.concat([raw(type, i32(4 + body.length)), body]));
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

/** A StartupMessage of protocol 3.`minor`. */
export function startup(parameters: Readonly<Record<string, string>>, minor = 0): Uint8Array {
  return packet(0x30000 + minor, ...Object.entries(parameters).flat().map(cstr), 0);
}

/** Parameters of a standby. */
export const STANDBY: Readonly<Record<string, string>> = {
  user: 'replicator',
  database: 'replication',
  replication: 'true',
  application_name: 'standby1',
};

/** An open socket. */
export class RawClient {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #isClosed = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#isClosed = true;
      this.#wake();
    });
  }

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

  get isClosed(): boolean {
    return this.#isClosed;
  }

  send(...parts: (number | string | Uint8Array)[]): void {
    this.socket.write(
      Buffer.concat(parts.map((part) => (part instanceof Uint8Array ? part : raw(part)))),
    );
  }

  /** Exactly `count` bytes, or fewer when the connection ends before. */
  async bytes(count: number): Promise<Buffer> {
    while (this.#received.length < count && !this.#isClosed) await this.#more();
    const bytes = this.#received.subarray(0, count);
    this.#received = this.#received.subarray(bytes.length);
    return bytes;
  }

  /** The next message, or null when the connection has ended. */
  async next(): Promise<RawMessage | null> {
    const header = await this.bytes(5);
    if (header.length < 5) return null;
    const body = await this.bytes(header.readInt32BE(1) - 4);
    return { type: header.toString('latin1', 0, 1), body };
  }

  /** All messages up to and with the first of one of the `types`, or up to the end of the connection. */
  async until(types: string): Promise<RawMessage[]> {
    const messages: RawMessage[] = [];
    for (;;) {
      const item = await this.next();
      if (item === null) return messages;
      messages.push(item);
      if (types.includes(item.type)) return messages;
    }
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

  /** Resolves when the server has closed the connection; gives what came before. */
  async closed(): Promise<Buffer> {
    while (!this.#isClosed) await this.#more();
    return this.bytes(this.#received.length);
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

  close(): void {
    this.socket.destroy();
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
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
