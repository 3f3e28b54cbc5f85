// Which hosts has the upstream today, and is a stream that works to be left for another one? Joins what Patroni says to the
// walreceiver: the list, the change to a preferred server, and the wait until that one is as far as we are.
import type { Clock, Timer } from '../base/clock.ts';
import { InvariantError, WalcastError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { UpstreamDiscoveryConfig } from '../config/config.ts';
import {
  DISCOVERY_CATCH_UP_MS,
  DISCOVERY_CATCH_UP_POLL_MS,
  DISCOVERY_CONNECT_MS,
} from '../config/limits.ts';
import { formatTarget } from '../net/dial.ts';
import type { Dial } from '../net/dial.ts';
import type { HttpGet } from '../net/http-get.ts';
import type { ConninfoHost } from '../pg/conninfo.ts';
import { formatLsn, lsnDistance } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { DiscoveryStatus, UpstreamStatus } from '../status/status.ts';
import { CandidateProbe } from '../walreceiver/discovery-probe.ts';
import { ReturnPolicy } from '../walreceiver/discovery-return.ts';
import type { ChangeOver } from '../walreceiver/discovery-return.ts';
import { HostDiscovery } from '../walreceiver/discovery.ts';
import type { UpstreamIdentity } from '../walreceiver/ports.ts';
import type { UpstreamHost, UpstreamTarget } from '../walreceiver/upstream-target.ts';
import { decideFollow } from './upstream-gate.ts';
import type { StoredWal } from './upstream-gate.ts';

/** What a discovery acts on. */
export interface UpstreamDiscoveryParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly dial: Dial;
  readonly httpGet: HttpGet;
  /** 0 ≤ random() < 1. */
  readonly random: () => number;
  readonly applicationName: () => string;
  /** With the passwords of now. */
  readonly target: () => UpstreamTarget;
  /** Null for an empty store. */
  readonly stored: () => StoredWal | null;
  /** The host whose WAL streams in; null while none does. */
  readonly streamingFrom: () => UpstreamHost | null;
  /** {@link UpstreamDiscovery.hosts} answers something else now. */
  readonly onHostsChanged: () => void;
  /** End the stream in order and begin with this host. */
  readonly changeOver: (first: UpstreamHost) => void;
}

/** A session to a candidate is needed no longer than this, whatever became of the change. */
const PROBE_MS_MAX = 15_000;

/** A candidate that is further behind than this is not waited for. */
const CATCH_UP_BYTES_MAX = 16 * 1024 * 1024;

/** Discovery as the settings of the moment want it; none without settings. */
export class UpstreamDiscovery {
  readonly #parts: UpstreamDiscoveryParts;
  #discovery: HostDiscovery | null = null;
  readonly #policy = new ReturnPolicy();
  #isStreaming = false;
  #isStopped = false;
  /** A change that is being prepared or made. */
  #probing: AbortController | null = null;
  #probe: CandidateProbe | null = null;
  #probeEnd: Timer | null = null;

  constructor(parts: UpstreamDiscoveryParts) {
    this.#parts = parts;
  }

  /**
   * In the order to try; null: those of the connection string count. The server whose WAL streams in is among them in any
   * case: a stream that works is not ended because a list lacks its server for a moment.
   */
  hosts(): readonly ConninfoHost[] | null {
    const known = this.#discovery?.hosts() ?? [];
    if (known.length === 0) return null;
    const hosts = known.map(({ host, port }) => ({ host, hostaddr: null, port }));
    const followed = this.#parts.streamingFrom();
    if (followed === null || hosts.some((host) => isSameServer(host, followed))) return hosts;
    const { host, address, port } = followed;
    return [...hosts, { host, hostaddr: address === host ? null : address, port }];
  }

  /** Null without discovery. */
  status(): DiscoveryStatus | null {
    return this.#discovery?.status() ?? null;
  }

