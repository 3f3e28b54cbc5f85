// Plays PostgreSQL's part towards a walreceiver, over a real loopback socket and with a plain writer of its own: honest
// by default, and wrong wherever a test says so.
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { cstr, i16, i32, i64 } from './naive-writer.ts';

type Part = number | string | Uint8Array;

const SSL_REQUEST_CODE = 80_877_103;

/** As naive-writer's `raw` and `message`, for bytes of any length. */
function raw(...parts: readonly Part[]): Buffer {
  return Buffer.concat(
    parts.map((part) => (typeof part === 'number' ? Buffer.of(part) : Buffer.from(part))),
  );
}

function message(type: string, ...parts: readonly Part[]): Buffer {
  const body = raw(...parts);
  return raw(type, i32(4 + body.length), body);
}

/** What the played server says about itself. */
export interface PlayedServer {
  systemIdentifier: string;
  timeline: string;
  xlogPos: string;
  serverVersion: string;
  /** Parameters reported at login besides server_version and TimeZone. */
  parameters: Record<string, string>;
  /** For what a server up to 14 answers to an early START_REPLICATION. */
  isStandby: boolean;
  /** Answers to SHOW; a name that is missing is an unknown setting. */
  settings: Record<string, string>;
  /** History file by timeline: file name and content. */
  histories: Record<string, readonly [name: string, content: string]>;
  /** READ_REPLICATION_SLOT: type, restart_lsn; by name. */
  slots: Record<string, readonly [type: string, restartLsn: string | null]>;
}

/** A primary of major 18 on timeline 1. */
export function playedServer(overrides: Partial<PlayedServer> = {}): PlayedServer {
  return {
    systemIdentifier: '7301234567890123456',
    timeline: '1',
    xlogPos: '0/5000060',
    serverVersion: '18.4',
    parameters: {},
    isStandby: false,
    settings: {
      wal_segment_size: '16MB',
      wal_block_size: '8192',
      data_directory_mode: '0700',
      in_hot_standby: 'off',
      shared_buffers: '128MB',
    },
    histories: {},
    slots: {},
    ...overrides,
  };
}

/** One message of the client. */
export interface ClientMessage {
  readonly type: string;
  readonly body: Buffer;
}

/** A standby status update as it came. */
export interface PlayedStatus {
  readonly write: bigint;
  readonly flush: bigint;
  readonly apply: bigint;
  readonly replyRequested: boolean;
}

/** An ErrorResponse. */
export function errorResponse(
  sqlstate: string,
  text: string,
  severity: 'ERROR' | 'FATAL' = 'ERROR',
): Uint8Array {
  return message(
    'E',
    raw('S', cstr(severity), 'V', cstr(severity), 'C', cstr(sqlstate), 'M', cstr(text), 0),
  );
}

/** ReadyForQuery. */
export const READY: Uint8Array = message('Z', 'I');

/** CommandComplete. */
export function complete(tag: string): Uint8Array {
  return message('C', cstr(tag));
}

/** RowDescription of text columns, then one DataRow a row; null is NULL. */
export function rows(
  columns: readonly string[],
  values: readonly (readonly (string | null)[])[],
): Uint8Array {
  const description = columns.map((name) =>
    raw(cstr(name), i32(0), i16(0), i32(25), i16(-1), i32(-1), i16(0)),
  );
  const data = values.map((row) =>
    message(
      'D',
      i16(row.length),
      ...row.map((value) => (value === null ? i32(-1) : raw(i32(Buffer.byteLength(value)), value))),
    ),
  );
  return raw(message('T', i16(columns.length), ...description), ...data);
}

/** CopyBothResponse. */
export const COPY_BOTH: Uint8Array = message('W', 0, i16(0));

/** A WALData message. */
export function walData(startLsn: bigint, data: Uint8Array, walEnd?: bigint): Uint8Array {
  const end = walEnd ?? startLsn + BigInt(data.length);
  return message('d', 'w', i64(startLsn), i64(end), i64(0n), data);
}

/** A primary keepalive. */
export function keepalive(walEnd: bigint, replyRequested = false): Uint8Array {
  return message('d', 'k', i64(walEnd), i64(0n), replyRequested ? 1 : 0);
}

