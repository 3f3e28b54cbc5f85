// Is everything told that somebody should know of a relay, with what to do about it, and nothing of one that is well?
import { describe, expect, test } from 'vitest';
import { FINDING_TEXT_MAX, FINDINGS_MAX, FINDINGS_OF_A_CODE_MAX } from '../../src/config/limits.ts';
import { FINDING_SEVERITIES } from '../../src/health/finding.ts';
import type { Finding, FindingSeverity } from '../../src/health/finding.ts';
import { findings, worstSeverity } from '../../src/health/findings.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { RELAY_STATES } from '../../src/status/status.ts';
import type { RelayStatus, SlotStatus, StandbyStatus } from '../../src/status/status.ts';
import {
  sampleAbsentStandby,
  sampleFeedback,
  sampleStandby,
  sampleStatus,
  sampleSync,
  unknownStatus,
} from '../support/relay-status.ts';

const NOW_MS = 1_700_000_100_000;
const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const MB = 1024 * 1024;

/** Nothing is wrong with it. */
function well(overrides: Partial<RelayStatus> = {}): RelayStatus {
  const { configuration, readThrough } = sampleStatus();
  return sampleStatus({
    absentStandbys: [],
    configuration: { ...configuration, pendingRestart: [] },
    readThrough: { ...readThrough, failedRepairs: 0 },
    ...overrides,
  });
}

const { upstream: UPSTREAM, store: STORE, retention: RETENTION } = well();
const [SLOT] = well().slots as readonly [SlotStatus];

function of(overrides: Partial<RelayStatus>, nowMs: number = NOW_MS): readonly Finding[] {
  return findings(well(overrides), nowMs);
}

/** `code severity subject` of each. */
function words(found: readonly Finding[]): string[] {
  return found.map(({ code, severity, subject }) => `${code} ${severity} ${subject ?? '-'}`);
}

/** The one finding of that code. */
function only(found: readonly Finding[], code: string): Finding {
  const [one, ...others] = found.filter((each) => each.code === code);
  expect(others).toEqual([]);
  if (one === undefined) throw new Error(`no ${code} among ${words(found).join(', ')}`);
  return one;
}

function absentSince(ms: number, overrides: Parameters<typeof sampleAbsentStandby>[0] = {}) {
  return sampleAbsentStandby({ leftAtMs: NOW_MS - ms, isMaybeWedged: false, ...overrides });
}

function laggingStandby(overrides: Partial<StandbyStatus> = {}): StandbyStatus {
  return sampleStandby({
    applyLsn: toLsn(0x2000000n),
    endToEndLag: { writeSeconds: 301, flushSeconds: 301, applySeconds: 301 },
    ...overrides,
  });
}

test('nothing is told of a relay that is well', () => {
  expect(of({})).toEqual([]);
  expect(of({ state: 'catchup', upstream: { ...UPSTREAM, state: 'catchup' } })).toEqual([]);
  expect(of({ standbys: [], slots: [] })).toEqual([]);
  expect(worstSeverity([])).toBeNull();
});