  /** Settings that are in effect from now on. What is known stays until somebody has answered. */
  follow(config: UpstreamDiscoveryConfig | null): void {
    if (this.#isStopped) return;
    if (config === null) {
      this.#discovery?.stop();
      this.#discovery = null;
      this.#giveUp();
      return;
    }
    if (this.#discovery !== null) {
      this.#discovery.settingsChanged(config);
      return;
    }
    const { clock, httpGet, random } = this.#parts;
    const log = this.#parts.log.child({ component: 'discovery' });
    const discovery = new HostDiscovery(config, { clock, log, httpGet, random });
    discovery.onChange(() => this.#parts.onHostsChanged());
    discovery.onAnswer(() => this.#answered(discovery));
    discovery.streaming(this.#isStreaming);
    this.#discovery = discovery;
    discovery.start();
  }

  /** Resolves when there is an answer, or none is to be had soon: at once without discovery. */
  async firstAnswer(): Promise<void> {
    await this.#discovery?.firstAnswer(DISCOVERY_CONNECT_MS);
  }

  /** Whether WAL streams in; to be told at each change of state. */
  streaming(isStreaming: boolean): void {
    if (isStreaming === this.#isStreaming) return;
    this.#isStreaming = isStreaming;
    this.#discovery?.streaming(isStreaming);
    if (isStreaming) this.#giveUp();
    else this.#policy.streamLost();
  }

  /**
   * What a host says about itself, once more, when it is the one that is changed over to and not as far as we are: its stream
   * comes from where ours came from, so it catches up within moments. At most {@link DISCOVERY_CATCH_UP_MS}.
   */
  async freshen(
    identity: UpstreamIdentity,
    { host, port }: Pick<UpstreamStatus, 'host' | 'port'>,
  ): Promise<UpstreamIdentity> {
    const probe = this.#probe;
    if (probe === null || probe.host.host !== host || probe.host.port !== port) return identity;
    const xlogPos = await this.#watch(probe, identity, (lsn) => this.#isBehind(identity, lsn));
    return { ...identity, xlogPos };
  }

  /** For good. */
  stop(): void {
    this.#isStopped = true;
    this.#discovery?.stop();
    this.#giveUp();
  }

  /** Where the candidate is when it is not behind any more, or does not get on. At most {@link DISCOVERY_CATCH_UP_MS}. */
  async #watch(
    probe: CandidateProbe,
    { timeline, xlogPos }: UpstreamIdentity,
    isBehind: (xlogPos: Lsn) => boolean,
  ): Promise<Lsn> {
    const { clock } = this.#parts;
    const endsAtMs = clock.nowMs() + DISCOVERY_CATCH_UP_MS;
    let lsn = xlogPos;
    while (isBehind(lsn) && clock.nowMs() < endsAtMs) {
      await this.#wait(DISCOVERY_CATCH_UP_POLL_MS);
      const now = await ignorePeer(() => probe.position());
      if (now === null || now.timeline !== timeline) break;
      lsn = now.xlogPos;
    }
    return lsn;
  }

  #isBehind({ timeline }: UpstreamIdentity, xlogPos: Lsn): boolean {
    const stored = this.#parts.stored();
    return stored !== null && stored.timeline === timeline && xlogPos < stored.receivedLsn;
  }

  #wait(ms: number): Promise<Timer> {
    return new Promise((resolve) => {
      const timer = this.#parts.clock.setTimer(ms, () => resolve(timer));
    });
  }

  #answered(discovery: HostDiscovery): void {
    const followed = this.#parts.streamingFrom();
    const stored = this.#parts.stored();
    if (followed === null || stored === null || this.#probing !== null || this.#isStopped) return;
    const change = this.#policy.answered({
      nowMs: this.#parts.clock.nowMs(),
      hosts: discovery.hosts(),
      followed,
      timeline: stored.timeline,
    });
    if (change !== null) void this.#goOver(change, stored);
  }

