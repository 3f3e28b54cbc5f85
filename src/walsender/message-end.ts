// Where does a message of WAL end? A receiver is written to rely on it: on a page boundary, or where the upstream's own
// message ended; never inside a record elsewhere. (walsender.c:XLogSendPhysical)
import { advanceLsn, lsnDistance, pageStart } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';

/** MAX_SEND_SIZE: sixteen pages. */
export const WAL_MESSAGE_BYTES_MAX: number = 16 * 8192;

/**
 * End (exclusive) of the message that begins at `startLsn` when everything up to `sendableLsn` may be sent. It is
 * `sendableLsn` itself when that fits, else the last page boundary that does.
 */
export function messageEnd(startLsn: Lsn, sendableLsn: Lsn): Lsn {
  return limitedEnd(startLsn, sendableLsn, WAL_MESSAGE_BYTES_MAX);
}

/** As {@link messageEnd} for `byteCount` (at least one page) instead of one message: the end of a whole batch of them. */
export function limitedEnd(startLsn: Lsn, sendableLsn: Lsn, byteCount: number): Lsn {
  if (lsnDistance(startLsn, sendableLsn) <= byteCount) return sendableLsn;
  return pageStart(advanceLsn(startLsn, byteCount));
}
