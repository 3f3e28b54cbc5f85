// Leaves an upstream that stands still while another host of the list has more: asks the others, one at a time and only
// then, who they are and how far. When to do what is decided in standstill.ts. An upstream that is a walcast is asked as
// well: two of them that began to follow each other at the same moment see it only afterwards.
import { InvariantError, WalcastError } from '../base/errors.ts';
import { Wakeup } from '../base/wakeup.ts';
import { formatTarget } from '../net/dial.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { TargetSessionAttrs } from '../pg/conninfo.ts';
import { formatPosition } from '../pg/timeline.ts';
import type { UpstreamIdentity } from './ports.ts';
import { askRelayPath, refuseCycle, UPSTREAM_CYCLE } from './relay-path.ts';
import { withSideSession } from './side-session.ts';
import { Standstill } from './standstill.ts';
import type { CommandRunner } from './upstream-command.ts';
import { hostKey } from './upstream-hosts.ts';
import { identifyUpstream } from './upstream-identify.ts';
import type { UpstreamHost } from './upstream-target.ts';
import type { WalReceiverOptions } from './wal-receiver-options.ts';

/** Looks are spread over so long, so that two relays do not act in the same instant again and again. */
const SPREAD_MS = 500;

/** The stream that is watched. */
export interface WatchedStream {
  readonly host: UpstreamHost;
  /** Numeric; null for a Unix socket. */
  readonly address: string | null;
  /** What its server said about itself. */
  readonly identity: UpstreamIdentity;
  /** The server is a walcast. */
  readonly isRelay: boolean;
}

/** What is done about it. */
export interface StandstillOwner {
  /** Reading is paused, so nothing can come. */
  isPaused(): boolean;
  /** `host` has more: it is to be followed. */
  onBetter(host: UpstreamHost): void;
  /** The upstream follows us. */
  onCycle(error: WalcastError): void;
}

/** Watches the streams of one walreceiver. */
export class StandstillWatch {
  readonly #options: WalReceiverOptions;
  readonly #owner: StandstillOwner;
  readonly #rule: Standstill;
  readonly #wakeup: Wakeup;
  #stream: WatchedStream | null = null;
  #asking: AbortController | null = null;
  /** It was said of this stream that its server may be behind us. */
  #isSuspected = false;

  constructor(options: WalReceiverOptions, owner: StandstillOwner) {
    this.#options = options;
    this.#owner = owner;
    this.#rule = new Standstill(() => options.receiverTimeoutMs);
    this.#wakeup = new Wakeup(options.clock, () => this.#look());
  }

  /** WAL streams in. */
  began(stream: WatchedStream): void {
    const { sink, clock } = this.#options;
    this.ended();
    this.#stream = stream;
    this.#isSuspected = false;
    this.#rule.began(hostKey(stream.host), sink.nextLsn(), clock.nowMs());
    this.#arm();
  }

  /** It does not any more, or nothing is to be done about it any more. */
  ended(): void {
    this.#stream = null;
    this.#asking?.abort();
    this.#asking = null;
    this.#rule.ended();
    this.#wakeup.cancel();
  }

