// Which standbys streamed, left, and are not back; and which of them may be stuck for good? Pure: goings and comings in,
// a bounded list out.
//
// What can be told apart was measured with PostgreSQL 15 and 18. A walreceiver that ends by itself sends Terminate: so it
// does at a stop of its server, a promotion, a SIGTERM, and when recovery finds a record wrong. One that is killed just
// closes. Recovery that has run out of WAL reports what it replayed at once; so a standby that has everything says so
// before it goes, and one that goes with WAL it has not replayed was stopped in the middle of it, or cannot go on.
import {
  ABSENT_STANDBYS_MAX,
  ABSENT_STANDBY_FORGET_MS,
  ABSENT_STANDBY_WEDGED_MS,
} from '../config/limits.ts';
import { INVALID_LSN } from '../pg/lsn.ts';
import type { AbsentStandbyStatus } from '../status/status.ts';
import type { SessionStatus } from './session-status.ts';

/** A standby's session is over. */
export interface Departure {
  /** As it was while it streamed last. */
  readonly standby: SessionStatus;
  readonly reason: AbsentStandbyStatus['reason'];
  readonly how: AbsentStandbyStatus['how'];
  /** Monotonic, and Unix milliseconds. */
  readonly nowMs: number;
  readonly wallMs: number;
}

/** By what a standby is known again. */
export type StandbyIdentity = Pick<
  SessionStatus,
  'pid' | 'slotName' | 'applicationName' | 'user' | 'clientAddr'
>;

interface Absent {
  readonly status: Omit<AbsentStandbyStatus, 'isMaybeWedged'>;
  readonly leftAtMs: number;
}

/** The standbys that are away. */
export class AbsentStandbys {
  /** Oldest first. */
  #absent: Absent[] = [];
  /** What was known of those whose sessions began to stream, by pid. */
  readonly #returned = new Map<number, Absent>();

  /**
   * A session that had streamed is over. Receivers that neither replay nor use a slot, such as pg_basebackup, are
   * expected to go for good and are not kept. One that left without a word, as for WAL that is not there any more, was
   * not back: it is away as before.
   */
  onLeft(departure: Departure): void {
    const { reason, how, nowMs, wallMs } = departure;
    const standby = { ...departure.standby, slotName: lastingSlot(departure.standby) };
    const before = this.#returned.get(standby.pid);
    this.#returned.delete(standby.pid);
    this.#forget(nowMs);
    if (standby.lastReplyAtMs === null && before !== undefined) {
      this.#add(before);
      return;
    }
    if (standby.applyLsn === INVALID_LSN && standby.slotName === null) return;
    if (standby.slotName !== null) this.#take(standby);
    this.#add({ status: statusOf(standby, { reason, how, wallMs }), leftAtMs: nowMs });
  }

  /** A standby streams: if it was away, it is not any more. To be followed by onLeft. */
  onStreaming(standby: StandbyIdentity): void {
    const found = this.#take(standby);
    if (found !== undefined) this.#returned.set(standby.pid, found);
  }

  /**
   * All that are away, the one that left last first. `nowMs` is monotonic. Who dropped a slot does not wait for its
   * standby; a temporary one went with it.
   */
  list(nowMs: number, hasSlot: (name: string) => boolean): AbsentStandbyStatus[] {
    this.#forget(nowMs);
    this.#absent = this.#absent.filter(
      ({ status: { slotName } }) => slotName === null || hasSlot(slotName),
    );
    return this.#absent
      .map(({ status, leftAtMs }) => ({
        ...status,
        isMaybeWedged: isMaybeWedged(status, nowMs - leftAtMs),
      }))
      .toReversed();
  }

  #add(absent: Absent): void {
    this.#absent = [...this.#absent, absent].toSorted((a, b) => a.leftAtMs - b.leftAtMs);
    if (this.#absent.length > ABSENT_STANDBYS_MAX) this.#absent.shift();
  }

  #take(standby: StandbyIdentity): Absent | undefined {
    const found = this.#find(standby);
    if (found !== undefined) this.#absent = this.#absent.filter((absent) => absent !== found);
    return found;
  }

  /**
   * A slot is one standby's. Without one, several may share name and user: then the one of the same address is back, else
   * the one that left first.
   */
  #find(standby: StandbyIdentity): Absent | undefined {
    const slotName = lastingSlot(standby);
    if (slotName !== null) {
      return this.#absent.find(({ status }) => status.slotName === slotName);
    }
    const alike = this.#absent.filter(
      ({ status }) =>
        status.slotName === null &&
        status.applicationName === standby.applicationName &&
        status.user === standby.user,
    );
    return alike.find(({ status }) => status.clientAddr === standby.clientAddr) ?? alike[0];
  }

  #forget(nowMs: number): void {
    const oldestMs = nowMs - ABSENT_STANDBY_FORGET_MS;
    while (this.#absent[0] !== undefined && this.#absent[0].leftAtMs < oldestMs) {
      this.#absent.shift();
    }
  }
}

/**
 * Temporary slots, which clients name by the process that serves them: no standby is known again by one.
 * (walreceiver.c:WalReceiverMain, pg_basebackup.c)
 */
const TEMPORARY_SLOT_NAME = /^pg_(?:walreceiver|basebackup)_\d+$/;

function lastingSlot({ slotName }: Pick<StandbyIdentity, 'slotName'>): string | null {
  return slotName === null || TEMPORARY_SLOT_NAME.test(slotName) ? null : slotName;
}

/**
 * It ended its connection itself, had received WAL that it had not replayed, and is away longer than a restart takes. A
 * server that was stopped in the middle of replaying looks the same from here: hence the "maybe".
 */
function isMaybeWedged(status: Absent['status'], awayMs: number): boolean {
  return (
    status.how === 'terminated' &&
    status.applyLsn !== INVALID_LSN &&
    status.applyLsn < status.flushLsn &&
    awayMs >= ABSENT_STANDBY_WEDGED_MS
  );
}

function statusOf(
  standby: SessionStatus,
  going: Pick<Departure, 'reason' | 'how' | 'wallMs'>,
): Absent['status'] {
  const { applicationName, user, clientAddr, slotName, timeline } = standby;
  const { sentLsn, writeLsn, flushLsn, applyLsn } = standby;
  return {
    applicationName,
    user,
    clientAddr,
    slotName,
    timeline,
    sentLsn,
    writeLsn,
    flushLsn,
    applyLsn,
    leftAtMs: going.wallMs,
    reason: going.reason,
    how: going.how,
  };
}
