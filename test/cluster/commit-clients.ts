// Clients that commit until they are told to stop: did any commit fail, how long did the slowest take, and is each of them on a
// standby afterwards?
import { systemClock } from '../../src/base/clock.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';

const CLIENTS = 4;
const PAUSE_MS = 10;

/** What they met. */
export interface CommitReport {
  readonly commits: number;
  /** Each of them, in words; a client that met one has stopped. */
  readonly failures: readonly string[];
  /** From the statement to its answer. */
  readonly longestMs: number;
}

/** Clients at work. */
export interface CommitClients {
  /** Ends them after their current commit. */
  stop(): Promise<CommitReport>;
}

/** Starts them. */
export async function startCommits(primary: PostgresCluster): Promise<CommitClients> {
  await primary.query('CREATE TABLE IF NOT EXISTS commits (client int, number int)');
  await primary.query('TRUNCATE commits');
  const failures: string[] = [];
  let [isOver, commits, longestMs] = [false, 0, 0];
  const client = async (id: number): Promise<void> => {
    await using session = await primary.session({ applicationName: 'commits' });
    for (let number = 0; !isOver; number += 1) {
      const beganMs = systemClock.nowMs();
      await session.query(`INSERT INTO commits VALUES (${id}, ${number})`);
      commits += 1;
      longestMs = Math.max(longestMs, systemClock.nowMs() - beganMs);
      await new Promise<void>((resolve) => systemClock.setTimer(PAUSE_MS, resolve));
    }
  };
  const all = Promise.all(
    Array.from({ length: CLIENTS }, (_, id) =>
      client(id).catch((error: unknown) => void failures.push(String(error))),
    ),
  );
  return {
    stop: async () => {
      isOver = true;
      await all;
      return { commits, failures, longestMs };
    },
  };
}

/** Waits until a standby has everything of this moment. Gives how many of the clients' rows it has. */
export async function commitsOn(
  standby: PostgresCluster,
  primary: PostgresCluster,
): Promise<number> {
  await standby.waitForReplay(await primary.walPosition());
  return Number(await standby.value('SELECT count(*) FROM commits'));
}