/** Listens on a free loopback port. */
export class ScriptedUpstream implements AsyncDisposable {
  readonly #server: Server;
  readonly #arrived: ScriptedSession[] = [];
  readonly #sockets = new Set<Socket>();
  #wake: (() => void) | null = null;
  /** Connections accepted so far. */
  accepted = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      this.accepted += 1;
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      this.#arrived.push(new ScriptedSession(socket));
      this.#wake?.();
    });
  }

  static async listen(port = 0): Promise<ScriptedUpstream> {
    const server = createServer({ noDelay: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', resolve);
    });
    return new ScriptedUpstream(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The next connection, in the order they came. */
  async accept(): Promise<ScriptedSession> {
    for (;;) {
      const session = this.#arrived.shift();
      if (session !== undefined) return session;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }
}

/** One connection, from the server's side. */
export class ScriptedSession {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  #isClosed = false;
  #wake: (() => void) | null = null;
  /** Everything is sent one write a byte. */
  cutsBytes = false;
  /** Every command that was answered, in order. */
  readonly commands: string[] = [];
  /** Resolves when the connection is gone, with whether the client had sent FIN first. */
  readonly closed: Promise<boolean>;

  constructor(socket: Socket) {
    this.#socket = socket;
    let isEnded = false;
    this.closed = new Promise((resolve) => {
      socket.on('end', () => {
        isEnded = true;
      });
      socket.on('close', () => {
        this.#isClosed = true;
        this.#wake?.();
        resolve(isEnded);
      });
    });
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake?.();
    });
  }

  send(...parts: readonly Part[]): void {
    if (this.cutsBytes) this.sendByteByByte(raw(...parts));
    else this.#socket.write(raw(...parts));
  }

  /** One write a byte. */
  sendByteByByte(bytes: Uint8Array): void {
    for (const byte of bytes) this.#socket.write(Uint8Array.of(byte));
  }

  /** Closes in order. */
  end(): void {
    this.#socket.end();
  }

  /** Closes with a reset. */
  reset(): void {
    this.#socket.resetAndDestroy();
  }

  /** The startup packet's parameters. A request for TLS before it is turned down. */
  async startup(): Promise<Map<string, string>> {
    await this.#have(8);
    if (this.#received.readInt32BE(4) === SSL_REQUEST_CODE) {
      this.#received = this.#received.subarray(8);
      this.#socket.write('N');
      await this.#have(8);
    }
    const length = this.#received.readInt32BE(0);
    await this.#have(length);
    const fields = this.#received
      .subarray(8, length - 1)
      .toString()
      .split('\0');
    this.#received = this.#received.subarray(length);
    const parameters = new Map<string, string>();
    for (let index = 0; index + 1 < fields.length; index += 2) {
      parameters.set(fields[index] ?? '', fields[index + 1] ?? '');
    }
    return parameters;
  }

  /** The next message; rejects when the client closed. */
  async next(): Promise<ClientMessage> {
    await this.#have(5);
    const end = 1 + this.#received.readInt32BE(1);
    await this.#have(end);
    const type = this.#received.toString('latin1', 0, 1);
    const body = Buffer.from(this.#received.subarray(5, end));
    this.#received = this.#received.subarray(end);
    return { type, body };
  }

  /** The next command's text; rejects for another message. */
  async command(): Promise<string> {
    const { type, body } = await this.next();
    if (type !== 'Q') throw new Error(`expected a command, got ${type}`);
    const text = body.subarray(0, -1).toString();
    this.commands.push(text);
    return text;
  }

  /** The next status update; rejects for another message. */
  async status(): Promise<PlayedStatus> {
    const { type, body } = await this.next();
    if (type !== 'd' || body[0] !== 0x72 || body.length !== 34) {
      throw new Error(`expected a status update, got ${type} of ${body.length} bytes`);
    }
    return {
      write: body.readBigUInt64BE(1),
      flush: body.readBigUInt64BE(9),
      apply: body.readBigUInt64BE(17),
      replyRequested: body[33] === 1,
    };
  }

  /** Lets the client in without a password. */
  async login(server: PlayedServer = playedServer()): Promise<Map<string, string>> {
    const parameters = await this.startup();
    this.send(message('R', i32(0)));
    this.greet(server);
    return parameters;
  }

  /** What follows a login. */
  greet(server: PlayedServer = playedServer()): void {
    this.send(
      message('S', cstr('server_version'), cstr(server.serverVersion)),
      message('S', cstr('TimeZone'), cstr('UTC')),
      ...Object.entries(server.parameters).map(([name, value]) =>
        message('S', cstr(name), cstr(value)),
      ),
      message('K', i32(4242), i32(1)),
      READY,
    );
  }

  /** Answers commands as `server` would, until a START_REPLICATION, whose text is returned unanswered. */
  async identify(
    server: PlayedServer = playedServer(),
    until: RegExp = /^START_REPLICATION/,
  ): Promise<string> {
    for (;;) {
      const command = await this.command();
      if (until.test(command) && !isEarlyStart(command)) return command;
      this.send(answer(server, command), READY);
    }
  }

  /** Login and identification, then the stream is opened and the first status update read. */
  async stream(server: PlayedServer = playedServer()): Promise<PlayedStatus> {
    await this.login(server);
    await this.identify(server);
    this.send(COPY_BOTH);
    return this.status();
  }

  async #have(byteCount: number): Promise<void> {
    while (this.#received.length < byteCount) {
      if (this.#isClosed) throw new Error('the client closed the connection');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** Of a timeline that no server has: asked for to learn from the refusal. */
function isEarlyStart(command: string): boolean {
  return command.endsWith(' TIMELINE 2147483647');
}

/** What `server` answers to a command, without ReadyForQuery. */
export function answer(server: PlayedServer, command: string): Uint8Array {
  const [verb = '', argument = ''] = command.split(' ');
  switch (verb) {
    case 'SHOW': {
      const value = server.settings[argument];
      if (value === undefined) {
        return errorResponse('42704', `unrecognized configuration parameter "${argument}"`);
      }
      return raw(rows([argument], [[value]]), complete('SHOW'));
    }
    case 'IDENTIFY_SYSTEM': {
      const row = [server.systemIdentifier, server.timeline, server.xlogPos, null];
      return raw(rows(['systemid', 'timeline', 'xlogpos', 'dbname'], [row]), complete(verb));
    }
    case 'TIMELINE_HISTORY': {
      const file = server.histories[argument];
      if (file === undefined)
        return errorResponse('58P01', `could not open file "pg_wal/${argument}"`);
      return raw(rows(['filename', 'content'], [file]), complete(verb));
    }
    case 'READ_REPLICATION_SLOT': {
      const slot = server.slots[argument.replaceAll('"', '')];
      const row =
        slot === undefined ? [null, null, null] : [...slot, slot[1] === null ? null : '1'];
      return raw(rows(['slot_type', 'restart_lsn', 'restart_tli'], [row]), complete(verb));
    }
    case 'CREATE_REPLICATION_SLOT': {
      const name = argument.replaceAll('"', '');
      if (server.slots[name] !== undefined) {
        return errorResponse('42710', `replication slot "${name}" already exists`);
      }
      server.slots[name] = ['physical', command.includes('RESERVE_WAL') ? '0/4000028' : null];
      const row = [name, '0/0', null, null];
      return raw(
        rows(['slot_name', 'consistent_point', 'snapshot_name', 'output_plugin'], [row]),
        complete(verb),
      );
    }
    case 'START_REPLICATION':
      return server.isStandby
        ? errorResponse('55000', 'IDENTIFY_SYSTEM has not been run before START_REPLICATION')
        : errorResponse('XX000', "requested timeline 2147483647 is not in this server's history");
    case 'DROP_REPLICATION_SLOT': {
      const name = argument.replaceAll('"', '');
      if (server.slots[name] === undefined) {
        return errorResponse('42704', `replication slot "${name}" does not exist`);
      }
      delete server.slots[name];
      return complete(verb);
    }
    default:
      return errorResponse('42601', 'syntax error');
  }
}
