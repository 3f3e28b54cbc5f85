// Who is at the door? Connections that are no sessions yet are bounded; when there are too many, one that has been there
// long makes room, of the address that has the most: a crowd of strangers must not keep a standby out. Pure.

/** A connection that has not been let in. */
export interface Visitor {
  /** Closes it without a word. */
  close(): void;
}

/** Stands for Unix sockets. */
const LOCAL = '';

/** All that are at the door. */
export class Door<V extends Visitor> {
  /** By address, each in order of arrival. */
  readonly #waiting = new Map<string, Set<V>>();
  readonly #addresses = new Map<V, string>();

  /** How many are at the door. */
  get size(): number {
    return this.#addresses.size;
  }

  /** Somebody comes; `address` is null for a Unix socket. */
  enter(visitor: V, address: string | null): void {
    const key = address ?? LOCAL;
    this.#addresses.set(visitor, key);
    const group = this.#waiting.get(key);
    if (group === undefined) this.#waiting.set(key, new Set([visitor]));
    else group.add(visitor);
  }

  /** It was let in, or went. Without effect for one that is not at the door. */
  leave(visitor: V): void {
    const key = this.#addresses.get(visitor);
    if (key === undefined) return;
    this.#addresses.delete(visitor);
    const group = this.#waiting.get(key);
    group?.delete(visitor);
    if (group?.size === 0) this.#waiting.delete(key);
  }

  /** Sends the one away that makes room; false when nobody is at the door. */
  makeRoom(): boolean {
    let largest: Set<V> | null = null;
    for (const group of this.#waiting.values()) {
      if (largest === null || group.size > largest.size) largest = group;
    }
    const [longest] = largest ?? [];
    if (longest === undefined) return false;
    this.leave(longest);
    longest.close();
    return true;
  }
}
