// One picture of the whole relay, put together from what the parts say about themselves, for http, metrics and the log.
import type { Clock } from '../base/clock.ts';
import { RELOAD_PROBLEM_LENGTH_MAX, RELOAD_PROBLEMS_SHOWN_MAX } from '../config/limits.ts';
import { INVALID_LSN } from '../pg/lsn.ts';
import type { CertificateStatus } from '../status/certificate.ts';
import type {
  AbsentStandbyStatus,
  AdminCommandCounts,
  ConfigurationStatus,
  FeedbackStatus,
  FilesystemStatus,
  RelayState,
  RelayStatus,
  ReadThroughStatus,
  RetentionStatus,
  SlotStatus,
  StandbyStatus,
  StandbyTotals,
  StatusSource,
  StoreStatus,
  UpstreamDelay,
  UpstreamStatus,
} from '../status/status.ts';
import type { ServerIdentity } from '../walsender/ports.ts';
import type { StandbyDraft } from '../walsender/session-status.ts';
import type { SyncPicture } from './sync-picture.ts';

/** The parts as they come to life; null before. */
export interface BoardParts {
  readonly upstream: () => UpstreamStatus | null;
  readonly upstreamDelay: () => UpstreamDelay;
  readonly store: () => StoreStatus | null;
  readonly filesystem: () => FilesystemStatus | null;
  /** Made anew, the board's own. */
  readonly standbys: () => readonly StandbyDraft[];
  readonly sync: () => SyncPicture;
  readonly feedback: () => FeedbackStatus;
  readonly absentStandbys: () => readonly AbsentStandbyStatus[];
  readonly standbyTotals: () => StandbyTotals;
  readonly slots: () => readonly SlotStatus[];
  readonly retention: () => RetentionStatus;
  readonly identity: () => ServerIdentity | null;
  readonly readThrough: () => ReadThroughStatus;
  readonly certificates: () => readonly CertificateStatus[];
  /** They go on counting. */
  readonly adminCommands: () => AdminCommandCounts;
}

/** The board of one relay. */
export class StatusBoard implements StatusSource {
  readonly #version: string;
  readonly #parts: BoardParts;
  readonly #startedAtMs: number;
  #configuration: ConfigurationStatus;
  #isDraining = false;
  #isPaused = false;
  #failure: string | null = null;

  constructor(options: { version: string; clock: Clock; parts: BoardParts }) {
    this.#version = options.version;
    this.#parts = options.parts;
    this.#startedAtMs = options.clock.wallMs();
    this.#configuration = {
      isLastReloadGood: true,
      problems: [],
      refusedAtMs: null,
      reloads: { success: 0, failure: 0 },
      loadedAtMs: this.#startedAtMs,
      pendingRestart: [],
      secretProblems: [],
    };
  }

  /** From now on the state is `draining`. */
  drain(): void {
    this.#isDraining = true;
  }

  /** Whether new replication is refused. False when it was so already. */
  pause(isPaused: boolean): boolean {
    const isNew = this.#isPaused !== isPaused;
    this.#isPaused = isPaused;
    return isNew;
  }

  /** The configuration was read again at `nowMs` (Unix milliseconds) and is in effect, but for the keys that wait for a restart. */
  reloaded(nowMs: number, pendingRestart: readonly string[]): void {
    const { secretProblems, reloads } = this.#configuration;
    this.#configuration = {
      isLastReloadGood: true,
      problems: [],
      refusedAtMs: null,
      reloads: { ...reloads, success: reloads.success + 1 },
      loadedAtMs: nowMs,
      pendingRestart,
      secretProblems,
    };
  }

  /** The configuration was read again at `nowMs` and refused for these reasons, one at least; what is in effect stays. */
  reloadRefused(nowMs: number, problems: readonly string[]): void {
    const { reloads } = this.#configuration;
    this.#configuration = {
      ...this.#configuration,
      isLastReloadGood: false,
      problems: shownProblems(problems),
      refusedAtMs: nowMs,
      reloads: { ...reloads, failure: reloads.failure + 1 },
    };
  }

  /** Why files with secrets that have changed are not in effect; empty: they are. */
  secretsRead(problems: readonly string[]): void {
    this.#configuration = { ...this.#configuration, secretProblems: shownProblems(problems) };
  }

  /** From now on the state is `failed`; `reason` is shown. */
  fail(reason: string): void {
    this.#failure ??= reason;
  }

  /** As much of the status as costs nothing, however many standbys there are. */
  standing(): Pick<RelayStatus, 'isPaused' | 'isDraining'> {
    return { isPaused: this.#isPaused, isDraining: this.#isDraining };
  }

  status(): RelayStatus {
    const parts = this.#parts;
    const upstream = parts.upstream() ?? NO_UPSTREAM;
    const store = parts.store() ?? NO_STORE;
    const identity = parts.identity();
    const sync = parts.sync();
    const state = this.#state(upstream, identity !== null);
    return {
      version: this.#version,
      state,
      detail: this.#failure ?? upstream.detail ?? (state === 'paused' ? PAUSED : null),
      startedAtMs: this.#startedAtMs,
      isReady: identity !== null && this.#takesStandbys(),
      isDraining: this.#isDraining,
      isPaused: this.#isPaused,
      systemIdentifier: identity?.systemIdentifier ?? null,
      serverVersion: identity?.serverVersion ?? null,
      timeline: store.timeline,
      upstream,
      upstreamDelay: parts.upstreamDelay(),
      store,
      filesystem: parts.filesystem(),
      standbys: withSync(parts.standbys(), sync),
      absentStandbys: parts.absentStandbys(),
      standbyTotals: parts.standbyTotals(),
      slots: parts.slots(),
      retention: parts.retention(),
      readThrough: parts.readThrough(),
      sync: sync.status,
      feedback: parts.feedback(),
      configuration: this.#configuration,
      adminCommands: new Map(parts.adminCommands()),
      certificates: [...parts.certificates(), ...upstreamClientCertificate(upstream)],
    };
  }

  #takesStandbys(): boolean {
    return !this.#isDraining && !this.#isPaused && this.#failure === null;
  }

  #state(upstream: UpstreamStatus, isIdentified: boolean): RelayState {
    if (this.#failure !== null) return 'failed';
    if (this.#isDraining) return 'draining';
    if (upstream.heldState !== null) return upstream.heldState;
    switch (upstream.state) {
      case 'streaming':
      case 'catchup':
        return this.#isPaused ? 'paused' : upstream.state;
      case 'connecting':
      case 'waiting_for_wal':
        return 'connecting';
      case 'disconnected':
        return isIdentified || hasTried(upstream) ? 'connecting' : 'starting';
    }
  }
}

