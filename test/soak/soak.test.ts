// The campaigns at the length that WALCAST_TEST_SOAK_* asks for; scripts/soak.mjs sets it. Not part of `npm test`.
import { describe, expect, it } from 'vitest';
import { NEWEST_MAJOR } from '../support/requirements.ts';
import { describeResult } from './campaign.ts';
import type { CampaignOptions, CampaignResult } from './campaign.ts';
import { describeFaults, faultsCampaign } from './faults-campaign.ts';
import { killCampaign } from './kill-campaign.ts';
import { powerCutCampaign } from './power-cut-campaign.ts';
import { switchCampaign } from './switch-campaign.ts';
import { describeSync, syncCampaign } from './sync-campaign.ts';

/** Runs a campaign, says how it went, and gives what was not as promised. */
type Run = (options: CampaignOptions) => Promise<readonly string[]>;

const CAMPAIGNS: Readonly<Record<string, Run>> = {
  kill: crashes(killCampaign),
  'power-cut': crashes(powerCutCampaign),
  switch: crashes(switchCampaign),
  sync,
  faults,
};

const chosen = (process.env['WALCAST_TEST_SOAK_CAMPAIGNS'] ?? '')
  .split(',')
  .filter((name) => name !== '');
const seconds = Number(process.env['WALCAST_TEST_SOAK_SECONDS'] ?? '0');

const rounds = Number(process.env['WALCAST_TEST_SOAK_ROUNDS']);
const only = process.env['WALCAST_TEST_SOAK_ONLY'];

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function crashes(campaign: (options: CampaignOptions) => Promise<CampaignResult>): Run {
  return async (options) => {
    const result = await campaign(options);
    for (const line of describeResult(result)) say(line);
    return result.violations;
  };
}

async function sync(options: CampaignOptions): Promise<readonly string[]> {
  const result = await syncCampaign(options);
  for (const line of [...describeResult(result), describeSync(result)]) say(line);
  return result.violations;
}

async function faults(options: CampaignOptions): Promise<readonly string[]> {
  const result = await faultsCampaign({
    ...options,
    forMs: options.forMs ?? Number.POSITIVE_INFINITY,
    ...(only === undefined ? {} : { only }),
  });
  for (const line of describeFaults(result)) say(line);
  return result.violations;
}

describe.each(chosen)('%s', (name) => {
  it('loses nothing and changes nothing', { timeout: 0 }, async () => {
    const run = CAMPAIGNS[name];
    if (run === undefined) throw new Error(`there is no campaign "${name}"`);
    const violations = await run({
      major: NEWEST_MAJOR,
      rounds: rounds > 0 ? rounds : Number.POSITIVE_INFINITY,
      seed: Number(process.env['WALCAST_TEST_SOAK_SEED']),
      ...(seconds > 0 ? { forMs: seconds * 1_000 } : {}),
      say,
    });
    expect(violations).toEqual([]);
  });
});