describe('the upstream', () => {
  const gone = { ...UPSTREAM, state: 'disconnected' as const, detail: 'connection refused.' };

  test.each<[string, number | null, number, FindingSeverity]>([
    ['just went', NOW_MS - 1, 0, 'warning'],
    ['went a moment ago', NOW_MS - 59 * SECOND_MS, 0, 'warning'],
    ['is away for a minute', NOW_MS - MINUTE_MS, 0, 'critical'],
    ['was never there, and we just began', null, NOW_MS - SECOND_MS, 'warning'],
    ['was never there', null, NOW_MS - MINUTE_MS, 'critical'],
  ])('that %s', (_what, lastStreamedAtMs, startedAtMs, severity) => {
    const found = of({
      state: 'connecting',
      startedAtMs,
      // It refuses us at each attempt, and says so.
      upstream: { ...gone, lastStreamedAtMs, lastMessageAtMs: NOW_MS },
    });
    expect(words(found)).toEqual([`upstream_disconnected ${severity} pg-a:5432`]);
    const { message, nextStep, alert } = only(found, 'upstream_disconnected');
    expect(message).toMatch(
      /^there is no connection to the upstream, and nothing has streamed for \d+ s: connection refused$/,
    );
    expect([nextStep, alert]).toEqual([
      expect.stringContaining('walcast check --deep'),
      'WalcastUpstreamDisconnected',
    ]);
  });

  test.each(['full', 'gap', 'diverged', 'corrupt', 'failed'] as const)(
    'that cannot be followed (%s) is critical at once, in its own words',
    (heldState) => {
      const upstream = { ...gone, heldState };
      const found = of({ state: heldState, detail: 'what happened.', upstream });
      expect(words(found)).toEqual([`upstream_${heldState} critical pg-a:5432`]);
      expect(found[0]?.message).toBe('what happened');
      expect(of({ state: heldState, upstream: { ...upstream, detail: null } })[0]?.message).toMatch(
        / /,
      );
    },
  );

  test('that was not called yet is not said to be gone', () => {
    const upstream = { ...gone, host: null, lastStreamedAtMs: null, detail: null };
    const [found] = of({ state: 'starting', startedAtMs: NOW_MS - 3 * SECOND_MS, upstream });
    expect(found?.message).toBe(
      'walcast is starting and has not called its upstream yet, and nothing has streamed for 3 s',
    );
    expect(found?.nextStep).toMatch(/^Wait a moment/);
  });

  test('that has not got our WAL yet is waited for', () => {
    const upstream = { ...gone, state: 'waiting_for_wal' as const, heldState: 'waiting' as const };
    expect(words(of({ state: 'waiting', upstream }))).toEqual([
      'upstream_waiting warning pg-a:5432',
    ]);
    expect(words(of({ state: 'waiting', upstream }, NOW_MS + MINUTE_MS))).toEqual([
      'upstream_waiting critical pg-a:5432',
    ]);
  });

  test('that is connected and says nothing', () => {
    expect(of({}, NOW_MS + MINUTE_MS - 1)).toEqual([]);
    const found = of({}, NOW_MS + 5 * MINUTE_MS);
    expect(words(found)).toEqual(['upstream_silent critical pg-a:5432']);
    expect(found[0]).toMatchObject({
      message: expect.stringContaining('for 5 min'),
      alert: 'WalcastUpstreamStalled',
    });
  });

  test('that is far ahead of our disk', () => {
    const ahead = (bytes: number): readonly Finding[] =>
      of({ upstream: { ...UPSTREAM, serverLsn: toLsn(STORE.flushedLsn + BigInt(bytes)) } });
    expect(ahead(512 * MB - 1)).toEqual([]);
    expect(ahead(512 * MB)).toMatchObject([
      { code: 'upstream_behind', severity: 'warning', alert: 'WalcastFallingBehind' },
    ]);
    expect(ahead(512 * MB)[0]?.message).toContain('512 MB');
    const upstream = { ...UPSTREAM, serverLsn: toLsn(1n << 40n) };
    const store = { ...STORE, flushedLsn: INVALID_LSN };
    expect(of({ upstream, store, standbys: [] })).toEqual([]);
  });

  test('that discovery no longer tells of', () => {
    const discovery = {
      source: 'patroni' as const,
      scope: 'main',
      lastAnswerAtMs: NOW_MS - 4 * MINUTE_MS,
      lastAnswerFrom: null,
      lastError: 'no answer',
      members: [],
    };
    const upstream = { ...UPSTREAM, discovery };
    expect(of({ upstream })).toEqual([]);
    expect(words(of({ upstream }, NOW_MS + 30 * SECOND_MS))).toEqual([]);
    const later = { ...upstream, lastMessageAtMs: NOW_MS + MINUTE_MS };
    expect(words(of({ upstream: later }, NOW_MS + MINUTE_MS))).toEqual([
      'discovery_silent warning main',
    ]);
    const good = { ...later, discovery: { ...discovery, lastError: null } };
    expect(of({ upstream: good }, NOW_MS + MINUTE_MS)).toEqual([]);
  });

  test('on which a slot was left behind', () => {
    const left = { host: 'pg-old', port: 5433, slot: 'walcast' };
    const leftSlots = [
      { ...left, isOurs: true },
      { ...left, port: 5434, isOurs: false },
    ];
    const found = of({ upstream: { ...UPSTREAM, leftSlots } });
    expect(words(found)).toEqual(['left_slot warning pg-old:5434', 'left_slot info pg-old:5433']);
    expect(found[0]?.nextStep).toContain("pg_drop_replication_slot('walcast')");
  });
});

