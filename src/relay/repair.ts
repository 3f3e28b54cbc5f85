// A segment on our disk is damaged: can it be had again? From the upstream, through the connections that read old WAL,
// while whoever wanted to read it waits. One repair a segment however many wait, a few at once, and after a failure none
// of that segment for a while: the upstream is not asked in a storm, and its walsenders are few.
import type { Clock } from '../base/clock.ts';
import { errorText, OperationalError, systemErrorCode, WalcastError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Places } from '../base/places.ts';
import {
  REPAIR_RETRY_MS,
  REPAIR_RETRY_MS_MAX,
  REPAIRS_AT_ONCE,
  REPAIRS_WAITING_MAX,
} from '../config/limits.ts';
import { advanceLsn, formatLsn, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { nextSegment, parseWalFileName, segmentStart } from '../pg/segment.ts';
import type { SegmentNumber } from '../pg/segment.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { SegmentReplacement, Replaced } from '../wal/segment-replacement.ts';
import type { StoredIdentity, WalStore } from '../wal/wal-store.ts';
import type {
  OlderWalFailure,
  OlderWalReader,
  OlderWalRequest,
  WalReadFailure,
  WalReadLater,
} from '../walsender/ports.ts';

/** What was found damaged. */
export type DamagedWal = Extract<WalReadFailure, { kind: 'damaged' }>;

/** What repairing is built from. */
export interface SegmentRepairParts {
  readonly store: WalStore;
  /** Reads the WAL of a segment from the upstream; null when too many do so already. */
  readonly openOlder: (request: OlderWalRequest) => OlderWalReader | null;
  readonly clock: Clock;
  readonly log: Log;
}

/** One segment that is being repaired. */
interface Job {
  readonly damage: DamagedWal;
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly identity: StoredIdentity;
  /** It is being written: not replaced. */
  readonly isOpen: boolean;
}

/** A segment that could not be repaired: why, and until when it is not tried again. */
interface Failed {
  readonly why: string;
  readonly waitMs: number;
  readonly untilMs: number;
}

/** Bytes that are read at once to see whether a segment is good by now. */
const READ_BYTES = 256 * 1024;

/** Repairs the segments of one store. */
export class SegmentRepair {
  readonly #parts: SegmentRepairParts;
  readonly #running = new Map<string, Promise<void>>();
  readonly #failed = new Map<string, Failed>();
  readonly #stops = new Set<() => void>();
  readonly #places = new Places(REPAIRS_AT_ONCE);
  #repaired = 0;
  #refused = 0;
  #isClosed = false;

  constructor(parts: SegmentRepairParts) {
    this.#parts = parts;
  }

  /** Segments whose file was replaced, and those of which that failed, since the start. */
  counts(): { readonly repaired: number; readonly failed: number } {
    return { repaired: this.#repaired, failed: this.#refused };
  }

  /** What to answer who found damage: to read again later, or why not. */
  answer(damage: DamagedWal): WalReadFailure | WalReadLater {
    const name = damage.walFileName;
    const running = this.#running.get(name);
    if (running !== undefined) return { kind: 'later', ready: running };
    const job = this.#jobOf(damage);
    if (typeof job === 'string') return withReason(damage, job);
    const failed = this.#failed.get(name);
    if (failed !== undefined && this.#parts.clock.nowMs() < failed.untilMs) {
      return withReason(damage, failed.why);
    }
    if (this.#running.size >= REPAIRS_WAITING_MAX) {
      return withReason(damage, 'too many segments are damaged');
    }
    const ready = this.#places.run(() => this.#run(job)).finally(() => this.#running.delete(name));
    this.#running.set(name, ready);
    return { kind: 'later', ready };
  }

  /** Ends everything that is under way. */
  close(): void {
    this.#isClosed = true;
    for (const stop of this.#stops) stop();
  }

  /** Why it is not repaired, or what is to be done. */
  #jobOf(damage: DamagedWal): Job | string {
    const { store } = this.#parts;
    const { identity } = store;
    if (identity === null || this.#isClosed) return 'walcast is stopping';
    const { segmentSize } = identity;
    const parsed = parseWalFileName(damage.walFileName, segmentSize);
    if (parsed === null) return 'it is no segment of this store';
    const startLsn = segmentStart(parsed.segment, segmentSize);
    const endLsn = segmentStart(nextSegment(parsed.segment), segmentSize);
    const isOpen = endLsn > store.positions().flushedLsn;
    return { damage, ...parsed, startLsn, endLsn, identity, isOpen };
  }

  async #run(job: Job): Promise<void> {
    try {
      await this.#repair(job);
    } catch (error) {
      // What is neither the world's fault nor told by ourselves is a bug.
      if (!(error instanceof WalcastError) && systemErrorCode(error) === null) throw error;
      if (!(await this.#isProven(job))) this.#fail(job, errorText(error));
    }
  }

  async #repair(job: Job): Promise<void> {
    const { store, log } = this.#parts;
    const { damage, startLsn } = job;
    const fields = { file: damage.walFileName, lsn: formatLsn(damage.lsn), reason: damage.reason };
    if (job.isOpen) throw trouble('the segment that is being written is not replaced');
    if (await this.#readsWell(job)) {
      log.info('a WAL segment that was damaged reads well now', fields);
      this.#failed.delete(damage.walFileName);
      return;
    }
    log.warn('a damaged WAL segment is fetched again from the upstream', fields);
    const replaced = await this.#replace(job).finally(() => {
      store.reader?.forget(damage.walFileName);
    });
    this.#failed.delete(damage.walFileName);
    if (replaced === null) return;
    this.#repaired++;
    // What could not be counted now is counted at the next start.
    await store.recountDead().catch(() => {});
    log.warn('a damaged WAL segment was replaced by what the upstream has', {
      ...fields,
      start_lsn: formatLsn(startLsn),
      ...(replaced.wasSame ? { bytes: 'the same as before' } : {}),
      damaged_file: replaced.keptAs ?? 'not kept',
      next: 'look at the disk: it gave back other bytes than were written',
    });
  }

  /** The sum of a page may be what is wrong. Good WAL is not withheld because of it. */
  async #isProven({ damage }: Job): Promise<boolean> {
    const { store, log } = this.#parts;
    const name = damage.walFileName;
    if (this.#isClosed || !(await store.reader?.isProven(name, damage.lsn))) return false;
    this.#failed.delete(name);
    log.warn('the records of a WAL segment prove it right, what was noted of its pages is wrong', {
      file: name,
      lsn: formatLsn(damage.lsn),
      reason: damage.reason,
      next: 'look at the disk: page_sums/ holds other bytes than were written',
    });
    return true;
  }

  /** Another one may have repaired it, or the disk may have changed its mind. */
  async #readsWell({ timeline, damage, startLsn, endLsn }: Job): Promise<boolean> {
    const { store } = this.#parts;
    store.reader?.forget(damage.walFileName);
    for (let lsn = startLsn; lsn < endLsn;) {
      const end = minLsn(endLsn, advanceLsn(lsn, READ_BYTES));
      const read = await store.reader?.read(timeline, lsn, end);
      if (read === undefined) return false;
      if (read instanceof Uint8Array) lsn = end;
      else if (read.kind === 'later') await read.ready;
      else return read.kind === 'removed';
    }
    return true;
  }

  /** Null when it is not needed any more. */
  async #replace(job: Job): Promise<Replaced | null> {
    const { reader } = this.#parts.store;
    if (reader === null) return null;
    const replacement = await reader.beginReplacement({ ...job, name: job.damage.walFileName });
    try {
      await this.#fetch(job, replacement);
      if (this.#isClosed) return null;
      return await replacement.finish({
        isWanted: () => this.#isWanted(job),
        isRemoved: () => job.startLsn < this.#parts.store.oldestLsn(),
      });
    } finally {
      await replacement.abandon();
    }
  }

  /** Retention may have removed it meanwhile, and a switch of timelines may have left it behind. */
  #isWanted({ identity, startLsn, endLsn }: Job): boolean {
    const { store } = this.#parts;
    const isSameTimeline = store.identity?.timeline === identity.timeline;
    const isClosed = endLsn <= store.positions().flushedLsn;
    return isSameTimeline && isClosed && startLsn >= store.oldestLsn();
  }

  async #fetch(job: Job, replacement: SegmentReplacement): Promise<void> {
    const { timeline, startLsn, endLsn } = job;
    let wake: () => void = () => {};
    const onReady = (): void => wake();
    const reader = this.#parts.openOlder({ timeline, startLsn, limitLsn: endLsn, onReady });
    if (reader === null) throw trouble('too many standbys read old WAL from the upstream');
    this.#stops.add(onReady);
    try {
      for (let lsn = startLsn; lsn < endLsn;) {
        if (this.#isClosed) throw trouble('walcast is stopping');
        const piece = reader.take(endLsn);
        if (piece === null) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        } else if ('kind' in piece) {
          throw trouble(whyNot(piece));
        } else {
          for (const view of piece.views) await replacement.write(view);
          lsn = piece.endLsn;
        }
      }
    } finally {
      this.#stops.delete(onReady);
      reader.close();
    }
  }

  #fail({ damage }: Job, why: string): void {
    if (this.#isClosed) return;
    const { clock, log } = this.#parts;
    const name = damage.walFileName;
    const before = this.#failed.get(name);
    const waitMs = Math.min(
      before === undefined ? REPAIR_RETRY_MS : 2 * before.waitMs,
      REPAIR_RETRY_MS_MAX,
    );
    this.#failed.delete(name);
    this.#failed.set(name, { why, waitMs, untilMs: clock.nowMs() + waitMs });
    for (const oldest of this.#failed.keys()) {
      if (this.#failed.size <= REPAIRS_WAITING_MAX) break;
      this.#failed.delete(oldest);
    }
    this.#refused++;
    log.error('a damaged WAL segment could not be repaired: who needs it gets an error', {
      file: name,
      lsn: formatLsn(damage.lsn),
      reason: damage.reason,
      why,
      next: `tried again when it is asked for after ${waitMs / 1000} s; an archived copy can be put in its place`,
    });
  }
}

/** A file that is nowhere is told as a server tells it; anything else as damage, with what became of it. */
function withReason(damage: DamagedWal, why: string): WalReadFailure {
  if (damage.isMissing === true) return { kind: 'removed', walFileName: damage.walFileName };
  return { ...damage, reason: `${damage.reason}; it could not be fetched again: ${why}` };
}

function whyNot(failure: OlderWalFailure): string {
  if (failure.kind === 'mismatch') {
    return `what the upstream sent fails its check at ${formatLsn(failure.lsn)}: ${failure.reason}`;
  }
  return failure.reason ?? 'the upstream has removed it, too';
}

function trouble(why: string): OperationalError {
  return new OperationalError('SEGMENT_REPAIR', why);
}
