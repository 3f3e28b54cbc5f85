// What does hot standby feedback mean, and what is the minimum of all of it? Pure. Everything counts in full transaction
// ids, epoch in the upper 32 bits, so that nothing wraps.
// (walsender.c:ProcessStandbyHSFeedbackMessage, TransactionIdInRecentPast)
import { NO_XMINS } from '../pg/xmins.ts';
import type { Xmins } from '../pg/xmins.ts';

/** FirstNormalTransactionId: smaller ids are no transaction's, and mean "none". */
const FIRST_NORMAL_XID = 3;

/** So far behind the next id, a 32-bit id cannot be told from one that is still to come. */
const XID_WINDOW = 1n << 31n;

/**
 * An upstream's next id is ahead of what its WAL has told us, so it may already drop what we would still take. No server gives
 * out ids closer than this to a wrap-around, so nothing honest lies there. (varsup.c:SetTransactionIdLimit)
 */
const XID_MARGIN = 1_000_000n;

const EPOCH_SHIFT = 32n;

/** The ids of a feedback message as they stand on the wire: unsigned 32-bit halves. */
export interface WireXmins {
  readonly xmin: number;
  readonly xminEpoch: number;
  readonly catalogXmin: number;
  readonly catalogXminEpoch: number;
}

/** What a message says: what is held from now on, or that it names an id which cannot be, and is void as a whole. */
export type FeedbackReading =
  | { readonly kind: 'xmins'; readonly xmins: Xmins }
  | { readonly kind: 'void'; readonly reason: 'future' | 'past' };

/**
 * Reads a message at a moment when `nextXid` is the next full transaction id. Null while that is not known and the message
 * names an id at all.
 */
export function readFeedback(message: WireXmins, nextXid: bigint | null): FeedbackReading | null {
  const xmin = fullXid(message.xminEpoch, message.xmin);
  const catalogXmin = fullXid(message.catalogXminEpoch, message.catalogXmin);
  if (xmin === null && catalogXmin === null) return { kind: 'xmins', xmins: NO_XMINS };
  if (nextXid === null) return null;
  for (const xid of [xmin, catalogXmin]) {
    if (xid === null || isRecent(xid, nextXid)) continue;
    return { kind: 'void', reason: xid > nextXid ? 'future' : 'past' };
  }
  return { kind: 'xmins', xmins: { xmin, catalogXmin } };
}

/** The halves of ids that are held; zeros for none, with the epoch of `nextXid`. (walreceiver.c:XLogWalRcvSendHSFeedback) */
export function wireXmins({ xmin, catalogXmin }: Xmins, nextXid: bigint | null): WireXmins {
  const noXid = ((nextXid ?? 0n) >> EPOCH_SHIFT) << EPOCH_SHIFT;
  return {
    xmin: lowHalf(xmin ?? noXid),
    xminEpoch: highHalf(xmin ?? noXid),
    catalogXmin: lowHalf(catalogXmin ?? noXid),
    catalogXminEpoch: highHalf(catalogXmin ?? noXid),
  };
}

/** One who holds something, named as it is shown. */
export interface Contribution extends Xmins {
  readonly name: string;
}

/** What counts when the minimum is taken. */
export interface HorizonRules {
  readonly nextXid: bigint;
  /** `max_feedback_xmin_age`: ids further behind are left out; null = no bound. */
  readonly maxAge: bigint | null;
}

/** The minimum of all contributions. */
export interface Horizon extends Xmins {
  /** Whose xmin it is, else whose catalog_xmin; null when nobody holds any. */
  readonly heldBy: string | null;
  /** Names of those of whom an id was left out as too old, in the order in which they came. */
  readonly tooOld: readonly string[];
}

/**
 * The minima of xmin and of catalog_xmin over all contributions. An upstream drops the whole message for one id that is bad, so
 * none outside (next − 2^31, next] gets in: an older one, or one that is nearly so old, is left out; one from beyond next, of a timeline that was left or WAL that a
 * crash took from us, counts as next.
 */
