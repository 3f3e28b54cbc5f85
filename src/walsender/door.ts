// Who is at the door? Connections that are no sessions yet are bounded, and so are those that failed and wait to be told so.
// When there are too many, one makes room, of the network that has the most: a crowd of strangers must not keep a standby
// out. Pure.

/** A connection that has not been let in. */
export interface Visitor {
  /** Closes it without a word. Whoever sends one away lets it {@link Door.leave} as well. */
  close(): void;
}

/** Which visitors are one client, and whether somebody of that network was let in before. */
export interface VisitorOrigin {
  readonly network: string;
  readonly isKnown: boolean;
}

/** How many may wait for the answer to a failure. */
export interface DoorSize {
  readonly failedMax: number;
  /** Of one network. */
  readonly failedOfNetworkMax: number;
}

/** Visitors by network, each in order of arrival. */
class Groups<V extends Visitor> {
  readonly #groups = new Map<string, Set<V>>();

  of(network: string): ReadonlySet<V> | null {
    return this.#groups.get(network) ?? null;
  }

  add(network: string, visitor: V): void {
    const group = this.#groups.get(network);
    if (group === undefined) this.#groups.set(network, new Set([visitor]));
    else group.add(visitor);
  }

  /** False when it was not there. */
  remove(network: string, visitor: V): boolean {
    const group = this.#groups.get(network);
    if (group?.delete(visitor) !== true) return false;
    if (group.size === 0) this.#groups.delete(network);
    return true;
  }

  /** Who has been there longest, of the network that has the most; null when nobody is there. */
  longest(): V | null {
    let largest: Set<V> | null = null;
    for (const group of this.#groups.values()) {
      if (largest === null || group.size > largest.size) largest = group;
    }
    return firstOf(largest);
  }
}

/** All that are at the door, and those that were turned away and have not been told yet. */
export class Door<V extends Visitor> {
  readonly #size: DoorSize;
  readonly #origins = new Map<V, VisitorOrigin>();
  readonly #strangers = new Groups<V>();
  readonly #known = new Groups<V>();
  readonly #failed = new Groups<V>();
  #failedCount = 0;

  constructor(size: DoorSize) {
    this.#size = size;
  }

  /** How many are at the door; who waits for the answer to a failure is not. */
  get size(): number {
    return this.#origins.size - this.#failedCount;
  }

  enter(visitor: V, origin: VisitorOrigin): void {
    this.#origins.set(visitor, origin);
    this.#groupsOf(origin).add(origin.network, visitor);
  }

  /** It was let in, or went. Without effect for one that is not here. */
  leave(visitor: V): void {
    const origin = this.#origins.get(visitor);
    if (origin === undefined) return;
    this.#origins.delete(visitor);
    if (this.#groupsOf(origin).remove(origin.network, visitor)) return;
    if (this.#failed.remove(origin.network, visitor)) this.#failedCount -= 1;
  }

  /**
   * It failed, and waits to be told so: it takes no place at the door any more, but a bounded one among its like. Gives who
   * has to go for that, if anybody.
   */
  fail(visitor: V): V | null {
    const origin = this.#origins.get(visitor);
    if (origin === undefined || !this.#groupsOf(origin).remove(origin.network, visitor))
      return null;
    const leaver = this.#leaverFor(origin.network);
    this.#failed.add(origin.network, visitor);
    this.#failedCount += 1;
    return leaver;
  }

  /** Who goes when one has to; null when nobody is here. Who failed goes first, who is known last. */
  first(): V | null {
    return this.#failed.longest() ?? this.firstAtDoor();
  }

  /** The same among those at the door: who failed takes no place there. */
  firstAtDoor(): V | null {
    return this.#strangers.longest() ?? this.#known.longest();
  }

  /** The same within one network. */
  firstOf(network: string): V | null {
    const groups = [this.#failed, this.#strangers, this.#known];
    for (const group of groups) {
      const visitor = firstOf(group.of(network));
      if (visitor !== null) return visitor;
    }
    return null;
  }

  #leaverFor(network: string): V | null {
    const { failedMax, failedOfNetworkMax } = this.#size;
    const others = this.#failed.of(network);
    if ((others?.size ?? 0) >= failedOfNetworkMax) return firstOf(others);
    return this.#failedCount >= failedMax ? this.#failed.longest() : null;
  }

  #groupsOf(origin: VisitorOrigin): Groups<V> {
    return origin.isKnown ? this.#known : this.#strangers;
  }
}

function firstOf<V>(group: ReadonlySet<V> | null): V | null {
  const [first] = group ?? [];
  return first ?? null;
}