describe('the process', () => {
  test('that has failed says why, and nothing of the upstream it left', () => {
    const upstream = { ...UPSTREAM, state: 'disconnected' as const };
    const found = of({ state: 'failed', detail: 'fsync failed.', upstream });
    expect(words(found)).toEqual(['failed critical -']);
    expect(found[0]?.message).toBe('fsync failed');
  });

  test('that drains is told as such, and not what comes with it', () => {
    const upstream = { ...UPSTREAM, state: 'disconnected' as const };
    const sync = sampleSync({ method: 'quorum', isSatisfied: false, requiredStandbys: 1 });
    expect(words(of({ state: 'draining', isDraining: true, upstream, sync }))).toEqual([
      'draining warning -',
    ]);
  });

  test('that is paused', () => {
    expect(words(of({ state: 'paused', isPaused: true }))).toEqual(['paused warning -']);
    expect(words(of({ isPaused: true, state: 'full' }))).toContain('paused warning -');
  });

  test('that has only just begun waits for its upstream', () => {
    const status = { ...unknownStatus(), startedAtMs: NOW_MS, absentStandbys: [] };
    expect(words(findings(status, NOW_MS)).filter((word) => !word.includes(' info '))).toEqual([
      'upstream_disconnected warning -',
    ]);
  });
});

