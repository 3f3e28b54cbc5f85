// Is a load balancer to send anything to the standbys? Yes when enough of them stream and are near enough.
import { HTTP_CHECK_NAMES_MAX } from '../config/limits.ts';
import { INVALID_LSN } from '../pg/lsn.ts';
import type { RelayStatus } from '../status/status.ts';
import type { StandbyCheckJson } from './api-types.ts';
import { lagBytes } from './json-words.ts';
import { walEnds } from './standby-json.ts';

/** Who qualifies, and how many have to. */
export interface StandbyWish {
  /** Of these application_names only; null: of any. */
  readonly name: string | null;
  /** May lack so many bytes of WAL, replayed, at most; null: whatever it lacks. */
  readonly lagBytesMax: number | null;
  readonly min: number;
}

/**
 * Counts the standbys in state `streaming`. Their lag is counted to the end of the WAL that is known to exist, also while the
 * upstream is away: then reading goes on. One that never said what it has replayed has no lag that could be small enough; nobody
 * has one before the upstream said for the first time how far it is: what is stored may be days old.
 */
export function checkStandbys(status: RelayStatus, wish: StandbyWish): StandbyCheckJson {
  const { name, lagBytesMax, min } = wish;
  const isEndKnown = status.upstream.serverLsn !== INVALID_LSN;
  const { endLsn } = walEnds(status);
  const streaming = status.standbys
    .filter((standby) => standby.state === 'streaming')
    .filter((standby) => name === null || standby.applicationName === name)
    .map(({ applicationName, applyLsn }) => ({
      name: applicationName,
      lag: isEndKnown ? lagBytes(applyLsn, endLsn) : null,
    }));
  const near = streaming
    .filter(({ lag }) => lagBytesMax === null || (lag !== null && lag <= lagBytesMax))
    .toSorted((a, b) => (a.lag ?? Number.MAX_VALUE) - (b.lag ?? Number.MAX_VALUE));
  const isEnough = near.length >= min;
  return {
    status: isEnough ? 'ok' : 'unavailable',
    state: status.state,
    reason: isEnough
      ? null
      : reasonOf(wish, { streaming: streaming.length, near: near.length, isEndKnown }),
    min,
    qualifying: near.length,
    standbys: near.slice(0, HTTP_CHECK_NAMES_MAX).map((standby) => standby.name),
  };
}

function reasonOf(
  { name, lagBytesMax, min }: StandbyWish,
  {
    streaming,
    near,
    isEndKnown,
  }: { readonly streaming: number; readonly near: number; readonly isEndKnown: boolean },
): string {
  const whose = name === null ? '' : ` of application_name "${name}"`;
  const found = `${streaming} of ${min} needed standbys${whose} stream`;
  if (lagBytesMax === null || streaming < min) return found;
  if (!isEndKnown)
    return `${found}, but the upstream has not said since the start how far it is, so what they lack is not known`;
  return `${near} of ${min} needed standbys${whose} stream and lack ${lagBytesMax} bytes at most; ${streaming} stream`;
}
