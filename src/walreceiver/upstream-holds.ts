// Reasons to stand still that the upstream session finds by itself: what they are called, what people are told to do, and
// when it is tried again. Pure.
import { OperationalError } from '../base/errors.ts';
import type { WalcastError } from '../base/errors.ts';
import type { Lsn } from '../pg/lsn.ts';
import { formatPosition } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { RelayState } from '../status/status.ts';

/** Why a session stands still although it could go on; shown as state of the relay. */
export type HeldState = Extract<
  RelayState,
  'waiting' | 'gap' | 'diverged' | 'corrupt' | 'full' | 'failed'
>;

/** A reason to stand still. */
export interface Hold {
  readonly state: HeldState;
  readonly detail: string;
  readonly retryMs: number;
  /** The host it comes from; the one that is shown while it lasts. */
  readonly hostIndex?: number;
}

/** Rejections at one place of the WAL before people are called. */
export const REJECTIONS_MAX: number = 3;
/** How often WAL that was rejected so often is tried again. */
const REJECTED_RETRY_MS = 60_000;
/** How often an upstream that lacks the WAL we need is tried again: somebody may bring it back. */
const GAP_RETRY_MS = 10_000;
/** A full store is told when there is room; this is for what it is not told about. */
const FULL_RETRY_MS = 5_000;
/** How often an upstream that cannot work as it is set up is tried again. */
const FATAL_RETRY_MS = 60_000;

/** True for what no later attempt can mend without somebody's help. */
export function isFatal(error: WalcastError): error is OperationalError {
  return error instanceof OperationalError && !error.isRetryable;
}

/** What went wrong and, where the error says so, what to do about it. */
export function sentence(error: WalcastError): string {
  const hint = 'hint' in error && typeof error.hint === 'string' ? ` ${error.hint}` : '';
  return /[.!?]$/.test(error.message) || hint === ''
    ? `${error.message}${hint}`
    : `${error.message}.${hint}`;
}

/** How often an upstream that follows us is asked whether it still does. */
const CYCLE_RETRY_MS = 5_000;

/** The upstream gets its WAL from us. */
export function cycleHold(error: WalcastError): Hold {
  return { state: 'waiting', detail: sentence(error), retryMs: CYCLE_RETRY_MS };
}

/** An upstream that cannot be followed as it is set up. */
export function failedHold(error: OperationalError): Hold {
  return { state: 'failed', detail: sentence(error), retryMs: FATAL_RETRY_MS };
}

/** The upstream lacks the WAL that was asked for. */
export function gapHold(
  error: WalcastError,
  asked: { readonly timeline: TimelineId; readonly startLsn: Lsn } | null,
): Hold {
  const where =
    asked === null ? 'WAL' : `WAL from ${formatPosition(asked.timeline, asked.startLsn)}`;
  return {
    state: 'gap',
    detail:
      `the upstream no longer has ${where} on: ${error.message}. ` +
      'Bring the missing segments from an archive with "walcast store import", point upstream.conninfo at a server that has them, ' +
      'or start anew with an empty storage.directory ("walcast store reset").',
    retryMs: GAP_RETRY_MS,
  };
}

/** The same place was rejected {@link REJECTIONS_MAX} times: damaged, or other WAL than ours. `what` is half a sentence. */
export function rejectedHold(what: string, isDivergence: boolean): Hold {
  const often = `${what}, ${REJECTIONS_MAX} times at the same place.`;
  if (isDivergence) {
    return {
      state: 'diverged',
      detail:
        `${often} The store has other WAL there, so this is not the same history. Nothing was overwritten, and what is stored is ` +
        'served. Find out which of the two is right; then point upstream.conninfo at the right server, or begin anew with "walcast store reset".',
      retryMs: REJECTED_RETRY_MS,
    };
  }
  return {
    state: 'corrupt',
    detail:
      `${often} Nothing of it is kept or forwarded; what was checked before is served. ` +
      'Look for a damaged network path, a damaged upstream, or a version that walcast does not know; it is tried again every minute.',
    retryMs: REJECTED_RETRY_MS,
  };
}

/** The store took nothing for too long. */
export function fullHold(): Hold {
  return {
    state: 'full',
    detail:
      'no WAL reached the disk for a minute, so the connection to the upstream was closed. Free space in storage.directory; walcast goes on by itself.',
    retryMs: FULL_RETRY_MS,
  };
}
