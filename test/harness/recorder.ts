// A proxy that writes down every WAL range, reply, keepalive and command that passes, and changes nothing.
import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { systemClock } from '../../src/base/clock.ts';
import { errorText } from '../../src/base/errors.ts';
import { PAGE_SIZE, advanceLsn, pageOffset, parseLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { decodeUpstreamMessage } from '../../src/wire/upstream-messages.ts';
import {
  WAL_DATA_HEADER_BYTES,
  copyDataKind,
  decodeHotStandbyFeedback,
  decodePrimaryKeepalive,
  decodeStandbyStatusUpdate,
  decodeWalDataHeader,
} from '../../src/wire/replication-messages.ts';
import { seenNow } from './ledger.ts';
import type { CommandEntry, ConnectionLedger, Ledger, ReplyEntry, StreamLedger } from './ledger.ts';
import { openWireProxy } from './wire-proxy.ts';
import type {
  Direction,
  ProxyFrame,
  ProxyObserver,
  ProxySession,
  ProxyTarget,
  WireProxy,
} from './wire-proxy.ts';

/** Called while things happen, for checks that need the world as it is at that moment. */
export interface RecorderEvents {
  onReply?(reply: ReplyEntry, stream: StreamLedger, connection: ConnectionLedger): void;
  onStream?(stream: StreamLedger, connection: ConnectionLedger): void;
}

/** A proxy together with what it saw. */
export interface Recorder extends AsyncDisposable {
  readonly proxy: WireProxy;
  readonly ledger: Ledger;
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

/** Starts to record what passes to `target`. Close it after the peers, or they will see it close. */
export async function openRecorder(options: {
  name: string;
  target: () => ProxyTarget;
  port?: number;
  events?: RecorderEvents;
}): Promise<Recorder> {
  const ledger: Ledger = { name: options.name, connections: [] };
  const proxy = await openWireProxy({
    target: options.target,
    observer: ledgerObserver(ledger, options.events),
    ...(options.port === undefined ? {} : { port: options.port }),
  });
  return {
    proxy,
    ledger,
    host: proxy.host,
    port: proxy.port,
    close: () => proxy.close(),
    [Symbol.asyncDispose]: () => proxy.close(),
  };
}

/** An observer that writes `ledger`; for proxies that do more than watch. */
export function ledgerObserver(ledger: Ledger, events: RecorderEvents = {}): ProxyObserver {
  const scribes = new Map<ProxySession, Scribe>();
  const scribeOf = (session: ProxySession): Scribe => {
    const known = scribes.get(session);
    if (known !== undefined) return known;
    const scribe = new Scribe(session.id, events);
    scribes.set(session, scribe);
    ledger.connections.push(scribe.connection);
    return scribe;
  };
  return {
    onOpen: (session) => void scribeOf(session),
    onStartup: (session, parameters) => {
      scribeOf(session).connection.parameters = parameters;
    },
    onFrame: (session, direction, frame) => scribeOf(session).take(direction, frame),
    onClose: (session, by) => {
      scribeOf(session).close(by);
      scribes.delete(session);
    },
  };
}

const COPY_DATA = 0x64;
const COPY_DONE = 0x63;
const QUERY = 0x51;
const AUTHENTICATION_REPLY = 0x70;
const KIND_WAL = 0x77;
const KIND_KEEPALIVE = 0x6b;
const KIND_REPLY = 0x72;
const KIND_FEEDBACK = 0x68;

/** Keeps the book of one connection, message by message. */
export class Scribe {
  readonly connection: ConnectionLedger;
  readonly #events: RecorderEvents;
  #command: CommandEntry | null = null;
  #stream: StreamLedger | null = null;
  #pages: PageDigester | null = null;

  constructor(id: number, events: RecorderEvents = {}) {
    this.#events = events;
    this.connection = {
      id,
      openedAt: seen(),
      parameters: new Map(),
      commands: [],
      streams: [],
      identified: [],
      unreadable: [],
      closedAt: null,
      closedBy: null,
    };
  }

  take(direction: Direction, frame: ProxyFrame): void {
    try {
      if (direction === 'fromClient') this.#fromClient(frame);
      else this.#fromServer(frame);
    } catch (error) {
      this.connection.unreadable.push(
        `a message ${String.fromCharCode(frame.type)} of ${frame.body.length} bytes ${direction}: ${errorText(error)}`,
      );
    }
  }

  close(by: Direction | null): void {
    this.#endStream('lost');
    this.connection.closedAt = seen();
    this.connection.closedBy = by;
  }

  #fromClient(frame: ProxyFrame): void {
    if (frame.type === COPY_DATA && this.#stream !== null) this.#reply(frame.body, this.#stream);
    else if (frame.type === QUERY) this.#query(frame.body);
    else if (frame.type === COPY_DONE && this.#stream !== null) this.#stream.end ??= 'client';
    else if (frame.type === AUTHENTICATION_REPLY) return;
  }

  #query(body: Uint8Array): void {
    const sql = Buffer.from(body).toString('utf8').replace(/\0$/, '');
    this.#command = { ...seen(), sql, error: null, rows: [] };
    this.connection.commands.push(this.#command);
  }

  #reply(body: Uint8Array, stream: StreamLedger): void {
    const kind = copyDataKind(body);
    if (kind === KIND_REPLY) {
      const { writeLsn, flushLsn, applyLsn, replyRequested } = decodeStandbyStatusUpdate(body);
      const sentLsn = stream.wal.at(-1)?.endLsn ?? stream.startLsn;
      const reply = { ...seen(), writeLsn, flushLsn, applyLsn, replyRequested, sentLsn };
      stream.replies.push(reply);
      this.#events.onReply?.(reply, stream, this.connection);
    } else if (kind === KIND_FEEDBACK) {
      const { xmin, xminEpoch, catalogXmin, catalogXminEpoch } = decodeHotStandbyFeedback(body);
      stream.feedback.push({ ...seen(), xmin, xminEpoch, catalogXmin, catalogXminEpoch });
    }
  }

  #fromServer(frame: ProxyFrame): void {
    if (frame.type === COPY_DATA) {
      if (this.#stream !== null) this.#copyData(frame.body, this.#stream);
      return;
    }
    const message = decodeUpstreamMessage(frame.type, frame.body);
    switch (message.type) {
      case 'CopyBothResponse':
        this.#beginStream();
        break;
      case 'CopyDone':
        if (this.#stream !== null) this.#stream.end ??= 'timeline';
        break;
      case 'DataRow':
        this.#command?.rows.push(message.values.map(textOf));
        break;
      case 'CommandComplete':
        if (message.tag === 'COPY 0' && this.#stream !== null) this.#stream.end ??= 'shutdown';
        this.#complete();
        break;
      case 'ErrorResponse':
        if (this.#command !== null) {
          this.#command.error = {
            sqlstate: message.fields.sqlstate,
            message: message.fields.message,
          };
        }
        this.#endStream('error');
        break;
      case 'ReadyForQuery':
        this.#endStream('lost');
        break;
      default:
        break;
    }
  }

  #copyData(body: Uint8Array, stream: StreamLedger): void {
    const kind = copyDataKind(body);
    if (kind === KIND_WAL) {
      const { startLsn, walEnd } = decodeWalDataHeader(body);
      const data = body.subarray(WAL_DATA_HEADER_BYTES);
      stream.wal.push({ ...seen(), startLsn, endLsn: advanceLsn(startLsn, data.length), walEnd });
      this.#pages?.take(startLsn, data);
    } else if (kind === KIND_KEEPALIVE) {
      const { walEnd, replyRequested } = decodePrimaryKeepalive(body);
      stream.keepalives.push({ ...seen(), walEnd, replyRequested });
    }
  }

  #complete(): void {
    const command = this.#command;
    if (command === null || !/^\s*IDENTIFY_SYSTEM/i.test(command.sql)) return;
    const [, timeline, position] = command.rows[0] ?? [];
    const xlogPos = parseLsn(position ?? '');
    if (xlogPos === null) return;
    this.connection.identified.push({ ...seen(), timeline: Number(timeline), xlogPos });
  }

  #beginStream(): void {
    const asked = parseStart(this.#command?.sql ?? '');
    if (asked === null) return;
    const stream: StreamLedger = {
      startLsn: asked.startLsn,
      timeline: asked.timeline ?? this.connection.identified.at(-1)?.timeline ?? null,
      slot: asked.slot,
      startedAt: seen(),
      wal: [],
      pages: [],
      replies: [],
      keepalives: [],
      feedback: [],
      end: null,
    };
    this.connection.streams.push(stream);
    this.#stream = stream;
    this.#pages = new PageDigester(stream);
    this.#events.onStream?.(stream, this.connection);
  }

  #endStream(end: 'error' | 'lost'): void {
    if (this.#stream === null) return;
    this.#pages?.finish();
    this.#stream.end ??= end;
    this.#stream = null;
    this.#pages = null;
  }
}

/** Digests bytes page by page, so that they can be compared with files whatever messages they came in. */
class PageDigester {
  readonly #stream: StreamLedger;
  #hash: Hash | null = null;
  #startLsn: Lsn = toLsn(0n);
  #endLsn: Lsn = toLsn(0n);

  constructor(stream: StreamLedger) {
    this.#stream = stream;
  }

  take(startLsn: Lsn, data: Uint8Array): void {
    if (startLsn !== this.#endLsn) this.finish();
    let at = startLsn;
    for (let done = 0; done < data.length;) {
      const length = Math.min(data.length - done, PAGE_SIZE - pageOffset(at));
      if (this.#hash === null) {
        this.#hash = createHash('sha1');
        this.#startLsn = at;
      }
      this.#hash.update(data.subarray(done, done + length));
      done += length;
      at = advanceLsn(at, length);
      this.#endLsn = at;
      if (pageOffset(at) === 0) this.finish();
    }
  }

  /** Closes the piece that is being collected. */
  finish(): void {
    if (this.#hash === null) return;
    const digest = this.#hash.digest('hex');
    this.#stream.pages.push({ startLsn: this.#startLsn, endLsn: this.#endLsn, digest });
    this.#hash = null;
  }
}

/** What a physical START_REPLICATION asks for; null for anything else. Read apart from the program's own grammar. */
export function parseStart(
  sql: string,
): { startLsn: Lsn; timeline: number | null; slot: string | null } | null {
  const match =
    /^\s*START_REPLICATION\s+(?:SLOT\s+(?:"([^"]*)"|(\w+))\s+)?(?:PHYSICAL\s+)?([0-9A-F]+\/[0-9A-F]+)(?:\s+TIMELINE\s+(\d+))?\s*;?\s*$/i.exec(
      sql,
    );
  const startLsn = parseLsn(match?.[3] ?? '');
  if (match === null || startLsn === null) return null;
  return {
    startLsn,
    slot: match[1] ?? match[2] ?? null,
    timeline: match[4] === undefined ? null : Number(match[4]),
  };
}

function seen(): { seq: number; atMs: number } {
  return seenNow(systemClock.nowMs());
}

function textOf(value: Uint8Array | null): string | null {
  return value === null ? null : Buffer.from(value).toString('utf8');
}
