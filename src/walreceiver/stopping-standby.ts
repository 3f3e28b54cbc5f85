// Does a standby stop, and wait for us to confirm what we cannot? A server that stops goes once we have confirmed the last
// byte it sent, and asks again at each of our answers until then. The last record of a primary is a whole one. A standby ends
// where its own stream broke off, perhaps inside a record, which is not confirmed before the rest is there; or our own standbys
// have less. Nobody's commit waits there. (walsender.c:WalSndDone)
import {
  UPSTREAM_STOP_ASKS_MIN,
  UPSTREAM_STOP_GAP_MS,
  UPSTREAM_STOP_MS,
} from '../config/limits.ts';
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { ReportedPositions } from '../status/status.ts';

/** Where both sides are when the server asks. */
export interface AskedAt {
  /** The end (exclusive) of all that the server has for us, by its own word. */
  readonly serverLsn: Lsn;
  /** The end of what was received of it. */
  readonly nextLsn: Lsn;
  readonly reported: ReportedPositions;
}

/** The questions of one stream. */
export class StoppingStandby {
  #endLsn: Lsn = INVALID_LSN;
  #asks = 0;
  #sinceMs = 0;
  #askedAtMs = 0;

  /** The server asked for an answer, at `nowMs` (monotonic). True: it waits in vain, and stops once it is left alone. */
  asked({ serverLsn, nextLsn, reported }: AskedAt, nowMs: number): boolean {
    // As the server looks at it.
    const { writeLsn, flushLsn } = reported;
    const confirmedLsn = flushLsn === INVALID_LSN ? writeLsn : flushLsn;
    const isNotInVain = serverLsn !== nextLsn || serverLsn === confirmedLsn;
    const isInRow = nowMs - this.#askedAtMs < UPSTREAM_STOP_GAP_MS;
    this.#askedAtMs = nowMs;
    if (serverLsn !== this.#endLsn || isNotInVain || !isInRow) {
      this.#endLsn = serverLsn;
      this.#asks = 0;
      this.#sinceMs = nowMs;
      return false;
    }
    this.#asks += 1;
    return this.#asks >= UPSTREAM_STOP_ASKS_MIN && nowMs - this.#sinceMs >= UPSTREAM_STOP_MS;
  }
}
