// The writer of the demonstration: one short transaction after the other until it is told to stop.
import { systemClock } from '../base/clock.ts';
import { DEMO_TABLE } from './demo-cluster.ts';
import type { PostgresCluster } from './postgres-cluster.ts';

const PAUSE_MS = 10;

/** A running writer. */
export class DemoWriter {
  #commits = 0;
  #isStopping = false;
  #done: Promise<void> = Promise.resolve();

  /** Transactions that were committed so far. */
  get commits(): number {
    return this.#commits;
  }

  /** Starts writing to `primary`. */
  start(primary: PostgresCluster): void {
    this.#done = this.#run(primary);
    this.#done.catch(() => {});
  }

  /** Stops after the running transaction. Rejects with what made the writer fail, if anything did. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#done;
  }

  async #run(primary: PostgresCluster): Promise<void> {
    await using session = await primary.session({ applicationName: 'walcast_demo_writer' });
    while (!this.#isStopping) {
      await session.query(
        `INSERT INTO ${DEMO_TABLE} (note) SELECT repeat(md5(random()::text), 8) FROM generate_series(1, 10)`,
      );
      this.#commits += 1;
      await new Promise<void>((resolve) => systemClock.setTimer(PAUSE_MS, resolve));
    }
  }
}
