// Do the metrics of the policy over the standbys say what the status says?
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { openMetrics } from '../../src/metrics/registry.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import type { RelayStatus, SyncStatus } from '../../src/status/status.ts';
import { sampleStandby, sampleStatus, sampleSync } from '../support/relay-status.ts';

/** Lines of the families that `pattern` matches. */
async function lines(
  sync: SyncStatus,
  pattern: RegExp,
  rest: Partial<RelayStatus> = {},
): Promise<string[]> {
  const source = { status: () => sampleStatus({ sync, ...rest }) };
  const metrics = openMetrics({ source, clock: systemClock });
  const { body } = await metrics.render();
  return body.split('\n').filter((line) => pattern.test(line));
}

const VALUES = /^walcast_sync_(?!confirm_duration)/;

test('a policy that too few satisfy confirms nothing, and the time goes on', async () => {
  const nothing = { writeLsn: INVALID_LSN, flushLsn: INVALID_LSN, applyLsn: INVALID_LSN };
  const sync = sampleSync({
    requiredStandbys: 2,
    eligibleStandbys: 1,
    isSatisfied: false,
    confirmed: nothing,
    unsatisfiedSeconds: 12.5,
  });
  expect(await lines(sync, VALUES)).toEqual([
    'walcast_sync_required_standbys{upstream="default"} 2',
    'walcast_sync_eligible_standbys{upstream="default"} 1',
    'walcast_sync_satisfied{upstream="default"} 0',
    'walcast_sync_unsatisfied_seconds_total{upstream="default"} 12.5',
  ]);
});

test('without a policy our own disk is what confirms', async () => {
  expect(await lines(sampleSync(), VALUES)).toEqual([
    'walcast_sync_required_standbys{upstream="default"} 0',
    'walcast_sync_eligible_standbys{upstream="default"} 0',
    'walcast_sync_satisfied{upstream="default"} 1',
    `walcast_sync_confirmed_lsn_bytes{upstream="default"} ${0x3000000}`,
    'walcast_sync_unsatisfied_seconds_total{upstream="default"} 0',
  ]);
  expect(await lines(sampleSync(), /^walcast_sync_confirm_duration_seconds_count/)).toEqual([
    'walcast_sync_confirm_duration_seconds_count{upstream="default"} 6',
  ]);
});

test.each([
  ['none', 'async'],
  ['named', 'unknown'],
  ['any', 'unknown'],
  [null, 'unknown'],
] as const)('listed upstream as %s, we are %s there', async (membership, state) => {
  const upstream =
    membership === null ? null : { synchronousStandbyNames: 'x', membership, asOfMs: 0 };
  expect(await lines(sampleSync({ upstream }), /^walcast_upstream_sync_state.* 1$/)).toEqual([
    `walcast_upstream_sync_state{upstream="default",state="${state}"} 1`,
  ]);
});

test('what an upstream made of us that is gone is not known', async () => {
  const upstream = { ...sampleStatus().upstream, state: 'disconnected' as const };
  const names = { synchronousStandbyNames: 'x', membership: 'none' as const, asOfMs: 0 };
  const sync = sampleSync({ upstream: names });
  expect(await lines(sync, /^walcast_upstream_sync_state.* 1$/, { upstream })).toEqual([
    'walcast_upstream_sync_state{upstream="default",state="unknown"} 1',
  ]);
});

test('one that is listed and not there is shown as disconnected, once, however it is spelt', async () => {
  const sync = sampleSync({ names: ['Standby_A', 'missing', 'MISSING'] });
  const standbys = [sampleStandby({ applicationName: 'standby_a' })];
  const away = /^walcast_standby_state.*state="disconnected"} 1$/;
  expect(await lines(sync, away, { standbys, slots: [] })).toEqual([
    'walcast_standby_state{standby="missing",state="disconnected"} 1',
  ]);
  expect(await lines(sampleSync(), away, { standbys, slots: [] })).toEqual([]);
});
