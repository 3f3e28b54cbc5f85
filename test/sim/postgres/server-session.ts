// A walsender of a modelled server: startup, the commands a walreceiver sends, the stream. (src/backend/replication/walsender.c)
import type { ByteConnection, ConnectionEvents } from '../../../src/net/connection.ts';
import { advanceLsn, formatLsn, minLsn, pageStart, toLsn } from '../../../src/pg/lsn.ts';
import type { Lsn } from '../../../src/pg/lsn.ts';
import { isInHistory, switchPoint, toTimelineId } from '../../../src/pg/timeline.ts';
import type { TimelineId } from '../../../src/pg/timeline.ts';
import {
  answer,
  complete,
  COPY_BOTH,
  errorResponse,
  keepalive,
  READY,
  rows,
  walData,
} from '../../support/scripted-upstream.ts';
import type { PlayedServer } from '../../support/scripted-upstream.ts';
import { FrameReader, parseStart, queryText, startupParameters, statusOf } from './frames.ts';
import type { Frame, StartCommand } from './frames.ts';
import type { Server } from './server.ts';
import type { SyncCandidate } from './sync-commits.ts';

const MESSAGE_BYTES_MAX = 131_072;
const WAL_SENDER_TIMEOUT_MS = 60_000;
const TICK_MS = 5_000;

/** A START_REPLICATION under way. */
interface Stream {
  readonly timeline: TimelineId;
  sentLsn: Lsn;
  /** As the standby said them last. */
  reported: { readonly write: bigint; readonly flush: bigint; readonly apply: bigint };
  /** It had caught up with a timeline that goes on. */
  isStreaming: boolean;
  isCopyDoneSent: boolean;
  isOver: boolean;
}

const NOTHING = { write: 0n, flush: 0n, apply: 0n };

/** One connection. */
export class ServerSession implements ConnectionEvents, SyncCandidate {
  readonly place: number;
  applicationName = '';
  readonly #server: Server;
  readonly #reader = new FrameReader(true);
  #connection: ByteConnection | null = null;
  #stream: Stream | null = null;
  #slot: string | null = null;
  #lastHeardMs: number;
  #isPinged = false;
  #isGone = false;

  constructor(server: Server) {
    this.#server = server;
    this.#lastHeardMs = server.parts.world.nowMs;
    const taken = new Set([...server.sessions].map(({ place }) => place));
    this.place = [...taken.keys(), taken.size].findIndex((_, index) => !taken.has(index));
  }

  get isStreaming(): boolean {
    return this.#stream?.isStreaming === true && !this.#stream.isOver;
  }

  get reported(): Stream['reported'] {
    return this.#stream?.reported ?? NOTHING;
  }

  attach(connection: ByteConnection): void {
    this.#connection = connection;
    this.#server.sessions.add(this);
    this.#tick();
  }

  onBytes(chunk: Uint8Array): void {
    this.#lastHeardMs = this.#server.parts.world.nowMs;
    this.#isPinged = false;
    for (const frame of this.#reader.push(chunk)) if (!this.#isGone) this.#onFrame(frame);
  }

  onDrain(): void {
    this.pump();
  }

  onEnd(): void {
    this.#leave();
  }

  onClose(): void {
    this.#leave();
  }

  /** The server stops: whoever does not stream is sent away. */
  onStopping(): void {
    if (this.#stream !== null) {
      this.pump();
      return;
    }
    this.#send(
      errorResponse('57P01', 'terminating connection due to administrator command', 'FATAL'),
    );
    this.#connection?.end(1_000);
    this.#leave();
  }

  /** Sends what there is, as far as the connection takes it. */
  pump(): void {
    const stream = this.#stream;
    const connection = this.#connection;
    if (stream === null || connection === null || stream.isCopyDoneSent || stream.isOver) return;
    const end = this.#endOf(stream.timeline);
    if (end === null) return;
    while (stream.sentLsn < end.lsn && connection.pendingBytes() === 0) {
      this.#sendWal(stream, end.lsn);
    }
    if (stream.sentLsn < end.lsn) return;
    stream.isStreaming ||= !end.isHistoric && connection.pendingBytes() === 0;
    if (end.isHistoric) {
      stream.isCopyDoneSent = true;
      this.#send(Buffer.from('c\0\0\0\x04', 'latin1'));
    } else if (this.#server.isStopping && connection.pendingBytes() === 0) {
      // (walsender.c:WalSndDone)
      const { write, flush } = stream.reported;
      if ((flush === 0n ? write : flush) === stream.sentLsn) {
        this.#send(complete('COPY 0'));
        this.#connection?.end(1_000);
        this.#leave();
      } else this.#send(keepalive(stream.sentLsn, true));
    }
  }

