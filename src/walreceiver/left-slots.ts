// Which slots has walcast left behind on hosts that it does not follow now, and which of them may it drop? Only those that
// it made itself, and only while another host has been followed for a while. Pure: what happened and times in.
import {
  LEFT_SLOT_DROP_AFTER_MS,
  LEFT_SLOT_RETRY_MS,
  LEFT_SLOT_RETRY_MS_MAX,
  LEFT_SLOTS_MAX,
} from '../config/limits.ts';
import { hostKey } from './upstream-hosts.ts';
import type { UpstreamHost } from './upstream-target.ts';

/** A slot on a host. */
export interface KnownSlot {
  /** Without its password. */
  readonly host: UpstreamHost;
  readonly slot: string;
  readonly systemIdentifier: string;
  /** walcast made it. */
  readonly isOurs: boolean;
}

interface Entry extends KnownSlot {
  readonly tries: number;
  readonly nextTryAtMs: number;
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
    this.#put({ host, slot, systemIdentifier, isOurs: true });
  }

  /** WAL streams from `host`, with `slot` or none. True when that one was not known. */
  used(
    known: Omit<KnownSlot, 'isOurs' | 'slot'> & { slot: string | null },
    nowMs: number,
  ): boolean {
    const { host, slot, systemIdentifier } = known;
    this.#sinceMs = nowMs;
    this.#present = slot === null ? '' : keyOf(host, slot);
    if (slot === null || this.#entries.has(this.#present)) return false;
    this.#put({ host, slot, systemIdentifier, isOurs: false });
    return true;
  }

  /** Nothing streams any more. */
  idle(): void {
    this.#sinceMs = null;
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

  /** The one to drop now; null when there is none, or it is too early. */
  due(nowMs: number): KnownSlot | null {
    const atMs = this.nextDueAtMs();
    if (atMs === null || nowMs < atMs) return null;
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
    this.#entries.set(key, { ...known, host, tries: 0, nextTryAtMs: 0 });
    for (const other of this.#entries.keys()) {
      if (this.#entries.size <= LEFT_SLOTS_MAX) return;
      if (other !== this.#present) this.#entries.delete(other);
    }
  }
}

function keyOf(host: UpstreamHost, slot: string): string {
  return `${hostKey(host)} ${slot}`;
}
