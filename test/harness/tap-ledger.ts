// Ledgers of what a walcast read from its sockets and wrote to them, as socket-tap.mjs wrote it down inside its process. The
// entries have the order in which they happened there; their times are those of reading.
import { open, readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FrameDecoder } from '../../src/wire/frame-decoder.ts';
import { StartupDecoder } from '../../src/wire/startup-decoder.ts';
import {
  GSSENC_REQUEST_CODE,
  SSL_REQUEST_CODE,
  decodeInitialMessage,
} from '../../src/wire/startup.ts';
import type { ConnectionLedger } from './ledger.ts';
import { Scribe } from './recorder.ts';

/** Arguments of node that load the tap. */
export const TAP_ARGUMENTS: readonly string[] = [
  '--import',
  fileURLToPath(new URL('socket-tap.mjs', import.meta.url)),
];

const OPENED = 1;
const READ = 2;
const WRITTEN = 3;
const CLOSED = 4;
const HEAD_BYTES = 9;
const PIECE_BYTES = 4 << 20;
const FRAME_LENGTH_MAX = 1 << 30;

/** Which connection it is. `client`: walcast connected to that server; `server`: that peer connected to walcast. */
export interface TappedPeer {
  readonly role: 'client' | 'server';
  readonly host: string;
  readonly port: number;
  /** application_name of whoever connected; empty until it is known. */
  readonly applicationName: string;
}

/** Told of each connection once it is known whose it is: when the startup packet has passed. */
export type OnTapped = (peer: TappedPeer, connection: ConnectionLedger) => void;

/** Everything that the processes of one walcast wrote down. */
export class TapLedger {
  readonly #base: string;
  readonly #onTapped: OnTapped;
  readonly #files = new Map<
    string,
    { offset: number; readonly connections: Map<number, Tapped> }
  >();

  /** `base`: the value of WALCAST_TEST_TAP in the environment of the processes. */
  constructor(base: string, onTapped: OnTapped) {
    this.#base = base;
    this.#onTapped = onTapped;
  }

  /** Takes in what was written since the last call. */
  async read(): Promise<void> {
    const prefix = `${basename(this.#base)}.`;
    const names = (await readdir(dirname(this.#base))).filter((name) => name.startsWith(prefix));
    // The names begin with the time of the start; a process begins when the one before it has gone.
    const sorted = names.toSorted((a, b) => startOf(a, prefix) - startOf(b, prefix));
    for (const [index, name] of sorted.entries()) {
      await this.#readFile(name);
      if (index < sorted.length - 1) this.#closeAll(name);
    }
  }

  async #readFile(name: string): Promise<void> {
    const state = this.#files.get(name) ?? { offset: 0, connections: new Map<number, Tapped>() };
    this.#files.set(name, state);
    const file = await open(join(dirname(this.#base), name));
    try {
      let rest = Buffer.alloc(0);
      for (;;) {
        const piece = Buffer.allocUnsafe(PIECE_BYTES);
        const { bytesRead } = await file.read(piece, 0, piece.length, state.offset + rest.length);
        if (bytesRead === 0) return;
        const bytes = Buffer.concat([rest, piece.subarray(0, bytesRead)]);
        const taken = this.#takeRecords(bytes, state.connections);
        state.offset += taken;
        rest = bytes.subarray(taken);
      }
    } finally {
      await file.close();
    }
  }

  /** Gives how many bytes were whole records. */
  #takeRecords(bytes: Buffer, connections: Map<number, Tapped>): number {
    let at = 0;
    while (at + HEAD_BYTES <= bytes.length) {
      const end = at + HEAD_BYTES + bytes.readUInt32BE(at + 5);
      if (end > bytes.length) break;
      const id = bytes.readUInt32BE(at + 1);
      this.#take(bytes[at] ?? 0, id, { body: bytes.subarray(at + HEAD_BYTES, end), connections });
      at = end;
    }
    return at;
  }

  #take(
    kind: number,
    id: number,
    { body, connections }: { body: Buffer; connections: Map<number, Tapped> },
  ): void {
    if (kind === OPENED) {
      const peer = JSON.parse(body.toString()) as Omit<TappedPeer, 'applicationName'>;
      connections.set(id, new Tapped(id, peer, this.#onTapped));
      return;
    }
    const tapped = connections.get(id);
    if (kind === READ) tapped?.take('read', body);
    else if (kind === WRITTEN) tapped?.take('written', body);
    else if (kind === CLOSED) {
      tapped?.close();
      connections.delete(id);
    }
  }

  #closeAll(name: string): void {
    const connections = this.#files.get(name)?.connections;
    for (const tapped of connections?.values() ?? []) tapped.close();
    connections?.clear();
  }
}

/** One connection: bytes in, messages out. */
class Tapped {
  readonly #peer: Omit<TappedPeer, 'applicationName'>;
  readonly #onTapped: OnTapped;
  readonly #scribe: Scribe;
  readonly #startup = new StartupDecoder();
  readonly #fromClient = new FrameDecoder(() => FRAME_LENGTH_MAX);
  readonly #fromServer = new FrameDecoder(() => FRAME_LENGTH_MAX);
  #isStarted = false;
  /** One-byte answers that are still to come. */
  #questions = 0;

  constructor(id: number, peer: Omit<TappedPeer, 'applicationName'>, onTapped: OnTapped) {
    this.#peer = peer;
    this.#onTapped = onTapped;
    this.#scribe = new Scribe(id);
  }

  take(way: 'read' | 'written', bytes: Uint8Array): void {
    const isFromServer = (this.#peer.role === 'client') === (way === 'read');
    if (isFromServer) this.#takeFromServer(bytes);
    else if (this.#isStarted) this.#takeFromClient(bytes);
    else this.#start(bytes);
  }

  close(): void {
    this.#scribe.close(null);
  }

  #takeFromClient(bytes: Uint8Array): void {
    this.#fromClient.push(bytes, (type, body) => this.#scribe.take('fromClient', { type, body }));
  }

  #takeFromServer(bytes: Uint8Array): void {
    const answers = Math.min(this.#questions, bytes.length);
    this.#questions -= answers;
    this.#fromServer.push(bytes.subarray(answers), (type, body) =>
      this.#scribe.take('fromServer', { type, body }),
    );
  }

  #start(bytes: Uint8Array): void {
    let input = bytes;
    for (;;) {
      const packet = this.#startup.push(input);
      if (packet === 'more' || packet === 'invalid-length') return;
      input = this.#startup.takeRest();
      if (packet.code === SSL_REQUEST_CODE || packet.code === GSSENC_REQUEST_CODE) {
        this.#questions += 1;
        continue;
      }
      this.#isStarted = true;
      const message = decodeInitialMessage(packet);
      if (message.type !== 'StartupMessage') return;
      const { connection } = this.#scribe;
      connection.parameters = message.parameters;
      const applicationName = message.parameters.get('application_name') ?? '';
      this.#onTapped({ ...this.#peer, applicationName }, connection);
      this.#takeFromClient(input);
      return;
    }
  }
}

function startOf(name: string, prefix: string): number {
  return Number(name.slice(prefix.length).split('-')[0]);
}
