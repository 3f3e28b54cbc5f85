// A standby asks for a slot that a connection holds which may be its own old one: is that one dead? Pure: what was heard
// and what time it is in, the verdict out.
import { TIMEOUT_SECOND_LOOK_MS } from '../config/limits.ts';

/**
 * `asking`: not known yet. `held`: the holder lives. `free`: it left by itself. `silent`: it is dead as far as can be
 * told, and is to be ended. `off`: nobody waits for the answer any more, or no slot may go over now.
 */
export type TakeoverState = 'asking' | 'held' | 'free' | 'silent' | 'off';

/** Who is on a connection, as far as it can be told; a slot goes over between equals only. */
export interface TakeoverParty {
  readonly user: string;
  readonly applicationName: string;
  /** Null for a Unix socket: the kernel tells at once when its other end is gone, so none is ever half-dead. */
  readonly clientAddr: string | null;
  readonly isEncrypted: boolean;
}

/**
 * True when the holder may be an old connection of the newcomer's standby. A standby that lives has one walreceiver, and
 * it begins a new one only when the old one is gone.
 */
export function mayTakeOver(newcomer: TakeoverParty, holder: TakeoverParty): boolean {
  return (
    newcomer.clientAddr !== null &&
    newcomer.clientAddr === holder.clientAddr &&
    newcomer.user === holder.user &&
    newcomer.applicationName === holder.applicationName &&
    newcomer.isEncrypted === holder.isEncrypted
  );
}

/** One START_REPLICATION that waits for the answer of the session that holds its slot. */
export class SlotTakeover {
  #state: TakeoverState = 'asking';
  #deadlineMs: number;
  #hasLookedTwice = false;

  /** The holder has been asked for a sign of life at `nowMs` (monotonic) and has `probeMs` for it. */
  constructor(options: { nowMs: number; probeMs: number }) {
    this.#deadlineMs = options.nowMs + options.probeMs;
  }

  get state(): TakeoverState {
    return this.#state;
  }

  /** When to tick next. */
  get nextTickMs(): number {
    return this.#deadlineMs;
  }

  /** The holder sent something. */
  onSignOfLife(): void {
    this.#settle('held');
  }

  /** The holder has let the slot go, for whatever reason. */
  onHolderGone(): void {
    this.#settle('free');
  }

  /** The newcomer left or was cancelled, or no stream may begin now. */
  onCalledOff(): void {
    this.#settle('off');
  }

  /** What the holder said may lie unread when we come late: when its time is first seen to be over, it gets a moment. */
  tick(nowMs: number): void {
    if (this.#state !== 'asking' || nowMs < this.#deadlineMs) return;
    if (this.#hasLookedTwice) this.#settle('silent');
    this.#hasLookedTwice = true;
    this.#deadlineMs = nowMs + TIMEOUT_SECOND_LOOK_MS;
  }

  #settle(state: TakeoverState): void {
    if (this.#state === 'asking') this.#state = state;
  }
}
