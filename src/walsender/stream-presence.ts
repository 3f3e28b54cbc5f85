// One stream as others see it: those who look at all standbys, and those who want the slot that it holds.
import type { Log } from '../base/log.ts';
import type { ByteConnection } from '../net/connection.ts';
import { INVALID_LSN } from '../pg/lsn.ts';
import type { AdmittedSession } from './admission.ts';
import type { TakeoverParty } from './slot-takeover.ts';
import type { HolderListener, HolderProbe, SlotHolder } from './slot-takeovers.ts';
import type { WatchedStandby } from './standby-watch.ts';
import type { SyncStream } from './sync-view.ts';
import type { StreamProgress, WalStream } from './wal-stream.ts';

/** What is known of the session when its stream begins, and what it does for us. */
export interface PresenceOptions {
  readonly party: TakeoverParty;
  readonly slot: string | null;
  readonly log: Log;
  readonly stream: WalStream;
  readonly pendingBytes: () => number;
  /** Closes the session's connection at once, as one that fell silent. */
  readonly endSilent: () => void;
}

/** Who is on a connection, once it was admitted. */
export function partyOf(
  admitted: AdmittedSession | null,
  connection: ByteConnection | null,
): TakeoverParty {
  return {
    user: admitted?.user ?? '',
    applicationName: admitted?.settings.applicationName ?? '',
    clientAddr: connection?.peer.address ?? null,
    isEncrypted: connection?.isEncrypted ?? false,
  };
}

/** From the start of a stream to its end. */
export class StreamPresence implements SlotHolder, WatchedStandby {
  readonly party: TakeoverParty;
  readonly slot: string | null;
  readonly log: Log;
  readonly #options: PresenceOptions;
  #listeners: readonly HolderListener[] = [];
  #isOver = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
    this.party = options.party;
    this.slot = options.slot;
    this.log = options.log;
  }

  /** What counts of it for a synchronous policy. */
  get stream(): SyncStream {
    return this.#options.stream;
  }

  get applicationName(): string {
    return this.party.applicationName;
  }

  get startedAtMs(): number {
    return this.#options.stream.startedAtMs;
  }

  get heardAtMs(): number {
    return this.#options.stream.heardAtMs;
  }

  progress(): StreamProgress | null {
    return this.#options.stream.progress();
  }

  pendingBytes(): number {
    return this.#options.pendingBytes();
  }

  askForReply(): void {
    this.#options.stream.probe();
  }

  isStandby(): boolean {
    const applyLsn = this.#options.stream.positions?.applyLsn ?? INVALID_LSN;
    return this.slot !== null || applyLsn !== INVALID_LSN;
  }

  probe(listener: HolderListener): HolderProbe | null {
    if (this.#isOver) return null;
    const { stream } = this.#options;
    const { heardAtMs } = stream;
    const isUnconfirmed = this.pendingBytes() > 0 || !stream.isAllConfirmed();
    this.#listeners = [...this.#listeners, listener];
    stream.probe();
    const stop = (): void => {
      this.#listeners = this.#listeners.filter((other) => other !== listener);
    };
    return { heardAtMs, isUnconfirmed, stop };
  }

  endSilent(): boolean {
    if (this.#isOver) return false;
    this.log.warn(
      'standby is back on a new connection: this one is silent and ends, its slot goes over',
      { slot: this.slot },
    );
    this.#options.endSilent();
    return true;
  }

  /** The standby sent something. What its connection takes says nothing: the kernel takes it on its behalf. */
  onSignOfLife(): void {
    for (const listener of this.#listeners) listener.onSignOfLife();
  }

  /** The stream has ended and let its slot go. */
  onOver(): void {
    this.#isOver = true;
    for (const listener of this.#listeners) listener.onGone();
  }
}
