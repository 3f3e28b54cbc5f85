// How far has a standby got, by its own word and never beyond what it was sent? Pure.
// (walsender.c:ProcessStandbyReplyMessage)
import { INVALID_LSN, maxLsn, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { EndToEndStages } from '../syncrep/lag-end-to-end.ts';
import type { WalAges } from '../syncrep/lag-end-to-end.ts';
import { LagTracker } from '../syncrep/lag-tracker.ts';
import type { LagHead } from '../syncrep/lag-tracker.ts';
import type { EndToEndLag } from '../status/status.ts';
import type { StandbyStatusUpdate } from '../wire/replication-messages.ts';

/** `initdb --wal-segsize=1` */
const SEGMENT_SIZE_MIN = 1n << 20n;

/** What a reply changed. */
export interface ReplyEffect {
  /** A position moved, in either direction. */
  readonly hasMoved: boolean;
  /**
   * A position was beyond all that was ever sent, and has been cut. Usual for a standby's first reply, else a lie. Not set
   * when only replay is ahead, at the end of a segment: that is where it stands behind an XLOG_SWITCH while the zeros up
   * to there are still on their way. (xlogreader.c:XLogDecodeNextRecord)
   */
  readonly isClamped: boolean;
  /** Where the session's slot may move to: the flush position, non-zero and not cut; else null. */
  readonly confirmedLsn: Lsn | null;
}

/** Positions of one stream on one timeline. All ends are exclusive; INVALID_LSN = not reported. */
export class StandbyPositions {
  readonly #lag = new LagTracker();
  readonly #lagMs: Record<LagHead, number | null> = { write: null, flush: null, apply: null };
  /** The last reply said what the one before it did, and that it has everything. */
  #isIdle = false;
  readonly #ages: WalAges;
  readonly #endToEnd: EndToEndStages;
  #sentLsn: Lsn;
  /** All there was when something was sent last, or, before that, when the stream began. */
  #sendableLsn: Lsn;
  /** What was sent in truth, also where a switch of timeline cut it: a claim up to here is no lie. */
  #deliveredLsn: Lsn;
  #writeLsn: Lsn = INVALID_LSN;
  #flushLsn: Lsn = INVALID_LSN;
  #applyLsn: Lsn = INVALID_LSN;
  /** Filled in anew for each reply: there may be thousands a second of each standby. */
  readonly #effect: { -readonly [Name in keyof ReplyEffect]: ReplyEffect[Name] } = {
    hasMoved: false,
    isClamped: false,
    confirmedLsn: null,
  };

  /** `startLsn`: where the stream begins; everything before it counts as sent. */
  constructor(startLsn: Lsn, ages: WalAges) {
    this.#ages = ages;
    this.#endToEnd = new EndToEndStages(ages.wal);
    this.#sentLsn = startLsn;
    // A standby's first word may come before anything was read for it.
    this.#sendableLsn = maxLsn(startLsn, ages.wal.endLsn);
    this.#deliveredLsn = startLsn;
  }

  get sentLsn(): Lsn {
    return this.#sentLsn;
  }

  get writeLsn(): Lsn {
    return this.#writeLsn;
  }

  get flushLsn(): Lsn {
    return this.#flushLsn;
  }

  get applyLsn(): Lsn {
    return this.#applyLsn;
  }

  /** Seconds, or null when nothing is known or the standby has had everything for a while. */
  lagSeconds(head: LagHead): number | null {
    const milliseconds = this.#lagMs[head];
    return milliseconds === null ? null : milliseconds / 1000;
  }

  /** See {@link EndToEndLag}. `nowMs` is of the monotonic clock, as everywhere here. */
  endToEndLag(nowMs: number): EndToEndLag {
    return {
      writeSeconds: this.#endToEnd.seconds('write', nowMs),
      flushSeconds: this.#endToEnd.seconds('flush', nowMs),
      applySeconds: this.#endToEnd.seconds('apply', nowMs),
    };
  }

  /** Seconds since the last commit that it has replayed; 0 when it has replayed all there are, null when that is not known. */
  replayedCommitAge(nowMs: number): number | null {
    const { wal, commits } = this.#ages;
    const appliedLsn = this.#endToEnd.confirmedLsn('apply');
    const ageMs = commits.ageMs(appliedLsn, nowMs, wal.isAllTaken);
    return ageMs === null ? null : ageMs / 1000;
  }

  /** WAL up to `endLsn` goes to the socket while `sendableLsn` is the end of all there is. */
  onSend(endLsn: Lsn, sendableLsn: Lsn, nowMs: number): void {
    this.#sentLsn = endLsn;
    this.#sendableLsn = sendableLsn;
    this.#deliveredLsn = maxLsn(this.#deliveredLsn, endLsn);
    this.#lag.write(sendableLsn, nowMs);
  }

  /** Takes the standby's word, as far as it was sent what it claims (I8). The answer is valid until the next reply. */
  onReply(update: StandbyStatusUpdate, nowMs: number): ReplyEffect {
    const sent = this.#sentLsn;
    const writeLsn = minLsn(update.writeLsn, sent);
    const flushLsn = minLsn(update.flushLsn, sent);
    const applyLsn = minLsn(update.applyLsn, sent);
    const hasMoved =
      writeLsn !== this.#writeLsn || flushLsn !== this.#flushLsn || applyLsn !== this.#applyLsn;
    const delivered = this.#deliveredLsn;
    const isApplyClaimFalse = update.applyLsn > delivered && !isSegmentEnd(update.applyLsn);
    this.#isIdle = !hasMoved && flushLsn === sent && applyLsn === sent;
    this.#confirm('write', update.writeLsn, nowMs);
    this.#confirm('flush', update.flushLsn, nowMs);
    this.#confirm('apply', update.applyLsn, nowMs);
    this.#updateLag('write', writeLsn, nowMs);
    this.#updateLag('flush', flushLsn, nowMs);
    this.#updateLag('apply', applyLsn, nowMs);
    this.#writeLsn = writeLsn;
    this.#flushLsn = flushLsn;
    this.#applyLsn = applyLsn;
    const effect = this.#effect;
    effect.hasMoved = hasMoved;
    effect.isClamped =
      update.writeLsn > delivered || update.flushLsn > delivered || isApplyClaimFalse;
    effect.confirmedLsn =
      update.flushLsn === INVALID_LSN || update.flushLsn > sent ? null : flushLsn;
    return effect;
  }

  /** The timeline ends at `endLsn`: nothing beyond it was ever sent or confirmed on it (I2). */
  cut(endLsn: Lsn): void {
    this.#sentLsn = minLsn(this.#sentLsn, endLsn);
    this.#writeLsn = minLsn(this.#writeLsn, endLsn);
    this.#flushLsn = minLsn(this.#flushLsn, endLsn);
    this.#applyLsn = minLsn(this.#applyLsn, endLsn);
    this.#endToEnd.cut(endLsn);
  }

  /**
   * How far (exclusive) the standby has got for good: by its flush position. A receiver that does not replay may flush
   * whole segments only, as pg_receivewal does: there it is what it has written.
   */
  get progressLsn(): Lsn {
    return this.#applyLsn === INVALID_LSN ? maxLsn(this.#writeLsn, this.#flushLsn) : this.#flushLsn;
  }

  /** How far (exclusive) a drain counts as confirmed: by flush, or by write where the standby reports no flush. */
  get confirmedLsn(): Lsn {
    return this.#flushLsn === INVALID_LSN ? this.#writeLsn : this.#flushLsn;
  }

  /** True when the standby has confirmed all it was sent. */
  isConfirmed(): boolean {
    return this.confirmedLsn === this.#sentLsn;
  }

  /**
   * A standby that came back is sent again what it has had for long, from the start of a segment: its claims are beyond what
   * was sent for a moment, and how old the WAL is that it lacks is not known before all there is was sent.
   */
  #confirm(head: LagHead, claimedLsn: Lsn, nowMs: number): void {
    if (claimedLsn > this.#sentLsn && this.#sentLsn < this.#sendableLsn) return;
    this.#endToEnd.confirm(head, minLsn(claimedLsn, this.#sentLsn), nowMs);
  }

  /** A standby that never reports a position has no lag there, where PostgreSQL shows one that grows for ever. */
  #updateLag(head: LagHead, lsn: Lsn, nowMs: number): void {
    if (lsn === INVALID_LSN) return;
    const lagMs = this.#lag.read(head, lsn, nowMs);
    if (lagMs !== null || this.#isIdle) this.#lagMs[head] = lagMs;
  }
}

/** Every segment's end, whatever its size; and some places inside of larger ones. */
function isSegmentEnd(lsn: Lsn): boolean {
  return lsn % SEGMENT_SIZE_MIN === 0n;
}
