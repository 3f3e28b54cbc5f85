// What is shown of a synchronous policy before there is a store, and while it is empty?
import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { Synchronous } from '../../src/relay/synchronous.ts';
import type { SynchronousStore } from '../../src/relay/synchronous.ts';
import { parseSynchronousStandbyNames } from '../../src/syncrep/standby-names.ts';
import { NO_WAL_FACTS } from '../../src/wal/records/wal-facts.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { LogRecord } from '../support/wal-senders-fixture.ts';

let clock: ManualClock;

beforeEach(() => {
  clock = new ManualClock();
});

function begin(names: string): Synchronous {
  const policy = parseSynchronousStandbyNames(names);
  return new Synchronous({
    clock,
    log: new LogRecord(),
    policy: () => policy,
    standbys: () => [],
    applicationName: () => 'walcast',
    slot: () => null,
    memberNames: () => [],
    onMoved: () => {},
  });
}

const NOTHING = { writeLsn: INVALID_LSN, flushLsn: INVALID_LSN, applyLsn: INVALID_LSN };

const EMPTY_STORE: SynchronousStore = {
  positions: () => ({
    receivedLsn: INVALID_LSN,
    writtenLsn: INVALID_LSN,
    flushedLsn: INVALID_LSN,
  }),
  shutdownCheckpointLsn: () => INVALID_LSN,
  noteReportedFlush: () => {},
  facts: () => {
    throw new Error('nobody asks for the facts of an empty store');
  },
  reportedFlushLsn: () => INVALID_LSN,
  recordEndLsn: () => INVALID_LSN,
  timelineOrNull: () => null,
};

it.each(['before the store is open', 'while it is empty'])(
  'is a policy nobody meets, %s',
  (when) => {
    const startedAtMs = clock.wallMs();
    const sync = begin('ANY 2 (a, b, c)');
    if (when === 'while it is empty') sync.follow(EMPTY_STORE);
    clock.advance(5_000);
    expect(sync.picture().status).toMatchObject({
      synchronousStandbyNames: 'ANY 2 (a, b, c)',
      method: 'quorum',
      names: ['a', 'b', 'c'],
      requiredStandbys: 2,
      eligibleStandbys: 0,
      isSatisfied: false,
      confirmed: NOTHING,
      changes: 0,
      sinceMs: startedAtMs,
    });
    expect(sync.picture().stateOf(1)).toEqual({ state: 'async', priority: 0 });
    sync.close();
  },
);

it('needs nobody without a policy, from the start on', () => {
  const startedAtMs = clock.wallMs();
  const { status } = begin('').picture();
  expect(status).toMatchObject({ isSatisfied: true, sinceMs: startedAtMs, confirmed: NOTHING });
  // All buckets are there from the first scrape on.
  expect(status.confirmDuration.counts).toHaveLength(
    status.confirmDuration.boundsSeconds.length + 1,
  );
  expect(status.confirmDuration.boundsSeconds.length).toBeGreaterThan(0);
});

it('counts no time for half a record that is received, until the rest of it comes', async () => {
  let [receivedLsn, endLsn] = [toLsn(8_192n), toLsn(8_000n)];
  const sync = begin('');
  const source = sync.follow({
    ...EMPTY_STORE,
    positions: () => ({ receivedLsn, writtenLsn: receivedLsn, flushedLsn: endLsn }),
    recordEndLsn: () => endLsn,
    facts: () => NO_WAL_FACTS,
  });
  const confirm = async (): Promise<number> => {
    sync.walComes();
    await turn();
    clock.advance(10);
    source.positions();
    return sync.picture().status.confirmDuration.sumSeconds;
  };
  expect(await confirm()).toBe(0.01);
  clock.advance(600_000);
  [receivedLsn, endLsn] = [toLsn(9_000n), toLsn(9_000n)];
  expect(await confirm()).toBe(0.02);
  sync.close();
});
