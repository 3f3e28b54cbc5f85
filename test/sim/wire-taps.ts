// What goes over the wires of a relay, as one who listens in sees it: streams from an upstream with what is reported to it,
// streams to standbys with what is sent. Tells the checkers; knows nothing of the relay's inside.
import type { SimConnection } from './machine/connection.ts';
import type { Tap } from './machine/network.ts';
import { FrameReader, parseStart, queryText, statusOf } from './postgres/frames.ts';
import type { Frame, StatusFrame } from './postgres/frames.ts';
import { startupParameters } from './postgres/frames.ts';

/** One START_REPLICATION as seen on the wire. */
export interface WireStream {
  readonly connection: SimConnection;
  /** Who asked and who answers: names of hosts. */
  readonly client: string;
  readonly server: string;
  readonly applicationName: string;
  readonly timeline: number;
  readonly startLsn: bigint;
  /** Pid of the walsender as it told the client. */
  readonly pid: number;
  /** CopyBothResponse was sent. */
  isOpen: boolean;
  /** End of the WAL that was sent. */
  sentLsn: bigint;
  /** What the client reported last. */
  status: StatusFrame | null;
}

/** Who wants to know. */
export interface WireListener {
  onStart(stream: WireStream): void;
  onWal(stream: WireStream, startLsn: bigint, bytes: Buffer): void;
  onStatus(stream: WireStream, status: StatusFrame, before: StatusFrame | null): void;
}

/** Listens to one connection, dialled by `connection.process`. */
export function tapOf(
  connection: SimConnection,
  listener: WireListener,
  isOfRelay: (host: string) => boolean,
): Tap {
  const wire = new Wire(connection, listener);
  // What a modelled server sends is right.
  const isServerHeard = isOfRelay(connection.far.process.host);
  return (bytes, isToServer) => {
    if (isToServer || isServerHeard) wire.take(bytes, isToServer);
  };
}

class Wire {
  readonly #connection: SimConnection;
  readonly #listener: WireListener;
  readonly #toServer = new FrameReader(true);
  readonly #toClient = new FrameReader(false);
  #applicationName = '';
  #pid = 0;
  #stream: WireStream | null = null;

  constructor(connection: SimConnection, listener: WireListener) {
    this.#connection = connection;
    this.#listener = listener;
  }

  take(bytes: Uint8Array, isToServer: boolean): void {
    const reader = isToServer ? this.#toServer : this.#toClient;
    for (const frame of reader.push(bytes)) {
      if (isToServer) this.#fromClient(frame);
      else this.#fromServer(frame);
    }
  }

  #fromClient({ type, body }: Frame): void {
    if (type === '') {
      this.#applicationName = startupParameters(body).get('application_name') ?? '';
    } else if (type === 'Q') {
      const start = parseStart(queryText(body));
      if (start === null || start.timeline === 2_147_483_647) return;
      this.#stream = {
        connection: this.#connection,
        client: this.#connection.process.host,
        server: this.#connection.far.process.host,
        applicationName: this.#applicationName,
        timeline: start.timeline,
        startLsn: start.startLsn,
        pid: this.#pid,
        isOpen: false,
        sentLsn: start.startLsn,
        status: null,
      };
      this.#listener.onStart(this.#stream);
    } else if (type === 'd' && body[0] === 0x72 && body.length === 34) {
      const stream = this.#stream;
      if (stream === null) return;
      const before = stream.status;
      stream.status = statusOf(body);
      this.#listener.onStatus(stream, stream.status, before);
    }
  }

  #fromServer({ type, body }: Frame): void {
    if (type === 'K') this.#pid = body.readUInt32BE(0);
    const stream = this.#stream;
    if (stream === null) return;
    if (type === 'W') stream.isOpen = true;
    if (type !== 'd' || body[0] !== 0x77) return;
    const startLsn = body.readBigUInt64BE(1);
    const wal = body.subarray(25);
    this.#listener.onWal(stream, startLsn, wal);
    stream.sentLsn = startLsn + BigInt(wal.length);
  }
}
