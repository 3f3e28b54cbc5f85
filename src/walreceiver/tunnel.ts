// Raw replication sessions to the upstream, logged in as walcast and used 1:1 for one client each (BASE_BACKUP …).
import type { Clock } from '../base/clock.ts';
import { InvariantError, OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  TUNNEL_READ_BUFFER_BYTES,
  TUNNELS_MAX,
  UPSTREAM_CONNECT_MS_MAX,
} from '../config/limits.ts';
import type { Dial } from '../net/dial.ts';
import { UpstreamConnection } from './upstream-connection.ts';
import type { RawEvents } from './upstream-connection.ts';
import type { UpstreamHost, UpstreamTarget } from './upstream-target.ts';

/** What tunnels need. */
export interface TunnelOptions {
  readonly target: UpstreamTarget;
  readonly clock: Clock;
  readonly log: Log;
  readonly dial: Dial;
  /**
   * The host whose WAL is followed, or was last: a base backup has to come from the same server. Null: there was none
   * yet. Absent: any of the list will do.
   */
  readonly followedHost?: () => UpstreamHost | null;
}

/** One open tunnel: bytes go through as they are, after the login. */
export interface Tunnel {
  /** Sends whole frontend messages; the chunk must not change until it is drained. */
  write(chunk: Uint8Array): void;
  /** Bytes accepted by write and not yet by the kernel. */
  pendingBytes(): number;
  pause(): void;
  resume(): void;
  /** Sends what is pending and closes; `onClose(null)` follows. */
  close(): void;
}

/** Opens tunnels to the host that is followed, or to the first that accepts one where it does not matter. */
export class UpstreamTunnels {
  readonly #options: TunnelOptions;
  #open = 0;

  constructor(options: TunnelOptions) {
    this.#options = options;
  }

  /** Tunnels that are open or being opened. */
  get count(): number {
    return this.#open;
  }

  /**
   * Connects and logs in. Rejects with {@link OperationalError} when no host can be reached, {@link TUNNELS_MAX}
   * tunnels are open, or it is not known yet which host of several is followed; `events` are silent then.
   */
  async open(applicationName: string, events: RawEvents): Promise<Tunnel> {
    if (this.#open >= TUNNELS_MAX) {
      throw new OperationalError(
        'TUNNEL_LIMIT',
        `${TUNNELS_MAX} sessions are handed to the upstream already`,
        {
          isRetryable: true,
          hint: 'Wait until a base backup has finished.',
        },
      );
    }
    this.#open += 1;
    try {
      return this.#wrap(await this.#connect(applicationName), events);
    } catch (error) {
      this.#open -= 1;
      throw error;
    }
  }

  async #connect(applicationName: string): Promise<UpstreamConnection> {
    const { target, clock, log, dial } = this.#options;
    const connectMs = target.connectTimeoutMs;
    let failure: unknown = null;
    for (const host of this.#candidates()) {
      try {
        return await UpstreamConnection.open({
          target,
          host,
          database: 'replication',
          applicationName,
          isReplication: true,
          timeoutMs: connectMs === 0 ? UPSTREAM_CONNECT_MS_MAX : connectMs,
          readBufferBytes: TUNNEL_READ_BUFFER_BYTES,
          clock,
          log,
          dial,
        });
      } catch (error) {
        if (error instanceof InvariantError) throw error;
        failure = error;
      }
    }
    throw failure;
  }

  #candidates(): readonly UpstreamHost[] {
    const { hosts } = this.#options.target;
    const { followedHost } = this.#options;
    if (followedHost === undefined) return hosts;
    const followed = followedHost();
    if (followed !== null) return [followed];
    if (hosts.length === 1) return hosts;
    throw new OperationalError(
      'TUNNEL_HOST_UNKNOWN',
      `none of the ${hosts.length} upstream hosts has streamed WAL yet`,
      {
        isRetryable: true,
        hint: 'A base backup has to come from the server that is followed; wait until WAL streams in.',
      },
    );
  }

  #wrap(connection: UpstreamConnection, events: RawEvents): Tunnel {
    let isOpen = true;
    const onClose = (reason: string | null): void => {
      if (!isOpen) return;
      isOpen = false;
      this.#open -= 1;
      events.onClose(reason);
    };
    connection.toRaw({
      onBytes: (chunk) => events.onBytes(chunk),
      onDrain: () => events.onDrain(),
      onClose,
    });
    return {
      write: (chunk) => connection.write([chunk]),
      pendingBytes: () => connection.pendingBytes(),
      pause: () => connection.pauseReading(),
      resume: () => connection.resumeReading(),
      close: () => {
        connection.close();
        setImmediate(() => onClose(null));
      },
    };
  }
}
