// Is every commit that waited for standbys behind walcast on them when everything dies? The short form of the campaign
// `npm run soak -- sync`.
import { randomInt } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../harness/fault-proxy.ts';
import { describeResult } from '../soak/campaign.ts';
import { SYNC_MOMENTS, describeSync, syncCampaign } from '../soak/sync-campaign.ts';
import { blockers, brokenGuarantee, drawPolicy, guaranteed } from '../soak/sync/policies.ts';
import type { DrawnPolicy } from '../soak/sync/policies.ts';
import { FULL_FAULTS, NEWEST_MAJOR, requires } from '../support/requirements.ts';

const ROUNDS = FULL_FAULTS ? 10 : 5;

requires(`postgres-${NEWEST_MAJOR}`).describe(
  'commits that wait for standbys behind walcast',
  () => {
    it(
      `are on them in ${ROUNDS} rounds of kill -9 and promotion`,
      { timeout: 300_000 },
      async () => {
        const seed = randomInt(2 ** 31);
        process.stderr.write(`sync: seed ${seed}\n`);
        const result = await syncCampaign({ major: NEWEST_MAJOR, rounds: ROUNDS, seed });
        const text = [...describeResult(result), describeSync(result)].join('\n');
        process.stderr.write(`${text}\n`);
        expect(result.violations, text).toEqual([]);
        expect(Object.keys(result.moments)).toEqual([...SYNC_MOMENTS]);
        expect(result.sync.promotions, text).toBe((ROUNDS / SYNC_MOMENTS.length) * 2);
        expect(result.sync.commits, text).toBeGreaterThan(ROUNDS * 10);
      },
    );
  },
);

describe('what the campaign demands of a policy', () => {
  const policy = (method: 'FIRST' | 'ANY', required: number): DrawnPolicy => ({
    method,
    required,
    names: ['a', 'b', 'c'],
    text: `${method} ${required} (a, b, c)`,
  });

  it('names the standbys that have everything where the policy names them', () => {
    expect(guaranteed(policy('FIRST', 2), true)).toEqual(['a', 'b']);
    expect(guaranteed(policy('FIRST', 2), false)).toEqual([]);
    expect(guaranteed(policy('ANY', 2), true)).toEqual([]);
    expect(guaranteed(policy('ANY', 3), false)).toEqual(['a', 'b', 'c']);
  });

  it('sees a standby that lacks commits, and too few that have all', () => {
    expect(brokenGuarantee(policy('FIRST', 1), ['a'], true)).toEqual([]);
    expect(brokenGuarantee(policy('FIRST', 1), ['b', 'c'], true)).toHaveLength(1);
    expect(brokenGuarantee(policy('FIRST', 1), ['b', 'c'], false)).toEqual([]);
    expect(brokenGuarantee(policy('ANY', 2), ['b', 'c'], true)).toEqual([]);
    expect(brokenGuarantee(policy('ANY', 2), ['c'], true)).toHaveLength(1);
  });

  it('knows without whom every commit waits', () => {
    expect(blockers(policy('FIRST', 2))).toEqual(['a']);
    expect(blockers(policy('ANY', 1))).toEqual(['a', 'b', 'c']);
    expect(blockers(policy('ANY', 2))).toEqual(['a', 'b']);
  });

  it('is drawn by the seed, in every kind', () => {
    const drawn = (seed: number): string[] => {
      const random = seededRandom(seed);
      return Array.from({ length: 200 }, () => drawPolicy(['a', 'b', 'c'], random).text);
    };
    expect(drawn(1)).toEqual(drawn(1));
    expect(drawn(1)).not.toEqual(drawn(2));
    for (const kind of [/^FIRST 1 /, /^FIRST 2 /, /^ANY 1 \([abc]/, /^ANY 2 /, /\(\*\)/])
      expect(drawn(1).some((text) => kind.test(text))).toBe(true);
  });
});
