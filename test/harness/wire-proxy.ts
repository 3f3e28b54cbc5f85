// A proxy between two PostgreSQL peers on real sockets that knows where one message ends and the next begins. It stands
// between any client and any server: a standby and its primary, a standby and walcast, walcast and its upstream. What
// it carries it carries unchanged; recorder.ts watches, fault-proxy.ts interferes.
import { createServer, connect } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { systemClock } from '../../src/base/clock.ts';
import { FrameDecoder } from '../../src/wire/frame-decoder.ts';
import { StartupDecoder } from '../../src/wire/startup-decoder.ts';
import {
  CANCEL_REQUEST_CODE,
  GSSENC_REQUEST_CODE,
  SSL_REQUEST_CODE,
  decodeInitialMessage,
} from '../../src/wire/startup.ts';
import { Lane } from './proxy-lane.ts';

/** Which way bytes travel. The server is the end that sends WAL. */
export type Direction = 'fromServer' | 'fromClient';

/** One typed message. `body` belongs to whoever holds the frame. */
export interface ProxyFrame {
  readonly type: number;
  readonly body: Uint8Array;
}

/** Where the proxy connects to, asked anew for each connection: a server may come back on another port. */
export interface ProxyTarget {
  readonly host: string;
  readonly port: number;
}

/** Sees everything, changes nothing. Bodies are valid until the call returns. */
export interface ProxyObserver {
  onOpen?(session: ProxySession): void;
  /** The real startup packet, after the TLS and GSSAPI questions. */
  onStartup?(session: ProxySession, parameters: ReadonlyMap<string, string>): void;
  onFrame?(session: ProxySession, direction: Direction, frame: ProxyFrame): void;
  /** `by` is the end that closed first; null when the proxy did. */
  onClose?(session: ProxySession, by: Direction | null): void;
}

/** What stands between reading a message and passing it on: the frames to pass on instead of it, in order. */
export type Transform = (
  session: ProxySession,
  direction: Direction,
  frame: ProxyFrame,
) => readonly ProxyFrame[];

/** How a proxy is set up. */
export interface WireProxyOptions {
  readonly target: () => ProxyTarget;
  /** 0 or absent: any free port. */
  readonly port?: number;
  readonly observer?: ProxyObserver;
  readonly transform?: Transform;
}

const FRAME_LENGTH_MAX = 1 << 30;
const BYTE_S = 0x53;

/** One connection through the proxy. */
export class ProxySession {
  readonly id: number;
  readonly openedAtMs: number = systemClock.nowMs();
  /** Parameters of the startup packet; empty until it came. */
  parameters: ReadonlyMap<string, string> = new Map();
  /** True once bytes are passed on unread: inside TLS, a cancel request, or after bytes that are no message. */
  isOpaque = false;
  readonly lanes: Readonly<Record<Direction, Lane>>;
  readonly #options: WireProxyOptions;
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #startup = new StartupDecoder();
  readonly #fromClient = new FrameDecoder(() => FRAME_LENGTH_MAX);
  readonly #fromServer = new FrameDecoder(() => FRAME_LENGTH_MAX);
  #isStarted = false;
  #questions = 0;
  #closedBy: Direction | null = null;
  #openEnds = 2;
  #isClosing = false;

