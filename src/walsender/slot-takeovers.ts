// Carries out what slot-takeover.ts decides: asks the session that holds a slot, waits, and ends it when it is dead.
import type { Clock } from '../base/clock.ts';
import { Wakeup } from '../base/wakeup.ts';
import { TAKEOVER_PROBE_MS, TAKEOVER_UNCONFIRMED_SILENCE_MS } from '../config/limits.ts';
import { mayTakeOver, SlotTakeover } from './slot-takeover.ts';
import type { TakeoverParty } from './slot-takeover.ts';

/** Hears about a session that holds a slot. */
export interface HolderListener {
  /** Its standby sent something. */
  onSignOfLife(): void;
  /** It holds the slot no more. */
  onGone(): void;
}

/** A session that streams with a slot. */
export interface SlotHolder {
  readonly party: TakeoverParty;
  /** Asks the standby for a sign of life; null when the session does not stream any more. */
  probe(listener: HolderListener): HolderProbe | null;
  /** Ends the session of a standby that is dead, which lets its slot go. False when it is over already. */
  endSilent(): boolean;
}

/** A holder that was asked. */
export interface HolderProbe {
  /** When its standby was heard last, monotonic. */
  readonly heardAtMs: number;
  /** It has not confirmed all that it was sent: the question may be behind much else, or behind a flush that takes long. */
  readonly isUnconfirmed: boolean;
  /** Ends the listening. */
  stop(): void;
}

/** What is needed from all sessions together. */
export interface TakeoverHost {
  readonly clock: Clock;
  isPaused(): boolean;
  /** The session that streams with the slot. */
  holderOf(slot: string): SlotHolder | null;
}

/** The waits for slots. */
export class SlotTakeovers {
  readonly #host: TakeoverHost;
  #count = 0;

  constructor(host: TakeoverHost) {
    this.#host = host;
  }

  /** Slots that went over since the start. */
  get count(): number {
    return this.#count;
  }

  /**
   * Finds out whether the holder of `slot` is an old, dead connection of `newcomer`, and ends it then. Null when it cannot
   * be. True: the slot may be had now; false: the holder lives. `signal` ends the wait.
   */
  ask(slot: string, newcomer: TakeoverParty, signal: AbortSignal): Promise<boolean> | null {
    const holder = signal.aborted ? null : this.#host.holderOf(slot);
    if (holder === null || !mayTakeOver(newcomer, holder.party)) return null;
    return this.#wait(holder, signal);
  }

  #wait(holder: SlotHolder, signal: AbortSignal): Promise<boolean> | null {
    const { clock } = this.#host;
    const nowMs = clock.nowMs();
    const { promise, settle } = settleable();
    let takeover: SlotTakeover | null = null;
    const tell = (what: 'onSignOfLife' | 'onHolderGone' | 'onCalledOff'): void => {
      takeover?.[what]();
      settle();
    };
    const probe = holder.probe({
      onSignOfLife: () => tell('onSignOfLife'),
      onGone: () => tell('onHolderGone'),
    });
    if (probe === null) return null;
    takeover = new SlotTakeover({ nowMs, probeMs: patienceMs(probe, nowMs) });
    const asked = takeover;
    const wakeup = new Wakeup(clock, () => {
      if (this.#host.isPaused()) asked.onCalledOff();
      asked.tick(clock.nowMs());
      if (asked.state === 'asking') wakeup.ensure(asked.nextTickMs);
      else settle();
    });
    wakeup.ensure(asked.nextTickMs);
    const onAbort = (): void => tell('onCalledOff');
    signal.addEventListener('abort', onAbort);
    return promise.then(() => {
      signal.removeEventListener('abort', onAbort);
      wakeup.cancel();
      probe.stop();
      if (asked.state === 'silent' && holder.endSilent()) this.#count += 1;
      return asked.state === 'silent' || asked.state === 'free';
    });
  }
}

/** How long the holder has for its answer. */
function patienceMs({ heardAtMs, isUnconfirmed }: HolderProbe, nowMs: number): number {
  const silenceMs = isUnconfirmed ? TAKEOVER_UNCONFIRMED_SILENCE_MS - (nowMs - heardAtMs) : 0;
  return Math.max(TAKEOVER_PROBE_MS, silenceMs);
}

function settleable(): { readonly promise: Promise<void>; readonly settle: () => void } {
  let settle = (): void => {};
  const promise = new Promise<void>((resolve) => {
    settle = resolve;
  });
  return { promise, settle };
}