/** The first ones; the log has them all. */
function shownProblems(problems: readonly string[]): readonly string[] {
  const shown = problems
    .slice(0, RELOAD_PROBLEMS_SHOWN_MAX)
    .map((line) => line.slice(0, RELOAD_PROBLEM_LENGTH_MAX));
  const more = problems.length - shown.length;
  return more === 0 ? shown : [...shown, `${more} more`];
}

function withSync(standbys: readonly StandbyDraft[], sync: SyncPicture): readonly StandbyStatus[] {
  for (const standby of standbys) {
    const { state, priority } = sync.stateOf(standby.pid);
    standby.syncState = state;
    standby.syncPriority = priority;
  }
  return standbys;
}

function hasTried({ connectsSucceeded, connectsFailed }: UpstreamStatus): boolean {
  return connectsSucceeded + connectsFailed > 0;
}

const PAUSED =
  'no new replication is started until it is resumed (RESUME on the console, POST /api/v1/resume); streams that run go on';

const NO_UPSTREAM: UpstreamStatus = {
  host: null,
  port: null,
  slot: null,
  state: 'disconnected',
  heldState: null,
  detail: null,
  systemIdentifier: null,
  serverVersion: null,
  tlsVersion: null,
  clientCertificateExpiresAtMs: null,
  timeline: null,
  serverLsn: INVALID_LSN,
  reported: { writeLsn: INVALID_LSN, flushLsn: INVALID_LSN, applyLsn: INVALID_LSN },
  stream: null,
  lastMessageAtMs: null,
  lastStreamedAtMs: null,
  connectsSucceeded: 0,
  connectsFailed: 0,
  disconnects: { eof: 0, timeout: 0, error: 0, reload: 0, shutdown: 0, timeline_end: 0 },
  timelineSwitches: 0,
  receivedBytes: 0,
  walMessages: 0,
  keepaliveMessages: 0,
  discovery: null,
  leftSlots: [],
};

/** Nothing was fed back yet. */
export const NO_FEEDBACK: FeedbackStatus = {
  isOn: false,
  xmin: null,
  catalogXmin: null,
  sentAtMs: null,
  nextXid: null,
  heldBy: null,
  ignored: { future: 0, past: 0 },
  leftOut: 0,
};

const NO_STORE: StoreStatus = {
  timeline: null,
  oldestLsn: INVALID_LSN,
  receivedLsn: INVALID_LSN,
  writtenLsn: INVALID_LSN,
  flushedLsn: INVALID_LSN,
  sizeBytes: 0,
  segments: 0,
  segmentsRemoved: 0,
  tailBytes: 0,
  tailBytesMax: 0,
  rejectedFromUpstream: 0,
  rejectedFromDisk: 0,
  errors: { open: 0, write: 0, fsync: 0, read: 0, remove: 0 },
  flushDuration: { boundsSeconds: [], counts: [0], sumSeconds: 0 },
  writeDuration: { boundsSeconds: [], counts: [0], sumSeconds: 0 },
  dead: { files: 0, bytes: 0, acknowledged: null },
};

function upstreamClientCertificate(upstream: UpstreamStatus): CertificateStatus[] {
  const { clientCertificateExpiresAtMs: notAfterMs, host, port } = upstream;
  if (notAfterMs === null) return [];
  // Its files are read anew for each connection: there are no newer ones that are not in use.
  return [
    { role: 'upstream_client', address: `${host ?? ''}:${port ?? ''}`, notAfterMs, problem: null },
  ];
}
