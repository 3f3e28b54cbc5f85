// Does the JSON API say what the status says, in the contract's words and in no others?
import { Value } from 'typebox/value';
import { describe, expect, test } from 'vitest';
import { findings } from '../../src/health/findings.ts';
import { isLoopbackHeader, isLoopbackHost } from '../../src/http/host-check.ts';
import { liveness, readiness, startup } from '../../src/http/probes.ts';
import { SCHEMAS } from '../../src/http/schemas.ts';
import {
  configJson,
  slotsJson,
  standbysJson,
  storeDetailJson,
  syncJson,
  upstreamDetailJson,
} from '../../src/http/status-json.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { DiscoveryStatus, FeedbackStatus } from '../../src/status/status.ts';
import { sampleEntry } from '../support/http-port.ts';
import {
  sampleFeedback,
  sampleStandby,
  sampleStatus,
  sampleSync,
  unknownStatus,
} from '../support/relay-status.ts';
import { SAMPLE_NOW_MS, statusJson } from '../support/status-json.ts';

describe('status', () => {
  test('every field has the name and form that scripts rely on', () => {
    expect(statusJson(sampleStatus())).toEqual({
      version: '0.1.0',
      system_identifier: '7301234567890123456',
      server_version: '15.18 (Debian 15.18-0+deb12u1)',
      timeline: 1,
      state: 'streaming',
      detail: null,
      paused: false,
      started_at: '2023-11-14T22:13:20.000Z',
      upstream: {
        host: 'pg-a',
        port: 5432,
        slot: 'walcast',
        state: 'streaming',
        detail: null,
        received_lsn: '0/3000060',
        written_lsn: '0/3000060',
        flushed_lsn: '0/3000000',
        reported: { write: '0/3000060', flush: '0/3000000', apply: null },
        server_lsn: '0/3000100',
        lag_bytes: 256,
        last_message_at: '2023-11-14T22:15:00.000Z',
      },
      store: {
        oldest_lsn: '0/1000000',
        flushed_lsn: '0/3000000',
        size_bytes: 50_331_648,
        segments: 3,
        limit_bytes: 68_719_476_736,
        near_limit: false,
      },
      sync: {
        synchronous_standby_names: '',
        method: null,
        required_standbys: 0,
        eligible_standbys: 0,
        satisfied: true,
        since: '2023-11-14T22:13:20.000Z',
        changes: 0,
        unsatisfied_seconds: 0,
        confirmed: { write: '0/3000060', flush: '0/3000000', apply: null },
        reported: { write: '0/3000060', flush: '0/3000000', apply: null },
        upstream: null,
        clash: null,
        alarms: [],
      },
      feedback: {
        hot_standby_feedback: true,
        xmin: null,
        catalog_xmin: null,
        sent_at: '2023-11-14T22:15:00.000Z',
        next_xid: '7000',
        held_by: null,
        ignored: { future: 0, past: 0 },
        left_out: 0,
      },
      standbys: [
        {
          pid: 42,
          application_name: 'standby_a',
          user: 'replicator',
          client_addr: '10.0.0.7',
          client_port: 40_000,
          state: 'streaming',
          sync_state: 'async',
          sync_priority: 0,
          slot_name: 'slot_a',
          timeline: 1,
          sent_lsn: '0/3000060',
          write_lsn: '0/3000060',
          flush_lsn: '0/3000000',
          replay_lsn: '0/2FFF000',
          write_lag: 0.004,
          flush_lag: 0.02,
          replay_lag: 2.5,
          hop_write_lag: 0.0004,
          hop_flush_lag: 0.002,
          hop_replay_lag: 1.5,
          replayed_commit_age: 2.25,
          lag_bytes: 4352,
          hop_lag_bytes: 4192,
          feedback: null,
          clamped_replies: 0,
          reply_time: '2023-11-14T22:15:00.000Z',
          connected_at: '2023-11-14T22:14:10.000Z',
          sent_bytes: 5000,
          tls: false,
          tls_version: null,
          stalled: false,
          name_shared: false,
        },
      ],
      absent_standbys: [
        {
          application_name: 'standby_b',
          user: 'replicator',
          client_addr: '10.0.0.8',
          slot_name: 'slot_b',
          state: 'wedged?',
          how: 'terminated',
          reason: 'client',
          left_at: '2023-11-14T22:14:50.000Z',
          timeline: 1,
          sent_lsn: '0/2000060',
          write_lsn: '0/2000060',
          flush_lsn: '0/2000060',
          replay_lsn: '0/2000000',
        },
      ],
      standby_events: { stalls: 4, takeovers: 1 },
      access: {
        certificates: [],
        authentications: [],
        rejected: { hba: 3, auth: 0, limit: 0, draining: 0, protocol: 1, tls: 0 },
        secret_problems: [],
      },
      configuration: {
        last_reload_good: true,
        loaded_at: '2023-11-14T22:13:20.000Z',
        refused_at: null,
        problems: [],
        pending_restart: ['listen'],
        reloads: { success: 4, failure: 1 },
      },
      findings: findings(sampleStatus(), SAMPLE_NOW_MS).map(({ nextStep, ...finding }) => ({
        ...finding,
        next_step: nextStep,
      })),
    });
  });

  test('what is not known is null, never zero', () => {
    const status = statusJson(unknownStatus());
    expect(status.upstream).toMatchObject({
      received_lsn: null,
      reported: { write: null, flush: null, apply: null },
      server_lsn: null,
      lag_bytes: null,
      last_message_at: null,
    });
    expect(status.store).toMatchObject({ oldest_lsn: null, flushed_lsn: null });
    expect(Value.Check(SCHEMAS.status, status)).toBe(true);
  });

  test('the schemas accept what is answered', () => {
    expect(Value.Check(SCHEMAS.status, statusJson(sampleStatus()))).toBe(true);
    expect(Value.Check(SCHEMAS.standbys, standbysJson(sampleStatus()))).toBe(true);
    expect(Value.Check(SCHEMAS.status, { ...statusJson(sampleStatus()), extra: 1 })).toBe(false);
  });

  test('the lag of a receiver that does not replay is counted from what it flushed, else from what it wrote', () => {
    const unknown = { applyLsn: INVALID_LSN, flushLsn: INVALID_LSN };
    const standbys = [
      sampleStandby({ applyLsn: INVALID_LSN }),
      sampleStandby({ ...unknown, writeLsn: toLsn(0x3000000n) }),
      sampleStandby({ ...unknown, writeLsn: INVALID_LSN }),
    ];
    expect(standbysJson(sampleStatus({ standbys })).map(({ lag_bytes }) => lag_bytes)).toEqual([
      256,
      256,
      null,
    ]);
  });

  test('a policy says who is needed, who is there, what they confirmed, and what the upstream makes of it', () => {
    const status = sampleStatus({
      sync: sampleSync({
        synchronousStandbyNames: 'FIRST 2 (a, b)',
        method: 'priority',
        requiredStandbys: 2,
        eligibleStandbys: 1,
        isSatisfied: false,
        confirmed: { writeLsn: INVALID_LSN, flushLsn: INVALID_LSN, applyLsn: INVALID_LSN },
        changes: 3,
        unsatisfiedSeconds: 1.5,
        upstream: {
          synchronousStandbyNames: 'walcast',
          membership: 'named',
          asOfMs: 1_700_000_000_000,
        },
        clash: 'a clash',
        alarms: ['look'],
      }),
      standbys: [
        sampleStandby({
          syncState: 'sync',
          syncPriority: 1,
          feedback: { xmin: 700n, catalogXmin: null, state: 'counted', xminAge: 6300 },
        }),
      ],
    });
    const answer = syncJson(status);
    expect(answer).toMatchObject({
      synchronous_standby_names: 'FIRST 2 (a, b)',
      method: 'priority',
      required_standbys: 2,
      eligible_standbys: 1,
      satisfied: false,
      changes: 3,
      unsatisfied_seconds: 1.5,
      confirmed: { write: null, flush: null, apply: null },
      reported: { write: '0/3000060' },
      upstream: {
        synchronous_standby_names: 'walcast',
        membership: 'named',
        as_of: '2023-11-14T22:13:20.000Z',
      },
      clash: 'a clash',
      alarms: ['look'],
    });
    expect(Value.Check(SCHEMAS.sync, answer)).toBe(true);
    expect(standbysJson(status)[0]).toMatchObject({
      sync_state: 'sync',
      sync_priority: 1,
      feedback: { xmin: '700', catalog_xmin: null, state: 'counted', xmin_age: 6300 },
    });
    expect(Value.Check(SCHEMAS.status, statusJson(status))).toBe(true);
  });

  test('nobody is said to hold the horizon, or to be left out, once feedback is off', () => {
    const on = sampleFeedback({ heldBy: 'standby_a', leftOut: 2 });
    const told = (feedback: FeedbackStatus): unknown => {
      const { held_by: heldBy, left_out: leftOut } = statusJson(
        sampleStatus({ feedback }),
      ).feedback;
      return { heldBy, leftOut };
    };
    expect(told(on)).toEqual({ heldBy: 'standby_a', leftOut: 2 });
    expect(told({ ...on, isOn: false })).toEqual({ heldBy: null, leftOut: 0 });
  });

  test('a reply time that no calendar holds is shown as unknown', () => {
    const standbys = [9e15, Number.NaN, null].map((replyTimeMs) => sampleStandby({ replyTimeMs }));
    expect(standbysJson(sampleStatus({ standbys })).map(({ reply_time }) => reply_time)).toEqual([
      null,
      null,
      null,
    ]);
  });
});

