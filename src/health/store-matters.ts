// What is wrong with the WAL that is kept: the store, its disk, the slots that keep it?
import { sizeText } from '../base/human-text.ts';
import {
  FREE_SPACE_ALARM_RATIO,
  FREE_SPACE_LIMITED_RATIO,
  FREE_SPACE_SEGMENTS_MIN,
  RETENTION_ALARM_RATIO,
} from '../config/limits.ts';
import { formatLsn, INVALID_LSN, lsnDistance } from '../pg/lsn.ts';
import type { RelayStatus, SlotStatus } from '../status/status.ts';
import type { Finding } from './finding.ts';
import { counted, finding, told } from './told.ts';

/** initdb's default; the store tells its own when it holds a segment. */
const SEGMENT_BYTES_DEFAULT = 16 * 1024 ** 2;

/** Of slots, of the bound of the store, of the disk and what it did wrong. */
export function storeMatters(status: RelayStatus): Finding[] {
  return [
    ...slotMatters(status),
    ...boundMatters(status),
    ...spaceMatters(status),
    ...deadMatters(status),
    ...diskMatters(status),
  ];
}

function slotMatters(status: RelayStatus): Finding[] {
  const { slots, store, retention } = status;
  const retainedOf = ({ restartLsn }: SlotStatus): number =>
    restartLsn === INVALID_LSN || restartLsn >= store.receivedLsn
      ? 0
      : lsnDistance(restartLsn, store.receivedLsn);
  const mostFirst = (a: SlotStatus, b: SlotStatus): number => retainedOf(b) - retainedOf(a);
  const kept = slots.filter(({ walStatus }) => walStatus !== 'lost' && walStatus !== null);
  const isAtRisk = ({ walStatus }: SlotStatus): boolean => walStatus === 'unreserved';
  const isLarge = (slot: SlotStatus): boolean =>
    retention.limitBytes > 0 && retainedOf(slot) > retention.limitBytes * RETENTION_ALARM_RATIO;
  const subject = ({ name }: SlotStatus): string => name;
  const lost = slots.filter(({ walStatus }) => walStatus === 'lost');
  return [
    ...told({
      code: 'slot_lost',
      severity: 'critical',
      alert: 'WalcastSlotLost',
      of: lost.filter(({ invalidationReason }) => invalidationReason !== 'idle_timeout'),
      subject,
      message: ({ name }) =>
        `slot ${name} is lost: WAL that its standby needs was removed at the limit of what slots keep`,
      nextStep: ({ name }) =>
        `Drop it with "walcast slots drop ${name}"; its standby goes on from an archive, or has to be seeded again.`,
      others: 'slots are lost',
    }),
    // As it was configured: of two relays side by side the one that nobody uses loses its slots so.
    ...told({
      code: 'slot_lost_idle',
      severity: 'info',
      alert: null,
      of: lost.filter(({ invalidationReason }) => invalidationReason === 'idle_timeout'),
      subject,
      message: ({ name }) =>
        `slot ${name} is lost, as nobody used it for idle_replication_slot_timeout`,
      nextStep: ({ name }) =>
        `Nothing where its standby uses another relay and may begin anew here; else drop it with "walcast slots drop ${name}".`,
      others: 'slots that nobody used are lost',
    }),
    ...told({
      code: 'slot_at_risk',
      severity: 'critical',
      alert: 'WalcastSlotRetention',
      of: kept.filter(isAtRisk).toSorted(mostFirst),
      subject,
      message: (slot) =>
        `slot ${slot.name} keeps ${sizeText(retainedOf(slot))}, more than storage.max_slot_wal_keep_size or storage.quota allows, and may be lost at any moment`,
      nextStep: ({ name }) =>
        `Bring the standby of ${name} back, or raise that of the two which binds if the disk has room.`,
      others: 'slots may be lost at any moment',
    }),
    ...told({
      code: 'slot_retention',
      severity: 'warning',
      alert: 'WalcastSlotRetention',
      of: kept.filter((slot) => !isAtRisk(slot) && isLarge(slot)).toSorted(mostFirst),
      subject,
      message: (slot) =>
        `slot ${slot.name} keeps ${sizeText(retainedOf(slot))} of the ${sizeText(retention.limitBytes)} that may be kept${safeText(slot)}`,
      nextStep: ({ name }) =>
        `Bring the standby of ${name} back or drop the slot: at the limit it is lost.`,
      others: 'slots keep nearly as much as may be kept',
    }),
  ];
}

function safeText({ safeWalSize }: SlotStatus): string {
  return safeWalSize === null ? '' : `, ${sizeText(Math.max(0, safeWalSize))} until it is lost`;
}

