// A crowd of standbys that cost next to nothing: each streams and keeps no WAL, and says once a second how far it is.
import { systemClock } from '../../src/base/clock.ts';
import type { Timer } from '../../src/base/clock.ts';
import { formatLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { query, RawClient, statusUpdate } from '../support/raw-client.ts';

/** Sessions that log in side by side. */
const AT_ONCE = 25;

const REPORT_MS = 1_000;

/** What there should be. */
export interface CrowdOptions {
  readonly port: number;
  readonly count: number;
  /** Where they all begin. */
  readonly startLsn: Lsn;
  /** application_name of the one with that number. */
  readonly nameOf: (index: number) => string;
  /** Those confirm what they began with for ever: they fall behind. */
  readonly isLazy?: (index: number) => boolean;
}

/** The crowd; everybody streams. */
export class ManyStandbys implements AsyncDisposable {
  readonly #clients: readonly StandbyClient[];
  #timer: Timer;

  /** Use {@link openManyStandbys}. */
  constructor(clients: readonly StandbyClient[]) {
    this.#clients = clients;
    this.#timer = systemClock.setTimer(REPORT_MS, () => this.#report());
  }

  get count(): number {
    return this.#clients.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer.cancel();
    for (const client of this.#clients) client.close();
    await Promise.resolve();
  }

  #report(): void {
    for (const client of this.#clients) client.report();
    this.#timer = systemClock.setTimer(REPORT_MS, () => this.#report());
  }
}

/** Opens them. */
export async function openManyStandbys(options: CrowdOptions): Promise<ManyStandbys> {
  const clients: StandbyClient[] = [];
  try {
    for (let first = 0; first < options.count; first += AT_ONCE) {
      const group = Array.from(
        { length: Math.min(AT_ONCE, options.count - first) },
        (_, offset) => first + offset,
      );
      clients.push(...(await Promise.all(group.map((index) => begin(options, index)))));
    }
  } catch (error) {
    for (const client of clients) client.close();
    throw error;
  }
  return new ManyStandbys(clients);
}

async function begin(
  { port, startLsn, nameOf, isLazy }: CrowdOptions,
  index: number,
): Promise<StandbyClient> {
  const { client } = await RawClient.standby(port, {
    user: 'postgres',
    application_name: nameOf(index),
  });
  client.send(query(`START_REPLICATION PHYSICAL ${formatLsn(startLsn)}`));
  const answer = await client.until('WEZ');
  if (answer.at(-1)?.type !== 'W') {
    client.close();
    throw new Error(`${nameOf(index)} may not stream`);
  }
  return new StandbyClient(client, { startLsn, isLazy: isLazy?.(index) ?? false });
}

class StandbyClient {
  readonly #client: RawClient;
  readonly #isLazy: boolean;
  #confirmedLsn: bigint;

  constructor(client: RawClient, options: { startLsn: Lsn; isLazy: boolean }) {
    this.#client = client;
    this.#isLazy = options.isLazy;
    this.#confirmedLsn = options.startLsn;
    void this.#read();
    this.report();
  }

  report(): void {
    if (this.#client.isClosed) return;
    const lsn = this.#confirmedLsn;
    this.#client.send(statusUpdate(lsn, lsn, lsn));
  }

  close(): void {
    this.#client.close();
  }

  async #read(): Promise<void> {
    for (;;) {
      const item = await this.#client.next();
      if (item === null) return;
      if (item.type !== 'd') continue;
      const kind = item.body[0];
      if (kind === 0x77 && !this.#isLazy) {
        this.#confirmedLsn = item.body.readBigUInt64BE(1) + BigInt(item.body.length - 25);
      }
      // A keepalive that asks for an answer.
      if (kind === 0x6b && item.body.at(-1) === 1) this.report();
    }
  }
}