describe('upstream, store, slots and configuration', () => {
  test('the upstream says which servers are known by discovery, in the words of Patroni', () => {
    const discovery: DiscoveryStatus = {
      source: 'patroni',
      scope: 'demo',
      lastAnswerAtMs: 1_700_000_000_000,
      lastAnswerFrom: 'http://pg-a:8008',
      lastError: null,
      members: [
        {
          name: 'pg-b',
          role: 'standby',
          state: 'streaming',
          rank: 'preferred',
          host: '10.0.0.2',
          port: 5432,
          timeline: toTimelineId(3),
          lagBytes: 16,
          zone: 'b',
        },
      ],
    };
    const { upstream } = sampleStatus();
    const answer = upstreamDetailJson(sampleStatus({ upstream: { ...upstream, discovery } }));
    expect(answer.discovery).toEqual({
      source: 'patroni',
      scope: 'demo',
      last_answer_at: '2023-11-14T22:13:20.000Z',
      last_answer_from: 'http://pg-a:8008',
      last_error: null,
      members: [
        {
          name: 'pg-b',
          role: 'standby',
          state: 'streaming',
          rank: 'preferred',
          host: '10.0.0.2',
          port: 5432,
          timeline: 3,
          lag: 16,
          zone: 'b',
        },
      ],
    });
    expect(Value.Check(SCHEMAS.upstreamDetail, answer)).toBe(true);
  });

  test('the upstream says what the status says of it, and more', () => {
    const answer = upstreamDetailJson(sampleStatus());
    expect(answer).toMatchObject(statusJson(sampleStatus()).upstream);
    expect(answer).toMatchObject({
      system_identifier: '7301234567890123456',
      server_version: '15.18 (Debian 15.18-0+deb12u1)',
      timeline: 1,
      tls: true,
      tls_version: 'TLSv1.3',
      client_certificate_expires_at: '2027-01-15T08:00:00.000Z',
      lag_seconds: 0.125,
      received_bytes: 123_456,
      messages: { wal: 70, keepalive: 7 },
      connects: { success: 2, failure: 1 },
      disconnects: { eof: 1, timeout: 0, error: 0, reload: 0, shutdown: 0, timeline_end: 0 },
    });
    expect(Value.Check(SCHEMAS.upstreamDetail, answer)).toBe(true);
    expect(answer.discovery).toBeNull();
    expect(upstreamDetailJson(unknownStatus()).lag_seconds).toBeNull();
    expect(Value.Check(SCHEMAS.upstreamDetail, upstreamDetailJson(unknownStatus()))).toBe(true);
  });

  test('the store says from where to where, what it gave away and what went wrong', () => {
    const answer = storeDetailJson(sampleStatus());
    expect(answer).toMatchObject({
      oldest_lsn: '0/1000000',
      received_lsn: '0/3000060',
      timeline: 1,
      read_bytes: { memory: 900, disk: 100, upstream: 4096 },
      read_through: { connections: 1, connections_max: 2 },
      repairs: { repaired: 2, failed: 1 },
      memory_bytes: 4096,
      errors: { open: 0, write: 0, fsync: 0, read: 0, remove: 0 },
    });
    expect(Value.Check(SCHEMAS.storeDetail, answer)).toBe(true);
    expect(Value.Check(SCHEMAS.storeDetail, storeDetailJson(unknownStatus()))).toBe(true);
  });

  test('slots have the columns of pg_replication_slots', () => {
    const [slot] = sampleStatus().slots;
    const idle = {
      ...slot!,
      activePid: null,
      restartLsn: INVALID_LSN,
      xmin: (1n << 32n) + 100n,
      catalogXmin: 90n,
      inactiveSinceMs: 1_700_000_000_000,
      walStatus: 'lost' as const,
      safeWalSize: null,
      invalidationReason: 'wal_removed' as const,
    };
    const answer = slotsJson(sampleStatus({ slots: [slot!, idle] }));
    expect(answer).toEqual([
      {
        slot_name: 'slot_a',
        slot_type: 'physical',
        temporary: false,
        active: true,
        active_pid: 42,
        xmin: null,
        catalog_xmin: null,
        restart_lsn: '0/1000000',
        wal_status: 'reserved',
        safe_wal_size: 60_000_000,
        invalidation_reason: null,
        inactive_since: null,
        retained_bytes: 0x2000060,
      },
      {
        slot_name: 'slot_a',
        slot_type: 'physical',
        temporary: false,
        active: false,
        active_pid: null,
        xmin: '4294967396',
        catalog_xmin: '90',
        restart_lsn: null,
        wal_status: 'lost',
        safe_wal_size: null,
        invalidation_reason: 'wal_removed',
        inactive_since: '2023-11-14T22:13:20.000Z',
        retained_bytes: null,
      },
    ]);
    expect(Value.Check(SCHEMAS.slots, answer)).toBe(true);
  });

  test('a key of the configuration says its value, its default and where it came from', () => {
    const answer = configJson([sampleEntry(), sampleEntry({ value: null, place: null })]);
    expect(answer[0]).toEqual({
      key: 'storage.wal_keep_size',
      value: '4GB',
      default: '1GB',
      origin: 'file',
      place: 'walcast.yaml:4:3',
      reloadable: true,
      pending_restart: false,
    });
    expect(Value.Check(SCHEMAS.configuration, answer)).toBe(true);
  });
});

