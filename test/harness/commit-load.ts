// Clients that commit for a given time: did any transaction fail, and how long did the slowest take? pgbench where there is
// one, else sessions of our own.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { findProgram } from '../support/requirements.ts';
import { runToolChecked, startTool } from './pg-tools.ts';

/** What the clients met. */
export interface CommitStalls {
  /** Who they were. */
  readonly tool: 'pgbench' | 'sessions';
  readonly transactions: number;
  /** Each of them, in words. */
  readonly failures: readonly string[];
  /** The slowest transaction from its first statement to the answer to COMMIT, as its client saw it. */
  readonly longestMs: number;
}

/** How much of it. */
export interface CommitLoadOptions {
  readonly clients: number;
  readonly seconds: number;
}

/** Clients at work. */
export interface CommitLoad {
  readonly isRunning: boolean;
  /** Resolves when the time is over. */
  ended(): Promise<CommitStalls>;
}

/** Starts it; with pgbench its tables are made first. */
export async function startCommitLoad(
  primary: PostgresCluster,
  options: CommitLoadOptions,
): Promise<CommitLoad> {
  const start = findProgram('pgbench') === null ? startSessions : startPgbench;
  const running = await start(primary, options);
  let isRunning = true;
  const ended = running.finally(() => {
    isRunning = false;
  });
  ended.catch(() => {});
  return {
    get isRunning() {
      return isRunning;
    },
    ended: () => ended,
  };
}

/** An async function would wait for the end, too. */
type Running = { finally(after: () => void): Promise<CommitStalls> };

async function startPgbench(
  primary: PostgresCluster,
  { clients, seconds }: CommitLoadOptions,
): Promise<Running> {
  const { workspace } = primary;
  const { host, port, user, database } = primary.target();
  const server = ['-h', host, '-p', String(port), '-U', user, database];
  await runToolChecked(workspace, 'pgbench', ['-i', '-q', ...server]);
  const directory = await workspace.makeDirectory(`pgbench-${systemClock.nowMs().toFixed()}`);
  const tool = startTool(workspace, 'pgbench', [
    '-n',
    '-b',
    'simple-update',
    `--client=${clients}`,
    `--time=${seconds}`,
    '--log',
    `--log-prefix=${join(directory, 'log')}`,
    ...server,
  ]);
  const ended = async (): Promise<CommitStalls> => {
    const { exitCode, stdout, stderr } = await tool.ended;
    const number = (label: string): number =>
      Number(new RegExp(`${label}: (\\d+)`).exec(stdout)?.[1] ?? Number.NaN);
    const failed = number('number of failed transactions');
    return {
      tool: 'pgbench',
      transactions: number('number of transactions actually processed'),
      failures: exitCode === 0 && !(failed > 0) ? [] : [`pgbench: ${exitCode} ${stderr}${stdout}`],
      longestMs: await longestLogged(directory),
    };
  };
  const running = ended();
  return { finally: (after) => running.finally(after) };
}

/** A line a transaction: client, its number, microseconds, script, time. (pgbench.c:doLog) */
async function longestLogged(directory: string): Promise<number> {
  let longest = 0;
  for (const name of await readdir(directory)) {
    const text = await readFile(join(directory, name), 'utf8');
    for (const line of text.split('\n')) {
      longest = Math.max(longest, Number(line.split(' ')[2] ?? 0));
    }
  }
  return longest / 1000;
}

async function startSessions(
  primary: PostgresCluster,
  { clients, seconds }: CommitLoadOptions,
): Promise<Running> {
  await primary.query('CREATE TABLE IF NOT EXISTS commit_load (client int, number int)');
  const untilMs = systemClock.nowMs() + seconds * 1000;
  const failures: string[] = [];
  let transactions = 0;
  let longestMs = 0;
  const client = async (id: number): Promise<void> => {
    await using session = await primary.session({ applicationName: 'commit_load' });
    while (systemClock.nowMs() < untilMs) {
      const beganMs = systemClock.nowMs();
      await session.query(`INSERT INTO commit_load VALUES (${id}, ${transactions})`);
      transactions += 1;
      longestMs = Math.max(longestMs, systemClock.nowMs() - beganMs);
    }
  };
  const all = Array.from({ length: clients }, (_, id) =>
    client(id).catch((error: unknown) => void failures.push(String(error))),
  );
  const running = Promise.all(all).then((): CommitStalls => ({
    tool: 'sessions',
    transactions,
    failures,
    longestMs,
  }));
  return { finally: (after) => running.finally(after) };
}
