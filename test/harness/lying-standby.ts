// A standby that says what a test says, true or not, and knows when it was heard.
import { formatLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { i32, i64 } from '../support/naive-writer.ts';
import { message, query, RawClient, statusUpdate } from '../support/raw-client.ts';

/** What it confirms, true or not. */
export interface Said {
  readonly write: bigint;
  readonly flush: bigint;
  readonly apply: bigint;
}

/** Ids of transactions and their epochs as they stand in a feedback message; 0 for none. */
export interface SaidXmins {
  readonly xmin: number;
  readonly epoch?: number;
  readonly catalogXmin?: number;
  readonly catalogEpoch?: number;
}

/** A position that no WAL reaches. */
export const EVERYTHING: bigint = 0xffff_ffff_ffff_ff00n;

/** One session. What it is sent is counted and forgotten. */
export class LyingStandby {
  readonly name: string;
  readonly pid: number;
  readonly #client: RawClient;
  #receivedLsn = 0n;
  #keepalives = 0;
  #isOver = false;
  #wake: () => void = () => {};

  private constructor(client: RawClient, parts: { name: string; pid: number }) {
    this.#client = client;
    this.name = parts.name;
    this.pid = parts.pid;
  }

  /** Logs in; streams nothing yet. */
  static async connect(port: number, name: string): Promise<LyingStandby> {
    const parameters = { user: 'postgres', application_name: name };
    const { client, pid } = await RawClient.standby(port, parameters);
    return new LyingStandby(client, { name, pid });
  }

  /** Streams from `startLsn` on. */
  async start(startLsn: Lsn, slot?: string): Promise<void> {
    this.#receivedLsn = startLsn;
    const where = slot === undefined ? '' : `SLOT ${slot} `;
    this.#client.send(query(`START_REPLICATION ${where}PHYSICAL ${formatLsn(startLsn)}`));
    const answer = await this.#client.until('WEZ');
    if (answer.at(-1)?.type !== 'W') throw new Error(`${this.name} may not stream`);
    void this.#read();
  }

  /** End (exclusive) of what it was sent. */
  get receivedLsn(): bigint {
    return this.#receivedLsn;
  }

  /** Resolves when everything up to `lsn` has come. */
  async received(lsn: bigint): Promise<void> {
    while (this.#receivedLsn < lsn) await this.#next();
  }

  /** Resolves when that was heard and dealt with. */
  async say({ write, flush, apply }: Said): Promise<void> {
    const seen = this.#keepalives;
    this.#client.send(statusUpdate(write, flush, apply, 1));
    while (this.#keepalives === seen) await this.#next();
  }

  /** The same while it does not read: nobody says when that was heard. */
  sayUnheard({ write, flush, apply }: Said): void {
    this.#client.send(statusUpdate(write, flush, apply));
  }

  /** Confirms at every level everything that it was sent: the truth, as far as anybody knows. */
  async confirm(): Promise<void> {
    const lsn = this.#receivedLsn;
    await this.say({ write: lsn, flush: lsn, apply: lsn });
  }

  /** Hot standby feedback; resolves when it was dealt with. Behind it positions stay as they were said last, `said`. */
  async feedBack(
    { xmin, epoch = 0, catalogXmin = 0, catalogEpoch = 0 }: SaidXmins,
    said: Said,
  ): Promise<void> {
    const ids = [i32(xmin), i32(epoch), i32(catalogXmin), i32(catalogEpoch)] as const;
    this.#client.send(message('d', 'h', i64(0n), ...ids));
    await this.say(said);
  }

  /** Takes nothing any more from its socket. */
  stopReading(): void {
    this.#client.pause();
  }

  goOn(): void {
    this.#client.resume();
  }

  close(): void {
    this.#client.close();
  }

  async #next(): Promise<void> {
    if (this.#isOver) throw new Error(`${this.name} does not stream any more`);
    await new Promise<void>((resolve) => {
      const wake = this.#wake;
      this.#wake = () => {
        wake();
        resolve();
      };
    });
  }

  async #read(): Promise<void> {
    for (;;) {
      const item = await this.#client.next();
      if (item === null || item.type === 'E') break;
      if (item.type === 'd' && item.body[0] === 0x77) {
        this.#receivedLsn = item.body.readBigUInt64BE(1) + BigInt(item.body.length - 25);
      } else if (item.type === 'd') {
        this.#keepalives += 1;
      }
      this.#woken();
    }
    this.#isOver = true;
    this.#woken();
  }

  #woken(): void {
    const wake = this.#wake;
    this.#wake = () => {};
    wake();
  }
}