  #look(): void {
    const { sink, clock } = this.#options;
    const step = this.#rule.look(sink.nextLsn(), this.#owner.isPaused(), clock.nowMs());
    if (step.kind === 'ask') void this.#ask();
    if (step.kind === 'change') this.#change(step.host);
    this.#arm();
  }

  #arm(): void {
    const atMs = this.#rule.nextLookAtMs();
    if (atMs !== null) this.#wakeup.ensure(atMs + this.#options.random() * SPREAD_MS);
  }

  #change(key: string): void {
    const host = this.#options.target.hosts.find((other) => hostKey(other) === key);
    if (host === undefined) return;
    this.#options.log.warn(
      'upstream: no WAL comes from the host that is followed, and another one has more: it is followed instead',
      { upstream: formatTarget(host), received_lsn: formatLsn(this.#options.sink.nextLsn()) },
    );
    this.#owner.onBetter(host);
  }

  async #ask(): Promise<void> {
    const stream = this.#stream;
    if (stream === null) return;
    const asking = new AbortController();
    this.#asking = asking;
    const isOver = (): boolean => asking.signal.aborted;
    if (stream.isRelay) {
      const cycle = await this.#lookForCycle(stream.host, asking.signal);
      if (isOver()) return;
      if (cycle !== null) {
        this.#owner.onCycle(cycle);
        return;
      }
    }
    const better = await this.#findBetter(stream, asking.signal);
    if (isOver()) return;
    this.#asking = null;
    if (better === null) this.#suspect(stream);
    this.#rule.asked(better, this.#options.clock.nowMs());
    this.#arm();
  }

  /**
   * A standby does not say where its WAL comes from, so that it comes from us cannot be proved: an address is none, with many
   * servers behind one. It is said, once, because nothing else would tell a person why nothing happens.
   */
  #suspect({ host, address, identity }: WatchedStream): void {
    const { streamsTo, log } = this.#options;
    const isLikely = address !== null && identity.isInRecovery && streamsTo?.(address) === true;
    if (this.#isSuspected || !isLikely) return;
    this.#isSuspected = true;
    log.warn(
      'upstream: no WAL comes from the standby that is followed, and a standby at the same address streams from here. If it is the same ' +
        'one, nothing new can ever come: name its primary in upstream.conninfo, or target_session_attrs=primary',
      { upstream: formatTarget(host), address },
    );
  }

  async #lookForCycle(host: UpstreamHost, signal: AbortSignal): Promise<WalcastError | null> {
    const { relayId = '' } = this.#options;
    const error = await this.#try(host, signal, async (runner) => {
      refuseCycle(relayId, await askRelayPath(runner));
      return null;
    });
    return error instanceof WalcastError && error.code === UPSTREAM_CYCLE ? error : null;
  }

  /** The key of the host that is furthest, if it is further than what came from the one that is followed. */
  async #findBetter(stream: WatchedStream, signal: AbortSignal): Promise<string | null> {
    const { target, clock } = this.#options;
    const ownKey = hostKey(stream.host);
    let best: { readonly host: UpstreamHost; readonly identity: UpstreamIdentity } | null = null;
    for (const host of target.hosts) {
      const key = hostKey(host);
      if (key === ownKey || !this.#rule.mayAsk(key, clock.nowMs())) continue;
      const identity = await this.#identify(host, signal);
      if (signal.aborted) return null;
      if (identity === null || !this.#isBetter(identity, stream.identity)) continue;
      if (best === null || isFurther(identity, best.identity)) best = { host, identity };
    }
    if (best === null) return null;
    this.#options.log.info('upstream: no WAL comes from the host that is followed', {
      upstream: formatTarget(stream.host),
      received_lsn: formatLsn(this.#options.sink.nextLsn()),
      other: formatTarget(best.host),
      other_lsn: formatPosition(best.identity.timeline, best.identity.xlogPos),
    });
    return hostKey(best.host);
  }

  #isBetter(other: UpstreamIdentity, followed: UpstreamIdentity): boolean {
    const { sink, gate } = this.#options;
    const isAhead =
      other.timeline === followed.timeline
        ? other.xlogPos > sink.nextLsn()
        : other.timeline > followed.timeline;
    return isAhead && (gate.wouldFollow?.(other) ?? true);
  }

  async #identify(host: UpstreamHost, signal: AbortSignal): Promise<UpstreamIdentity | null> {
    const { relayId, target } = this.#options;
    const wanted = anyRather(target.targetSessionAttrs);
    const found = await this.#try(host, signal, (runner) =>
      identifyUpstream(runner, null, { wanted, ...(relayId === undefined ? {} : { relayId }) }),
    );
    return found === null || found instanceof WalcastError ? null : found.identity;
  }

  /** A host that cannot be asked is no better one; whether it can be is of no interest as long as it is not followed. */
  async #try<T>(
    host: UpstreamHost,
    signal: AbortSignal,
    ask: (runner: CommandRunner) => Promise<T>,
  ): Promise<T | WalcastError> {
    const { target, applicationName, receiverTimeoutMs, clock, log, dial } = this.#options;
    const session = { target, host, applicationName, receiverTimeoutMs, clock, log, dial, signal };
    try {
      return await withSideSession(session, ask);
    } catch (error) {
      if (!(error instanceof WalcastError) || error instanceof InvariantError) throw error;
      log.debug(`upstream: ${formatTarget(host)} was not asked how far it is: ${error.message}`);
      return error;
    }
  }
}

/** When nothing comes from a standby, a primary is better. */
function anyRather(wanted: TargetSessionAttrs): TargetSessionAttrs {
  return wanted === 'prefer-standby' ? 'any' : wanted;
}

function isFurther(one: UpstreamIdentity, other: UpstreamIdentity): boolean {
  if (one.timeline !== other.timeline) return one.timeline > other.timeline;
  return one.xlogPos > other.xlogPos;
}
