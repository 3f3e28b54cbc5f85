// How does the name of a file say the state of a slot? `at-0-5000000`, `at-0-0.wal_removed`: position, then why it is lost.
import { formatLsn, parseLsn } from '../pg/lsn.ts';
import { INVALIDATION_CAUSES } from './slot.ts';
import type { PersistentSlot } from './slot.ts';

/** The name for that state. */
export function nameOfState({ restartLsn, invalidation }: Omit<PersistentSlot, 'name'>): string {
  const position = `at-${formatLsn(restartLsn).replace('/', '-')}`;
  return invalidation === null ? position : `${position}.${invalidation}`;
}

/** The state that a name says; null for every other name. */
export function stateOfName(name: string): Omit<PersistentSlot, 'name'> | null {
  const [, high, low, cause] = /^at-([0-9A-F]{1,8})-([0-9A-F]{1,8})(?:\.(.+))?$/.exec(name) ?? [];
  if (high === undefined || low === undefined) return null;
  const restartLsn = parseLsn(`${high}/${low}`);
  const invalidation =
    cause === undefined ? null : INVALIDATION_CAUSES.find((known) => known === cause);
  return restartLsn === null || invalidation === undefined ? null : { restartLsn, invalidation };
}
