// Is what the program sends to a client a row of whole messages, and is the WAL among them the WAL that was asked for?
import { OracleFailure, requireThat } from '../engine/target.ts';
import { madeWal } from './made-wal.ts';

const LETTERS = new Set(Buffer.from('123CDEGHINRSTVWZcdKntsAv'));
/** Before protocol 3 an error was a letter and a text. (elog.c:send_message_to_frontend) */
const OLD_ERROR = 'EFATA';
const LENGTH_MAX = 1 << 26;

/** One client's side, from the first byte on. */
export class AnswerCheck {
  #rest: Buffer = Buffer.alloc(0);
  /** Where the WAL of this stream goes on; null before its first message. */
  #nextLsn: bigint | null = null;
  /** Answers of one byte that may come: to requests for encryption. */
  #bareBytes = 2;
  /** Messages that came. */
  count = 0;
  /** Bytes of WAL that came. */
  walBytes = 0;
  endLsn = 0n;
  /** A keepalive asked for an answer. */
  isReplyWanted = false;
  /** Letters of the messages that came, if wanted. */
  letters: string | null = null;

  /** What the server asked for last to prove who the client is. */
  challenge: Buffer = Buffer.alloc(0);
  /** AuthenticationOk came. */
  isLetIn = false;
  /** What comes from now on may be another server's, unread. */
  isTunnelled = false;

  /** What was wrong first: told when it is asked for, as who writes is the program. */
  #problem: Error | null = null;

  /** Takes what was written. */
  take(chunk: Uint8Array): void {
    if (this.isTunnelled || this.#problem !== null) return;
    try {
      this.#take(chunk);
    } catch (error) {
      if (!(error instanceof OracleFailure)) throw error;
      this.#problem = error;
    }
  }

  /** Throws what was wrong. */
  check(): void {
    if (this.#problem !== null) throw this.#problem;
  }

  #take(chunk: Uint8Array): void {
    this.#rest = this.#rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (at < this.#rest.length) {
      const letter = this.#rest[at] ?? 0;
      // A notice would go on with the first byte of its length, which is zero.
      const isBare = letter === 0x4e && this.#rest[at + 1] !== 0;
      if (this.count === 0 && this.#bareBytes > 0 && isBare) {
        this.#bareBytes -= 1;
        at += 1;
        continue;
      }
      if (this.#rest.length - at < 5) break;
      if (this.count === 0 && this.#rest.toString('latin1', at, at + 5) === OLD_ERROR) {
        if (this.#rest.at(-1) !== 0) break;
        at = this.#rest.length;
        continue;
      }
      const length = this.#rest.readUInt32BE(at + 1);
      requireThat(LETTERS.has(letter), `a client was sent a message of type ${letter}`);
      requireThat(
        length >= 4 && length < LENGTH_MAX,
        `a client was sent a message of length ${length}`,
      );
      if (this.#rest.length - at < 1 + length) break;
      this.#message(letter, this.#rest.subarray(at + 5, at + 1 + length));
      at += 1 + length;
    }
    this.#rest = Buffer.from(this.#rest.subarray(at));
  }

  /** Everything that was sent is whole. */
  end(): void {
    this.check();
    if (this.isTunnelled) return;
    requireThat(
      this.#rest.length === 0,
      `a client was sent ${this.#rest.length} bytes of a message that never ended`,
    );
  }

  #message(letter: number, body: Buffer): void {
    this.count += 1;
    if (this.letters !== null) this.letters += String.fromCharCode(letter);
    if (letter === 0x52) this.#authentication(body);
    if (letter === 0x57) this.#nextLsn = null;
    if (letter !== 0x64) return;
    const kind = body[0];
    if (kind === 0x77 && body.length >= 25) this.#wal(body);
    else if (kind === 0x6b && body.length === 18) this.isReplyWanted ||= body[17] === 1;
  }

  #authentication(body: Buffer): void {
    const code = body.readUInt32BE(0);
    if (code === 0) this.isLetIn = true;
    if (code === 5 || code === 11) this.challenge = Buffer.from(body.subarray(4));
  }

  #wal(body: Buffer): void {
    const startLsn = body.readBigUInt64BE(1);
    const data = body.subarray(25);
    const expected = this.#nextLsn ?? startLsn;
    requireThat(
      startLsn === expected,
      `WAL goes on at ${startLsn.toString(16)} instead of ${expected.toString(16)}`,
    );
    const endLsn = startLsn + BigInt(data.length);
    requireThat(
      data.equals(madeWal(startLsn, endLsn)),
      `other bytes than the WAL's from ${startLsn.toString(16)} on`,
    );
    this.#nextLsn = endLsn;
    this.endLsn = endLsn;
    this.walBytes += data.length;
  }
}
