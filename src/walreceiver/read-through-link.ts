// One connection to the upstream that old WAL is read on: logged in beside the walreceiver's own, checked to be the same
// server, then any number of streams and history files, one after the other.
//
// It must never count for the upstream: no slot, a name of its own, and status updates without any position, so that it
// is no synchronous standby and keeps nothing from being removed. (syncrep.c:SyncRepReleaseWaiters)
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../base/clock.ts';
import { OperationalError, ProtocolViolation, invariant } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  READ_THROUGH_READ_BUFFER_BYTES,
  UPSTREAM_CONNECT_MS_MAX,
  UPSTREAM_UNSENT_STATUS_BYTES_MAX,
} from '../config/limits.ts';
import type { Dial } from '../net/dial.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { HISTORY_FILE_BYTES_MAX, historyFileName } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { pgTimestampFromUnixMs } from '../pg/timestamp.ts';
import {
  COPY_DATA_KIND,
  copyDataKind,
  decodePrimaryKeepalive,
  decodeWalDataHeader,
  encodeStandbyStatusUpdate,
  WAL_DATA_HEADER_BYTES,
} from '../wire/replication-messages.ts';
import type { ReceivedError } from '../wire/upstream-messages.ts';
import type { UpstreamIdentity } from './ports.ts';
import { NOTHING_REPORTED } from './status-reporter.ts';
import { invalidAnswer } from './upstream-command.ts';
import { UpstreamConnection } from './upstream-connection.ts';
import { upstreamError } from './upstream-errors.ts';
import { identifyUpstream } from './upstream-identify.ts';
import { valueText } from './upstream-query.ts';
import type { UpstreamHost, UpstreamTarget } from './upstream-target.ts';

/** What a connection needs. */
export interface ReadThroughLinkOptions {
  readonly target: UpstreamTarget;
  readonly host: UpstreamHost;
  readonly applicationName: string;
  /** For each command. */
  readonly commandTimeoutMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly dial: Dial;
  /** Why this server's WAL is not what is wanted; null when it is. */
  readonly judge: (identity: UpstreamIdentity) => string | null;
  /** The connection is gone, for whatever reason. Called once. */
  readonly onGone: (link: ReadThroughLink) => void;
}

/** How a stream ended. `ended`: because we wanted it. */
export type LinkStreamEnd =
  | { readonly kind: 'ended' }
  | { readonly kind: 'timeline-end' }
  | { readonly kind: 'refused'; readonly error: ReceivedError };

type OnWal = (startLsn: Lsn, data: Uint8Array) => void;

/** One connection. Not usable before `open` has resolved. */
export class ReadThroughLink {
  readonly #options: ReadThroughLinkOptions;
  readonly #abort = new AbortController();
  #connection: UpstreamConnection | null = null;
  #onWal: OnWal | null = null;
  #isEnding = false;
  #isCopying = false;
  #isGone = false;
  #endingSinceMs: number | null = null;

  constructor(options: ReadThroughLinkOptions) {
    this.#options = options;
  }

