// How does the name of a file say the state of a slot? `at-0-5000000`, `at-0-5000000.xmin-4294967997.catalog-751`,
// `at-0-0.wal_removed`: position, then what it holds of rows, then why it is lost.
import { formatLsn, parseLsn } from '../pg/lsn.ts';
import { INVALIDATION_CAUSES } from './slot.ts';
import type { PersistentSlot } from './slot.ts';

const NAME =
  /^at-([0-9A-F]{1,8})-([0-9A-F]{1,8})(?:\.xmin-(\d{1,20}))?(?:\.catalog-(\d{1,20}))?(?:\.([^.]+))?$/;

/** The name for that state. */
export function nameOfState(state: Omit<PersistentSlot, 'name'>): string {
  const { restartLsn, invalidation, xmin, catalogXmin } = state;
  const parts = [`at-${formatLsn(restartLsn).replace('/', '-')}`];
  if (xmin !== null) parts.push(`xmin-${xmin}`);
  if (catalogXmin !== null) parts.push(`catalog-${catalogXmin}`);
  if (invalidation !== null) parts.push(invalidation);
  return parts.join('.');
}

/** The state that a name says; null for every other name. */
export function stateOfName(name: string): Omit<PersistentSlot, 'name'> | null {
  const [, high, low, xmin, catalogXmin, cause] = NAME.exec(name) ?? [];
  if (high === undefined || low === undefined) return null;
  const restartLsn = parseLsn(`${high}/${low}`);
  const invalidation =
    cause === undefined ? null : INVALIDATION_CAUSES.find((known) => known === cause);
  if (restartLsn === null || invalidation === undefined) return null;
  return { restartLsn, invalidation, xmin: xidOf(xmin), catalogXmin: xidOf(catalogXmin) };
}

function xidOf(digits: string | undefined): bigint | null {
  return digits === undefined ? null : BigInt.asUintN(64, BigInt(digits));
}
