// WAL older than the store, read through from the upstream while it has it: a few connections of their own, and many
// standbys that take turns at them (read-through-turns.ts). The walreceiver's own session is not touched.
import {
  InvariantError,
  OperationalError,
  WalcastError,
  errorText,
  invariant,
} from '../base/errors.ts';
import type { Clock, Timer } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import {
  READ_THROUGH_ALONE_MS,
  READ_THROUGH_COMMAND_MS,
  READ_THROUGH_CONNECTIONS_MAX,
  READ_THROUGH_END_MS,
  READ_THROUGH_IDLE_MS,
  READ_THROUGH_READERS_MAX,
  READ_THROUGH_STALL_MS,
  READ_THROUGH_STATUS_MS,
  READ_THROUGH_TICK_MS,
  READ_THROUGH_TURN_MS,
  READ_THROUGH_YIELD_MS,
} from '../config/limits.ts';
import type { Dial } from '../net/dial.ts';
import { formatTarget } from '../net/dial.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { ReadThroughStatus } from '../status/status.ts';
import { ReadThroughHistories } from './read-through-histories.ts';
import type { HistoryHost, HistoryJob } from './read-through-histories.ts';
import { readThroughName, whyNotReadFrom } from './read-through-identity.ts';
import { ReadThroughLink } from './read-through-link.ts';
import type { ReadThroughOrigin, ReadThroughRequest, WalCheck } from './read-through-ports.ts';
import { ReadThroughReader } from './read-through-reader.ts';
import type { ReaderHost } from './read-through-reader.ts';
import { ReadThroughTurns } from './read-through-turns.ts';
import type { TurnAction } from './read-through-turns.ts';
import type { UpstreamHost, UpstreamTarget } from './upstream-target.ts';

/** What reading through needs. Functions are asked anew each time. */
export interface ReadThroughOptions {
  readonly target: () => UpstreamTarget;
  /** The walreceiver's own; ours is made from it. */
  readonly applicationName: () => string;
  /** The host whose WAL is followed, or was last; null: none yet. */
  readonly followedHost: () => UpstreamHost | null;
  /** True while WAL streams in from it. When that ends our connections end too: it may be shutting down. */
  readonly isUpstreamMoving: () => boolean;
  /** What is stored; null while that is nothing. */
  readonly origin: () => ReadThroughOrigin | null;
  /** A check of the WAL from this segment start on. */
  readonly openCheck: (startLsn: Lsn) => WalCheck;
  /** How long a standby waits for an upstream that cannot be read from. Positive. */
  readonly timeoutMs: () => number;
  readonly clock: Clock;
  readonly log: Log;
  readonly dial: Dial;
}

type Claimant = ReadThroughReader | HistoryJob;

