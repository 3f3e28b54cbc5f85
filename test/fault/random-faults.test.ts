// Does everything recover from faults that nobody chose? The short form of the campaign `npm run soak -- faults`.
import { randomInt } from 'node:crypto';
import { expect, it } from 'vitest';
import { seededRandom } from '../harness/fault-proxy.ts';
import { describeFaults, faultsCampaign } from '../soak/faults-campaign.ts';
import { Draw, FAULT_KINDS, drawKind } from '../soak/faults/faults.ts';
import { FULL_FAULTS, NEWEST_MAJOR, itWhen, requires } from '../support/requirements.ts';

const RUN_MS = 70_000;

requires(`postgres-${NEWEST_MAJOR}`).describe('random faults', { timeout: 300_000 }, () => {
  itWhen(FULL_FAULTS)('cost no commit and no byte, and nobody has to help', async () => {
    const result = await faultsCampaign({
      major: NEWEST_MAJOR,
      seed: randomInt(2 ** 31),
      forMs: RUN_MS,
    });
    const text = describeFaults(result).join('\n');
    process.stderr.write(`${text}\n`);
    expect(result.violations, text).toEqual([]);
    expect(result.rounds, text).toBeGreaterThan(3);
    expect(result.commits, text).toBeGreaterThan(500);
  });

  it('are drawn by their seed, and each kind is', () => {
    const kinds = (seed: number): string[] => {
      const draw = new Draw(seededRandom(seed));
      return Array.from({ length: 1_000 }, () => drawKind(draw).name);
    };
    expect(kinds(1)).toEqual(kinds(1));
    expect(kinds(1)).not.toEqual(kinds(2));
    expect(new Set(kinds(1))).toEqual(new Set(FAULT_KINDS));
  });
});
