// Does walcast take a word back after kill -9? The short form of the campaign `npm run soak -- kill`.
import { randomInt } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import type { ReplyEntry } from '../harness/ledger.ts';
import { describeResult } from '../soak/campaign.ts';
import { brokenPromises } from '../soak/crash-rig.ts';
import { KILL_MOMENTS, killCampaign } from '../soak/kill-campaign.ts';
import { FULL_FAULTS, NEWEST_MAJOR, requires } from '../support/requirements.ts';

const ROUNDS = FULL_FAULTS ? 24 : 6;

requires(`postgres-${NEWEST_MAJOR}`).describe('walcast under kill -9', () => {
  it(`loses nothing that it acknowledged in ${ROUNDS} rounds`, { timeout: 300_000 }, async () => {
    const result = await killCampaign({
      major: NEWEST_MAJOR,
      rounds: ROUNDS,
      seed: randomInt(2 ** 31),
    });
    const text = describeResult(result).join('\n');
    process.stderr.write(`${text}\n`);
    expect(result.violations, text).toEqual([]);
    expect(Object.keys(result.moments)).toEqual([...KILL_MOMENTS]);
    expect(result.figures).toMatchObject({ rounds: ROUNDS });
    expect(result.figures.comparedBytes, text).toBeGreaterThan(ROUNDS << 16);
    expect(result.figures.standbyBytes, text).toBeGreaterThan(ROUNDS << 16);
  });
});

describe('the look at first reports', () => {
  it('sees a word that is taken back', () => {
    const stream = (...flushed: bigint[]): { replies: ReplyEntry[] } => ({
      replies: flushed.map((lsn) => ({
        seq: 0,
        atMs: 0,
        writeLsn: toLsn(lsn),
        flushLsn: toLsn(lsn),
        applyLsn: toLsn(0n),
        replyRequested: false,
        sentLsn: toLsn(lsn),
      })),
    });
    const floors = [{ streams: 1, acknowledged: toLsn(16n) }];
    expect(brokenPromises([stream(0n, 8n, 16n), stream(), stream(0n, 16n)], floors)).toEqual([]);
    expect(brokenPromises([stream(8n, 16n), stream(0n, 8n, 32n)], floors)).toHaveLength(1);
  });
});
