// Which ports does a relay open, for whom, and when do they close? One for HTTP, the listeners for standbys.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { openHttp } from '../http/server.ts';
import type { HttpServer } from '../http/server.ts';
import { openMetrics } from '../metrics/registry.ts';
import { formatListenTarget, Listener } from '../net/listener.ts';
import type { ConnectionOpener } from '../net/listener.ts';
import type { RelayActions } from '../status/actions.ts';
import type { StatusSource } from '../status/status.ts';

/** Connections beyond max_wal_senders that are let in to be told so, and to cancel. */
const SPARE_CONNECTIONS = 100;

/** How often a crowd at the door is logged at most. */
const DROPPED_LOG_INTERVAL_MS = 10_000;

/** What the ports are opened with and lead to. */
export interface RelayPortsParts {
  /** The configuration in effect at the moment of asking. */
  readonly config: () => Config;
  readonly clock: Clock;
  readonly log: Log;
  readonly source: StatusSource;
  /** For the HTTP API; what needs a token asks `config().http.token` at each request. */
  readonly actions: RelayActions;
  /** Takes a connection of a client of the PostgreSQL port. */
  readonly accept: (open: ConnectionOpener) => void;
}

/** The ports of one relay. */
export class RelayPorts {
  readonly #parts: RelayPortsParts;
  #http: HttpServer | null = null;
  #listeners: Listener[] = [];
  #dropped = 0;
  #droppedLoggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(parts: RelayPortsParts) {
    this.#parts = parts;
  }

  /** Opens them all; throws OperationalError for one that cannot be had. What was opened stays open until it is closed. */
  async open(): Promise<void> {
    await this.#openHttp();
    await this.#openListeners();
  }

  /** Nobody new is let in by standbys' ports; connections stay. */
  stopListening(): void {
    for (const listener of this.#listeners) listener.close();
    this.#listeners = [];
  }

  /** The last port to close, so that probes see the end. */
  async closeHttp(): Promise<void> {
    await this.#http?.close();
  }

  async #openHttp(): Promise<void> {
    const { config, clock, source } = this.#parts;
    const { http, storage } = config();
    if (http.listen === null) return;
    const metrics = openMetrics({ source, clock, storageDirectory: storage.directory });
    const log = this.#parts.log.child({ component: 'http' });
    this.#http = await openHttp({ listen: http.listen, log, clock }, source, metrics);
  }

  async #openListeners(): Promise<void> {
    const { listen, hba, storage } = this.#parts.config();
    for (const target of listen) {
      if (target.kind === 'tcp' && hba === null) continue;
      const listener = await Listener.open({
        target,
        connectionsMax: storage.maxWalSenders + SPARE_CONNECTIONS,
        onConnection: this.#parts.accept,
        onDropped: () => this.#onDropped(),
      });
      this.#listeners.push(listener);
      this.#parts.log.info('listening for standbys', {
        address: formatListenTarget({ ...target, port: listener.port }),
        port: listener.port,
      });
    }
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
