// Which slots has walcast left behind on hosts that it does not follow now, and which of them may it drop? Only those that
// it made itself, and only while another host has been followed for a while. Pure: what happened and times in.
import {
  LEFT_SLOT_DROP_AFTER_MS,
  LEFT_SLOT_RETRY_MS,
  LEFT_SLOT_RETRY_MS_MAX,
  LEFT_SLOTS_MAX,
} from '../config/limits.ts';
import type { Lsn } from '../pg/lsn.ts';
import { hostKey } from './upstream-hosts.ts';
import type { UpstreamHost } from './upstream-target.ts';

/** A slot that was found in use so often is somebody else's: our own dead sessions end by wal_sender_timeout. */
export const LEFT_SLOT_IN_USE_LOOKS: number = 3;

/** A slot on a host. */
export interface KnownSlot {
  /** Without its password. */
  readonly host: UpstreamHost;
  readonly slot: string;
  readonly systemIdentifier: string;
  /** walcast made it. */
  readonly isOurs: boolean;
  /** Nothing beyond this was reported there; null while it is in use, and where that is not known. */
  readonly releasedLsn: Lsn | null;
}

interface Entry extends KnownSlot {
  readonly tries: number;
  readonly nextTryAtMs: number;
  /** Looks that found it in use by somebody. */
  readonly inUseLooks: number;
}

/** The slots of one relay on all its upstreams. Times are milliseconds of the monotonic clock. */
export class LeftSlots {
  /** The oldest first. */
  readonly #entries = new Map<string, Entry>();
  /** What is in use, or was last; null before anything was. */
  #present: string | null = null;
  /** Since when WAL streams from there; null while it does not. */
  #sinceMs: number | null = null;

  /** walcast made it. */
  created(host: UpstreamHost, slot: string, systemIdentifier: string): void {
    this.#put({ host, slot, systemIdentifier, isOurs: true, releasedLsn: null });
  }

  /** WAL streams from `host`, with `slot` or none. */
  used(
    known: Pick<KnownSlot, 'host' | 'systemIdentifier'> & { slot: string | null },
    nowMs: number,
  ): void {
    const { host, slot, systemIdentifier } = known;
    this.#sinceMs = nowMs;
    this.#present = slot === null ? '' : keyOf(host, slot);
    if (slot === null) return;
    const entry = this.#entries.get(this.#present);
    const isOurs = entry?.systemIdentifier === systemIdentifier && entry.isOurs;
    this.#put({ host, slot, systemIdentifier, isOurs, releasedLsn: null });
  }

  /** Nothing streams any more. `reportedLsn`: nothing beyond it was reported. */
  idle(reportedLsn: Lsn): void {
    const entry = this.#sinceMs === null ? undefined : this.#entries.get(this.#present ?? '');
    this.#sinceMs = null;
    if (entry !== undefined) {
      this.#entries.set(this.#present ?? '', { ...entry, releasedLsn: reportedLsn });
    }
  }

  /** That server is the one that is followed, under another name: there the slot is what it was here. */
  sameAsPresent(host: UpstreamHost, slot: string): void {
    const present = this.#entries.get(this.#present ?? '');
    if (present === undefined || present.slot !== slot) return;
    const isOurs = present.isOurs || this.#entries.get(keyOf(host, slot))?.isOurs === true;
    this.#entries.delete(keyOf(host, slot));
    this.#entries.set(this.#present ?? '', { ...present, isOurs });
  }

  /** It is gone. */
  dropped(host: UpstreamHost, slot: string): void {
    this.#entries.delete(keyOf(host, slot));
  }

  /** Somebody else uses it, so it is not dropped any more. */
  disowned(host: UpstreamHost, slot: string): void {
    const entry = this.#entries.get(keyOf(host, slot));
    if (entry !== undefined) this.#entries.set(keyOf(host, slot), { ...entry, isOurs: false });
  }

  /** Somebody streams with it; seen again and again, it cannot be a dead session of our own. True: it is not ours any more. */
  inUse(host: UpstreamHost, slot: string, nowMs: number): boolean {
    const key = keyOf(host, slot);
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    const inUseLooks = entry.inUseLooks + 1;
    this.#entries.set(key, { ...entry, inUseLooks });
    const isOthers = inUseLooks >= LEFT_SLOT_IN_USE_LOOKS;
    if (isOthers) this.disowned(host, slot);
    else this.refused(host, slot, nowMs);
    return isOthers;
  }

  /** Dropping it failed: another time. */
  refused(host: UpstreamHost, slot: string, nowMs: number): void {
    const entry = this.#entries.get(keyOf(host, slot));
    if (entry === undefined) return;
    const tries = entry.tries + 1;
    const waitMs = Math.min(
      LEFT_SLOT_RETRY_MS_MAX,
      LEFT_SLOT_RETRY_MS * 2 ** Math.min(tries - 1, 20),
    );
    this.#entries.set(keyOf(host, slot), { ...entry, tries, nextTryAtMs: nowMs + waitMs });
  }

  /** All that are not in use. Empty before the first stream: until then nobody knows which will be. */
  left(): KnownSlot[] {
    if (this.#present === null) return [];
    return [...this.#entries].filter(([key]) => key !== this.#present).map(([, entry]) => entry);
  }

  /** We did not run for a while: whether WAL streamed meanwhile is not known. */
  stalled(nowMs: number): void {
    if (this.#sinceMs !== null) this.#sinceMs = nowMs;
  }

  /**
   * The one to drop now; null when there is none, or it is too early. `heardAtMs`: when the server that is followed said something
   * last. Without a word since then it may be gone, and the other one be needed.
   */
  due(nowMs: number, heardAtMs: number): KnownSlot | null {
    const atMs = this.nextDueAtMs();
    if (atMs === null || Math.min(nowMs, heardAtMs) < atMs) return null;
    return this.#candidates().find(({ nextTryAtMs }) => nextTryAtMs <= nowMs) ?? null;
  }

  /** When one is due; null while none will be. */
  nextDueAtMs(): number | null {
    const candidates = this.#candidates();
    if (this.#sinceMs === null || candidates.length === 0) return null;
    const nextTryAtMs = Math.min(...candidates.map((entry) => entry.nextTryAtMs));
    return Math.max(this.#sinceMs + LEFT_SLOT_DROP_AFTER_MS, nextTryAtMs);
  }

  /** All that walcast made, in use or not: what has to outlive this process. */
  ours(): KnownSlot[] {
    return [...this.#entries.values()].filter(({ isOurs }) => isOurs);
  }

  /** What an earlier process had made. What is known since counts more. */
  restore(slots: readonly KnownSlot[]): void {
    for (const known of slots) {
      const entry = this.#entries.get(keyOf(known.host, known.slot));
      if (entry === undefined || !entry.isOurs) this.#put({ ...known, isOurs: true });
    }
  }

  #candidates(): Entry[] {
    return [...this.#entries]
      .filter(([key, { isOurs }]) => isOurs && key !== this.#present)
      .map(([, entry]) => entry);
  }

  #put(known: KnownSlot): void {
    const key = keyOf(known.host, known.slot);
    const host = { ...known.host, password: null };
    this.#entries.delete(key);
    this.#entries.set(key, { ...known, host, tries: 0, nextTryAtMs: 0, inUseLooks: 0 });
    for (const other of this.#entries.keys()) {
      if (this.#entries.size <= LEFT_SLOTS_MAX) return;
      if (other !== this.#present) this.#entries.delete(other);
    }
  }
}

function keyOf(host: UpstreamHost, slot: string): string {
  return `${hostKey(host)} ${slot}`;
}
