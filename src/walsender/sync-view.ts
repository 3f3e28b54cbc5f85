// One streaming standby as a synchronous policy looks at it, and the order of those that came.
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { SyncStandby } from '../syncrep/sync-standbys.ts';
import type { WalStream } from './wal-stream.ts';

/** What of a stream counts. */
export type SyncStream = Pick<WalStream, 'state' | 'timeline' | 'positions'>;

/** A live view: every property is that of this moment. From the beginning of a stream to its end. */
export class SyncView implements SyncStandby {
  readonly pid: number;
  readonly place: number;
  readonly applicationName: string;
  readonly #stream: SyncStream;

  constructor(session: Pick<SyncStandby, 'pid' | 'place' | 'applicationName'>, stream: SyncStream) {
    this.pid = session.pid;
    this.place = session.place;
    this.applicationName = session.applicationName;
    this.#stream = stream;
  }

  get state(): SyncStandby['state'] {
    return this.#stream.state;
  }

  get timeline(): TimelineId {
    return this.#stream.timeline;
  }

  get writeLsn(): Lsn {
    return this.#stream.positions?.writeLsn ?? INVALID_LSN;
  }

  get flushLsn(): Lsn {
    return this.#stream.positions?.flushLsn ?? INVALID_LSN;
  }

  get applyLsn(): Lsn {
    return this.#stream.positions?.applyLsn ?? INVALID_LSN;
  }
}

/** The view as it is now, of a stream that is over. */
export function lastView(view: SyncStandby): SyncStandby {
  const { pid, place, applicationName, timeline, writeLsn, flushLsn, applyLsn } = view;
  const session = { pid, place, applicationName, timeline };
  return { ...session, state: 'stopping', writeLsn, flushLsn, applyLsn };
}

/** Places of sessions: each gets the lowest one that is free. (walsender.c:InitWalSenderSlot) */
export class SessionPlaces {
  readonly #taken: boolean[] = [];

  /** From 0 on. */
  take(): number {
    const free = this.#taken.indexOf(false);
    const place = free === -1 ? this.#taken.length : free;
    this.#taken[place] = true;
    return place;
  }

  /** `place` was taken before. */
  release(place: number): void {
    this.#taken[place] = false;
  }
}
