// Which server does WAL come from, and through which relays?
import { RELAY_PATH_MAX } from '../config/limits.ts';
import type { UpstreamIdentity } from './ports.ts';
import type { PresentServer } from './slot-errand.ts';
import type { UpstreamHost } from './upstream-target.ts';

/** As much of a stream that runs as others ask for. */
export interface HeardStream {
  /** When bytes arrived last, monotonic. */
  readonly receivedAtMs: number;
}

/** The server that is followed, or was last. */
export class FollowedServer {
  /** Whose WAL is streaming in, or did last; null until there was one. */
  host: UpstreamHost | null = null;
  /** Ids of the relays that the server identified last gets its WAL through; null when it is no walcast. */
  #relayPath: readonly string[] | null = null;
  #isInRecovery = false;

  /** A server was identified. */
  identified(
    { isInRecovery }: Pick<UpstreamIdentity, 'isInRecovery'>,
    relayPath: readonly string[] | null,
  ): void {
    this.#isInRecovery = isInRecovery;
    this.#relayPath = relayPath;
  }

  get isRelay(): boolean {
    return this.#relayPath !== null;
  }

  /** A PostgreSQL in recovery: no commit waits for anybody there. Another walcast's upstream may wait for us. */
  get isStandby(): boolean {
    return this.#isInRecovery && !this.isRelay;
  }

  /** Ids of the relays that WAL comes through at this moment, our own first. */
  path(relayId: string | undefined, stream: HeardStream | null): readonly string[] {
    const upstreams = stream === null ? [] : (this.#relayPath ?? []);
    return [...(relayId === undefined ? [] : [relayId]), ...upstreams].slice(0, RELAY_PATH_MAX);
  }

  /** As it is reached at `address`, with our `slot` there; null while nothing streams. */
  present(
    stream: HeardStream | null,
    { address, slot }: Pick<PresentServer, 'address' | 'slot'>,
  ): PresentServer | null {
    if (stream === null || this.host === null) return null;
    return { address, port: this.host.port, slot, heardAtMs: stream.receivedAtMs };
  }
}