  #sendWal(stream: Stream, endLsn: Lsn): void {
    const { cluster } = this.#server.parts;
    const limit = pageStart(advanceLsn(stream.sentLsn, MESSAGE_BYTES_MAX));
    const end = endLsn <= limit ? endLsn : limit;
    const timeline = cluster.timelineAt(this.#server.timeline, stream.sentLsn);
    const owner = timeline > stream.timeline ? stream.timeline : stream.timeline;
    const bytes = cluster.bytes(owner, stream.sentLsn, end);
    if (bytes === null) throw new Error(`no WAL at ${formatLsn(stream.sentLsn)} of ${owner}`);
    if (this.#server.flipsNextBit && bytes.length > 0) {
      this.#server.flipsNextBit = false;
      const at = this.#server.parts.random.between(0, bytes.length - 1);
      bytes[at] = (bytes[at] ?? 0) ^ 0x10;
    }
    cluster.noteMessageEnd(stream.timeline, end);
    this.#send(walData(stream.sentLsn, bytes, endLsn));
    stream.sentLsn = end;
  }

  /** Up to where a timeline goes on this server; null when it is none of its history (any more). */
  #endOf(timeline: TimelineId): { lsn: Lsn; isHistoric: boolean } | null {
    const server = this.#server;
    if (timeline === server.timeline) return { lsn: server.walEnd, isHistoric: false };
    const fork = switchPoint(server.history, timeline);
    return fork === null ? null : { lsn: fork.endLsn, isHistoric: true };
  }

  #onFrame({ type, body }: Frame): void {
    switch (type) {
      case '':
        this.#onStartup(body);
        return;
      case 'Q':
        this.#onCommand(queryText(body));
        return;
      case 'd':
        if (body[0] === 0x72) this.#onStatus(body);
        return;
      case 'c':
        this.#onCopyDone();
        return;
      default:
        this.#connection?.end(1_000);
        this.#leave();
    }
  }

  #onStartup(body: Buffer): void {
    this.applicationName = startupParameters(body).get('application_name') ?? '';
    if (this.#server.isStopping) {
      this.#send(errorResponse('57P03', 'the database system is shutting down', 'FATAL'));
      this.#connection?.end(1_000);
      this.#leave();
      return;
    }
    const text = (letter: string, ...parts: string[]): Buffer => {
      const content = Buffer.from(parts.map((part) => `${part}\0`).join(''));
      const head = Buffer.alloc(5);
      head.write(letter, 'latin1');
      head.writeUInt32BE(4 + content.length, 1);
      return Buffer.concat([head, content]);
    };
    const ok = Buffer.from('R\0\0\0\x08\0\0\0\0', 'latin1');
    const key = Buffer.from('K\0\0\0\x0c\0\0\x10\x92\0\0\0\x01', 'latin1');
    const { serverVersion } = this.#played();
    this.#send(
      Buffer.concat([
        ok,
        text('S', 'server_version', serverVersion),
        text('S', 'TimeZone', 'UTC'),
        key,
        READY,
      ]),
    );
  }

  #onCommand(sql: string): void {
    const start = parseStart(sql);
    if (start !== null && start.timeline !== 2_147_483_647) {
      this.#onStart(start);
      return;
    }
    const played = this.#played();
    const before = new Set(Object.keys(played.slots));
    const reply = answer(played, sql);
    this.#keepSlots(before, played);
    this.#send(Buffer.concat([reply, READY]));
  }

  /** What a command made or dropped. */
  #keepSlots(before: ReadonlySet<string>, played: PlayedServer): void {
    const { slots, parts, walEnd } = this.#server;
    for (const name of before) if (!(name in played.slots)) slots.delete(name);
    for (const name of Object.keys(played.slots)) {
      if (before.has(name)) continue;
      const restartLsn = pageStart(minLsn(walEnd, parts.cluster.endLsn(this.#server.timeline)));
      slots.set(name, { restartLsn, holder: null });
    }
  }

  #played(): PlayedServer {
    const { parts, timeline, walEnd, isInRecovery, slots } = this.#server;
    const { cluster } = parts;
    const histories: Record<string, readonly [string, string]> = {};
    for (const one of [
      ...cluster.history(timeline).ancestors.map((entry) => entry.timeline),
      timeline,
    ]) {
      const file = cluster.historyFile(one);
      const name = `${one.toString(16).toUpperCase().padStart(8, '0')}.history`;
      if (file !== null) histories[String(one)] = [name, file];
    }
    return {
      systemIdentifier: cluster.systemIdentifier,
      timeline: String(timeline),
      xlogPos: formatLsn(walEnd),
      serverVersion: cluster.serverVersion,
      parameters: cluster.major >= 14 ? { in_hot_standby: isInRecovery ? 'on' : 'off' } : {},
      isStandby: isInRecovery,
      settings: {
        wal_segment_size: '1MB',
        wal_block_size: '8192',
        data_directory_mode: '0700',
        ...(cluster.major >= 14 ? { in_hot_standby: isInRecovery ? 'on' : 'off' } : {}),
        transaction_read_only: isInRecovery ? 'on' : 'off',
        default_transaction_read_only: 'off',
      },
      histories,
      slots: Object.fromEntries(
        [...slots].map(([name, slot]) => [name, ['physical', formatLsn(slot.restartLsn)] as const]),
      ),
    };
  }

  #onStart(start: StartCommand): void {
    const refusal = this.#refusal(start);
    if (refusal !== null) {
      this.#send(Buffer.concat([refusal, READY]));
      return;
    }
    const timeline = toTimelineId(start.timeline);
    const startLsn = toLsn(start.startLsn);
    this.#slot = start.slot;
    const slot = start.slot === null ? undefined : this.#server.slots.get(start.slot);
    if (slot !== undefined) slot.holder = this;
    const end = this.#endOf(timeline);
    if (end?.isHistoric === true && startLsn >= end.lsn) {
      this.#endCopy(timeline);
      return;
    }
    this.#stream = {
      timeline,
      sentLsn: startLsn,
      reported: NOTHING,
      isStreaming: false,
      isCopyDoneSent: false,
      isOver: false,
    };
    this.#send(COPY_BOTH);
    this.pump();
  }

  #refusal(start: StartCommand): Uint8Array | null {
    const server = this.#server;
    const slot = start.slot === null ? undefined : server.slots.get(start.slot);
    if (start.slot !== null && slot === undefined) {
      return errorResponse('42704', `replication slot "${start.slot}" does not exist`);
    }
    if (slot !== undefined && slot.holder !== null && slot.holder !== this) {
      return errorResponse('55006', `replication slot "${start.slot}" is active for PID 4242`);
    }
    const timeline = toTimelineId(start.timeline);
    if (!isInHistory(server.history, timeline)) {
      return errorResponse(
        'XX000',
        `requested timeline ${timeline} is not in this server's history`,
      );
    }
    const end = this.#endOf(timeline);
    if (end !== null && start.startLsn > end.lsn) {
      const where = formatLsn(toLsn(start.startLsn));
      return end.isHistoric
        ? errorResponse(
            'XX000',
            `requested starting point ${where} on timeline ${timeline} is not in this server's history`,
          )
        : errorResponse(
            'XX000',
            `requested starting point ${where} is ahead of the WAL flush position of this server ${formatLsn(end.lsn)}`,
          );
    }
    if (start.startLsn < server.parts.cluster.startLsn()) {
      return errorResponse('58P01', 'requested WAL segment has already been removed');
    }
    return null;
  }

  #onStatus(body: Buffer): void {
    const stream = this.#stream;
    const status = statusOf(body);
    if (stream !== null) {
      stream.reported = status;
      const slot = this.#slot === null ? undefined : this.#server.slots.get(this.#slot);
      if (slot !== undefined && status.flush !== 0n) slot.restartLsn = toLsn(status.flush);
      if (stream.timeline === this.#server.timeline) this.#server.onReply(this);
    }
    if (status.isReplyRequested && stream !== null) this.#send(keepalive(stream.sentLsn));
    if (this.#server.isStopping) this.pump();
  }

  #onCopyDone(): void {
    const stream = this.#stream;
    if (stream === null) return;
    if (!stream.isCopyDoneSent) this.#send(Buffer.from('c\0\0\0\x04', 'latin1'));
    this.#stream = null;
    this.#freeSlot();
    if (stream.isCopyDoneSent) this.#endCopy(stream.timeline);
    else this.#send(Buffer.concat([complete('START_STREAMING'), READY]));
    if (this.#server.isStopping) this.onStopping();
  }

  #endCopy(timeline: TimelineId): void {
    this.#freeSlot();
    const fork = switchPoint(this.#server.history, timeline);
    const next =
      fork === null
        ? Buffer.alloc(0)
        : rows(
            ['next_tli', 'next_tli_startpos'],
            [[String(fork.nextTimeline), formatLsn(fork.endLsn)]],
          );
    this.#send(Buffer.concat([next, complete('START_STREAMING'), READY]));
  }

  #freeSlot(): void {
    const slot = this.#slot === null ? undefined : this.#server.slots.get(this.#slot);
    if (slot?.holder === this) slot.holder = null;
  }

  #tick(): void {
    const { world } = this.#server.parts;
    const { process } = this.#server;
    if (process === null || this.#isGone) return;
    world.schedule(process.context, TICK_MS, `${process.name} walsender tick`, () => {
      if (this.#isGone) return;
      const silenceMs = world.nowMs - this.#lastHeardMs;
      if (silenceMs >= WAL_SENDER_TIMEOUT_MS) {
        this.#connection?.destroy();
        this.#leave();
        return;
      }
      const isDue = silenceMs >= WAL_SENDER_TIMEOUT_MS / 2 && !this.#isPinged;
      if (this.#stream !== null && !this.#stream.isCopyDoneSent) {
        this.#isPinged = isDue;
        this.#send(keepalive(this.#stream.sentLsn, isDue));
      }
      this.#tick();
    });
  }

  #send(bytes: Uint8Array): void {
    this.#connection?.write([bytes]);
  }

  #leave(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#stream = null;
    this.#freeSlot();
    this.#server.sessions.delete(this);
    this.#server.checkStopped();
  }
}