export function horizonOf(contributions: Iterable<Contribution>, rules: HorizonRules): Horizon {
  const xmin = new Minimum(rules);
  const catalogXmin = new Minimum(rules);
  const tooOld: string[] = [];
  for (const contribution of contributions) {
    const isXminTaken = xmin.take(contribution.xmin, contribution.name);
    const isCatalogTaken = catalogXmin.take(contribution.catalogXmin, contribution.name);
    if (!isXminTaken || !isCatalogTaken) tooOld.push(contribution.name);
  }
  const heldBy = xmin.heldBy ?? catalogXmin.heldBy;
  return { xmin: xmin.xid, catalogXmin: catalogXmin.xid, heldBy, tooOld };
}

/** True when an id is further behind than the rules take. */
export function isTooOld(xid: bigint, { nextXid, maxAge }: HorizonRules): boolean {
  const age = nextXid - xid;
  return age >= XID_WINDOW - XID_MARGIN || (maxAge !== null && age > maxAge);
}

/** How far the older of both ids lies behind `nextXid`, 0 at least; null when none is held. */
export function xminAge({ xmin, catalogXmin }: Xmins, nextXid: bigint): number | null {
  const oldest = older(xmin, catalogXmin);
  if (oldest === null) return null;
  return oldest >= nextXid ? 0 : Number(nextXid - oldest);
}

/** The older of two ids, of which null is none. */
export function older(a: bigint | null, b: bigint | null): bigint | null {
  if (a === null || b === null) return a ?? b;
  return a < b ? a : b;
}

/** The older ones of both. */
export function olderXmins(a: Xmins, b: Xmins): Xmins {
  return { xmin: older(a.xmin, b.xmin), catalogXmin: older(a.catalogXmin, b.catalogXmin) };
}

/**
 * True when `to` has to be told at once to one who was told `from`: an id appears, gets older, or is gone. One that moves forward can
 * wait.
 */
export function isUrgent(from: Xmins, to: Xmins): boolean {
  return isUrgentXid(from.xmin, to.xmin) || isUrgentXid(from.catalogXmin, to.catalogXmin);
}

/** True when `to` holds something that `from` does not hold: an id appears or gets older. */
export function isDeeper(from: Xmins, to: Xmins): boolean {
  return isDeeperXid(from.xmin, to.xmin) || isDeeperXid(from.catalogXmin, to.catalogXmin);
}

class Minimum {
  readonly #rules: HorizonRules;
  xid: bigint | null = null;
  heldBy: string | null = null;

  constructor(rules: HorizonRules) {
    this.#rules = rules;
  }

  /** False when it is left out. */
  take(xid: bigint | null, name: string): boolean {
    if (xid === null) return true;
    if (isTooOld(xid, this.#rules)) return false;
    const { nextXid } = this.#rules;
    const counted = xid > nextXid ? nextXid : xid;
    if (this.xid === null || counted < this.xid) {
      this.xid = counted;
      this.heldBy = name;
    }
    return true;
  }
}

function fullXid(epoch: number, xid: number): bigint | null {
  if (xid < FIRST_NORMAL_XID) return null;
  return (BigInt(epoch) << EPOCH_SHIFT) | BigInt(xid);
}

function isRecent(xid: bigint, nextXid: bigint): boolean {
  return xid <= nextXid && nextXid - xid < XID_WINDOW;
}

function isUrgentXid(from: bigint | null, to: bigint | null): boolean {
  return isDeeperXid(from, to) || (from !== null && to === null);
}

function isDeeperXid(from: bigint | null, to: bigint | null): boolean {
  return to !== null && (from === null || to < from);
}

function lowHalf(fullXidValue: bigint): number {
  return Number(BigInt.asUintN(32, fullXidValue));
}

function highHalf(fullXidValue: bigint): number {
  return Number(BigInt.asUintN(32, fullXidValue >> EPOCH_SHIFT));
}