describe('standbys', () => {
  test('lag when both seconds and bytes say so', () => {
    const quick = { writeSeconds: 0, flushSeconds: 0, applySeconds: 300 };
    expect(of({ standbys: [laggingStandby({ endToEndLag: quick })] })).toEqual([]);
    expect(of({ standbys: [laggingStandby({ applyLsn: toLsn(0x2000101n) })] })).toEqual([]);
    expect(of({ standbys: [laggingStandby({ applyLsn: toLsn(0x20000ffn) })] })).toMatchObject([
      { code: 'standby_lagging', subject: 'standby_a', alert: 'WalcastStandbyLagging' },
    ]);
    const [found] = of({ standbys: [laggingStandby()] });
    expect(found?.message).toBe(
      'standby standby_a is at 0/2000000, 16.0 MB and 301 s behind the upstream',
    );
    expect(of({ standbys: [laggingStandby({ applyLsn: INVALID_LSN })] })).toEqual([]);
  });

  test('that confirm nothing more are stalled, and not told twice', () => {
    const found = of({ standbys: [laggingStandby({ isStalled: true })] });
    expect(words(found)).toEqual(['standby_stalled warning standby_a']);
    expect(found[0]?.message).toContain('it is at 0/2000000, 16.0 MB behind');
  });

  test('are told worst first, a few one by one and the others as one', () => {
    const standbys = Array.from({ length: 300 }, (_, index) =>
      laggingStandby({
        pid: index,
        applicationName: `standby_${index}`,
        applyLsn: toLsn(BigInt(0x1000000 + ((index * 7) % 300))),
      }),
    );
    const found = of({ standbys }).filter(({ code }) => code === 'standby_lagging');
    expect(found).toHaveLength(FINDINGS_OF_A_CODE_MAX + 1);
    expect(found[0]?.subject).toBe('standby_0');
    expect(found.at(-1)).toMatchObject({
      subject: null,
      message: expect.stringMatching(
        /^295 more standbys lag: (standby_\d+, ){4}standby_\d+ and 290 more$/,
      ),
    });
  });

  test('that a slot waits for are missing after ten minutes', () => {
    const slot = {
      ...SLOT,
      name: 'slot_b',
      activePid: null,
      inactiveSinceMs: NOW_MS - 9 * MINUTE_MS,
    };
    const slots = [SLOT, slot];
    expect(words(of({ slots }))).toEqual(['standby_away info slot_b']);
    const later = [{ ...slot, inactiveSinceMs: NOW_MS - 10 * MINUTE_MS }];
    const [found] = of({ slots: later });
    expect(found).toMatchObject({
      code: 'standby_missing',
      severity: 'warning',
      subject: 'slot_b',
      alert: 'WalcastStandbyMissing',
    });
    expect(found?.message).toBe(
      'standby slot_b has not been connected for 10 min; slot slot_b keeps 32.0 MB for it',
    );
    expect(found?.nextStep).toContain('walcast slots drop slot_b');
    expect(of({ slots: later.map((one) => ({ ...one, temporary: true })) })).toEqual([]);
  });

  test('that left are told by their name, once, whatever they are known by', () => {
    const slot = { ...SLOT, name: 'slot_b', activePid: null, inactiveSinceMs: NOW_MS - 1 };
    const sync = sampleSync({ method: 'quorum', names: ['Standby_B'] });
    const absentStandbys = [absentSince(11 * MINUTE_MS)];
    const elder = absentSince(DAY_MS, { applicationName: 'named_before' });
    expect(words(of({ slots: [slot], absentStandbys: [...absentStandbys, elder] }))).toEqual([
      'standby_missing warning standby_b',
      'standby_away info named_before',
    ]);
    expect(words(of({ slots: [slot], absentStandbys, sync }))).toContain(
      'standby_missing warning standby_b',
    );
    expect(of({ slots: [slot], absentStandbys })).toHaveLength(1);
    expect(words(of({ absentStandbys }))).toEqual(['standby_away info standby_b']);
  });

  test('that synchronous_standby_names lists are missed with and without a memory of them', () => {
    const sync = sampleSync({ method: 'quorum', names: ['standby_b', 'standby_c', 'standby_a'] });
    const absentStandbys = [absentSince(11 * MINUTE_MS)];
    expect(words(of({ absentStandbys, sync })).filter((one) => one.startsWith('standby'))).toEqual([
      'standby_missing warning standby_b',
      'standby_away info standby_c',
    ]);
    expect(words(of({ absentStandbys, sync, startedAtMs: NOW_MS - DAY_MS }))).toContain(
      'standby_missing warning standby_c',
    );
  });

  test('that may be wedged are told as such, and not as missing, too', () => {
    const slot = { ...SLOT, name: 'slot_b', activePid: null, inactiveSinceMs: 0 };
    const absentStandbys = [absentSince(11 * MINUTE_MS, { isMaybeWedged: true })];
    const sync = sampleSync({ names: ['standby_b'] });
    const found = of({ slots: [slot], absentStandbys, sync });
    expect(words(found)).toEqual(['standby_wedged warning standby_b']);
    expect(found[0]?.message).toContain('left 11 min ago');
  });

  test('whose feedback does not count', () => {
    const feedback = { xmin: 5n, catalogXmin: null, xminAge: 70_000 };
    const standbys = (['too_old', 'invalid', 'counted', 'none', 'unknown'] as const).map(
      (state, pid) =>
        sampleStandby({ pid, applicationName: state, feedback: { ...feedback, state } }),
    );
    const found = of({ standbys });
    expect(words(found)).toEqual([
      'feedback_left_out warning too_old',
      'feedback_invalid warning invalid',
    ]);
    expect(found[0]?.message).toContain('70000 transactions');
    expect(of({ standbys, feedback: sampleFeedback({ isOn: false }) })).toEqual([]);
  });

  test('of one name matter where that name is asked for', () => {
    const standbys = [1, 2].map((pid) => sampleStandby({ pid, isNameShared: true }));
    expect(words(of({ standbys }))).toEqual(['shared_name info standby_a']);
    const sync = sampleSync({ method: 'quorum', names: ['STANDBY_A'] });
    expect(words(of({ standbys, sync }))).toEqual(['shared_name warning standby_a']);
  });

  test('that are very many', () => {
    const standbys = Array.from({ length: 201 }, (_, pid) =>
      sampleStandby({ pid, applicationName: `standby_${pid}` }),
    );
    const totals = well().standbyTotals;
    expect(words(of({ standbys }))).toEqual(['metrics_folded info -']);
    const standbyTotals = { ...totals, connectionsMax: 223 };
    expect(words(of({ standbys, standbyTotals }))).toEqual([
      'places_taken warning -',
      'metrics_folded info -',
    ]);
    const sameName = standbys.map((one) => ({ ...one, applicationName: 'walreceiver' }));
    expect(of({ standbys: sameName })).toEqual([]);
  });
});