/** Connections, readers and who is next. */
export class ReadThrough implements ReaderHost, HistoryHost {
  readonly clock: Clock;
  readonly #options: ReadThroughOptions;
  readonly #turns: ReadThroughTurns<Claimant>;
  readonly #readers = new Set<ReadThroughReader>();
  readonly #links = new Set<ReadThroughLink>();
  /** Those that nobody uses, and since when. */
  readonly #idle = new Map<ReadThroughLink, number>();
  readonly #histories: ReadThroughHistories;
  #timer: Timer | null = null;
  #bytes = 0;
  #wasMoving = false;
  /** Since when the walreceiver is not connected while we want to be; null when it is. */
  #aloneSinceMs: number | null = null;
  /** Nothing is connected before: the walreceiver goes first. */
  #yieldUntilMs = Number.NEGATIVE_INFINITY;
  #isAdvancing = false;
  #isClosed = false;
  /** Since when no connection could be opened; null after one was. */
  #unreachable: { readonly sinceMs: number; reason: string } | null = null;
  #statusSentAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: ReadThroughOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.#histories = new ReadThroughHistories(this);
    this.#turns = new ReadThroughTurns({
      connectionsMax: READ_THROUGH_CONNECTIONS_MAX,
      claimantsMax: READ_THROUGH_READERS_MAX,
      turnMs: READ_THROUGH_TURN_MS,
      stallMs: READ_THROUGH_STALL_MS,
    });
  }

  /** Begins to read for a standby; null when there are too many of them already. The caller closes it. */
  open(request: ReadThroughRequest): ReadThroughReader | null {
    const origin = this.#options.origin();
    if (origin === null || this.#isClosed) return null;
    const { segmentSize } = origin;
    const { openCheck } = this.#options;
    const reader = new ReadThroughReader(this, request, { segmentSize, openCheck });
    if (!this.#turns.join(reader)) return null;
    this.#readers.add(reader);
    this.#logOpened(request);
    this.#advance();
    return reader;
  }

  #logOpened({ timeline, startLsn, limitLsn, isRepair }: ReadThroughRequest): void {
    // A repair says more about itself.
    if (isRepair === true) return;
    this.#options.log.info('a standby needs WAL from before the store: it is read from upstream', {
      timeline,
      start_lsn: formatLsn(startLsn),
      limit_lsn: formatLsn(limitLsn),
    });
  }

  /**
   * The history file of a timeline as the upstream has it; null when it has none, or could not be asked within
   * `READ_THROUGH_HISTORY_MS`. Never rejects.
   */
  historyFile(timeline: TimelineId): Promise<Uint8Array | null> {
    if (this.#options.origin() === null || this.#isClosed) return Promise.resolve(null);
    return this.#histories.ask(timeline);
  }

  /** Connections of this moment, bytes since the start. */
  status(): Omit<ReadThroughStatus, 'repairedSegments' | 'failedRepairs'> {
    return {
      connections: this.#links.size,
      connectionsMax: READ_THROUGH_CONNECTIONS_MAX,
      bytes: this.#bytes,
    };
  }

  /** Closes everything, for good. Standbys are told by whoever closes them. */
  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#timer = null;
    this.#histories.close();
    for (const link of this.#links) link.close();
  }

  /** The settings of the upstream may have changed: what was connected with others is closed, and connected anew. */
  settingsChanged(): void {
    const target = this.#options.target();
    const name = readThroughName(this.#options.applicationName());
    for (const link of this.#links) if (!link.isMadeWith(target, name)) link.close();
  }

  // --- from readers

  timeoutMs(): number {
    return this.#options.timeoutMs();
  }

  onTaken(reader: ReadThroughReader, byteCount: number): void {
    this.#bytes += byteCount;
    if (!reader.isStreaming) this.#advance();
  }

  onProgress(): void {
    this.#unreachable = null;
  }

  onFull(reader: ReadThroughReader, isFull: boolean): void {
    this.#turns.setFull(reader, isFull, this.clock.nowMs());
  }

  onClosed(reader: ReadThroughReader): void {
    this.#readers.delete(reader);
    this.#turns.leave(reader);
    this.#advance();
  }

  // --- turns

  /** Whoever wants a connection asks for it, and whatever the turns say is done. */
  #advance(): void {
    if (this.#isAdvancing || this.#isClosed) return;
    this.#isAdvancing = true;
    const nowMs = this.clock.nowMs();
    for (const reader of this.#readers) if (reader.isWanting(nowMs)) this.#turns.want(reader);
    while (nowMs >= this.#yieldUntilMs) {
      const action = this.#turns.next(nowMs);
      if (action === null) break;
      this.#perform(action);
    }
    this.#isAdvancing = false;
    this.#arm();
  }

  #perform({ type, claimant }: TurnAction<Claimant>): void {
    if (type === 'grant') void this.#serve(claimant);
    else if (claimant instanceof ReadThroughReader) claimant.revoke();
  }

  /** One turn, from its grant to its end. */
  async #serve(claimant: Claimant): Promise<void> {
    let link: ReadThroughLink | null = null;
    if (claimant instanceof ReadThroughReader) claimant.onGranted();
    try {
      link = await this.#openLink();
      if (claimant instanceof ReadThroughReader) await claimant.readFrom(link);
      else await this.#histories.read(claimant, link);
    } catch (error) {
      this.#onTrouble(claimant, error, link !== null);
    }
    if (link !== null && !link.isGone) this.#idle.set(link, this.clock.nowMs());
    this.#turns.released(claimant);
    this.#advance();
  }

  #onTrouble(claimant: Claimant, error: unknown, isOpen: boolean): void {
    if (!(error instanceof WalcastError) || error instanceof InvariantError) throw error;
    const reason = errorText(error);
    if (!isOpen && !this.#isClosed) {
      if (this.#unreachable === null) this.#logUnreachable(reason);
      this.#unreachable ??= { sinceMs: this.clock.nowMs(), reason };
      this.#unreachable.reason = reason;
    }
    if (claimant instanceof ReadThroughReader) claimant.noteTrouble(reason);
    else claimant.settle(null);
  }

  #logUnreachable(reason: string): void {
    const next = 'it is tried again while the standby waits';
    this.#options.log.warn('WAL from before the store cannot be read from upstream', {
      reason,
      next,
    });
  }

  /** An idle connection to the right host, or a new one. */
  async #openLink(): Promise<ReadThroughLink> {
    const host = this.#host();
    const origin = this.#options.origin();
    invariant(origin !== null, 'old WAL of an empty store');
    for (const link of this.#idle.keys()) {
      this.#idle.delete(link);
      if (isSameHost(link.host, host)) return link;
      link.close();
    }
    const { target, applicationName, clock, log, dial } = this.#options;
    const link = new ReadThroughLink({
      target: target(),
      host,
      applicationName: readThroughName(applicationName()),
      commandTimeoutMs: Math.min(this.timeoutMs(), READ_THROUGH_COMMAND_MS),
      clock,
      log,
      dial,
      judge: (identity) => whyNotReadFrom(origin, identity),
      onGone: () => {
        this.#links.delete(link);
        this.#idle.delete(link);
      },
    });
    this.#links.add(link);
    await link.open();
    this.#unreachable = null;
    log.debug('connected to the upstream to read old WAL', { host: formatTarget(host) });
    return link;
  }

  #host(): UpstreamHost {
    const { followedHost, target } = this.#options;
    const { hosts } = target();
    const host = followedHost() ?? (hosts.length === 1 ? hosts[0] : undefined);
    if (host !== undefined) return host;
    throw new OperationalError(
      'READ_THROUGH_HOST_UNKNOWN',
      `none of the ${hosts.length} upstream hosts has streamed WAL yet`,
      { isRetryable: true },
    );
  }

  // --- from history files

  onJob(job: HistoryJob): void {
    this.#turns.wantSoon(job);
    this.#advance();
  }

  onJobSettled(job: HistoryJob): void {
    this.#turns.leave(job);
  }

  // --- time

  #arm(): void {
    const { claimantCount, turnCount } = this.#turns;
    const isNeeded = this.#links.size + claimantCount + turnCount > 0;
    if (!isNeeded) {
      this.#wasMoving = false;
      this.#aloneSinceMs = null;
    }
    if (this.#timer !== null || !isNeeded || this.#isClosed) return;
    this.#timer = this.clock.setTimer(READ_THROUGH_TICK_MS, () => {
      this.#timer = null;
      this.#tick(this.clock.nowMs());
      this.#advance();
    });
  }

  #tick(nowMs: number): void {
    const isMoving = this.#options.isUpstreamMoving();
    const mustLeave = (this.#wasMoving && !isMoving) || this.#mustYield(isMoving, nowMs);
    this.#wasMoving = isMoving;
    const followed = this.#options.followedHost();
    const isStatusDue = nowMs - this.#statusSentAtMs >= READ_THROUGH_STATUS_MS;
    if (isStatusDue) this.#statusSentAtMs = nowMs;
    for (const link of this.#links) {
      const isElsewhere = followed !== null && !isSameHost(link.host, followed);
      const idleSinceMs = this.#idle.get(link) ?? nowMs;
      if (mustLeave || isElsewhere || nowMs - idleSinceMs >= READ_THROUGH_IDLE_MS) link.close();
      else if (nowMs - (link.endingSinceMs ?? nowMs) >= READ_THROUGH_END_MS) link.destroy();
      else if (isStatusDue) link.sendStatus();
    }
    for (const reader of this.#readers) this.#checkReader(reader, nowMs);
  }

  /** True when the walreceiver may need one of our places: from then on none is taken for a while. */
  #mustYield(isMoving: boolean, nowMs: number): boolean {
    if (isMoving) {
      this.#aloneSinceMs = null;
      return false;
    }
    this.#aloneSinceMs ??= nowMs;
    if (nowMs - this.#aloneSinceMs < READ_THROUGH_ALONE_MS) return false;
    this.#yieldUntilMs = nowMs + READ_THROUGH_YIELD_MS;
    this.#aloneSinceMs = this.#yieldUntilMs;
    return true;
  }

  #checkReader(reader: ReadThroughReader, nowMs: number): void {
    reader.checkTimeout(nowMs);
    const unreachable = this.#unreachable;
    if (unreachable === null || !this.#turns.isWaiting(reader)) return;
    const sinceMs = Math.max(unreachable.sinceMs, reader.progressAtMs);
    if (nowMs - sinceMs >= this.timeoutMs()) reader.giveUp(unreachable.reason);
  }
}

function isSameHost(a: UpstreamHost, b: UpstreamHost): boolean {
  return a.address === b.address && a.port === b.port;
}
