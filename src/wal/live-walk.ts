// How much of received WAL is checked, and what happens when a check fails? By `storage.verify`: the message is refused, or
// it is taken and the walk looks for the next page to go on from.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { PageOrigin } from './records/page-header.ts';
import type { ChainPosition } from './records/record-chain.ts';
import { RecordWalk } from './records/record-walk.ts';
import { ResynchronisingWalk } from './records/resynchronising-walk.ts';

/** Damage that is taken is said at most this often. */
const SAID_EVERY_MS = 10_000;

/** What a live WAL's walk is made of. */
export interface LiveWalkOptions {
  readonly verify: 'page' | 'record' | 'off';
  readonly clock: Clock;
  readonly log: Log;
}

/** A walk over what is received. */
export type ReceivedWalk = RecordWalk | ResynchronisingWalk;

/** The walk over what is received from `start` on. */
export function liveWalk(
  { verify, clock, log }: LiveWalkOptions,
  origin: PageOrigin,
  start: ChainPosition,
): ReceivedWalk {
  if (verify !== 'off') return new RecordWalk({ ...origin, checksums: verify === 'record' }, start);
  let lossesUnsaid = 0;
  let saidAtMs = -Infinity;
  const isSaid = (): boolean => clock.nowMs() - saidAtMs < SAID_EVERY_MS;
  return new ResynchronisingWalk(
    {
      ...origin,
      checksums: false,
      onLost(failure) {
        lossesUnsaid++;
        if (isSaid()) return;
        log.error('WAL does not hold together, and is taken as it is (verify: off)', {
          lsn: formatLsn(failure.lsn),
          reason: failure.reason,
          times: lossesUnsaid,
        });
        lossesUnsaid = 0;
        saidAtMs = clock.nowMs();
      },
      onFound(lsn) {
        if (lossesUnsaid === 0) log.info('WAL holds together again', { lsn: formatLsn(lsn) });
      },
    },
    start,
  );
}
