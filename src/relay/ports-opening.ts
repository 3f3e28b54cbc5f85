// Which ports does a relay open, for whom, and when do they close? One for HTTP, the listeners for standbys.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Config, ListenAddress } from '../config/config.ts';
import { openHttp } from '../http/server.ts';
import type { HttpServer } from '../http/server.ts';
import { openMetrics } from '../metrics/registry.ts';
import { DESCRIPTORS_BESIDES, STARTUPS_MAX } from '../config/limits.ts';
import { formatListenTarget, Listener } from '../net/listener.ts';
import type { ConnectionOpener } from '../net/listener.ts';
import { openFilesMax } from '../net/open-files.ts';
import type { RelayActions } from '../status/actions.ts';
import type { CertificateStatus } from '../status/certificate.ts';
import type { StatusSource } from '../status/status.ts';
import { PortCertificates } from './port-certificates.ts';

/** Connections that may be closing while as many as are allowed are open. */
const CLOSING_CONNECTIONS = 100;

/** How often a crowd at the door is logged at most. */
const DROPPED_LOG_INTERVAL_MS = 10_000;

/** What the ports are opened with and lead to. */
export interface RelayPortsParts {
  /** The configuration in effect at the moment of asking. */
  readonly config: () => Config;
  readonly clock: Clock;
  readonly log: Log;
  readonly source: StatusSource;
  /** For the HTTP API; what needs a token asks `config().http` at each request. */
  readonly actions: RelayActions;
  /** Takes a connection of a client of the PostgreSQL port. */
  readonly accept: (open: ConnectionOpener) => void;
}

/** The ports of one relay. */
export class RelayPorts {
  readonly #parts: RelayPortsParts;
  #http: HttpServer | null = null;
  readonly #certificates: PortCertificates;
  readonly #listeners = new Map<ListenAddress, Listener>();
  #isListening = true;
  #filesMax: number | null = null;
  #dropped = 0;
  #droppedLoggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(parts: RelayPortsParts) {
    this.#parts = parts;
    this.#certificates = new PortCertificates(parts);
  }

  /** Connections of clients that may be open at one time. */
  connectionsMax(): number {
    return connectionsMaxOf(this.#parts.config(), this.#filesMax);
  }

  /** Opens them all; throws OperationalError for one that cannot be had. What was opened stays open until it is closed. */
  async open(): Promise<void> {
    this.#filesMax = await openFilesMax();
    await this.#openHttp();
    await this.#openListeners(this.#parts.config());
  }

  /** Opens what `next` needs and is not open yet; throws as `open` does, and then nothing was opened. Certificates are read anew. */
  async prepare(next: Config): Promise<void> {
    await this.#certificates.refresh();
    await this.#openListeners(next);
  }

  /** A new configuration is in effect. */
  configChanged(): void {
    const connectionsMax = this.connectionsMax() + CLOSING_CONNECTIONS;
    for (const listener of this.#listeners.values()) listener.setConnectionsMax(connectionsMax);
  }

  /** The certificates that the ports show. */
  certificates(): readonly CertificateStatus[] {
    return this.#certificates.status();
  }

  /** Nobody new is let in by standbys' ports; connections stay. */
  stopListening(): void {
    this.#isListening = false;
    for (const listener of this.#listeners.values()) listener.close();
    this.#listeners.clear();
  }

  /** The last port to close, so that probes see the end. */
  async closeHttp(): Promise<void> {
    this.#certificates.close();
    await this.#http?.close();
  }

  async #openHttp(): Promise<void> {
    const { config, clock, source } = this.#parts;
    const { http } = config();
    if (http.listen === null) return;
    const metrics = openMetrics({ source, clock });
    const log = this.#parts.log.child({ component: 'http' });
    const token = (): string | null => this.#parts.config().http.token;
    const walToken = (): string | null => this.#parts.config().http.walToken;
    const address = formatListenTarget(http.listen);
    const tls =
      http.tls === null
        ? null
        : await this.#certificates.open({ role: 'http', address }, { ...http.tls, crl: null });
    this.#http = await openHttp(
      { listen: http.listen, log, clock, token, walToken, tls },
      { source, metrics, actions: this.#parts.actions },
    );
  }

  async #openListeners(config: Config): Promise<void> {
    const opened = new Map<ListenAddress, Listener>();
    try {
      for (const target of config.listen) {
        if (this.#listeners.has(target) || (target.kind === 'tcp' && config.hba === null)) continue;
        opened.set(target, await this.#openListener(target, config));
      }
    } catch (error) {
      for (const listener of opened.values()) listener.close();
      throw error;
    }
    for (const [target, listener] of opened) this.#keep(target, listener);
  }

  async #openListener(target: ListenAddress, config: Config): Promise<Listener> {
    const tls =
      target.kind === 'tcp'
        ? await this.#certificates.acceptor(formatListenTarget(target), target.tls)
        : null;
    return await Listener.open({
      target,
      tls,
      connectionsMax: connectionsMaxOf(config, this.#filesMax) + CLOSING_CONNECTIONS,
      onConnection: this.#parts.accept,
      onDropped: () => this.#onDropped(),
    });
  }

  #keep(target: ListenAddress, listener: Listener): void {
    if (!this.#isListening) {
      listener.close();
      return;
    }
    this.#listeners.set(target, listener);
    const { port } = listener;
    const address = formatListenTarget({ ...target, port });
    const isTls = target.kind === 'tcp' && target.tls !== null;
    this.#parts.log.info('listening for standbys', { address, port, tls: isTls });
  }

  /** A crowd at the door is said now and then, not for each that is turned away. */
  #onDropped(): void {
    const { clock, log, config } = this.#parts;
    this.#dropped += 1;
    const nowMs = clock.nowMs();
    if (nowMs - this.#droppedLoggedAtMs < DROPPED_LOG_INTERVAL_MS) return;
    this.#droppedLoggedAtMs = nowMs;
    log.warn(
      'connections are turned away: too many are open; raise storage.max_wal_senders if they are standbys',
      { connections: this.#dropped, max_wal_senders: config().storage.maxWalSenders },
    );
    this.#dropped = 0;
  }
}

/**
 * Connections of clients that may be open at one time: max_wal_senders, and those that are let in to be told that there is
 * no room, or to cancel; fewer where the system allows few descriptors, so that a crowd never takes those of the store, of
 * the upstream and of HTTP. `filesMax`: what the system allows; null when it does not say.
 */
export function connectionsMaxOf({ storage }: Config, filesMax: number | null): number {
  const wanted = storage.maxWalSenders + STARTUPS_MAX;
  if (filesMax === null) return wanted;
  return Math.min(wanted, filesMax - Math.min(DESCRIPTORS_BESIDES, Math.ceil(filesMax / 2)));
}
