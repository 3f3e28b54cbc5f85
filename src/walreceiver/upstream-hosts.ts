// Which hosts are there now? The list of the round that is under way, taken from the target when the round began, and how
// one host is told from another although lists come and go.
import { invariant } from '../base/errors.ts';
import { formatTarget } from '../net/dial.ts';
import type { HostList } from './host-walk.ts';
import type { UpstreamHost, UpstreamTarget } from './upstream-target.ts';

/** The same for the same server of two lists, whatever its password is. */
export function hostKey({ host, address, port }: UpstreamHost): string {
  return `${host} ${address} ${port}`;
}

/** The hosts of one walreceiver's rounds. */
export class RoundHosts {
  readonly #target: () => UpstreamTarget;
  #hosts: readonly UpstreamHost[];
  #first: string | null = null;

  /** `target` is asked anew at each round, and for passwords at each attempt. */
  constructor(target: () => UpstreamTarget) {
    this.#target = target;
    this.#hosts = target().hosts;
  }

  /** The next round begins with this host, if it is listed then; once. */
  beginWith(host: UpstreamHost): void {
    this.#first = hostKey(host);
  }

  /** A round begins: the list as it is now. */
  take(): HostList {
    const { hosts, targetSessionAttrs, loadBalanceHosts } = this.#target();
    this.#hosts = hosts;
    const first = hosts.findIndex((host) => hostKey(host) === this.#first);
    this.#first = null;
    // Whoever names a primary although standbys are preferred has found that none of them will do.
    const isAnyWanted = first >= 0 && targetSessionAttrs === 'prefer-standby';
    return {
      hosts: hosts.map((host) => formatTarget(host)),
      targetSessionAttrs: isAnyWanted ? 'any' : targetSessionAttrs,
      loadBalanceHosts,
      first: first < 0 ? null : first,
    };
  }

  /** A host of this round. */
  at(index: number): UpstreamHost {
    const host = this.#hosts[index];
    invariant(host !== undefined, `no upstream host ${index}`);
    return host;
  }

  /** The same with the password of today. */
  toConnect(index: number): UpstreamHost {
    const host = this.at(index);
    return this.#listed(host) ?? host;
  }

  /** False when the list of today does not have that host of this round any more. */
  isListed(index: number): boolean {
    return this.#listed(this.at(index)) !== null;
  }

  #listed(host: UpstreamHost): UpstreamHost | null {
    const key = hostKey(host);
    return this.#target().hosts.find((other) => hostKey(other) === key) ?? null;
  }
}
