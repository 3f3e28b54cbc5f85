// A primary under load, walcast with its standbys, and a crowd of strangers at its ports: how late are the standbys, by
// their own positions, and how much memory does walcast take meanwhile?
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/base/clock.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import type { SqlSession } from '../../src/demo/sql-session.ts';
import { INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';

const FLOOD = fileURLToPath(new URL('flood.mjs', import.meta.url));
const SAMPLE_MS = 20;

/** What a crowd does. */
export interface FloodOptions {
  readonly kind: 'idle' | 'drip' | 'hoard' | 'passwords' | 'lengths' | 'pipeline';
  readonly host?: string;
  readonly port: number;
  /** Open at one time. */
  readonly connections: number;
  /** New ones in a second at most. */
  readonly perSecond: number;
  /** Where they come from; default 127.0.0.1. */
  readonly addresses?: readonly string[];
  /** Inside TLS, after an SSLRequest. */
  readonly tls?: boolean;
  /** For `drip`: what is sent a byte a second, and never to its end. */
  readonly drip?: string;
  readonly user?: string;
}

/** What a crowd did. */
export interface FloodReport {
  readonly opened: number;
  readonly openMax: number;
  readonly open: number;
  readonly closed: number;
  readonly refused: number;
  /** Errors that were answered, or commands that were sent. */
  readonly answered: number;
  readonly errors: number;
}

/** `count` addresses of the loopback network, from 127.0.`third`.1 on. */
export function loopbackAddresses(third: number, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `127.0.${third}.${index + 1}`);
}

/** A crowd that is at it. */
export interface RunningFlood {
  /** What it has done up to a moment ago. */
  report(): FloodReport;
  /** Ends it; what it did. */
  stop(): Promise<FloodReport>;
}

/** Sends a crowd, from a process of its own; resolves when the first of it is there. */
export async function startFlood(options: FloodOptions): Promise<RunningFlood> {
  const addresses = options.addresses ?? ['127.0.0.1'];
  const task = JSON.stringify({ host: '127.0.0.1', ...options, addresses });
  const child = spawn(process.execPath, [FLOOD, task], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout);
  let last = '';
  lines.on('line', (line) => (last = line));
  const closed = once(child, 'close');
  await once(lines, 'line');
  const report = (): FloodReport => JSON.parse(last) as FloodReport;
  return {
    report,
    stop: async () => {
      child.stdin.end();
      await closed;
      return report();
    },
  };
}

/** Looks at one standby as long as it is asked to. */
export class LagWatch {
  readonly #primary: SqlSession;
  readonly #standby: SqlSession;
  readonly #running: Promise<void>;
  /** Ends of WAL at the primary that the standby has not replayed yet, and when they were seen. */
  readonly #ends: { readonly lsn: Lsn; readonly atMs: number }[] = [];
  #isStopping = false;
  #longestMs = 0;
  #samples = 0;

  private constructor(primary: SqlSession, standby: SqlSession) {
    this.#primary = primary;
    this.#standby = standby;
    this.#running = this.#watch();
  }

  /** Begins. The primary has to be under load, or there is nothing to be late with. */
  static async start(primary: PostgresCluster, standby: PostgresCluster): Promise<LagWatch> {
    const sessions = [primary, standby].map((cluster) => openSqlSession(cluster.target()));
    const [one, two] = await Promise.all(sessions);
    if (one === undefined || two === undefined) throw new Error('no sessions');
    return new LagWatch(one, two);
  }

  /** How often was looked since the last call of {@link take}. */
  get samples(): number {
    return this.#samples;
  }

  /** How late it was at most since the last call, in milliseconds; how often that was looked at. */
  take(): { readonly longestMs: number; readonly samples: number } {
    const [oldest] = this.#ends;
    const waitingMs = oldest === undefined ? 0 : systemClock.nowMs() - oldest.atMs;
    const taken = { longestMs: Math.max(this.#longestMs, waitingMs), samples: this.#samples };
    this.#longestMs = 0;
    this.#samples = 0;
    return taken;
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#running;
    this.#primary.close();
    this.#standby.close();
  }

  async #watch(): Promise<void> {
    while (!this.#isStopping) {
      const [end, replayed] = await Promise.all([
        positionOf(this.#primary, 'pg_current_wal_flush_lsn()'),
        positionOf(this.#standby, 'pg_last_wal_replay_lsn()'),
      ]);
      const nowMs = systemClock.nowMs();
      this.#ends.push({ lsn: end, atMs: nowMs });
      while ((this.#ends[0]?.lsn ?? replayed + 1n) <= replayed) {
        const first = this.#ends.shift();
        if (first !== undefined) this.#longestMs = Math.max(this.#longestMs, nowMs - first.atMs);
      }
      this.#samples += 1;
      await new Promise<void>((resolve) => systemClock.setTimer(SAMPLE_MS, resolve));
    }
  }
}

async function positionOf(session: SqlSession, expression: string): Promise<Lsn> {
  const [[text] = []] = await session.query(`SELECT ${expression}`);
  return parseLsn(text ?? '') ?? INVALID_LSN;
}