  /** Looks at the candidate first; the stream goes on meanwhile, and if anything speaks against it. */
  async #goOver(change: ChangeOver, stored: StoredWal): Promise<void> {
    const { applicationName, target, clock, dial } = this.#parts;
    const hosts = target();
    const host = hosts.hosts.find((listed) => isSameServer(listed, change.to));
    if (host === undefined) return;
    const probing = new AbortController();
    this.#probing = probing;
    const options = { target: hosts, host, stored, clock, dial, signal: probing.signal };
    try {
      const probe = await CandidateProbe.open({ ...options, applicationName: applicationName() });
      if (probing.signal.aborted) probe.close();
      else await this.#looked(probe, change, probing.signal);
    } catch (error) {
      if (!isPeersFault(error)) throw error;
      if (!probing.signal.aborted) this.#stay(change, error.message);
    }
  }

  async #looked(probe: CandidateProbe, change: ChangeOver, signal: AbortSignal): Promise<void> {
    this.#probe = probe;
    this.#probeEnd = this.#parts.clock.setTimer(PROBE_MS_MAX, () => this.#giveUp());
    const refusal = this.#refusal(probe.identity) ?? (await this.#standsStill(probe));
    if (signal.aborted) return;
    if (!this.#isStreaming) {
      // The next stream begins with whoever is first by now.
      this.#giveUp();
      return;
    }
    if (refusal !== null) {
      this.#stay(change, refusal);
      return;
    }
    const why =
      change.reason === 'preferred'
        ? 'a preferred server is there again'
        : 'the leader went on to a newer timeline without the server that is followed';
    this.#parts.log.info(`discovery: ${why}; the stream goes over to it`, {
      host: formatTarget(probe.host),
      name: change.to.name,
      timeline: probe.identity.timeline,
      position: formatLsn(probe.identity.xlogPos),
    });
    this.#parts.changeOver(probe.host);
  }

  /** Why it would not be followed; null when it would be, at once or when it has caught up. */
  #refusal(identity: UpstreamIdentity): string | null {
    const stored = this.#parts.stored();
    if (stored === null) return 'the store is empty';
    const isNear =
      (identity.isInRecovery || identity.isRelay) &&
      this.#isBehind(identity, identity.xlogPos) &&
      lsnDistance(identity.xlogPos, stored.receivedLsn) <= CATCH_UP_BYTES_MAX;
    const decision = decideFollow(
      stored,
      isNear ? { ...identity, xlogPos: stored.receivedLsn } : identity,
    );
    return decision.kind === 'hold' ? decision.detail : null;
  }

  /** A stream that works is not ended to find out that the other one brings nothing: it has to come to where we are now. */
  async #standsStill(probe: CandidateProbe): Promise<string | null> {
    const { identity } = probe;
    const stored = this.#parts.stored();
    if (stored === null || !this.#isBehind(identity, identity.xlogPos)) return null;
    const { receivedLsn } = stored;
    const reached = await this.#watch(probe, identity, (lsn) => lsn < receivedLsn);
    return reached >= receivedLsn
      ? null
      : `it stands still at ${formatLsn(reached)}, behind ${formatLsn(receivedLsn)} of the store`;
  }

  #stay(change: ChangeOver, reason: string): void {
    this.#giveUp();
    this.#parts.log.info('discovery: the stream does not go over to a preferred server', {
      host: formatTarget(change.to),
      name: change.to.name,
      reason,
      next: 'it is tried again later',
    });
  }

  #giveUp(): void {
    this.#probing?.abort();
    this.#probing = null;
    this.#probe?.close();
    this.#probe = null;
    this.#probeEnd?.cancel();
    this.#probeEnd = null;
  }
}

function isSameServer(
  a: { readonly host: string; readonly port: number },
  b: { readonly host: string; readonly port: number },
): boolean {
  return a.host === b.host && a.port === b.port;
}

async function ignorePeer<T>(ask: () => Promise<T>): Promise<T | null> {
  try {
    return await ask();
  } catch (error) {
    if (!isPeersFault(error)) throw error;
    return null;
  }
}

/** Everything but a mistake of our own. */
function isPeersFault(error: unknown): error is WalcastError {
  return error instanceof WalcastError && !(error instanceof InvariantError);
}
