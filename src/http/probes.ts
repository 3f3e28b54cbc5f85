// Is it alive, has it started, can it serve? One pure answer a probe.
import { formatLsn, INVALID_LSN } from '../pg/lsn.ts';
import { isReceivingWal } from '../status/status.ts';
import type { RelayStatus } from '../status/status.ts';
import type { ProbeJson } from './api-types.ts';
import { upstreamLagBytes } from './status-json.ts';

/** Alive as long as it answers: never asks about the upstream, the standbys or the disk. */
export function liveness(status: RelayStatus): ProbeJson {
  return { status: 'ok', state: status.state, reason: null };
}

/**
 * Started once the store is open, whatever became of it since. The upstream is first called after that, so an attempt
 * that failed shows it as well: a relay must not be killed at its start because the upstream is down.
 */
export function startup(status: RelayStatus): ProbeJson {
  const { connectsFailed, connectsSucceeded } = status.upstream;
  const wasUpstreamCalled = connectsFailed + connectsSucceeded > 0;
  if (status.state !== 'starting' || wasUpstreamCalled)
    return { status: 'ok', state: status.state, reason: null };
  return unavailable(status, status.detail ?? 'the store is being opened');
}

/**
 * Ready when a standby that connects now is served: the server is known, the store is open, and nothing is paused or being
 * shut down. An upstream that is away does not matter, because what is stored can be served. With `lagBytesMax` it must also
 * have caught up that far, which can be told only while WAL streams in.
 */
export function readiness(status: RelayStatus, lagBytesMax: number | null): ProbeJson {
  if (!status.isReady) return unavailable(status, unreadyReason(status));
  if (lagBytesMax === null) return { status: 'ok', state: status.state, reason: null };
  if (!isReceivingWal(status.upstream)) {
    const { serverLsn } = status.upstream;
    const last =
      serverLsn === INVALID_LSN ? '' : `; it was at ${formatLsn(serverLsn)} when last heard`;
    return unavailable(
      status,
      `no WAL streams in, so how far the upstream is ahead is not known${last}`,
    );
  }
  const lag = upstreamLagBytes(status);
  if (lag === null) return unavailable(status, 'the lag behind the upstream is not known yet');
  if (lag <= lagBytesMax) return { status: 'ok', state: status.state, reason: null };
  return unavailable(
    status,
    `${lag} bytes behind the upstream, which is at ${formatLsn(status.upstream.serverLsn)}; ${lagBytesMax} are allowed`,
  );
}

function unreadyReason(status: RelayStatus): string {
  if (status.isDraining) return 'draining: no new sessions are taken';
  if (status.isPaused) return 'paused: no new replication is started';
  if (status.detail !== null) return status.detail;
  if (status.systemIdentifier === null) return 'the upstream has not been identified yet';
  return `state ${status.state}`;
}

function unavailable(status: RelayStatus, reason: string): ProbeJson {
  return { status: 'unavailable', state: status.state, reason };
}