describe('slots and the store', () => {
  test('a slot that is lost, one that may be, and one that keeps much', () => {
    const slots: SlotStatus[] = [
      { ...SLOT, name: 'big', restartLsn: toLsn(0x2000060n) },
      { ...SLOT, name: 'risk', walStatus: 'unreserved' },
      {
        ...SLOT,
        name: 'lost',
        walStatus: 'lost',
        invalidationReason: 'wal_removed',
        activePid: null,
      },
      {
        ...SLOT,
        name: 'idle',
        walStatus: 'lost',
        invalidationReason: 'idle_timeout',
        activePid: null,
      },
      { ...SLOT, name: 'small', restartLsn: toLsn(0x2f00000n) },
    ];
    const found = of({ slots, retention: { ...RETENTION, limitBytes: 20 * MB - 1 } });
    expect(words(found)).toEqual([
      'slot_lost critical lost',
      'slot_at_risk critical risk',
      'slot_retention warning big',
      'slot_lost_idle info idle',
    ]);
    expect(found.map(({ alert }) => alert)).toEqual([
      'WalcastSlotLost',
      'WalcastSlotRetention',
      'WalcastSlotRetention',
      null,
    ]);
    expect(found[3]?.message).toContain('idle_replication_slot_timeout');
    expect(found[2]?.message).toMatch(/keeps 16.0 MB of the 20.0 MB .*, 57.2 MB until it is lost$/);
    expect(words(of({ slots, retention: { ...RETENTION, limitBytes: 0 } }))).not.toContain(
      'slot_retention warning big',
    );
  });

  test('a store near its limit', () => {
    const found = of({ retention: { ...RETENTION, isNearLimit: true } });
    expect(words(found)).toEqual(['store_near_limit warning -']);
    expect(found[0]?.message).toBe('the store is near its limit: 48.0 MB of 64.0 GB');
  });

  test('commits that were told to be safe and are nowhere', () => {
    const acknowledged = {
      timeline: toTimelineId(3),
      reportedFlushLsn: toLsn(0x3000000n),
      switchLsn: toLsn(0x2000000n),
      bytes: 16 * MB,
    };
    const dead = { files: 2, bytes: 20 * MB, acknowledged };
    const found = of({ store: { ...STORE, dead } });
    expect(words(found)).toEqual(['acknowledged_lost critical timeline 3']);
    expect(found[0]?.message).toContain('16.0 MB of WAL of timeline 3 from 0/2000000 to 0/3000000');
    const kept = of({ store: { ...STORE, dead: { ...dead, acknowledged: null } } });
    expect(words(kept)).toEqual(['dead_wal info -']);
  });

  test('a disk that did wrong since the start', () => {
    const errors = { ...STORE.errors, write: 2, read: 1 };
    const found = of({ store: { ...STORE, errors, rejectedFromDisk: 1 } });
    expect(words(found)).toEqual(['store_errors info -', 'store_damage info -']);
    expect(found[0]?.message).toContain('write 2, read 1');
  });
});

