// A socket to a server and nothing else: sends any bytes, reads messages with a plain reader of its own.
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { cstr, packet, raw } from './naive-writer.ts';

/** One message of the server: its letter and its body. */
export interface RawMessage {
  readonly type: string;
  readonly body: Buffer;
}

/** The fields of an ErrorResponse or NoticeResponse, by letter. */
export type RawFields = Readonly<Record<string, string>>;

/** Reads the fields of an ErrorResponse or NoticeResponse. */
export function rawFields(body: Buffer): RawFields {
  const entries = body
    .toString()
    .split('\0')
    .filter((field) => field !== '')
    .map((field) => [field.charAt(0), field.slice(1)]);
  return Object.fromEntries(entries);
}

/** A StartupMessage of protocol 3.`minor`. */
export function startup(parameters: Readonly<Record<string, string>>, minor = 0): Uint8Array {
  return packet(0x30000 + minor, ...Object.entries(parameters).flat().map(cstr), 0);
}

/** An open socket. Messages wait until they are asked for. */
export class RawSession {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #isClosed = false;
  #wake: () => void = () => {};

  constructor(socket: Socket) {
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

  get isClosed(): boolean {
    return this.#isClosed;
  }

  send(...parts: (number | string | Uint8Array)[]): void {
    this.socket.write(raw(...parts));
  }

  /** Exactly `count` bytes, or fewer when the connection ends before. */
  async bytes(count: number): Promise<Buffer> {
    while (this.#received.length < count && !this.#isClosed) await this.#more();
    const bytes = this.#received.subarray(0, count);
    this.#received = this.#received.subarray(bytes.length);
    return bytes;
  }

  /** The next message, or null when the server has closed the connection. */
  async next(): Promise<RawMessage | null> {
    for (;;) {
      const message = this.#cut();
      if (message !== null) return message;
      if (this.#isClosed) return null;
      await this.#more();
    }
  }

  /** All messages up to and with the first of one of the `types`, or up to the end of the connection. */
  async until(types: string): Promise<RawMessage[]> {
    const messages: RawMessage[] = [];
    for (;;) {
      const message = await this.next();
      if (message === null) return messages;
      messages.push(message);
      if (types.includes(message.type)) return messages;
    }
  }

  /** Resolves when the server has closed the connection; gives what came before. */
  async closed(): Promise<Buffer> {
    while (!this.#isClosed) await this.#more();
    return this.bytes(this.#received.length);
  }

  close(): void {
    this.socket.destroy();
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #cut(): RawMessage | null {
    if (this.#received.length < 5) return null;
    const end = 1 + this.#received.readInt32BE(1);
    if (this.#received.length < end) return null;
    const message = {
      type: this.#received.toString('latin1', 0, 1),
      body: this.#received.subarray(5, end),
    };
    this.#received = this.#received.subarray(end);
    return message;
  }
}

/** Connects; `host` may be the directory of a Unix socket. */
export async function openRawSession(target: { host: string; port: number }): Promise<RawSession> {
  const socket = target.host.startsWith('/')
    ? connect(`${target.host}/.s.PGSQL.${target.port}`)
    : connect(target.port, target.host);
  const session = new RawSession(socket);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return session;
}
