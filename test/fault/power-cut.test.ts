// Is what walcast acknowledged on the disk when the power goes? The short form of the campaign `npm run soak -- power-cut`.
import { randomInt } from 'node:crypto';
import { expect, it } from 'vitest';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import { loopVolumeProblem } from '../harness/loop-volume.ts';
import { describeResult } from '../soak/campaign.ts';
import { CUT_MOMENTS, powerCutCampaign } from '../soak/power-cut-campaign.ts';
import { FULL_FAULTS, NEWEST_MAJOR, needs, requires } from '../support/requirements.ts';

const ROUNDS = FULL_FAULTS ? 12 : 4;

requires(`postgres-${NEWEST_MAJOR}`).describe('a power cut under load', () => {
  it(
    `takes nothing that was acknowledged, ${ROUNDS} times`,
    { timeout: 300_000 },
    async (context) => {
      await using workspace = await openWorkspace(await serverUser());
      needs(context, await loopVolumeProblem(workspace));
      const result = await powerCutCampaign({
        major: NEWEST_MAJOR,
        rounds: ROUNDS,
        seed: randomInt(2 ** 31),
      });
      const text = describeResult(result).join('\n');
      process.stderr.write(`${text}\n`);
      expect(result.violations, text).toEqual([]);
      expect(Object.keys(result.moments)).toEqual([...CUT_MOMENTS]);
      expect(result.figures).toMatchObject({ rounds: ROUNDS });
      expect(result.figures.comparedBytes, text).toBeGreaterThan(ROUNDS << 16);
    },
  );
});
