// Which servers could be followed right now? Asks Patroni again and again: the configured URLs in turn, one request at a time,
// and keeps the last good answer. What an answer means is decided by pure parts beside this one.
import type { Clock } from '../base/clock.ts';
import { InvariantError, OperationalError, WalcastError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { within } from '../base/within.ts';
import { Wakeup } from '../base/wakeup.ts';
import {
  DISCOVERY_ANSWER_BYTES_MAX,
  DISCOVERY_CONNECT_MS,
  DISCOVERY_LOST_POLL_MS,
  DISCOVERY_POLL_MS,
  DISCOVERY_REQUEST_MS,
  DISCOVERY_RETRY_MS,
  DISCOVERY_RETRY_MS_MAX,
  DISCOVERY_SILENCE_MS,
} from '../config/limits.ts';
import { formatTarget } from '../net/dial.ts';
import type { HttpGet } from '../net/http-get.ts';
import type { DiscoveryStatus } from '../status/status.ts';
import { orderHosts } from './discovery-order.ts';
import type { DiscoveredHost, HostPreference } from './discovery-order.ts';
import { parsePatroniCluster } from './patroni-cluster.ts';
import type { PatroniCluster } from './patroni-cluster.ts';

/** Whom to ask, and what is wanted. */
export interface DiscoverySettings {
  /** REST addresses of Patroni, without a path or with one; no credentials. At least one. */
  readonly urls: readonly string[];
  readonly preference: HostPreference;
}

/** What a discovery works with. */
export interface DiscoveryParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly httpGet: HttpGet;
  /** 0 ≤ random() < 1, for jitter. */
  readonly random: () => number;
}

/** Nothing is asked again sooner than this after the last request, whoever wants to know. */
const ANSWER_REST_MS = 250;

/** Asks Patroni. Nothing is asked before `start`. */
export class HostDiscovery {
  readonly #parts: DiscoveryParts;
  readonly #wakeup: Wakeup;
  #settings: DiscoverySettings;
  #cluster: PatroniCluster | null = null;
  #hosts: readonly DiscoveredHost[] = [];
  #lastAnswer: { readonly wallMs: number; readonly url: string } | null = null;
  /** Why the last round had no answer; null when it had one. */
  #lastError: string | null = null;
  /** Index of the URL that is asked first. */
  #firstUrl = 0;
  #failedRounds = 0;
  #lastEndMs = Number.NEGATIVE_INFINITY;
  #isLost = true;
  /** The round that is under way. */
  #round: AbortController | null = null;
  #isAskedAgain = false;
  #isStopped = true;
  #onChange: () => void = () => {};
  #onAnswer: () => void = () => {};
  readonly #waiting: (() => void)[] = [];

  constructor(settings: DiscoverySettings, parts: DiscoveryParts) {
    this.#settings = settings;
    this.#parts = parts;
    this.#wakeup = new Wakeup(parts.clock, () => this.#begin());
  }

  /** Asks at once, and from then on. */
  start(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    this.#begin();
  }

  /** Asks nobody any more; a request that is under way is broken off. What is known stays. */
  stop(): void {
    this.#isStopped = true;
    this.#wakeup.cancel();
    this.#round?.abort();
    this.#round = null;
    this.#firstRoundOver();
  }

  /** In the order to try. Empty: nothing is known. */
  hosts(): readonly DiscoveredHost[] {
    return this.#hosts;
  }

  /** The one who is told when other addresses, or another order of them, are in effect. */
  onChange(listener: () => void): void {
    this.#onChange = listener;
  }

  /** The one who is told of each good answer, changed or not; after {@link onChange}. */
  onAnswer(listener: () => void): void {
    this.#onAnswer = listener;
  }

