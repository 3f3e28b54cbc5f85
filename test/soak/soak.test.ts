// The campaigns at the length that WALCAST_TEST_SOAK_* asks for; scripts/soak.mjs sets it. Not part of `npm test`.
import { describe, expect, it } from 'vitest';
import { NEWEST_MAJOR } from '../support/requirements.ts';
import { describeResult } from './campaign.ts';
import type { CampaignOptions, CampaignResult } from './campaign.ts';
import { killCampaign } from './kill-campaign.ts';
import { powerCutCampaign } from './power-cut-campaign.ts';
import { switchCampaign } from './switch-campaign.ts';

const CAMPAIGNS: Readonly<Record<string, (options: CampaignOptions) => Promise<CampaignResult>>> = {
  kill: killCampaign,
  'power-cut': powerCutCampaign,
  switch: switchCampaign,
};

const chosen = (process.env['WALCAST_TEST_SOAK_CAMPAIGNS'] ?? '')
  .split(',')
  .filter((name) => name !== '');
const seconds = Number(process.env['WALCAST_TEST_SOAK_SECONDS'] ?? '0');

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

describe.each(chosen)('%s', (name) => {
  it('loses nothing and changes nothing', { timeout: 0 }, async () => {
    const result = await CAMPAIGNS[name]?.({
      major: NEWEST_MAJOR,
      rounds: Number(process.env['WALCAST_TEST_SOAK_ROUNDS']),
      seed: Number(process.env['WALCAST_TEST_SOAK_SEED']),
      ...(seconds > 0 ? { forMs: seconds * 1_000 } : {}),
      say,
    });
    if (result === undefined) throw new Error(`there is no campaign "${name}"`);
    for (const line of describeResult(result)) say(line);
    expect(result.violations).toEqual([]);
  });
});
