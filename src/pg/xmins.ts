// What holds back the removal of old rows: transaction ids as they are kept over every wrap-around.

/**
 * What a standby or a slot holds: full transaction ids (FullTransactionId: epoch in the upper 32 bits), null = none.
 * (access/transam.h, replication/slot.h)
 */
export interface Xmins {
  /** Rows that a transaction from this one on may still see are kept. */
  readonly xmin: bigint | null;
  /** The same of the system catalogs alone, for logical decoding. */
  readonly catalogXmin: bigint | null;
}

/** Holds nothing. */
export const NO_XMINS: Xmins = { xmin: null, catalogXmin: null };

/** True when they hold the same. */
export function isSameXmins(a: Xmins, b: Xmins): boolean {
  return a.xmin === b.xmin && a.catalogXmin === b.catalogXmin;
}
