// A PostgreSQL server as an upstream sees one from outside: writes WAL or follows another, crashes, stops, is promoted.
// Its walsenders are in server-session.ts.
import { minLsn, toLsn } from '../../../src/pg/lsn.ts';
import type { Lsn } from '../../../src/pg/lsn.ts';
import { isInHistory, switchPoint } from '../../../src/pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../../../src/pg/timeline.ts';
import type { Network } from '../machine/network.ts';
import type { Random } from '../machine/random.ts';
import { SimProcess } from '../machine/sim-process.ts';
import type { World } from '../machine/world.ts';
import type { Cluster } from './cluster.ts';
import { ServerSession } from './server-session.ts';
import type { SyncPolicy } from '../sync-policy.ts';
import { KINDS, SyncCommits } from './sync-commits.ts';
import type { WaitingCommit } from './sync-commits.ts';

/** How often a standby server takes over what its primary has. */
const FOLLOW_MS = 40;

/** What a server has to do with. */
export interface ServerParts {
  readonly world: World;
  readonly network: Network;
  readonly cluster: Cluster;
  readonly random: Random;
  /** Milliseconds between two writes, on average. */
  readonly writeEveryMs: number;
  /** Whom commits wait for, whichever server takes them. */
  readonly policy: SyncPolicy;
  /** Told of each commit that a client is told of, and of the application names that it was waited for. */
  readonly onReleased: (server: Server, commit: WaitingCommit, by: readonly string[]) => void;
}

/** What is counted over all servers. */
export interface ServerCounts {
  commits: number;
  acknowledged: number;
  written: number;
}

/** One server. */
export class Server {
  readonly name: string;
  readonly parts: ServerParts;
  readonly counts: ServerCounts = { commits: 0, acknowledged: 0, written: 0 };
  readonly slots = new Map<string, { restartLsn: Lsn; holder: ServerSession | null }>();
  readonly sessions = new Set<ServerSession>();
  timeline: TimelineId;
  walEnd: Lsn;
  /** The server that it follows; null for a primary. */
  following: Server | null = null;
  isWriting = true;
  /** Beyond that nothing more is written; null for no bound. */
  writeLimitLsn: bigint | null = null;
  isStopping = false;
  /** Somebody else has its address: it cannot start. */
  isReplaced = false;
  /** The next message has a wrong bit. */
  flipsNextBit = false;
  process: SimProcess | null = null;
  /** When the stop that is under way, or was last, began. */
  stopBeganAtMs: number | null = null;
  #onStopped: (() => void) | null = null;
  readonly commits: SyncCommits;

  constructor(name: string, parts: ServerParts, following: Server | null) {
    this.name = name;
    this.parts = parts;
    this.commits = new SyncCommits(parts.policy, (commit, by) =>
      parts.onReleased(this, commit, by),
    );
    this.following = following;
    this.timeline = following?.timeline ?? parts.cluster.newest;
    this.walEnd = following?.walEnd ?? parts.cluster.endLsn(this.timeline);
  }

  get isUp(): boolean {
    return this.process !== null;
  }

  get isInRecovery(): boolean {
    return this.following !== null;
  }

  get history(): TimelineHistory {
    return this.parts.cluster.history(this.timeline);
  }

  start(): void {
    if (this.process !== null || this.isReplaced) return;
    const { network, random } = this.parts;
    const process = new SimProcess(this.name, {
      monotonicOriginMs: random.real(1_000, 100_000),
      hasPromises: false,
    });
    this.process = process;
    this.isStopping = false;
    process.onEnd.push((end) => {
      this.process = null;
      this.commits.forget();
      for (const slot of this.slots.values()) slot.holder = null;
      this.sessions.clear();
      network.processEnded(process, end === 'power');
    });
    network.setDown(this.name, false);
    network.listen(process, (open) => {
      const session = new ServerSession(this);
      session.attach(open(session));
    });
    this.#work();
  }

  crash(isPowerLost: boolean): void {
    this.process?.kill(isPowerLost ? 'power' : 'kill');
    if (isPowerLost) this.parts.network.setDown(this.name, true);
  }

