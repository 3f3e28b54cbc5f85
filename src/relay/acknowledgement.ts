// What is reported upstream, from moment to moment: joins the store's own ends and the standbys' claims to the pure
// rules of syncrep, and remembers when a withheld acknowledgement is due.
import type { Clock, Timer } from '../base/clock.ts';
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { positionsWithoutPolicy, ReportedPositions } from '../syncrep/reported-positions.ts';
import type { OwnEnds, Positions } from '../syncrep/reported-positions.ts';
import type { ReportedPositions as StatusPositions } from '../status/status.ts';
import type { PositionSource } from '../walreceiver/ports.ts';

/** The store's part. */
export interface OwnPositions {
  positions(): { readonly writtenLsn: Lsn; readonly flushedLsn: Lsn };
  /** True when the record that ends at F is a CHECKPOINT_SHUTDOWN. */
  lastRecordIsShutdownCheckpoint(): boolean;
  /** P: kept lazily, restored at the next start. */
  noteReportedFlush(lsn: Lsn): void;
}

/** Where it all comes from. */
export interface AcknowledgementParts {
  readonly clock: Clock;
  /** What each streaming standby has confirmed: its flush position, or its write position when it reports no flush. */
  readonly confirmedLsns: () => readonly Lsn[];
  /** Something may be reported now that may not have been before. */
  readonly onMoved: () => void;
}

/** The positions of one relay. */
export class Acknowledgement implements PositionSource {
  readonly #parts: AcknowledgementParts;
  readonly #rules: ReportedPositions = new ReportedPositions();
  readonly #store: OwnPositions;
  #due: Timer | null = null;
  #isWithdrawn = false;

  constructor(store: OwnPositions, parts: AcknowledgementParts) {
    this.#store = store;
    this.#parts = parts;
  }

  /** A START_REPLICATION on `timeline` is about to be sent; `promisedLsn` is P as it was stored. */
  startStream(timeline: TimelineId, promisedLsn: Lsn): void {
    this.#cancel();
    this.#rules.startStream(timeline, promisedLsn);
  }

  /**
   * Nothing more will be durable. Once what is has been said, no flush position is offered: a server that waits for one of
   * several takes the next one in its list, instead of waiting for us as long as we wait for our standbys.
   */
  withdraw(): void {
    this.#isWithdrawn = true;
    this.#parts.onMoved();
  }

  positions(): StatusPositions {
    const { clock, confirmedLsns } = this.#parts;
    const own = this.#store.positions();
    const nowMs = clock.nowMs();
    const isShutdown = this.#store.lastRecordIsShutdownCheckpoint();
    const saidLsn = this.#rules.offeredLsn;
    const { positions, againAtMs } = this.#rules.next(
      this.#row(own),
      {
        flushedLsn: own.flushedLsn,
        shutdownCheckpointEndLsn: isShutdown ? own.flushedLsn : null,
        // Asked for only when it matters: there may be a thousand standbys, and this runs at every flush.
        standbyLsns: isShutdown ? confirmedLsns() : [],
      },
      nowMs,
    );
    this.#cancel();
    if (againAtMs !== null) {
      this.#due = clock.setTimer(againAtMs - nowMs, () => this.#parts.onMoved());
    }
    this.#store.noteReportedFlush(positions.flushLsn);
    if (this.#isWithdrawn && this.#rules.offeredLsn > saidLsn) this.#parts.onMoved();
    return positions;
  }

  /** No timer is left behind. */
  close(): void {
    this.#cancel();
  }

  #row(own: OwnEnds): Positions {
    const row = positionsWithoutPolicy(own);
    // Of this connection: what was said on the one before may not have arrived.
    const isSaid = this.#rules.offeredLsn >= own.flushedLsn;
    return this.#isWithdrawn && isSaid ? { ...row, flushLsn: INVALID_LSN } : row;
  }

  #cancel(): void {
    this.#due?.cancel();
    this.#due = null;
  }
}
