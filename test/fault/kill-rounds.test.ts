// Does walcast take a word back after kill -9? It is killed again and again while the primary writes, in the middle of
// streaming, of starting and of recovery; what it reported as flushed before, it must have afterwards.
// WALCAST_KILL_ROUNDS sets the number of rounds.
import { randomInt } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { INVALID_LSN, formatLsn } from '../../src/pg/lsn.ts';
import { streamsOf } from '../harness/ledger.ts';
import type { StreamLedger } from '../harness/ledger.ts';
import { openScenario } from '../harness/relay-scenario.ts';
import type { RelayScenario } from '../harness/relay-scenario.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { NEWEST_MAJOR, requires } from '../support/requirements.ts';

const ROUNDS = Number(process.env['WALCAST_KILL_ROUNDS'] ?? '10');

/** Log lines of a start, in their order; it is killed as soon as it has said one of them. */
const MOMENTS = [
  /"msg":"walcast starts"/,
  /"msg":"HTTP port is open"/,
  /"msg":"stored WAL ends here"/,
];

/** First reports that are lower than what had been reported before, as sentences. */
function brokenPromises(streams: readonly StreamLedger[]): string[] {
  let highest = INVALID_LSN;
  return streams.flatMap(({ replies }, index) => {
    const first = replies.find(({ flushLsn }) => flushLsn !== INVALID_LSN)?.flushLsn;
    const before = highest;
    for (const { flushLsn } of replies) if (flushLsn > highest) highest = flushLsn;
    if (first === undefined || first >= before) return [];
    return [
      `stream ${index} began by reporting ${formatLsn(first)}; ${formatLsn(before)} had been reported before`,
    ];
  });
}

requires(`postgres-${NEWEST_MAJOR}`).describe('walcast under kill -9', () => {
  let scenario: RelayScenario;
  let load: WriteLoad;

  beforeAll(async () => {
    scenario = await openScenario({
      major: NEWEST_MAJOR,
      standbys: [{ name: 'standby', hasSlot: true }],
    });
    load = await scenario.startLoad();
    await load.waitForCommits(50);
  });

  afterAll(async () => {
    await scenario.close();
  });

  async function streamAgain(): Promise<void> {
    await scenario.relay.waitForStatus(
      'streaming, with the standby',
      ({ state, standbys }) =>
        state === 'streaming' && standbys.some((standby) => standby.state === 'streaming'),
    );
  }

  it(`keeps its word over ${ROUNDS} rounds`, { timeout: 60_000 + ROUNDS * 20_000 }, async () => {
    const { relay } = scenario;
    for (let round = 0; round < ROUNDS; round += 1) {
      await load.waitForCommits(randomInt(1, 120));
      await relay.kill();
      const moment = MOMENTS[round % (MOMENTS.length + 1)];
      if (moment !== undefined) {
        await relay.start({ wait: false });
        await relay.process.waitForLog(moment);
        await relay.kill();
      }
      await relay.start();
      await streamAgain();
    }
    const streams = streamsOf(scenario.upstream.ledger);
    expect(streams.length).toBeGreaterThan(ROUNDS);
    expect(streams.filter(({ replies }) => replies.length > 1).length).toBeGreaterThan(ROUNDS / 2);
    expect(brokenPromises(streams)).toEqual([]);
  });

  it('ends with the bytes and the rows of the primary everywhere', async () => {
    const endLsn = await scenario.settle();
    expect(await scenario.violations(endLsn)).toEqual([]);
  });
});

describe('the look at first reports', () => {
  it('sees a word that is taken back', () => {
    const stream = (...flushed: bigint[]): StreamLedger =>
      ({ replies: flushed.map((flushLsn) => ({ flushLsn })) }) as unknown as StreamLedger;
    expect(brokenPromises([stream(0n, 8n, 16n), stream(), stream(0n, 16n, 24n)])).toEqual([]);
    expect(brokenPromises([stream(8n, 16n), stream(0n, 8n, 32n)])).toHaveLength(1);
  });
});