describe('a reply time made up by a standby', () => {
  const year0 = Date.parse('0000-01-01T00:00:00.000Z');
  const year10000 = Date.parse('+010000-01-01T00:00:00.000Z');

  test.each([
    ['the last one of four digits', year10000 - 1, '9999-12-31T23:59:59.999Z'],
    ['the first one of four digits', year0, '0000-01-01T00:00:00.000Z'],
    ['after the year 9999', year10000, null],
    ['before the year 0', year0 - 1, null],
    ['far away', -8.64e15, null],
    ['endless', Number.POSITIVE_INFINITY, null],
  ])('%s is written in the form the format allows, or is unknown', (_what, replyTimeMs, text) => {
    const answer = standbysJson(sampleStatus({ standbys: [sampleStandby({ replyTimeMs })] }));
    expect(answer[0]?.reply_time).toBe(text);
    expect(Value.Check(SCHEMAS.standbys, answer)).toBe(true);
  });
});

describe('probes', () => {
  const away = sampleStatus({ state: 'connecting', isReady: true });

  test('it is alive whatever the state', () => {
    expect(liveness(sampleStatus({ state: 'failed', isReady: false }))).toMatchObject({
      status: 'ok',
    });
  });

  test('it has started once the store is open, with or without upstream', () => {
    expect(startup(unknownStatus())).toMatchObject({
      status: 'unavailable',
      reason: expect.any(String),
    });
    expect(startup(away)).toMatchObject({ status: 'ok' });
    const { upstream } = unknownStatus();
    const refused = { ...unknownStatus(), upstream: { ...upstream, connectsFailed: 1 } };
    expect(startup(refused)).toMatchObject({ status: 'ok' });
  });

  test('it is ready while the upstream is away, because it serves what it has', () => {
    expect(readiness(away, null)).toEqual({ status: 'ok', state: 'connecting', reason: null });
  });

  test('an unready relay says why', () => {
    const reasons = [
      sampleStatus({ isReady: false, isDraining: true, isPaused: true }),
      sampleStatus({ isReady: false, isPaused: true, detail: 'no new replication' }),
      sampleStatus({ isReady: false, detail: 'the disk is full' }),
      unknownStatus(),
      sampleStatus({ isReady: false, state: 'corrupt' }),
    ].map((status) => readiness(status, null).reason);
    expect(reasons).toEqual([
      'draining: no new sessions are taken',
      'paused: no new replication is started',
      'the disk is full',
      'the upstream has not been identified yet',
      'state corrupt',
    ]);
  });

  test('a bound on the lag makes it ready only when it has caught up that far', () => {
    expect(readiness(sampleStatus(), 256)).toMatchObject({ status: 'ok' });
    expect(readiness(sampleStatus(), 255)).toMatchObject({
      status: 'unavailable',
      reason: '256 bytes behind the upstream, which is at 0/3000100; 255 are allowed',
    });
    const { upstream } = unknownStatus();
    const unheard = { ...upstream, state: 'streaming' as const };
    expect(readiness(sampleStatus({ upstream: unheard }), 1)).toMatchObject({
      status: 'unavailable',
      reason: 'the lag behind the upstream is not known yet',
    });
  });

  test('how far the upstream is ahead is not known while it is away', () => {
    const away = sampleStatus();
    const upstream = { ...away.upstream, state: 'disconnected' as const };
    expect(readiness({ ...away, upstream }, 2 ** 30)).toMatchObject({
      status: 'unavailable',
      reason:
        'no WAL streams in, so how far the upstream is ahead is not known; it was at 0/3000100 when last heard',
    });
    expect(readiness({ ...away, upstream }, null)).toMatchObject({ status: 'ok' });
  });
});

describe('the Host header on loopback', () => {
  test.each([
    'localhost',
    'localhost:9188',
    '127.0.0.1',
    '127.8.0.1:80',
    '[::1]:9188',
    'x.localhost:1',
    'LOCALHOST',
    undefined,
  ])('%s is answered', (header) => {
    expect(isLoopbackHeader(header)).toBe(true);
  });

  test.each([
    'evil.example',
    'evil.example:9188',
    'localhost.evil.example',
    '10.0.0.1',
    '',
    '::1',
    '127.0.0.1.evil.example',
    'notlocalhost',
    '[::2]',
  ])('%j is refused', (header) => {
    expect(isLoopbackHeader(header)).toBe(false);
  });

  test('only a listen address of this machine alone is guarded', () => {
    expect(['127.0.0.1', '::1', 'localhost'].every(isLoopbackHost)).toBe(true);
    expect(['0.0.0.0', '::', '*', '10.0.0.1'].some(isLoopbackHost)).toBe(false);
  });
});

test('no schema needs a validator, which would be compiled while everything else waits', () => {
  expect(JSON.stringify(SCHEMAS)).not.toMatch(/"(anyOf|oneOf|allOf|not|if)":/);
});
