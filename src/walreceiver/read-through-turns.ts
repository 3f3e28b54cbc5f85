// Who of many standbys may use one of a few connections to the upstream, and until when? A pure machine: wishes and ticks
// in, grants and revocations out. Nobody keeps a connection for long while another waits, and nobody who does not take
// what was read for him.

/** Times and bounds of the turns. */
export interface TurnLimits {
  readonly connectionsMax: number;
  readonly claimantsMax: number;
  /** Longest turn while somebody waits. */
  readonly turnMs: number;
  /**
   * Longest time that a full buffer is left untouched, also while nobody waits: a walsender that cannot send does not
   * hear of a shutdown either, and would hold it up. (walsender.c:WalSndWaitStopping)
   */
  readonly stallMs: number;
}

/** What to do: `grant` a connection, or end the use of one. After a `revoke` the place is free with `released`. */
export type TurnAction<T> =
  | { readonly type: 'grant'; readonly claimant: T }
  | { readonly type: 'revoke'; readonly claimant: T };

interface Turn {
  readonly grantedAtMs: number;
  readonly isVisit: boolean;
  /** Since when its buffer is full; null while there is room. */
  fullSinceMs: number | null;
  isRevoked: boolean;
}

/** Turns of claimants of any kind, told apart by identity. Times are milliseconds of the monotonic clock. */
export class ReadThroughTurns<T> {
  readonly #limits: TurnLimits;
  readonly #claimants = new Set<T>();
  /** In order of their wishes. */
  readonly #waiting = new Set<T>();
  /** As those, before them. */
  readonly #urgent = new Set<T>();
  readonly #turns = new Map<T, Turn>();

  constructor(limits: TurnLimits) {
    this.#limits = limits;
  }

  /** Claimants that joined and did not leave. */
  get claimantCount(): number {
    return this.#claimants.size;
  }

  /** Those that hold a connection or wait for its end. */
  get turnCount(): number {
    return this.#turns.size;
  }

  /** False when there are too many already. */
  join(claimant: T): boolean {
    if (this.#claimants.size >= this.#limits.claimantsMax) return false;
    this.#claimants.add(claimant);
    return true;
  }

  /** It waits no more; a connection it holds stays its own until `released`. */
  leave(claimant: T): void {
    this.#claimants.delete(claimant);
    this.#waiting.delete(claimant);
    this.#urgent.delete(claimant);
  }

  /** It wants a connection: to the end of the queue, unless it is in it or has one. */
  want(claimant: T): void {
    if (!this.#claimants.has(claimant) || this.#turns.has(claimant)) return;
    this.#waiting.add(claimant);
  }

  /** It wants one for a moment only, before all that `want` one; no claimant, and as many as the caller likes. */
  wantSoon(visitor: T): void {
    if (!this.#turns.has(visitor)) this.#urgent.add(visitor);
  }

  isWaiting(claimant: T): boolean {
    return this.#waiting.has(claimant) || this.#urgent.has(claimant);
  }

  /** Its buffer has just become full, or has room again. */
  setFull(claimant: T, isFull: boolean, nowMs: number): void {
    const turn = this.#turns.get(claimant);
    if (turn === undefined) return;
    if (!isFull) turn.fullSinceMs = null;
    else turn.fullSinceMs ??= nowMs;
  }

  /** Its turn is over and the connection can be used by another. */
  released(claimant: T): void {
    this.#turns.delete(claimant);
  }

  /** The next thing to do; null when there is nothing. To be asked until it says so. */
  next(nowMs: number): TurnAction<T> | null {
    return this.#nextGrant(nowMs) ?? this.#nextRevocation(nowMs);
  }

  #nextGrant(nowMs: number): TurnAction<T> | null {
    if (this.#turns.size >= this.#limits.connectionsMax) return null;
    return this.#grantFrom(this.#urgent, nowMs) ?? this.#grantFrom(this.#waiting, nowMs);
  }

  /** Visitors leave one connection to the others, however many come: they must not keep everybody out. */
  #grantFrom(queue: Set<T>, nowMs: number): TurnAction<T> | null {
    const isVisit = queue === this.#urgent;
    if (isVisit && !this.#mayVisit()) return null;
    for (const claimant of queue) {
      queue.delete(claimant);
      const turn = { grantedAtMs: nowMs, isVisit, fullSinceMs: null, isRevoked: false };
      this.#turns.set(claimant, turn);
      return { type: 'grant', claimant };
    }
    return null;
  }

  #mayVisit(): boolean {
    let visits = 0;
    for (const turn of this.#turns.values()) if (turn.isVisit) visits += 1;
    return visits < Math.max(1, this.#limits.connectionsMax - 1);
  }

  /** Those that stall, and at most one for each that waits. Turns stand in the order in which they began. */
  #nextRevocation(nowMs: number): TurnAction<T> | null {
    const { turnMs, stallMs } = this.#limits;
    let ending = 0;
    for (const turn of this.#turns.values()) if (turn.isRevoked) ending += 1;
    const visitors = this.#mayVisit() ? this.#urgent.size : 0;
    const isAwaited = this.#waiting.size + visitors > ending;
    for (const [claimant, turn] of this.#turns) {
      if (turn.isRevoked) continue;
      const isStalled = turn.fullSinceMs !== null && nowMs - turn.fullSinceMs >= stallMs;
      const isOver = isAwaited && nowMs - turn.grantedAtMs >= turnMs;
      if (!isStalled && !isOver) continue;
      turn.isRevoked = true;
      return { type: 'revoke', claimant };
    }
    return null;
  }
}
