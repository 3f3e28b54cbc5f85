// kill -9 of walcast around switches of the timeline: the primary changes, and walcast dies at any instant of what it does then.
// Afterwards everybody is on the new timeline with the new primary's bytes, and nobody touched a standby. (F3, F26, F28)
import { becomeNextTimeline, openPromotionRig } from '../harness/promotion-rig.ts';
import type { PromotionRig } from '../harness/promotion-rig.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import { campaignRandom, runRounds } from './campaign.ts';
import type { CampaignOptions, CampaignResult } from './campaign.ts';
import { noFigures } from './crash-rig.ts';
import { pause } from './mixed-load.ts';

/** How the timeline changes: the same server begins a new one, another one takes over, two switches in a row. */
export const SWITCH_MOMENTS = ['same server', 'other server', 'two at once'] as const;
type Moment = (typeof SWITCH_MOMENTS)[number];

/** walcast looks for the new primary and follows it within this time, roughly. */
const SWITCH_MS = 3_000;
const COMMITS = 30;

/** Runs it on servers of its own. */
export async function switchCampaign(options: CampaignOptions): Promise<CampaignResult> {
  const { strike } = campaignRandom(options.seed);
  await using rig = await openPromotionRig({
    major: options.major,
    servers: ['alpha', 'beta'],
    segmentSizeMb: 1,
  });
  const figures = noFigures();
  let timeline = 1;
  return await runRounds('kill -9 around switches of the timeline', options, {
    figures,
    round: async (index) => {
      const moment = SWITCH_MOMENTS[index % SWITCH_MOMENTS.length] ?? 'same server';
      timeline += moment === 'two at once' ? 2 : 1;
      await writeSome(rig);
      await switchUnderKills(rig, moment, strike);
      await rig.followed(timeline);
      await writeSome(rig);
      const endLsn = await rig.settle();
      figures.rounds += 1;
      return { moment, violations: await rig.violations(endLsn) };
    },
    finish: async () => rig.relay.problems().map((line) => `walcast says: ${line}`),
  });
}

async function writeSome(rig: PromotionRig): Promise<void> {
  const load = await startWriteLoad(rig.primary);
  await load.waitForCommits(COMMITS);
  await rig.primary.query(`SELECT pg_logical_emit_message(true, 's', repeat('x', 1500000))`);
  await load.stop();
}

async function switchUnderKills(
  rig: PromotionRig,
  moment: Moment,
  random: () => number,
): Promise<void> {
  const switching = switchOver(rig, moment);
  // Awaited below; a failure before that is not forgotten.
  switching.catch(() => {});
  for (let kills = 1 + Math.floor(random() * 3); kills > 0; kills -= 1) {
    await pause(random() * SWITCH_MS);
    await rig.relay.kill();
    await rig.relay.start({ wait: false });
  }
  await switching;
}

async function switchOver(rig: PromotionRig, moment: Moment): Promise<void> {
  if (moment !== 'other server') {
    await becomeNextTimeline(rig.primary);
    if (moment === 'two at once') await becomeNextTimeline(rig.primary);
    return;
  }
  const [next, old] = [rig.standbys[0], rig.primary];
  if (next === undefined) throw new Error('there is no standby to promote');
  const endLsn = await rig.settle();
  await old.stop('fast');
  await next.waitForReplay(endLsn);
  await next.promote();
  rig.primary = next;
  await rig.rejoin(old);
}
