// A relay status with made-up figures, for tests of what is shown of it.
import { toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { NO_ADMIN_COMMANDS } from '../../src/status/status.ts';
import type {
  AbsentStandbyStatus,
  DurationHistogram,
  FeedbackStatus,
  RelayStatus,
  StandbyStatus,
  SyncStatus,
} from '../../src/status/status.ts';

/** Deep overrides are spelled out: a part given replaces the whole part. */
export function sampleStatus(overrides: Partial<RelayStatus> = {}): RelayStatus {
  return {
    version: '0.1.0',
    state: 'streaming',
    detail: null,
    startedAtMs: 1_700_000_000_000,
    isReady: true,
    isDraining: false,
    isPaused: false,
    systemIdentifier: '7301234567890123456',
    serverVersion: '15.18 (Debian 15.18-0+deb12u1)',
    timeline: toTimelineId(1),
    upstream: sampleUpstream(),
    upstreamDelay: { lagSeconds: 0.125, transit: histogram() },
    store: sampleStore(),
    filesystem: { freeBytes: 300 * 1024 ** 3, sizeBytes: 400 * 1024 ** 3 },
    standbys: [sampleStandby()],
    absentStandbys: [sampleAbsentStandby()],
    standbyTotals: {
      connectionsMax: 1000,
      disconnects: {
        client: 2,
        timeout: 0,
        error: 0,
        wal_removed: 0,
        drain: 0,
        admin: 0,
        timeline: 0,
      },
      rejected: { hba: 3, auth: 0, limit: 0, draining: 0, protocol: 1, tls: 0 },
      connects: new Map([['standby_a', 3]]),
      sentByEnded: new Map(),
      commands: new Map([
        ['IDENTIFY_SYSTEM', 4],
        ['NONSENSE', 2],
      ]),
      authentications: new Map(),
      stalls: 4,
      sentBytes: { memory: 900, disk: 100 },
      takeovers: 1,
    },
    slots: [
      {
        name: 'slot_a',
        temporary: false,
        activePid: 42,
        restartLsn: lsn(0x1000000),
        xmin: null,
        catalogXmin: null,
        inactiveSinceMs: null,
        walStatus: 'reserved',
        safeWalSize: 60_000_000,
        invalidationReason: null,
      },
    ],
    retention: {
      limitBytes: 64 * 1024 ** 3,
      isNearLimit: false,
      segmentsRemovedByLimit: 1,
      segmentsRemovedUnneeded: 0,
      slotsInvalidated: { wal_removed: 2, idle_timeout: 1 },
    },
    readThrough: {
      connections: 1,
      connectionsMax: 2,
      bytes: 4_096,
      repairedSegments: 2,
      failedRepairs: 1,
    },
    sync: sampleSync(),
    feedback: sampleFeedback(),
    configuration: {
      isLastReloadGood: true,
      problems: [],
      refusedAtMs: null,
      reloads: { success: 4, failure: 1 },
      loadedAtMs: 1_700_000_000_000,
      pendingRestart: ['listen'],
      secretProblems: [],
    },
    adminCommands: NO_ADMIN_COMMANDS,
    certificates: [],
    ...overrides,
  };
}

/** A status of which nothing is known yet. */
export function unknownStatus(): RelayStatus {
  const none = lsn(0);
  const { upstream, store, standbyTotals } = sampleStatus();
  return sampleStatus({
    state: 'starting',
    isReady: false,
    systemIdentifier: null,
    serverVersion: null,
    timeline: null,
    filesystem: null,
    upstream: {
      ...upstream,
      host: null,
      port: null,
      state: 'disconnected',
      systemIdentifier: null,
      serverVersion: null,
      timeline: null,
      serverLsn: none,
      reported: { writeLsn: none, flushLsn: none, applyLsn: none },
      stream: null,
      lastMessageAtMs: null,
      lastStreamedAtMs: null,
      connectsSucceeded: 0,
      connectsFailed: 0,
    },
    store: {
      ...store,
      timeline: null,
      oldestLsn: none,
      receivedLsn: none,
      writtenLsn: none,
      flushedLsn: none,
    },
    standbys: [],
    absentStandbys: [],
    standbyTotals: { ...standbyTotals, connects: new Map(), commands: new Map() },
    slots: [],
  });
}

/** One standby that streams; every position is set. */
export function sampleStandby(overrides: Partial<StandbyStatus> = {}): StandbyStatus {
  return {
    pid: 42,
    applicationName: 'standby_a',
    user: 'replicator',
    clientAddr: '10.0.0.7',
    clientPort: 40_000,
    tlsVersion: null,
    state: 'streaming',
    slotName: 'slot_a',
    timeline: toTimelineId(1),
    sentLsn: lsn(0x3000060),
    writeLsn: lsn(0x3000060),
    flushLsn: lsn(0x3000000),
    applyLsn: lsn(0x2fff000),
    syncState: 'async',
    syncPriority: 0,
    writeLagSeconds: 0.000400000000004,
    flushLagSeconds: 0.002,
    applyLagSeconds: 1.5,
    endToEndLag: { writeSeconds: 0.004, flushSeconds: 0.02, applySeconds: 2.5 },
    replayedCommitAgeSeconds: 2.25,
    replyTimeMs: 1_700_000_100_000,
    lastReplyAtMs: 1_700_000_100_001,
    connectedAtMs: 1_700_000_050_000,
    sentBytes: 5000,
    sendQueueBytes: 100,
    sendBlockedSeconds: 0.25,
    clampedReplies: 0,
    feedback: null,
    isStalled: false,
    isNameShared: false,
    ...overrides,
  };
}

/** No policy: our own disk is enough. */
export function sampleSync(overrides: Partial<SyncStatus> = {}): SyncStatus {
  return {
    synchronousStandbyNames: '',
    method: null,
    names: [],
    requiredStandbys: 0,
    eligibleStandbys: 0,
    isSatisfied: true,
    confirmed: { writeLsn: lsn(0x3000060), flushLsn: lsn(0x3000000), applyLsn: lsn(0) },
    changes: 0,
    sinceMs: 1_700_000_000_000,
    unsatisfiedSeconds: 0,
    confirmDuration: histogram(),
    upstream: null,
    clash: null,
    alarms: [],
    ...overrides,
  };
}

/** On, and nobody holds anything. */
export function sampleFeedback(overrides: Partial<FeedbackStatus> = {}): FeedbackStatus {
  return {
    isOn: true,
    xmin: null,
    catalogXmin: null,
    sentAtMs: 1_700_000_100_000,
    nextXid: 7_000n,
    heldBy: null,
    ignored: { future: 0, past: 0 },
    leftOut: 0,
    ...overrides,
  };
}

/** One standby that is away. */
export function sampleAbsentStandby(
  overrides: Partial<AbsentStandbyStatus> = {},
): AbsentStandbyStatus {
  return {
    applicationName: 'standby_b',
    user: 'replicator',
    clientAddr: '10.0.0.8',
    slotName: 'slot_b',
    timeline: toTimelineId(1),
    sentLsn: lsn(0x2000060),
    writeLsn: lsn(0x2000060),
    flushLsn: lsn(0x2000060),
    applyLsn: lsn(0x2000000),
    leftAtMs: 1_700_000_090_000,
    reason: 'client',
    how: 'terminated',
    isMaybeWedged: true,
    ...overrides,
  };
}

function sampleUpstream(): RelayStatus['upstream'] {
  return {
    host: 'pg-a',
    port: 5432,
    slot: 'walcast',
    state: 'streaming',
    heldState: null,
    detail: null,
    systemIdentifier: '7301234567890123456',
    serverVersion: '15.18 (Debian 15.18-0+deb12u1)',
    tlsVersion: 'TLSv1.3',
    clientCertificateExpiresAtMs: 1_800_000_000_000,
    timeline: toTimelineId(1),
    serverLsn: lsn(0x3000100),
    reported: { writeLsn: lsn(0x3000060), flushLsn: lsn(0x3000000), applyLsn: lsn(0) },
    stream: {
      startLsn: lsn(0x1000000),
      startTimeline: toTimelineId(1),
      lastSendAtMs: 1_700_000_099_998.5,
      latestEndLsn: lsn(0x3000100),
      latestEndAtMs: 1_700_000_099_000,
    },
    lastMessageAtMs: 1_700_000_100_000,
    lastStreamedAtMs: 1_700_000_100_000,
    connectsSucceeded: 2,
    connectsFailed: 1,
    disconnects: { eof: 1, timeout: 0, error: 0, reload: 0, shutdown: 0, timeline_end: 0 },
    timelineSwitches: 2,
    receivedBytes: 123_456,
    walMessages: 70,
    keepaliveMessages: 7,
    discovery: null,
    leftSlots: [],
  };
}

function sampleStore(): RelayStatus['store'] {
  return {
    timeline: toTimelineId(1),
    oldestLsn: lsn(0x1000000),
    receivedLsn: lsn(0x3000060),
    writtenLsn: lsn(0x3000060),
    flushedLsn: lsn(0x3000000),
    sizeBytes: 48 * 1024 * 1024,
    segments: 3,
    segmentsRemoved: 1,
    tailBytes: 4096,
    tailBytesMax: 65_536,
    rejectedFromUpstream: 0,
    rejectedFromDisk: 0,
    errors: { open: 0, write: 0, fsync: 0, read: 0, remove: 0 },
    flushDuration: histogram(),
    writeDuration: histogram(),
    dead: { files: 0, bytes: 0, acknowledged: null },
  };
}

function histogram(): DurationHistogram {
  return { boundsSeconds: [0.001, 0.01], counts: [3, 2, 1], sumSeconds: 0.75 };
}

function lsn(value: number): Lsn {
  return toLsn(BigInt(value));
}
