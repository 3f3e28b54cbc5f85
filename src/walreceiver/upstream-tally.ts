// The counters of the upstream session since the start, and what they and the machine's view show as status.
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { unixMsFromPgTimestamp } from '../pg/timestamp.ts';
import type {
  ReportedPositions,
  UpstreamDisconnectReason,
  UpstreamStatus,
  UpstreamStreamStatus,
} from '../status/status.ts';
import type { UpstreamIdentity } from './ports.ts';
import type { UpstreamView } from './upstream-events.ts';
import type { UpstreamHost } from './upstream-target.ts';
import type { WalStream } from './wal-stream.ts';

/** Where a stream begins. */
export interface StreamStart {
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
}

/** What a status is made of besides the tally itself. */
export interface StatusParts {
  readonly view: UpstreamView;
  readonly host: UpstreamHost | undefined;
  readonly slot: string | null;
  readonly stream: WalStream | null;
  /** What the last START_REPLICATION asked for. */
  readonly asked: StreamStart | null;
  /** The stream is not read because the store is full. */
  readonly isStoreFull: boolean;
  readonly reported: ReportedPositions;
  /** The connection, when there is one. */
  readonly transport: Pick<UpstreamStatus, 'tlsVersion' | 'clientCertificateExpiresAtMs'> | null;
}

/** Counts over all connections of one walreceiver. */
export class UpstreamTally {
  connectsSucceeded = 0;
  connectsFailed = 0;
  /** Times the store went on with another timeline of the upstream. */
  timelineSwitches = 0;
  lastMessageAtMs: number | null = null;
  identity: UpstreamIdentity | null = null;
  readonly #disconnects: Record<UpstreamDisconnectReason, number> = {
    eof: 0,
    timeout: 0,
    error: 0,
    reload: 0,
    shutdown: 0,
    timeline_end: 0,
  };
  #serverLsn: Lsn = INVALID_LSN;
  #lastStreamedAtMs: number | null = null;
  #receivedBytes = 0;
  #walMessages = 0;
  #keepaliveMessages = 0;

  /** A stream is over: its counters are kept. */
  streamEnded(stream: WalStream, reason: UpstreamDisconnectReason): void {
    this.#disconnects[reason] += 1;
    this.#serverLsn = stream.serverLsn;
    this.#lastStreamedAtMs = this.lastMessageAtMs;
    this.#receivedBytes += stream.receivedBytes;
    this.#walMessages += stream.walMessages;
    this.#keepaliveMessages += stream.keepaliveMessages;
  }

  /** The status of this moment. */
  status(parts: StatusParts): UpstreamStatus {
    const { view, stream } = parts;
    return {
      host: parts.host?.host ?? null,
      port: parts.host?.port ?? null,
      slot: parts.slot,
      state: stateOf(view, stream),
      heldState: view.heldState ?? (parts.isStoreFull ? 'full' : null),
      detail:
        view.detail ?? (parts.isStoreFull ? 'the store takes no more WAL at the moment' : null),
      systemIdentifier: this.identity?.systemIdentifier ?? null,
      serverVersion: this.identity?.serverVersion ?? null,
      tlsVersion: parts.transport?.tlsVersion ?? null,
      clientCertificateExpiresAtMs: parts.transport?.clientCertificateExpiresAtMs ?? null,
      timeline: this.identity?.timeline ?? null,
      serverLsn:
        stream === null || stream.serverLsn === INVALID_LSN ? this.#serverLsn : stream.serverLsn,
      reported: parts.reported,
      stream: streamStatus(stream, parts.asked),
      lastMessageAtMs: this.lastMessageAtMs,
      lastStreamedAtMs: stream === null ? this.#lastStreamedAtMs : this.lastMessageAtMs,
      connectsSucceeded: this.connectsSucceeded,
      connectsFailed: this.connectsFailed,
      disconnects: { ...this.#disconnects },
      timelineSwitches: this.timelineSwitches,
      receivedBytes: this.#receivedBytes + (stream?.receivedBytes ?? 0),
      walMessages: this.#walMessages + (stream?.walMessages ?? 0),
      keepaliveMessages: this.#keepaliveMessages + (stream?.keepaliveMessages ?? 0),
      // Whoever knows fills it in.
      discovery: null,
      leftSlots: [],
    };
  }
}

function streamStatus(
  stream: WalStream | null,
  asked: StreamStart | null,
): UpstreamStreamStatus | null {
  if (stream === null || asked === null) return null;
  const { latestEndLsn, lastSendTime, latestEndTime } = stream;
  return {
    startLsn: asked.startLsn,
    startTimeline: asked.timeline,
    lastSendAtMs: lastSendTime === null ? null : unixMsFromPgTimestamp(lastSendTime),
    latestEndLsn,
    latestEndAtMs: latestEndTime === null ? null : unixMsFromPgTimestamp(latestEndTime),
  };
}

function stateOf(view: UpstreamView, stream: WalStream | null): UpstreamStatus['state'] {
  switch (view.phase) {
    case 'connecting':
    case 'login':
    case 'identifying':
    case 'deciding':
    case 'starting':
      return 'connecting';
    case 'streaming':
    case 'ending':
      return stream?.isCaughtUp === true ? 'streaming' : 'catchup';
    case 'held':
      return view.heldState === 'waiting' || view.heldState === 'gap'
        ? 'waiting_for_wal'
        : 'disconnected';
    case 'disconnected':
    case 'backoff':
      return 'disconnected';
  }
}
