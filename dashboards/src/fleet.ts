// What is missing, and what fills up, when all relays of a cluster are looked at? The same judgement as that of the alerts.
import { walcast, withCluster } from './selectors.ts';

const RELAY = 'job, instance';
const CLUSTER = 'job, system_identifier';

/**
 * How many standbys are connected to no relay of their cluster (WalcastStandbyMissing). A slot that nobody has used at a relay has no name but its
 * own there: it counts who uses the slot elsewhere.
 */
export function missingStandbys(): string {
  const away = withCluster(walcast('standby_state', 'state="disconnected"'));
  const used = withCluster(walcast('slot_active'));
  return (
    `count(min by (${CLUSTER}, standby) (${away}) == 1 unless on (${CLUSTER}, standby) ` +
    `label_join(max by (${CLUSTER}, slot) (${used}) == 1, "standby", "", "slot")) or vector(0)`
  );
}

/**
 * The largest share that a slot has of what may be kept (WalcastSlotRetention): where it is in use, or, when it is in use nowhere, the least of
 * the relays that still have it.
 */
export function largestSlotShare(): string {
  const limit = `sum by (${RELAY}) (${walcast('store_limit_bytes')} > 0)`;
  const share = withCluster(
    `${walcast('slot_retained_bytes')} / on (${RELAY}) group_left () ${limit}`,
  );
  const isUsed = `and on (${RELAY}, slot) ${walcast('slot_active')} == 1`;
  const isLost = `unless on (${RELAY}, slot) ${walcast('slot_wal_status', 'status="lost"')} == 1`;
  const by = `by (${CLUSTER}, slot)`;
  return `max(max ${by} (${share} ${isUsed}) or min ${by} (${share} ${isLost}))`;
}