function boundMatters({ store, retention }: RelayStatus): Finding[] {
  if (!retention.isNearLimit) return [];
  return [
    finding({
      code: 'store_near_limit',
      severity: 'warning',
      subject: null,
      message: `the store is near its limit: ${sizeText(store.sizeBytes)} of ${sizeText(retention.limitBytes)}`,
      nextStep:
        'Bring the standby of the slot that keeps most back or drop the slot; at the limit the slot furthest behind is lost.',
      alert: 'WalcastSlotRetention',
    }),
  ];
}

/** Of a disk that is full already the state tells. */
function spaceMatters({ state, filesystem, store, retention }: RelayStatus): Finding[] {
  if (filesystem === null || state === 'full') return [];
  const { freeBytes, sizeBytes } = filesystem;
  const { limitBytes } = retention;
  // Without a limit the store takes what there is.
  const mayTakeBytes = limitBytes === 0 ? null : Math.max(0, limitBytes - store.sizeBytes);
  const isTooMuch = mayTakeBytes !== null && mayTakeBytes > freeBytes;
  const isNearEnd = freeBytes < FREE_SPACE_SEGMENTS_MIN * segmentBytes(store);
  const isLow =
    freeBytes < sizeBytes * FREE_SPACE_ALARM_RATIO ||
    (isTooMuch && freeBytes < sizeBytes * FREE_SPACE_LIMITED_RATIO);
  if (!isNearEnd && !isLow) return [];
  const share = sizeBytes === 0 ? 0 : Math.floor((100 * freeBytes) / sizeBytes);
  const more = isTooMuch ? `; the limits let the store take ${sizeText(mayTakeBytes)} more` : '';
  return [
    finding({
      code: 'disk_filling',
      severity: isNearEnd ? 'critical' : 'warning',
      subject: null,
      message: `the disk of the store is filling: ${sizeText(freeBytes)} of ${sizeText(sizeBytes)} are free (${share} %)${more}`,
      nextStep:
        'Make room there, bring back the standby of the slot that keeps most or drop the slot, or lower storage.quota and reload: a full disk stops receiving.',
      alert: 'WalcastStoreFilling',
    }),
  ];
}

function segmentBytes({ sizeBytes, segments }: RelayStatus['store']): number {
  return segments === 0 ? SEGMENT_BYTES_DEFAULT : sizeBytes / segments;
}

function deadMatters({ store }: RelayStatus): Finding[] {
  const { files, bytes, acknowledged } = store.dead;
  if (acknowledged !== null) {
    const { timeline, switchLsn, reportedFlushLsn } = acknowledged;
    return [
      finding({
        code: 'acknowledged_lost',
        severity: 'critical',
        subject: `timeline ${timeline}`,
        message:
          `commits that were told to be safe are on no timeline any more: ${sizeText(acknowledged.bytes)} of WAL of timeline ${timeline} from ` +
          `${formatLsn(switchLsn)} to ${formatLsn(reportedFlushLsn)}, which the server that was promoted did not have`,
        nextStep:
          'Look with pg_waldump into "dead" of the data directory what they were, then let go of it with "walcast store release".',
        alert: null,
      }),
    ];
  }
  if (files === 0) return [];
  return [
    finding({
      code: 'dead_wal',
      severity: 'info',
      subject: null,
      message: `${sizeText(bytes)} of WAL that a promotion left behind is kept aside, in ${counted(files, 'file')}`,
      nextStep: 'Let go of it with "walcast store release" when nobody wants to look into it.',
      alert: null,
    }),
  ];
}

/** Counters since the start: whether they still grow is for the alerts to see. */
function diskMatters({ store, readThrough }: RelayStatus): Finding[] {
  const found: Finding[] = [];
  const errors = Object.entries(store.errors).filter(([, count]) => count > 0);
  if (errors.length > 0) {
    found.push(
      finding({
        code: 'store_errors',
        severity: 'info',
        subject: null,
        message: `the disk of the store has failed since the start: ${errors.map(([call, count]) => `${call} ${count}`).join(', ')}`,
        nextStep: 'Read the log of walcast and of the kernel; replace the disk if it goes on.',
        alert: 'WalcastStoreErrors',
      }),
    );
  }
  if (store.rejectedFromDisk > 0 || readThrough.failedRepairs > 0) {
    const { repairedSegments, failedRepairs } = readThrough;
    found.push(
      finding({
        code: 'store_damage',
        severity: 'info',
        subject: null,
        message: `stored WAL was found damaged since the start: ${counted(repairedSegments, 'segment')} fetched again, ${counted(failedRepairs, 'attempt')} failed`,
        nextStep: 'Run "walcast wal verify" on the data directory, and check the disk.',
        alert: 'WalcastWalDamaged',
      }),
    );
  }
  return found;
}