  get host(): UpstreamHost {
    return this.#options.host;
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** Since when the end of a stream is awaited, monotonic; null while none is. */
  get endingSinceMs(): number | null {
    return this.#endingSinceMs;
  }

  /** True when a connection that is made now would be made in the same way; a password of today changes nothing. */
  isMadeWith(target: UpstreamTarget, applicationName: string): boolean {
    const options = this.#options;
    return (
      applicationName === options.applicationName &&
      isDeepStrictEqual(withoutPasswords(target), withoutPasswords(options.target))
    );
  }

  /** Connects, logs in, and asks the server who it is. Rejects with a WalcastError; the connection is gone then. */
  async open(): Promise<void> {
    const { target, host, applicationName, clock, log, dial, judge } = this.#options;
    const connectMs = target.connectTimeoutMs;
    try {
      const connection = await UpstreamConnection.open({
        target,
        host,
        database: 'replication',
        applicationName,
        isReplication: true,
        timeoutMs: connectMs === 0 ? UPSTREAM_CONNECT_MS_MAX : connectMs,
        readBufferBytes: READ_THROUGH_READ_BUFFER_BYTES,
        clock,
        log,
        dial,
        signal: this.#abort.signal,
        onClosed: () => this.#leave(),
      });
      this.#connection = connection;
      if (this.#isGone) connection.close();
      const timeoutMs = this.#options.commandTimeoutMs;
      const runner = {
        parameters: connection.parameters,
        run: (command: string) => connection.query(command, { timeoutMs }),
      };
      const { identity } = await identifyUpstream(runner, null);
      const problem = judge(identity);
      if (problem !== null) throw new OperationalError('OTHER_HISTORY', problem);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Streams from `startLsn` until `endStream`, the end of the timeline, or an ERROR. `onWal` gets views that are valid
   * until it returns. Rejects with a WalcastError when the connection is lost.
   */
  async stream(timeline: TimelineId, startLsn: Lsn, onWal: OnWal): Promise<LinkStreamEnd> {
    const connection = this.#opened();
    this.#isEnding = false;
    this.#onWal = onWal;
    try {
      const command = `START_REPLICATION PHYSICAL ${formatLsn(startLsn)} TIMELINE ${timeline}`;
      const { error } = await connection.startReplication(command, {
        onCopyBoth: () => this.#onCopyBoth(),
        onCopyData: (body) => this.#onCopyData(body),
        onCopyDone: () => connection.endCopy(),
        onServerShutdown: () => this.close(),
      });
      if (this.#isEnding) return { kind: 'ended' };
      // Without a COPY in between, too: the timeline had ended before the start.
      return error === null ? { kind: 'timeline-end' } : { kind: 'refused', error };
    } finally {
      this.#onWal = null;
      this.#isCopying = false;
      this.#endingSinceMs = null;
    }
  }

  /** Wants no more of the stream that runs; what still comes is dropped. */
  endStream(): void {
    if (this.#onWal === null || this.#isEnding) return;
    this.#isEnding = true;
    this.#endingSinceMs = this.#options.clock.nowMs();
    this.#connection?.resumeReading();
    this.#connection?.endCopy();
  }

  /** The history file of a timeline; null when the server has none. Rejects with a WalcastError. */
  async historyFile(timeline: TimelineId): Promise<Uint8Array | null> {
    const command = `TIMELINE_HISTORY ${timeline}`;
    const { results, error } = await this.#opened().query(command, {
      timeoutMs: this.#options.commandTimeoutMs,
    });
    if (error?.sqlstate === SQLSTATE.undefinedFile) return null;
    if (error !== null) throw upstreamError(`the upstream refused ${command}`, error);
    const row = results.at(-1)?.rows[0];
    const content = row?.[1] ?? null;
    if (content === null || valueText(row?.[0]) !== historyFileName(timeline)) {
      throw invalidAnswer(command, 'expected the name and the content of a history file');
    }
    if (content.byteLength > HISTORY_FILE_BYTES_MAX) {
      throw invalidAnswer(command, `the history file has ${content.byteLength} bytes`);
    }
    return content;
  }

  pause(): void {
    this.#connection?.pauseReading();
  }

  resume(): void {
    this.#connection?.resumeReading();
  }

  /** Tells the server that we are here, and no position. */
  sendStatus(): void {
    const connection = this.#connection;
    if (connection === null || connection.pendingBytes() > UPSTREAM_UNSENT_STATUS_BYTES_MAX) return;
    if (!this.#isCopying || this.#isEnding) return;
    const sendTime = pgTimestampFromUnixMs(this.#options.clock.wallMs());
    const update = { ...NOTHING_REPORTED, sendTime, replyRequested: false };
    connection.write([encodeStandbyStatusUpdate(update)]);
  }

  /** Says goodbye and closes. Whatever is under way rejects. */
  close(): void {
    this.#abort.abort();
    this.#connection?.close();
    this.#leave();
  }

  /** Closes at once: the server does not answer. */
  destroy(): void {
    this.#abort.abort();
    this.#connection?.destroy();
    this.#leave();
  }

  #opened(): UpstreamConnection {
    invariant(this.#connection !== null, 'a connection is used before it is open');
    return this.#connection;
  }

  #leave(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#options.onGone(this);
  }

  #onCopyBoth(): void {
    this.#isCopying = true;
    if (this.#isEnding) this.#connection?.endCopy();
    else this.sendStatus();
  }

  #onCopyData(body: Uint8Array): void {
    switch (copyDataKind(body)) {
      case COPY_DATA_KIND.walData: {
        const { startLsn } = decodeWalDataHeader(body);
        const data = body.subarray(WAL_DATA_HEADER_BYTES);
        if (!this.#isEnding && data.byteLength > 0) this.#onWal?.(startLsn, data);
        return;
      }
      case COPY_DATA_KIND.primaryKeepalive:
        if (decodePrimaryKeepalive(body).replyRequested) this.sendStatus();
        return;
      default:
        throw new ProtocolViolation(
          SQLSTATE.protocolViolation,
          `invalid replication message type ${copyDataKind(body)} from the upstream`,
        );
    }
  }
}

function withoutPasswords(target: UpstreamTarget): UpstreamTarget {
  return { ...target, hosts: target.hosts.map((host) => ({ ...host, password: null })) };
}