  constructor(id: number, client: Socket, options: WireProxyOptions) {
    this.id = id;
    this.#options = options;
    this.#client = client;
    const { host, port } = options.target();
    this.#server = connect({ host, port, allowHalfOpen: true, noDelay: true });
    client.setNoDelay(true);
    this.lanes = {
      fromClient: new Lane(client, this.#server),
      fromServer: new Lane(this.#server, client),
    };
    this.#listen('fromClient', client, this.#server);
    this.#listen('fromServer', this.#server, client);
    options.observer?.onOpen?.(this);
  }

  get isOpen(): boolean {
    return this.#openEnds > 0;
  }

  get applicationName(): string {
    return this.parameters.get('application_name') ?? '';
  }

  /** Passes frames on as if they had just come in, behind what is on its way already. */
  inject(direction: Direction, frames: readonly ProxyFrame[]): void {
    for (const frame of frames) this.lanes[direction].push(frameBytes(frame));
  }

  /** Closes both ends: `reset` as a crash does, else after what is on its way. */
  close(how: 'reset' | 'orderly' = 'reset'): void {
    this.#isClosing = true;
    for (const socket of [this.#client, this.#server]) {
      if (how === 'orderly') socket.end();
      else socket.resetAndDestroy();
    }
  }

  #listen(direction: Direction, source: Socket, sink: Socket): void {
    source.on('data', (chunk: Buffer) => this.#take(direction, chunk));
    source.on('end', () => {
      if (!this.#isClosing) this.#closedBy ??= direction;
      this.lanes[direction].finish();
    });
    source.on('error', () => {
      if (!this.#isClosing) this.#closedBy ??= direction;
      if (this.lanes[direction].passesCloses) sink.destroy();
    });
    source.on('close', () => {
      if (this.lanes[direction].passesCloses) this.lanes[direction].finish();
      this.#openEnds -= 1;
      if (this.#openEnds === 0) this.#options.observer?.onClose?.(this, this.#closedBy);
    });
  }

  #take(direction: Direction, chunk: Uint8Array): void {
    if (this.isOpaque) {
      this.lanes[direction].push(chunk);
      return;
    }
    try {
      if (direction === 'fromClient') this.#takeFromClient(chunk);
      else this.#takeFromServer(chunk);
    } catch {
      this.#giveUpReading(direction, new Uint8Array(0));
    }
  }

  #takeFromClient(chunk: Uint8Array): void {
    if (this.#isStarted) {
      this.#cut('fromClient', this.#fromClient, chunk);
      return;
    }
    let input: Uint8Array = chunk;
    for (;;) {
      const packet = this.#startup.push(input);
      if (packet === 'more') return;
      const rest = this.#startup.takeRest();
      if (packet === 'invalid-length') {
        this.#giveUpReading('fromClient', rest);
        return;
      }
      this.lanes.fromClient.push(startupBytes(packet.code, packet.body));
      if (packet.code === SSL_REQUEST_CODE || packet.code === GSSENC_REQUEST_CODE) {
        this.#questions += 1;
        if (rest.length === 0) return;
        input = rest;
        continue;
      }
      this.#begin(packet, rest);
      return;
    }
  }

  #begin(packet: { code: number; body: Uint8Array }, rest: Uint8Array): void {
    this.#isStarted = true;
    if (packet.code === CANCEL_REQUEST_CODE) {
      this.#giveUpReading('fromClient', rest);
      return;
    }
    const message = decodeInitialMessage(packet);
    if (message.type === 'StartupMessage') {
      this.parameters = message.parameters;
      this.#options.observer?.onStartup?.(this, message.parameters);
    }
    if (rest.length > 0) this.#cut('fromClient', this.#fromClient, rest);
  }

  #takeFromServer(chunk: Uint8Array): void {
    let input = chunk;
    while (this.#questions > 0 && input.length > 0) {
      this.#questions -= 1;
      this.lanes.fromServer.push(input.slice(0, 1));
      const isTls = input[0] === BYTE_S;
      input = input.subarray(1);
      if (isTls) {
        this.#giveUpReading('fromServer', input);
        return;
      }
    }
    this.#cut('fromServer', this.#fromServer, input);
  }

  #cut(direction: Direction, decoder: FrameDecoder, chunk: Uint8Array): void {
    decoder.push(chunk, (type, view) => this.#passOn(direction, { type, body: view }));
    if (decoder.failure !== null) this.#giveUpReading(direction, new Uint8Array(0));
  }

  #passOn(direction: Direction, view: ProxyFrame): void {
    this.#options.observer?.onFrame?.(this, direction, view);
    const { transform } = this.#options;
    if (transform === undefined) {
      this.lanes[direction].push(frameBytes(view));
      return;
    }
    const frame = { type: view.type, body: new Uint8Array(view.body) };
    for (const out of transform(this, direction, frame))
      this.lanes[direction].push(frameBytes(out));
  }

  // From here on bytes travel unread. What a decoder held back when it failed is lost, which only a broken peer sees.
  #giveUpReading(direction: Direction, rest: Uint8Array): void {
    this.isOpaque = true;
    if (rest.length > 0) this.lanes[direction].push(rest);
  }
}

/** Listens on 127.0.0.1 and carries each connection to the target. */
export class WireProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sessions = new Set<ProxySession>();
  readonly #options: WireProxyOptions;
  #count = 0;
  /** While true, new connections are closed at once. */
  isRefusing = false;

  /** Use {@link openWireProxy}. */
  constructor(options: WireProxyOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
  }

  get host(): string {
    return '127.0.0.1';
  }

  get port(): number {
    return addressOf(this.#server).port;
  }

  /** Connections that are open on at least one side. */
  get sessions(): readonly ProxySession[] {
    return [...this.#sessions].filter((session) => session.isOpen);
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#options.port ?? 0, this.host, resolve);
    });
  }

  /** Closes every connection and the port. */
  async close(): Promise<void> {
    for (const session of this.#sessions) session.close();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #accept(client: Socket): void {
    client.on('error', () => {});
    if (this.isRefusing) {
      client.resetAndDestroy();
      return;
    }
    this.#count += 1;
    for (const session of this.#sessions) if (!session.isOpen) this.#sessions.delete(session);
    this.#sessions.add(new ProxySession(this.#count, client, this.#options));
  }
}

/** Opens a proxy that listens when this resolves. */
export async function openWireProxy(options: WireProxyOptions): Promise<WireProxy> {
  const proxy = new WireProxy(options);
  await proxy.listen();
  return proxy;
}

/** A frame as it looks on the wire. */
export function frameBytes(frame: ProxyFrame): Buffer {
  const bytes = Buffer.allocUnsafe(5 + frame.body.length);
  bytes[0] = frame.type;
  bytes.writeInt32BE(4 + frame.body.length, 1);
  bytes.set(frame.body, 5);
  return bytes;
}

function startupBytes(code: number, body: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(8 + body.length);
  bytes.writeInt32BE(8 + body.length, 0);
  bytes.writeInt32BE(code, 4);
  bytes.set(body, 8);
  return bytes;
}

function addressOf(server: Server): AddressInfo {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy does not listen');
  return address;
}
