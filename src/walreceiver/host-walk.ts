// Which host of the list is tried next? One walk over the list a round, in the order given or in a random one, with the
// second pass of target_session_attrs=prefer-standby, and the reasons why hosts were left. Pure.
// (fe-connect.c:pqConnectOptions2, PQconnectPoll)
import { invariant } from '../base/errors.ts';
import { shuffled } from '../base/shuffle.ts';
import type { TargetSessionAttrs } from '../pg/conninfo.ts';

/** Hosts that are named with their reason; of the others only the number is told. */
const REASONS_TOLD_MAX = 8;

/** The hosts of one round. */
export interface HostList {
  /** How each host is called in messages, in the order in which they are tried; never empty. */
  readonly hosts: readonly string[];
  readonly targetSessionAttrs: TargetSessionAttrs;
  readonly loadBalanceHosts: 'disable' | 'random';
  /** The one that is tried before the others; absent or null: the order alone counts. */
  readonly first?: number | null;
}

/** What a walk is told at its birth. */
export interface HostWalkOptions {
  /** Asked for at the beginning of each round. */
  readonly list: () => HostList;
  /** 0 ≤ random() < 1. */
  readonly random: () => number;
}

/** Walks over the hosts, round after round. */
export class HostWalk {
  readonly #options: HostWalkOptions;
  #list: HostList = NO_HOSTS;
  /** Hosts of this pass, as indexes into the list. */
  #pass: readonly number[] = [];
  #place = 0;
  #isSecondPass = false;
  /** Why hosts of this round were left, by index; a second pass replaces what the first one said. */
  readonly #reasons = new Map<number, string>();
  readonly #otherKind = new Set<number>();

  constructor(options: HostWalkOptions) {
    this.#options = options;
  }

  /** Hosts of this round. */
  get count(): number {
    return this.#list.hosts.length;
  }

  /** What the present host is called. */
  get name(): string {
    return this.#list.hosts[this.#current()] ?? '';
  }

  /** What the present host has to be. The second pass of prefer-standby takes any. */
  get wanted(): TargetSessionAttrs {
    return this.#isSecondPass ? 'any' : this.#list.targetSessionAttrs;
  }

  /** Begins a round; gives its first host. */
  begin(): number {
    this.#list = this.#options.list();
    const { hosts, loadBalanceHosts, first = null } = this.#list;
    invariant(hosts.length > 0, 'an upstream without hosts');
    const all = [...hosts.keys()];
    this.#reasons.clear();
    this.#otherKind.clear();
    this.#isSecondPass = false;
    const pass = loadBalanceHosts === 'random' ? shuffled(all, this.#options.random) : all;
    this.#pass = first === null ? pass : [first, ...pass.filter((host) => host !== first)];
    this.#place = 0;
    return this.#current();
  }

  /** The present host is left for `reason`; `isOtherKind`: only because target_session_attrs wants another kind of server. */
  leave(reason: string, isOtherKind: boolean): void {
    const host = this.#current();
    this.#reasons.set(host, reason);
    if (isOtherKind) this.#otherKind.add(host);
  }

  /** The host after the present one; null when the round is over. */
  next(): number | null {
    if (this.#place + 1 < this.#pass.length) {
      this.#place += 1;
      return this.#current();
    }
    const isPreferring = this.#list.targetSessionAttrs === 'prefer-standby';
    if (!isPreferring || this.#isSecondPass || this.#otherKind.size === 0) return null;
    // libpq tries every host again; the others failed a moment ago, and one that answers nothing would cost its whole
    // connect_timeout a second time.
    this.#isSecondPass = true;
    this.#pass = this.#pass.filter((host) => this.#otherKind.has(host));
    this.#place = 0;
    return this.#current();
  }

  /** A stream began: what happened on the way there is of no interest any more. */
  arrived(): void {
    this.#reasons.clear();
    this.#otherKind.clear();
  }

  /**
   * Why no stream runs, after {@link leave}: the reason itself where the list has one host, else which hosts were left in
   * this round and why.
   */
  reasons(): string {
    const [first = ''] = this.#reasons.values();
    if (this.count === 1) return first;
    const told = [...this.#reasons].slice(0, REASONS_TOLD_MAX).map(([host, reason]) => {
      const name = this.#list.hosts[host] ?? '';
      const text = reason.replace(/\.$/, '');
      return text.includes(name) ? text : `${name}: ${text}`;
    });
    const untold = this.#reasons.size - told.length;
    const isAll = this.#reasons.size === this.count;
    return [
      isAll ? `none of the ${this.count} upstream hosts can be followed: ` : '',
      told.join('; '),
      untold > 0 ? `; and ${untold} more` : '',
    ].join('');
  }

  #current(): number {
    const host = this.#pass[this.#place];
    invariant(host !== undefined, 'a walk that has not begun');
    return host;
  }
}

const NO_HOSTS: HostList = { hosts: [], targetSessionAttrs: 'any', loadBalanceHosts: 'disable' };
