// What do a real primary and real standbys see of a walcast that is stopped for longer than the primary waits, and how fast
// does the primary stop when one of several standbys is stopped itself? (F57, F69, P39)
import { afterAll, beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { INVALID_LSN, formatLsn, maxLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentStartOf, toSegmentSize } from '../../src/pg/segment.ts';
import { recordEnds } from '../harness/record-ends.ts';
import { streamsOf } from '../harness/ledger.ts';
import { openScenario } from '../harness/relay-scenario.ts';
import type { RelayScenario } from '../harness/relay-scenario.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { FULL_FAULTS, NEWEST_MAJOR, requires } from '../support/requirements.ts';

const SEGMENT = toSegmentSize(1 << 20);
/** The primary's patience; walcast has the same with its standbys. */
const SENDER_TIMEOUT_MS = 2_000;
const STOPPED_MS = FULL_FAULTS ? 12_000 : 6_000;
/** The acknowledgement of the shutdown checkpoint is withheld for a second at most. */
const FAST_STOP_MS_MAX = 3_500;

requires(`postgres-${NEWEST_MAJOR}`).describe('a primary with walcast and three standbys', () => {
  let scenario: RelayScenario;
  let load: WriteLoad;

  beforeAll(async () => {
    scenario = await openScenario({
      major: NEWEST_MAJOR,
      segmentSizeMb: 1,
      standbys: [{ name: 'first', hasSlot: true }, { name: 'second' }, { name: 'third' }],
      primarySettings: { wal_sender_timeout: `${SENDER_TIMEOUT_MS}ms` },
      relaySettings: { wal_sender_timeout: `${SENDER_TIMEOUT_MS}ms` },
    });
    load = await scenario.startLoad();
    await load.waitForCommits(50);
    await standbyPids();
  });

  afterAll(async () => {
    await scenario.close();
  });

  /** The sessions of all three, once they stream. */
  async function standbyPids(): Promise<number[]> {
    const { standbys } = await scenario.relay.waitForStatus(
      'three standbys stream',
      (status) => status.standbys.filter(({ state }) => state === 'streaming').length === 3,
    );
    return standbys.map(({ pid }) => pid).toSorted((a, b) => a - b);
  }

  it('that stops walcast drops it; walcast goes on by itself, and has thrown nobody out', async () => {
    const before = await standbyPids();
    const streams = streamsOf(scenario.upstream.ledger).length;
    const mark = scenario.primary.log.mark();
    const { process: walcast } = scenario.relay;
    const from = walcast.log.length;
    walcast.signal('SIGSTOP');
    await new Promise<void>((resolve) => systemClock.setTimer(STOPPED_MS, resolve));
    await scenario.primary.waitForLog(/terminating walsender process due to replication timeout/, {
      from: mark,
    });
    const continuedMs = systemClock.nowMs();
    walcast.signal('SIGCONT');
    await pollUntil(
      'another stream from the primary',
      async () => (streamsOf(scenario.upstream.ledger).length > streams ? true : null),
      { timeoutMs: 20_000 },
    );
    const tookMs = systemClock.nowMs() - continuedMs;
    await walcast.waitForLog(/stood still for/, { from });
    await load.waitForCommits(50);
    expect(await standbyPids()).toEqual(before);
    expect(walcast.log.slice(from).join('\n')).not.toMatch(/replication timeout/);
    // What a new stream is told first is what was durable when the process was stopped, or is by now; never more than was received.
    const replies = streamsOf(scenario.upstream.ledger)
      .slice(streams)
      .flatMap((one) => one.replies);
    for (const { flushLsn, writeLsn, sentLsn } of replies) {
      expect(flushLsn <= writeLsn && writeLsn <= sentLsn).toBe(true);
    }
    process.stderr.write(
      `stopped for ${STOPPED_MS / 1000} s: streams again ${Math.round(tookMs)} ms after it went on\n`,
    );
  });

  it('stops fast although one standby is stopped, and the others have its shutdown checkpoint', async () => {
    await standbyPids();
    const [first, second, third] = scenario.standbys;
    if (first === undefined || second === undefined || third === undefined)
      throw new Error('three');
    const receiver = Number(
      await third.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'"),
    );
    const before = await scenario.primary.walPosition();
    signalProcess(receiver, 'SIGSTOP');
    const startMs = systemClock.nowMs();
    await scenario.primary.stop('fast');
    const tookMs = systemClock.nowMs() - startMs;
    const endLsn = await endOfStopped(segmentStartOf(before, SEGMENT));
    await pollUntil(
      `everything before ${formatLsn(endLsn)} on the disk of walcast`,
      async () => ((await scenario.relay.flushedLsn()) >= endLsn ? true : null),
      { timeoutMs: 10_000 },
    );
    for (const standby of [first, second]) await standby.waitForReplay(endLsn);
    signalProcess(receiver, 'SIGCONT');
    await third.waitForReplay(endLsn);
    process.stderr.write(`fast stop beside a stopped standby: ${Math.round(tookMs)} ms\n`);
    expect(tookMs).toBeLessThan(FAST_STOP_MS_MAX);
    await scenario.primary.start();
    await load.waitForCommits(20);
  });

  it('are the same in the end, byte for byte', async () => {
    const endLsn = await scenario.settle();
    expect(await scenario.violations(endLsn)).toEqual([]);
  });

  /** The last record of a stopped primary ends here. */
  async function endOfStopped(fromLsn: Lsn): Promise<Lsn> {
    const ends = await recordEnds({
      directory: scenario.primary.walDirectory,
      timeline: 1,
      segmentSize: SEGMENT,
      fromLsn,
      untilLsn: toLsn(fromLsn + (64n << 20n)),
    });
    return [...ends].reduce((highest, lsn) => maxLsn(highest, lsn), INVALID_LSN);
  }
});