  /** A fast stop: everybody is sent the last record and has to confirm it. Calls back when the server is gone. */
  stopFast(onStopped: () => void): void {
    if (this.process === null || this.isStopping) return;
    this.isStopping = true;
    // Backends end first, and tell nobody of a commit that waits.
    this.commits.forget();
    this.stopBeganAtMs = this.parts.world.nowMs;
    this.#onStopped = onStopped;
    if (!this.isInRecovery) this.walEnd = this.parts.cluster.shutDown(this.timeline);
    for (const session of this.sessions) session.onStopping();
    this.checkStopped();
  }

  /** The last walsender may be gone. */
  checkStopped(): void {
    if (!this.isStopping || this.sessions.size > 0) return;
    const onStopped = this.#onStopped;
    this.#onStopped = null;
    this.process?.kill('exit');
    onStopped?.();
  }

  /** Ends recovery here and now: a new timeline begins. */
  promote(): void {
    const { cluster } = this.parts;
    const switchLsn = cluster.recordEndBefore(this.timeline, this.walEnd);
    this.timeline = cluster.branch(this.timeline, switchLsn);
    this.walEnd = cluster.endLsn(this.timeline);
    this.following = null;
    this.commits.forget();
    this.wakeSessions();
  }

  /** Comes back as a standby of `primary`, rewound to where both agree. */
  follow(primary: Server): void {
    this.following = primary;
    this.writeLimitLsn = null;
    this.commits.forget();
    if (primary.timeline === this.timeline) {
      this.walEnd = minLsn(this.walEnd, primary.walEnd);
      return;
    }
    const fork = switchPoint(primary.history, this.timeline);
    this.walEnd = fork === null ? primary.walEnd : minLsn(this.walEnd, fork.endLsn);
    if (fork === null) this.timeline = primary.timeline;
  }

  /** A walsender has heard from its standby. */
  onReply(session: ServerSession): void {
    if (this.isInRecovery) return;
    this.counts.acknowledged += this.commits.onReply(session, this.sessions);
  }

  wakeSessions(): void {
    for (const session of this.sessions) session.pump();
  }

  #work(): void {
    const { world, random, writeEveryMs } = this.parts;
    const process = this.process;
    if (process === null) return;
    const delayMs = this.isInRecovery ? FOLLOW_MS : random.exponential(writeEveryMs);
    world.schedule(process.context, delayMs, `${this.name} works`, () => {
      if (this.isInRecovery) this.#takeOver();
      else if (this.isWriting && !this.isStopping && !this.#isFull()) this.#write();
      this.#work();
    });
  }

  #isFull(): boolean {
    return this.writeLimitLsn !== null && this.walEnd >= this.writeLimitLsn;
  }

  #write(): void {
    const { cluster, random } = this.parts;
    const before = this.walEnd;
    this.walEnd = cluster.write(this.timeline, random);
    this.counts.commits += 1;
    this.counts.written += Number(this.walEnd - before);
    this.commits.waiting.push({
      timeline: this.timeline,
      lsn: this.walEnd,
      kind: random.pick(KINDS),
      sinceMs: this.parts.world.nowMs,
    });
    this.wakeSessions();
  }

  /** What the primary has written is there, a timeline at a time. */
  #takeOver(): void {
    const primary = this.following;
    const { network } = this.parts;
    if (primary === null || !primary.isUp) return;
    if (network.link(primary.name, this.name).isCut) return;
    if (primary.timeline !== this.timeline) {
      if (!isInHistory(primary.history, this.timeline)) return;
      const fork = switchPoint(primary.history, this.timeline);
      if (fork === null) return;
      if (this.walEnd > fork.endLsn) return;
      this.walEnd = fork.endLsn;
      this.timeline = fork.nextTimeline;
    } else {
      const half = this.walEnd + (primary.walEnd - this.walEnd) / 2n;
      const isSlow = this.parts.random.chance(0.2);
      this.walEnd = isSlow
        ? this.parts.cluster.recordEndBefore(this.timeline, toLsn(half))
        : primary.walEnd;
    }
    this.wakeSessions();
  }
}