describe('commits that wait', () => {
  const sync = sampleSync({
    method: 'quorum',
    synchronousStandbyNames: 'ANY 2 (standby_a, standby_b, standby_c)',
    names: ['standby_a', 'standby_b', 'standby_c'],
    requiredStandbys: 2,
    eligibleStandbys: 1,
    isSatisfied: false,
    sinceMs: NOW_MS - 29 * SECOND_MS,
  });

  test('for too few standbys are critical after half a minute', () => {
    const found = of({ sync });
    expect(words(found)[0]).toBe(`sync_unsatisfied warning ${sync.synchronousStandbyNames}`);
    expect(found[0]?.message).toBe(
      'too few standbys for synchronous_standby_names: 2 needed, 1 is there (missing: standby_b, standby_c), for 29 s by now; commits that wait for walcast stand still',
    );
    const later = of({ sync: { ...sync, sinceMs: NOW_MS - 30 * SECOND_MS } });
    expect(later[0]).toMatchObject({ severity: 'critical', alert: 'WalcastSyncUnsatisfied' });
  });

  test('for just enough standbys, of which some that are listed are missing', () => {
    const enough = { ...sync, isSatisfied: true, eligibleStandbys: 2 };
    expect(words(of({ sync: enough }))[0]).toMatch(/^sync_no_spare info /);
    const standbys = sync.names.map((applicationName, pid) =>
      sampleStandby({ pid, applicationName }),
    );
    expect(of({ standbys, sync: { ...enough, eligibleStandbys: 3 } })).toEqual([]);
  });

  test('under a policy that the upstream does not ask about', () => {
    const upstream = { synchronousStandbyNames: '', membership: 'none' as const, asOfMs: 0 };
    const one = sampleSync({ method: 'quorum', names: ['standby_a'], upstream });
    expect(words(of({ sync: one }))).toEqual(['sync_not_asked info -'.replace('-', '')]);
  });

  test('by a name that is somebody else’s, and alarms, in their own words', () => {
    const alarms = ['the commit at 0/1 waits. Set this or that.', 'one sentence only.'];
    const found = of({ sync: sampleSync({ clash: 'the name clashes. Set another.', alarms }) });
    expect(found).toMatchObject([
      { code: 'sync_alarm', message: 'the commit at 0/1 waits', nextStep: 'Set this or that.' },
      { code: 'sync_alarm', message: 'one sentence only', nextStep: expect.stringMatching(/docs/) },
      { code: 'sync_clash', severity: 'info', message: 'the name clashes' },
    ]);
  });
});

describe('access and configuration', () => {
  test.each<[number, string[]]>([
    [14 * DAY_MS, []],
    [14 * DAY_MS - 1, ['certificate_expiring warning server expires in 13 days']],
    [DAY_MS, ['certificate_expiring warning server expires in 24 h']],
    [0, ['certificate_expired critical server has expired']],
  ])('a certificate with %d ms left', (leftMs, expected) => {
    const certificate = {
      role: 'server' as const,
      address: '0.0.0.0:5432',
      notAfterMs: NOW_MS + leftMs,
      problem: null,
    };
    const found = of({ certificates: [certificate] });
    const prefix = 'certificate for standbys at 0.0.0.0:5432 ';
    expect(
      found.map(({ message }, index) => `${words(found)[index]} ${message.replace(prefix, '')}`),
    ).toEqual(expected);
  });

  test('newer files that are not in use, secrets that cannot be used, a reload that was refused', () => {
    const certificate = {
      role: 'http' as const,
      address: '10.0.0.1:9188',
      notAfterMs: NOW_MS + 90 * DAY_MS,
      problem: 'the key does not fit.',
    };
    const configuration = {
      isLastReloadGood: false,
      problems: ['walcast.yaml:3:1: unknown key `a`.', 'walcast.yaml:4:1: unknown key `b`.'],
      refusedAtMs: 1,
      reloads: { success: 0, failure: 1 },
      loadedAtMs: 0,
      pendingRestart: ['listen'],
      secretProblems: ['users_file "users.txt" has group or world access.'],
    };
    const found = of({ certificates: [certificate], configuration });
    expect(words(found)).toEqual([
      'certificate_not_in_use warning http',
      'secret_unusable warning secrets',
      'reload_failed warning -',
      'restart_pending info -',
    ]);
    expect(found[0]?.message).toMatch(/newer files are not in use: the key does not fit$/);
    expect(found[2]?.message).toMatch(/: walcast\.yaml:3:1: unknown key `a` \(and 1 more\)$/);
    expect(found[3]?.message).toContain('listen');
  });
});

