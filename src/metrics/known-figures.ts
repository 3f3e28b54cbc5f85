// Which of two figures stands for both, where either may be unknown?
import { INVALID_LSN, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';

/** The lower position of those that are known; INVALID_LSN when neither is. */
export function lowest(one: Lsn, other: Lsn): Lsn {
  if (one === INVALID_LSN) return other;
  return other === INVALID_LSN ? one : minLsn(one, other);
}

/** The smaller number of those that are known; null when neither is. */
export function least(one: number | null, other: number | null): number | null {
  if (one === null) return other;
  return other === null ? one : Math.min(one, other);
}

/** The greater number of those that are known; null when neither is. */
export function greatest(one: number | null, other: number | null): number | null {
  if (one === null) return other;
  return other === null ? one : Math.max(one, other);
}
