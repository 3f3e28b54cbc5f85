// The hot path: what is done with each message of the stream. Checks that WAL joins on without gap or overlap, hands it
// to the sink, and answers keepalives. No allocation but the header's numbers. (walreceiver.c:XLogWalRcvProcessMsg)
import { ProtocolViolation } from '../base/errors.ts';
import { formatLsn, INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { PgTimestamp } from '../pg/timestamp.ts';
import {
  COPY_DATA_KIND,
  copyDataKind,
  decodePrimaryKeepalive,
  decodeWalDataHeader,
  WAL_DATA_HEADER_BYTES,
} from '../wire/replication-messages.ts';
import type { WalDataHeader } from '../wire/replication-messages.ts';
import type { WalRejection, WalSink } from './ports.ts';

/** Of each message: the server's end of WAL in it (exclusive), when the server says it sent it, and whether it is a keepalive. */
export type OnStreamMessage = (walEnd: Lsn, sendTime: PgTimestamp, isKeepalive: boolean) => void;

/** What a stream asks of the session around it. */
export interface WalStreamOwner {
  /** The message was refused as a whole; the connection has to go. */
  onRejected(rejection: WalRejection): void;
  /** A keepalive that wants an answer at once. */
  onReplyRequested(): void;
  /** The sink is full; called for each message while it is. */
  onFull(): void;
  /** WAL at or behind `watchFrom` was accepted; called once. */
  onProgress(): void;
  /** Everything the server had was received, for the first time on this stream. */
  onCaughtUp(): void;
  /** See {@link OnStreamMessage}. Before WAL is handed on. */
  readonly onMessage?: OnStreamMessage | undefined;
}

/** One stream, from CopyBothResponse to its end. */
export class WalStream {
  readonly #sink: WalSink;
  readonly #owner: WalStreamOwner;
  #watchedLsn: Lsn | null;
  #isClosed = false;
  #isQuiet = false;
  #isCaughtUp = false;
  #isHistoric = false;
  /** End of WAL the server last reported; INVALID_LSN before it did. */
  serverLsn: Lsn = INVALID_LSN;
  /** End of WAL in the last message, and when the server sent it; what it named when it was identified does not count. */
  latestEndLsn: Lsn = INVALID_LSN;
  lastSendTime: PgTimestamp | null = null;
  /** When it sent the first message that named a higher end than those before. (walreceiver.c:ProcessWalSndrMessage) */
  latestEndTime: PgTimestamp | null = null;
  receivedBytes = 0;
  walMessages = 0;
  keepaliveMessages = 0;

  /** `watchedLsn`: the owner wants to know when WAL behind it was accepted; null when not. */
  constructor(sink: WalSink, owner: WalStreamOwner, watchedLsn: Lsn | null) {
    this.#sink = sink;
    this.#owner = owner;
    this.#watchedLsn = watchedLsn;
  }

  get isCaughtUp(): boolean {
    return this.#isCaughtUp;
  }

  /**
   * The stream is open. `serverLsn` is the end of WAL the server named when it was identified: a server that has no more
   * than we do says nothing until it writes. A timeline that the server has left is `isHistoric`: its end is not the
   * server's, so nobody is caught up there.
   */
  begin(serverLsn: Lsn, isHistoric = false): void {
    this.serverLsn = serverLsn;
    this.#isHistoric = isHistoric;
    this.#noteCaughtUp(serverLsn);
  }

  /** W, whatever of it is reported; null where the sink does not say. */
  get writtenLsn(): Lsn | null {
    return this.#sink.positions?.().writtenLsn ?? null;
  }

  /** The end of what was received. */
  get nextLsn(): Lsn {
    return this.#sink.nextLsn();
  }

  /** From now on WAL is dropped unseen, to be fetched again another time; keepalives are answered as before. */
  quiesce(): void {
    this.#isQuiet = true;
  }

  /** From now on everything is dropped. */
  close(): void {
    this.#isClosed = true;
  }

  /** Takes one CopyData payload, a view. Throws {@link ProtocolViolation} for one that is no replication message. */
  onCopyData(body: Uint8Array): void {
    if (this.#isClosed) return;
    switch (copyDataKind(body)) {
      case COPY_DATA_KIND.walData:
        this.#onWalData(body);
        return;
      case COPY_DATA_KIND.primaryKeepalive:
        this.#onKeepalive(body);
        return;
      default:
        throw new ProtocolViolation(
          SQLSTATE.protocolViolation,
          `invalid replication message type ${copyDataKind(body)} from the upstream`,
        );
    }
  }

  #onWalData(body: Uint8Array): void {
    const header = decodeWalDataHeader(body);
    if (this.#isQuiet) return;
    const byteCount = body.byteLength - WAL_DATA_HEADER_BYTES;
    const misfit = this.#misfit(header, byteCount);
    if (misfit !== null) {
      this.#sink.noteRejected?.();
      this.#reject({ lsn: this.#sink.nextLsn(), reason: misfit });
      return;
    }
    this.walMessages += 1;
    this.receivedBytes += byteCount;
    this.#heard(header.walEnd, header.sendTime);
    this.#owner.onMessage?.(header.walEnd, header.sendTime, false);
    if (byteCount === 0) return;
    const rejection = this.#sink.append(header.startLsn, body.subarray(WAL_DATA_HEADER_BYTES));
    if (rejection !== null) {
      this.#reject(rejection);
      return;
    }
    if (this.#watchedLsn !== null) this.#watch(this.#watchedLsn);
    if (!this.#isCaughtUp) this.#noteCaughtUp(header.walEnd);
    if (this.#sink.isFull()) this.#owner.onFull();
  }

  /** Why the message cannot join what is stored; null when it does. (receivelog.c:ProcessXLogDataMsg) */
  #misfit(header: WalDataHeader, byteCount: number): string | null {
    const expected = this.#sink.nextLsn();
    if (header.startLsn !== expected) {
      return `the message starts at ${formatLsn(header.startLsn)}, expected ${formatLsn(expected)}`;
    }
    const end = header.startLsn + BigInt(byteCount);
    if (header.walEnd !== INVALID_LSN && end > header.walEnd) {
      return `${byteCount} bytes reach beyond the server's own end ${formatLsn(header.walEnd)}`;
    }
    return null;
  }

  #onKeepalive(body: Uint8Array): void {
    const keepalive = decodePrimaryKeepalive(body);
    this.keepaliveMessages += 1;
    this.#heard(keepalive.walEnd, keepalive.sendTime);
    this.#owner.onMessage?.(keepalive.walEnd, keepalive.sendTime, true);
    if (!this.#isCaughtUp) this.#noteCaughtUp(keepalive.walEnd);
    if (keepalive.replyRequested) this.#owner.onReplyRequested();
  }

  #heard(walEnd: Lsn, sendTime: PgTimestamp): void {
    this.serverLsn = walEnd;
    if (walEnd > this.latestEndLsn || this.latestEndTime === null) this.latestEndTime = sendTime;
    this.latestEndLsn = walEnd;
    this.lastSendTime = sendTime;
  }

  #reject(rejection: WalRejection): void {
    this.#isClosed = true;
    this.#owner.onRejected(rejection);
  }

  #watch(watchedLsn: Lsn): void {
    if (this.#sink.nextLsn() <= watchedLsn) return;
    this.#watchedLsn = null;
    this.#owner.onProgress();
  }

  #noteCaughtUp(walEnd: Lsn): void {
    if (this.#isHistoric || walEnd === INVALID_LSN || walEnd > this.#sink.nextLsn()) return;
    this.#isCaughtUp = true;
    this.#owner.onCaughtUp();
  }
}
