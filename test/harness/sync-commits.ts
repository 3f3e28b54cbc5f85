// Commits at each level of synchronous_commit: which of them wait, when did they return, and was what they wrote visible on
// the standbys at that moment?
import { systemClock } from '../../src/base/clock.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { SqlSession } from '../../src/demo/sql-session.ts';

/** What a commit waits for on the standbys: that they have the WAL, have it on their disk, have applied it. */
export const LEVELS = ['remote_write', 'on', 'remote_apply'] as const;
export type CommitLevel = (typeof LEVELS)[number];

/** One commit that was sent. */
export interface SentCommit {
  readonly level: CommitLevel;
  readonly id: number;
  /** The backend that runs it. */
  readonly pid: number;
  /** When the answer came, on the monotonic clock; null while it waits. */
  readonly doneMs: number | null;
  /** Resolves with the milliseconds it took; rejects as the statement does. */
  readonly ended: Promise<number>;
}

interface Line {
  readonly session: SqlSession;
  readonly pid: number;
}

const WAIT_MS = 20_000;

/** Of this process: a commit's number is higher than those of all before it, whoever made them. */
let lastId = 0;

/** One session a level on the primary, and one that watches them. */
export class CommitSessions implements AsyncDisposable {
  readonly #lines: ReadonlyMap<CommitLevel, Line>;
  readonly #watcher: SqlSession;

  private constructor(lines: ReadonlyMap<CommitLevel, Line>, watcher: SqlSession) {
    this.#lines = lines;
    this.#watcher = watcher;
  }

  /** Connects; the table `commits` is there. */
  static async open(primary: PostgresCluster): Promise<CommitSessions> {
    const lines = new Map<CommitLevel, Line>();
    for (const level of LEVELS) {
      const session = await primary.session({ applicationName: `commits_${level}` });
      await session.query(`SET synchronous_commit = ${level}`);
      lines.set(level, { session, pid: Number(await session.value('SELECT pg_backend_pid()')) });
    }
    const watcher = await primary.session({ applicationName: 'commits_watcher' });
    return new CommitSessions(lines, watcher);
  }

  /** Sends a commit; a level has one at a time, others queue behind it. */
  begin(level: CommitLevel): SentCommit {
    const line = this.#lines.get(level);
    if (line === undefined) throw new Error(`no session at ${level}`);
    lastId += 1;
    const id = lastId;
    const sentMs = systemClock.nowMs();
    let doneMs: number | null = null;
    const ended = line.session.query(`INSERT INTO commits VALUES (${id})`).then(() => {
      doneMs = systemClock.nowMs();
      return doneMs - sentMs;
    });
    ended.catch(() => {});
    return {
      level,
      id,
      pid: line.pid,
      get doneMs() {
        return doneMs;
      },
      ended,
    };
  }

  /** Sends one at each level. */
  beginAll(): SentCommit[] {
    return LEVELS.map((level) => this.begin(level));
  }

  /** Sends one at each level and waits for all; milliseconds of the slowest. Rejects after twenty seconds. */
  async commitAll(): Promise<number> {
    return await returned(this.beginAll());
  }

  /** Waits until all of these are where a backend waits for standbys: their commit is on the primary's own disk. */
  async untilWaiting(commits: readonly SentCommit[]): Promise<void> {
    if (commits.length === 0) return;
    const pids = commits.map(({ pid }) => pid);
    const sql = `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid IN (${pids.join()})`;
    await pollUntil(
      `commits at ${commits.map(({ level }) => level).join(', ')} waiting`,
      async () => (Number(await this.#watcher.value(sql)) === pids.length ? true : null),
      { timeoutMs: WAIT_MS },
    );
  }

  /** pg_cancel_backend for the backend of a commit. */
  async cancel({ pid }: SentCommit): Promise<void> {
    await this.#watcher.query(`SELECT pg_cancel_backend(${pid})`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { session } of this.#lines.values()) session.close();
    this.#watcher.close();
  }
}

/** Waits for all of these; milliseconds of the slowest. Rejects after `timeoutMs`, with the levels that still wait. */
export async function returned(
  commits: readonly SentCommit[],
  timeoutMs: number = WAIT_MS,
): Promise<number> {
  const all = Promise.all(commits.map(({ ended }) => ended));
  return await new Promise<number>((resolve, reject) => {
    const timer = systemClock.setTimer(timeoutMs, () => {
      const waiting = commits.filter(({ doneMs }) => doneMs === null).map(({ level }) => level);
      reject(new Error(`commits at ${waiting.join(', ')} did not return in ${timeoutMs} ms`));
    });
    void all.then((took) => resolve(Math.max(...took)), reject).finally(() => timer.cancel());
  });
}

/** What reading one's own writes gave. */
export interface ReadsOfOwnWrites {
  readonly commits: number;
  /** Commits that were not visible where they had to be when they returned. */
  readonly misses: readonly number[];
  /** How often each standby did not show the commit yet. */
  readonly behind: Readonly<Record<string, number>>;
  /** Milliseconds a commit took. */
  readonly p50: number;
  readonly p99: number;
}

/**
 * Commits `count` times, one after the other, in one session at `level`; as soon as one has returned, it is looked for on all
 * `standbys` at once. `suffices` is asked with the names of those that showed it.
 */
export async function readOwnWrites(
  primary: PostgresCluster,
  standbys: readonly PostgresCluster[],
  options: {
    readonly level: CommitLevel;
    readonly count: number;
    readonly suffices: (shown: ReadonlySet<string>) => boolean;
    /** Is awaited before each commit, with how many there were. */
    readonly before?: (done: number) => Promise<void>;
  },
): Promise<ReadsOfOwnWrites> {
  await using writer = await primary.session({ applicationName: 'own_writes' });
  await writer.query(`SET synchronous_commit = ${options.level}`);
  const readers = await Promise.all(
    standbys.map(async (standby) => ({ name: standby.name, session: await standby.session() })),
  );
  const behind: Record<string, number> = Object.fromEntries(readers.map(({ name }) => [name, 0]));
  const misses: number[] = [];
  const took: number[] = [];
  const look = async (id: number): Promise<void> => {
    const shown = new Set<string>();
    await Promise.all(
      readers.map(async ({ name, session }) => {
        const isShown = await session.value(`SELECT count(*) FROM commits WHERE id = ${id}`);
        if (isShown === '1') shown.add(name);
        else behind[name] = (behind[name] ?? 0) + 1;
      }),
    );
    if (!options.suffices(shown)) misses.push(id);
  };
  try {
    for (let done = 0; done < options.count; done += 1) {
      await options.before?.(done);
      lastId += 1;
      const id = lastId;
      const sentMs = systemClock.nowMs();
      await writer.query(`INSERT INTO commits VALUES (${id})`);
      took.push(systemClock.nowMs() - sentMs);
      await look(id);
    }
  } finally {
    for (const { session } of readers) session.close();
  }
  took.sort((left, right) => left - right);
  const at = (share: number): number =>
    Math.round((took[Math.floor(took.length * share)] ?? 0) * 100) / 100;
  return { commits: options.count, misses, behind, p50: at(0.5), p99: at(0.99) };
}