  /** Resolves when somebody has answered, or all were asked in vain, or `atMostMs` later. */
  async firstAnswer(atMostMs: number): Promise<void> {
    if (this.#cluster !== null || this.#failedRounds > 0 || this.#isStopped) return;
    const answered = new Promise<void>((resolve) => this.#waiting.push(resolve));
    await within(this.#parts.clock, atMostMs, answered);
  }

  /** True: WAL streams in, and there is no hurry. False: it is asked at once, and more often. */
  streaming(isStreaming: boolean): void {
    if (this.#isLost === !isStreaming) return;
    this.#isLost = !isStreaming;
    if (!isStreaming) this.pollNow();
  }

  /** Asks as soon as may be: at once, or when the request that is under way is over. */
  pollNow(): void {
    if (this.#isStopped) return;
    if (this.#round !== null) this.#isAskedAgain = true;
    else this.#wakeup.ensure(this.#lastEndMs + ANSWER_REST_MS);
  }

  /** Other URLs are asked at once; what the old ones said stays until one of them answers. Another preference is another order. */
  settingsChanged(settings: DiscoverySettings): void {
    const isOther = settings.urls.join(' ') !== this.#settings.urls.join(' ');
    this.#settings = settings;
    if (!isOther) {
      this.#reorder();
      return;
    }
    this.#round?.abort();
    this.#round = null;
    this.#firstUrl = 0;
    this.#failedRounds = 0;
    this.#reorder();
    if (!this.#isStopped) this.#begin();
  }

  /** The status of this moment. */
  status(): DiscoveryStatus {
    return {
      source: 'patroni',
      scope: this.#cluster?.scope ?? null,
      lastAnswerAtMs: this.#lastAnswer?.wallMs ?? null,
      lastAnswerFrom: this.#lastAnswer?.url ?? null,
      lastError: this.#lastError,
      members: this.#hosts,
    };
  }

  #begin(): void {
    if (this.#isStopped || this.#round !== null) return;
    const round = new AbortController();
    this.#round = round;
    this.#isAskedAgain = false;
    void this.#askAll(round.signal).then(() => {
      if (this.#round !== round) return;
      this.#round = null;
      this.#lastEndMs = this.#parts.clock.nowMs();
      this.#wakeup.ensure(this.#lastEndMs + this.#waitMs());
      this.#firstRoundOver();
    });
  }

  #firstRoundOver(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** One round. The first good answer counts; what comes after `signal` fired counts for nothing. */
  async #askAll(signal: AbortSignal): Promise<void> {
    const { urls } = this.#settings;
    const failures: string[] = [];
    for (let step = 0; step < urls.length; step += 1) {
      const index = (this.#firstUrl + step) % urls.length;
      const url = urls[index] ?? '';
      const answer = await this.#ask(url, signal);
      if (signal.aborted) return;
      if (typeof answer !== 'string') {
        this.#firstUrl = index;
        this.#answered(answer, url);
        return;
      }
      failures.push(answer);
    }
    this.#nobodyAnswered(failures);
  }

  /** A text says why there is no answer. */
  async #ask(url: string, signal: AbortSignal): Promise<PatroniCluster | string> {
    try {
      const { status, body } = await this.#parts.httpGet(clusterUrl(url), {
        clock: this.#parts.clock,
        timeoutMs: DISCOVERY_REQUEST_MS,
        connectTimeoutMs: DISCOVERY_CONNECT_MS,
        silenceTimeoutMs: DISCOVERY_SILENCE_MS,
        bodyBytesMax: DISCOVERY_ANSWER_BYTES_MAX,
        signal,
      });
      const { host } = new URL(url);
      if (status !== 200) return `${host}: answered with status ${status}`;
      const cluster = parsePatroniCluster(body);
      return typeof cluster === 'string' ? `${host}: ${cluster}` : cluster;
    } catch (error) {
      if (!(error instanceof WalcastError) || error instanceof InvariantError) throw error;
      return error.message;
    }
  }

  #answered(cluster: PatroniCluster, url: string): void {
    const { clock, log } = this.#parts;
    const before = this.#cluster;
    if (this.#lastError !== null) log.info('discovery: Patroni answers again', { url });
    if (before !== null && before.scope !== cluster.scope) {
      log.warn('discovery: Patroni names another cluster than before', {
        scope: cluster.scope,
        before: before.scope,
        url,
      });
    }
    this.#failedRounds = 0;
    this.#lastError = null;
    this.#lastAnswer = { wallMs: clock.wallMs(), url };
    this.#cluster = cluster;
    this.#reorder();
    this.#onAnswer();
  }

  #nobodyAnswered(failures: readonly string[]): void {
    this.#failedRounds += 1;
    const isFirst = this.#lastError === null;
    this.#lastError = failures.join('; ');
    if (!isFirst) return;
    const count = this.#hosts.length;
    this.#parts.log.warn('discovery: Patroni does not answer', {
      reason: this.#lastError,
      next:
        count === 0
          ? 'the hosts of upstream.conninfo count until it does'
          : `its last answer, of ${count} servers, counts until it does`,
    });
  }

  #reorder(): void {
    const before = addressesOf(this.#hosts);
    this.#hosts = orderHosts(this.#cluster?.members ?? [], this.#settings.preference);
    const now = addressesOf(this.#hosts);
    if (now === before) return;
    this.#parts.log.info('discovery: the list of hosts changed', { hosts: now, before });
    this.#onChange();
  }

  #waitMs(): number {
    const { random } = this.#parts;
    if (this.#isAskedAgain) return ANSWER_REST_MS;
    const pollMs = this.#isLost ? DISCOVERY_LOST_POLL_MS : DISCOVERY_POLL_MS;
    // Many walcasts that began together do not ask in step.
    if (this.#failedRounds === 0) return pollMs * (0.9 + random() / 5);
    const mostMs = this.#isLost ? DISCOVERY_POLL_MS : DISCOVERY_RETRY_MS_MAX;
    const fullMs = DISCOVERY_RETRY_MS * 2 ** Math.min(this.#failedRounds - 1, 20);
    return Math.min(mostMs, fullMs) * (1 - random() / 2);
  }
}

/** Asks Patroni once, for a command that looks and goes: the servers it names. Throws {@link OperationalError} `DISCOVERY_FAILED`. */
export async function discoverOnce(
  settings: DiscoverySettings,
  parts: DiscoveryParts,
): Promise<readonly DiscoveredHost[]> {
  const discovery = new HostDiscovery(settings, parts);
  discovery.start();
  await discovery.firstAnswer(settings.urls.length * DISCOVERY_REQUEST_MS);
  const { lastError } = discovery.status();
  discovery.stop();
  if (discovery.hosts().length > 0) return discovery.hosts();
  throw new OperationalError(
    'DISCOVERY_FAILED',
    `Patroni does not answer: ${lastError ?? 'not in time'}`,
    { isRetryable: true, hint: 'Check upstream.discovery.patroni and the network to it.' },
  );
}

/** Where the members are listed. */
function clusterUrl(url: string): string {
  return `${url.replace(/\/+$/, '')}/cluster`;
}

/** `a:5432, b:5432`; equal for equal lists. */
function addressesOf(hosts: readonly DiscoveredHost[]): string {
  return hosts.map((host) => formatTarget(host)).join(', ');
}