describe('the list', () => {
  /** Everything is wrong at once. */
  function wrecked(): RelayStatus {
    const many = Array.from({ length: 12 }, (_, index) => index);
    return well({
      state: 'full',
      isPaused: true,
      upstream: {
        ...UPSTREAM,
        state: 'disconnected',
        heldState: 'full',
        detail: 'x'.repeat(5_000),
        leftSlots: many.flatMap((port) => [
          { host: 'old', port, slot: 's', isOurs: true },
          { host: 'old', port, slot: 's', isOurs: false },
        ]),
      },
      standbys: many.flatMap((index) => [
        laggingStandby({ pid: index, applicationName: `lagging_${index}` }),
        laggingStandby({ pid: index + 100, applicationName: `stalled_${index}`, isStalled: true }),
        sampleStandby({
          pid: index + 200,
          applicationName: `shared_${index}`,
          isNameShared: true,
          feedback: { xmin: 1n, catalogXmin: null, state: 'too_old', xminAge: null },
        }),
      ]),
      slots: many.flatMap((index) => [
        { ...SLOT, name: `lost_${index}`, walStatus: 'lost' as const },
        { ...SLOT, name: `risk_${index}`, walStatus: 'unreserved' as const },
        { ...SLOT, name: `gone_${index}`, activePid: null, inactiveSinceMs: 0 },
      ]),
      absentStandbys: many.map((index) =>
        absentSince(DAY_MS, { applicationName: `wedged_${index}`, isMaybeWedged: true }),
      ),
      sync: sampleSync({ alarms: many.map((index) => `alarm ${index}. Look.`), clash: 'clash' }),
    });
  }

  test('has a bound, and its last one says how many more there are', () => {
    const found = findings(wrecked(), NOW_MS);
    expect(found.length).toBe(FINDINGS_MAX);
    expect(found.at(-1)).toMatchObject({
      code: 'more',
      message: expect.stringMatching(/^\d+ more/),
    });
    for (const { message, nextStep } of found) {
      expect(message.length).toBeLessThanOrEqual(FINDING_TEXT_MAX);
      expect(nextStep.length).toBeLessThanOrEqual(FINDING_TEXT_MAX);
    }
  });

  test('is the worst first', () => {
    const places = findings(wrecked(), NOW_MS).map(({ severity }) =>
      FINDING_SEVERITIES.indexOf(severity),
    );
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(worstSeverity(findings(wrecked(), NOW_MS))).toBe('critical');
  });

  test.each(RELAY_STATES.map((state) => [state] as const))(
    'is the same for the same status, and whole sentences, in state %s',
    (state) => {
      const status = { ...wrecked(), state };
      const found = findings(status, NOW_MS);
      expect(findings(status, NOW_MS)).toEqual(found);
      for (const { code, message, nextStep } of found) {
        expect(code).toMatch(/^[a-z_]+$/);
        expect(message, code).toMatch(/[^.\s]$/);
        expect(nextStep, code).toMatch(/[.…]$/);
      }
    },
  );
});
