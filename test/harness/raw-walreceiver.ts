// A walreceiver that keeps no WAL: it streams under any name and confirms whatever a test says, true or not. It plays the
// standbys of a primary and of walcast alike.
import { formatLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { message, query, RawClient, statusUpdate } from '../support/raw-client.ts';
import { i32, i64 } from '../support/naive-writer.ts';

/** Where and how it streams. */
export interface RawWalReceiverOptions {
  readonly port: number;
  readonly applicationName: string;
  /** Settings of its session, as `-c name=value`; only servers take them. */
  readonly options?: string;
}

/** What it confirms. */
export interface Claim {
  readonly write: bigint;
  readonly flush: bigint;
  readonly apply: bigint;
}

/** One session. What the server sends is read and forgotten. */
export class RawWalReceiver {
  readonly applicationName: string;
  readonly pid: number;
  readonly #client: RawClient;
  /** End (exclusive) of the WAL that has come. */
  #receivedLsn = 0n;
  #onKeepalive: () => void = () => {};
  #onWal: () => void = () => {};

  private constructor(client: RawClient, parts: { pid: number; applicationName: string }) {
    this.#client = client;
    this.pid = parts.pid;
    this.applicationName = parts.applicationName;
  }

  /** Logs in; streams nothing yet. */
  static async connect(options: RawWalReceiverOptions): Promise<RawWalReceiver> {
    const { client, pid } = await RawClient.standby(options.port, {
      user: 'postgres',
      application_name: options.applicationName,
      ...(options.options === undefined ? {} : { options: options.options }),
    });
    return new RawWalReceiver(client, { pid, applicationName: options.applicationName });
  }

  /** Streams from `startLsn` on; resolves when the server has begun. */
  async start(startLsn: Lsn): Promise<void> {
    this.#receivedLsn = startLsn;
    this.#client.send(query(`START_REPLICATION PHYSICAL ${formatLsn(startLsn)}`));
    const answer = await this.#client.until('WEZ');
    if (answer.at(-1)?.type !== 'W') throw new Error(`${this.applicationName} may not stream`);
    void this.#read();
  }

  /** Streams from `startLsn` on and takes nothing of it: with enough WAL behind it, it does not get out of catching up. */
  async startBlocked(startLsn: Lsn): Promise<void> {
    await this.start(startLsn);
    this.#client.pause();
  }

  /** Resolves once everything before `endLsn` has come. */
  async received(endLsn: Lsn): Promise<void> {
    while (this.#receivedLsn < endLsn) {
      await new Promise<void>((resolve) => {
        this.#onWal = resolve;
      });
    }
  }

  /** Confirms; the keepalive that is asked for is not waited for. */
  confirm({ write, flush, apply }: Claim): void {
    this.#client.send(statusUpdate(write, flush, apply));
  }

  /** Confirms, asks for an answer, and waits for the next word that is no WAL: the answer, unless another came just then. */
  async confirmAndWait({ write, flush, apply }: Claim): Promise<void> {
    const heard = new Promise<void>((resolve) => {
      this.#onKeepalive = resolve;
    });
    this.#client.send(statusUpdate(write, flush, apply, 1));
    await heard;
  }

  /** Feedback that holds nothing back: a server at debug2 logs it, so what was sent before has been dealt with. */
  sendEmptyFeedback(): void {
    this.#client.send(message('d', 'h', i64(0n), i32(0), i32(0), i32(0), i32(0)));
  }

  close(): void {
    this.#client.close();
  }

  async #read(): Promise<void> {
    for (;;) {
      const item = await this.#client.next();
      if (item === null) return;
      if (item.type !== 'd') continue;
      if (item.body[0] === 0x6b) this.#onKeepalive();
      if (item.body[0] !== 0x77) continue;
      this.#receivedLsn = item.body.readBigUInt64BE(1) + BigInt(item.body.length - 25);
      this.#onWal();
    }
  }
}
