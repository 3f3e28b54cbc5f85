// When is a stream that works left for another server? When a preferred one is there again and has been for a while, or when
// the leader went on to a newer timeline without the one that is followed. Never in a hurry, never to and fro. Pure.
import {
  DISCOVERY_LEADER_MOVED_MS,
  DISCOVERY_RETURN_AGAIN_MS,
  DISCOVERY_RETURN_AGAIN_MS_MAX,
  DISCOVERY_RETURN_MS,
} from '../config/limits.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { leaderOf } from './discovery-order.ts';
import type { DiscoveredHost } from './discovery-order.ts';
import { isSameAddress } from './patroni-cluster.ts';

/** What is so at the time of an answer, while WAL streams in. */
export interface ReturnView {
  readonly nowMs: number;
  /** In the order to try. */
  readonly hosts: readonly DiscoveredHost[];
  readonly followed: { readonly host: string; readonly port: number };
  /** Of the stored WAL. */
  readonly timeline: TimelineId;
}

/** Whom to go over to, and why. */
export interface ChangeOver {
  readonly to: DiscoveredHost;
  readonly reason: 'preferred' | 'leader-moved';
}

/** Looks at one answer after the other. */
export class ReturnPolicy {
  #wanted: { readonly key: string; readonly sinceMs: number } | null = null;
  #lastTried: string | null = null;
  #triedAtMs = Number.NEGATIVE_INFINITY;
  /** Changes that came soon after each other. */
  #inARow = 0;

  /** An answer came. A change that is answered counts as tried. */
  answered(view: ReturnView): ChangeOver | null {
    const found = this.#find(view);
    if (found === null) {
      this.#wanted = null;
      return null;
    }
    const key = `${found.reason} ${keyOf(found.to)}`;
    if (this.#wanted?.key !== key) this.#wanted = { key, sinceMs: view.nowMs };
    const { sinceMs } = this.#wanted;
    const isMoved = found.reason === 'leader-moved';
    const waitMs = isMoved ? DISCOVERY_LEADER_MOVED_MS : DISCOVERY_RETURN_MS;
    const againMs = this.#triedAtMs + (isMoved ? DISCOVERY_RETURN_AGAIN_MS : this.#pauseMs());
    if (view.nowMs < Math.max(sinceMs + waitMs, againMs)) return null;
    this.#tried(found, view.nowMs);
    return found;
  }

  /** The stream ended by itself: the next one begins with the server that is first by then. */
  streamLost(): void {
    this.#wanted = null;
  }

  #find({ hosts, followed, timeline }: ReturnView): ChangeOver | null {
    const leader = leaderOf(hosts);
    if (leader !== null && hasMovedOn(leader, { hosts, followed, timeline })) {
      return { to: leader, reason: 'leader-moved' };
    }
    const preferred = hosts.filter(
      (host) => host.rank === 'preferred' && (host.timeline ?? timeline) >= timeline,
    );
    if (preferred.some((host) => isSameAddress(host, followed))) return null;
    // Where one of several did not work out, it is another one's turn.
    const to = preferred.find((host) => keyOf(host) !== this.#lastTried) ?? preferred[0];
    return to === undefined ? null : { to, reason: 'preferred' };
  }

  #tried({ to }: ChangeOver, nowMs: number): void {
    const isSoon = nowMs - this.#triedAtMs < 2 * DISCOVERY_RETURN_AGAIN_MS_MAX;
    this.#inARow = isSoon ? this.#inARow + 1 : 0;
    this.#triedAtMs = nowMs;
    this.#lastTried = keyOf(to);
    this.#wanted = null;
  }

  #pauseMs(): number {
    const ms = DISCOVERY_RETURN_AGAIN_MS * 2 ** Math.min(this.#inARow, 20);
    return Math.min(DISCOVERY_RETURN_AGAIN_MS_MAX, ms);
  }
}

/** A server that is as far as the leader brings us there, however long what comes before it takes. */
function hasMovedOn(
  leader: DiscoveredHost,
  { hosts, followed, timeline }: Omit<ReturnView, 'nowMs'>,
): boolean {
  const newest = leader.timeline ?? 0;
  if (newest <= timeline) return false;
  const known = hosts.find((host) => isSameAddress(host, followed));
  return known === undefined || (known.timeline ?? timeline) < newest;
}

function keyOf({ host, port }: DiscoveredHost): string {
  return `${host} ${port}`;
}
