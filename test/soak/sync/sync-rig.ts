// A primary whose commits wait for standbys behind walcast: what a round of the campaign `sync` does to them, and what the
// standbys have when nothing moves any more.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../../src/base/clock.ts';
import { takeBaseBackup } from '../../../src/demo/base-backup.ts';
import { pollUntil, signalProcess } from '../../../src/demo/postgres-process.ts';
import type { PostgresCluster } from '../../../src/demo/postgres-server.ts';
import { INVALID_LSN, maxLsn, parseLsn } from '../../../src/pg/lsn.ts';
import type { Lsn } from '../../../src/pg/lsn.ts';
import { openPromotionRig } from '../../harness/promotion-rig.ts';
import type { PromotionRig } from '../../harness/promotion-rig.ts';
import { startWriteLoad } from '../../harness/write-load.ts';
import type { WriteLoad } from '../../harness/write-load.ts';
import { pause } from '../mixed-load.ts';
import { drawPolicy } from './policies.ts';
import type { DrawnPolicy } from './policies.ts';

const SERVERS = ['alpha', 'beta', 'gamma', 'delta'] as const;
const WRITERS = 6;
/** A standby has replayed all it has when its position stood still so long. */
const STEADY_MS = 250;
const STEADY_TIMEOUT_MS = 30_000;
const RECOVERY_TIMEOUT_MS = 45_000;

/** Where a standby is when nothing arrives any more. */
export interface Standing {
  readonly server: PostgresCluster;
  /** End of what it has, replayed or not. */
  readonly endLsn: Lsn;
  /** It lacks none of the commits that clients were told of. */
  readonly isComplete: boolean;
}

/** Everything. Use {@link openSyncRig}. */
export class SyncRig {
  readonly servers: PromotionRig;
  readonly load: WriteLoad;
  readonly #major: number;
  /** The policy of the round. */
  policy: DrawnPolicy;
  /** The timeline that is written. */
  timeline = 1;

  constructor(
    servers: PromotionRig,
    load: WriteLoad,
    options: { major: number; policy: DrawnPolicy },
  ) {
    this.servers = servers;
    this.load = load;
    this.#major = options.major;
    this.policy = options.policy;
  }

  /** Draws a policy for the standbys of the moment, and has commits wait by it at `level`. Everybody has everything then. */
  async begin(random: () => number, level: string): Promise<void> {
    const { primary, relay, standbys } = this.servers;
    this.policy = drawPolicy(
      standbys.map(({ name }) => name),
      random,
    );
    await relay.reload({ synchronous_standby_names: this.policy.text });
    await primary.configure({ synchronous_commit: level });
    await primary.reload();
    await this.commitsAgain();
    await this.servers.settle();
  }

  /** Waits until commits are acknowledged; gives the milliseconds it took. */
  async commitsAgain(): Promise<number> {
    const startedMs = systemClock.nowMs();
    await this.load.waitForCommits(WRITERS, RECOVERY_TIMEOUT_MS).catch(async (error: unknown) => {
      throw new Error(`${this.policy.text}: ${String(error)}\n${await this.#situation()}`);
    });
    return systemClock.nowMs() - startedMs;
  }

  /** SIGSTOP, or SIGCONT, to all processes of a server. */
  async signalAll(server: PostgresCluster, signal: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    for (const pid of (await server.process?.pids()) ?? []) signalProcess(pid, signal);
  }

  /** What each standby has, once all have replayed what they have. walcast must not run, or have nothing more. */
  async standings(): Promise<Standing[]> {
    return await Promise.all(
      this.servers.standbys.map(async (server) => {
        const endLsn = await steadyEnd(server);
        const isComplete = (await this.load.lostOn(server)).length === 0;
        return { server, endLsn, isComplete };
      }),
    );
  }

  /**
   * Promotes `next`; who has more than it, and the old primary, is made anew. walcast runs and follows afterwards. Gives the
   * acknowledged commits that the new primary lacks, as sentences.
   */
  async promote(next: PostgresCluster, standings: readonly Standing[]): Promise<string[]> {
    const rig = this.servers;
    const old = rig.primary;
    await next.promote();
    // Before anybody writes there.
    const lost = await this.load.lostOn(next);
    rig.primary = next;
    this.timeline += 1;
    const own = standings.find(({ server }) => server === next)?.endLsn ?? INVALID_LSN;
    const others = standings.filter(({ server }) => server !== next);
    const ahead = others.filter(({ endLsn }) => endLsn > own).map(({ server }) => server);
    for (const server of ahead) await server.stop('immediate');
    await this.#follow(others.map(({ server }) => server).filter(({ isRunning }) => isRunning));
    for (const server of [old, ...ahead]) await this.#copyAnew(server);
    return lost;
  }

  /**
   * walcast follows the new primary. One that was dead may hold more of the old timeline than anybody else: standbys ask it
   * once it knows where that was left.
   */
  async #follow(standbys: readonly PostgresCluster[]): Promise<void> {
    const { relay } = this.servers;
    if (!relay.isRunning) {
      for (const server of standbys) await this.signalAll(server, 'SIGSTOP');
      await relay.start({ wait: false });
    }
    await this.servers.followed(this.timeline);
    for (const server of standbys) await this.signalAll(server, 'SIGCONT');
  }

  async #copyAnew(server: PostgresCluster): Promise<void> {
    const { primary, workspace } = this.servers;
    await rm(server.dataDirectory, { recursive: true, force: true });
    const directory = await workspace.makeDirectory(join(server.name, 'data'));
    await takeBaseBackup({
      source: primary.target({ applicationName: `${server.name}_backup` }),
      major: this.#major,
      directory,
      user: workspace.user,
    });
    await this.servers.rejoin(server);
  }

  async #situation(): Promise<string> {
    const { primary, relay } = this.servers;
    const state = async (what: string, ask: () => Promise<unknown>): Promise<string> =>
      `${what}: ${JSON.stringify(await ask().catch(String))}`;
    const lines = await Promise.all([
      state('primary', () =>
        primary.query(
          'SELECT application_name, state, sync_state, sent_lsn, write_lsn, flush_lsn, replay_lsn FROM pg_stat_replication',
        ),
      ),
      state('standbys', () => relay.get('/api/v1/standbys')),
      state('sync', () => relay.get('/api/v1/sync')),
    ]);
    return [...lines, ...relay.log.slice(-20)].join('\n');
  }

  async close(): Promise<void> {
    // A commit may wait for ever: its session ends with the server.
    const stopped = this.load.stop();
    await this.servers[Symbol.asyncDispose]();
    await stopped;
  }
}

/** Sets everything up; commits wait for standbys when this resolves. */
export async function openSyncRig(options: {
  readonly major: number;
  readonly random: () => number;
}): Promise<SyncRig> {
  const servers = await openPromotionRig({
    major: options.major,
    servers: SERVERS,
    segmentSizeMb: 1,
    // Nobody is given up because it stands still for a while: it is the answer that is waited for.
    settings: {
      checkpoint_timeout: '30s',
      wal_keep_size: '512MB',
      wal_retrieve_retry_interval: '100ms',
    },
  });
  try {
    for (const server of servers.servers) {
      await server.configure({ synchronous_standby_names: 'walcast' });
      await server.reload();
    }
    const load = await startWriteLoad(() => servers.primary, WRITERS);
    const policy = drawPolicy(
      servers.standbys.map(({ name }) => name),
      options.random,
    );
    return new SyncRig(servers, load, { major: options.major, policy });
  } catch (error) {
    await servers[Symbol.asyncDispose]();
    throw error;
  }
}

/** The end of what a standby has, once it has replayed it: what is behind it is no whole record. */
async function steadyEnd(server: PostgresCluster): Promise<Lsn> {
  let last: string | undefined;
  let sinceMs = systemClock.nowMs();
  return await pollUntil(
    `${server.name} having replayed what it has`,
    async () => {
      const [row] = await server.query(
        `SELECT coalesce(pg_last_wal_receive_lsn()::text, '0/0'), coalesce(pg_last_wal_replay_lsn()::text, '0/0')`,
      );
      const now = row?.join(' ');
      if (now !== last) {
        last = now;
        sinceMs = systemClock.nowMs();
      }
      await pause(20);
      if (systemClock.nowMs() - sinceMs < STEADY_MS) return null;
      const [received = '', replayed = ''] = row ?? [];
      return maxLsn(parseLsn(received) ?? INVALID_LSN, parseLsn(replayed) ?? INVALID_LSN);
    },
    { timeoutMs: STEADY_TIMEOUT_MS },
  );
}
