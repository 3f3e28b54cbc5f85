// Power cut under load: the disk of the store is copied at a random instant while it is mounted and written to; walcast goes on
// with the copy. What had been acknowledged when the copy began has to be in it. (F2, P22, F54)
import { join } from 'node:path';
import { mkdir } from 'node:fs/promises';
import { signalProcess } from '../../src/demo/postgres-process.ts';
import { openLoopVolume } from '../harness/loop-volume.ts';
import type { LoopVolume } from '../harness/loop-volume.ts';
import { campaignRandom, runRounds } from './campaign.ts';
import type { CampaignOptions, CampaignResult } from './campaign.ts';
import { openCrashRig } from './crash-rig.ts';
import type { CrashRig } from './crash-rig.ts';
import { PAUSE_MS, pause } from './mixed-load.ts';

/** Room for the rounds that a campaign of usual length makes; the file behind it is sparse. */
const VOLUME_MB = 4_096;

/** How the instant is chosen: `running` copies while everything goes on; `held` stops the process first, so that the copy is
 * the state of one instant; `starting` cuts while walcast starts on the disk of the last cut. */
export const CUT_MOMENTS = ['running', 'held', 'large record', 'starting'] as const;
type Moment = (typeof CUT_MOMENTS)[number];

/** Runs it on a cluster of its own. */
export async function powerCutCampaign(options: CampaignOptions): Promise<CampaignResult> {
  const { strike, load } = campaignRandom(options.seed);
  const volumes: LoopVolume[] = [];
  const rig = await openCrashRig({
    major: options.major,
    random: load,
    pauseMs: PAUSE_MS,
    makeStore: async (workspace) => {
      const volume = await openLoopVolume(workspace, { name: 'disk', megabytes: VOLUME_MB });
      if (typeof volume === 'string') throw new Error(volume);
      volumes.push(volume);
      const directory = join(volume.directory, 'store');
      await mkdir(directory, { mode: 0o700 });
      return directory;
    },
  });
  try {
    const [volume] = volumes;
    if (volume === undefined) throw new Error('there is no volume');
    return await runRounds('power cut', options, {
      figures: rig.figures,
      round: (index) => cutRound({ rig, volume }, strike, index),
      finish: () => rig.finish(),
    });
  } finally {
    await rig.close();
  }
}

interface Stage {
  readonly rig: CrashRig;
  readonly volume: LoopVolume;
}

async function cutRound(
  stage: Stage,
  random: () => number,
  index: number,
): Promise<{ moment: Moment; violations: string[] }> {
  const { rig, volume } = stage;
  const moment = CUT_MOMENTS[index % CUT_MOMENTS.length] ?? 'running';
  await rig.standbyStreams();
  const acknowledged = await strike(stage, moment, random);
  await volume.replace();
  const violations = await rig.storeViolations(acknowledged);
  violations.push(...(await rig.restart(acknowledged)));
  return { moment, violations };
}

/** Cuts the power, and ends the process that ran on the old disk. Gives what had been acknowledged before. */
async function strike(
  { rig, volume }: Stage,
  moment: Moment,
  random: () => number,
): Promise<ReturnType<CrashRig['acknowledged']>> {
  const { relay, primary } = rig.scenario;
  let writing: Promise<unknown> = Promise.resolve();
  if (moment === 'large record') {
    writing = primary.query(`SELECT pg_logical_emit_message(true, 's', repeat('x', 3000000))`);
    await pause(random() * 60);
  } else if (moment === 'starting') {
    await relay.kill();
    await relay.start({ wait: false });
    await pause(random() * 1_200);
  } else {
    await rig.load.waitForCommits(1 + Math.floor(random() * 60));
    await pause(random() * 20);
  }
  const isHeld = moment === 'held' || moment === 'starting';
  if (isHeld) signalProcess(relay.process.pid, 'SIGSTOP');
  let acknowledged = rig.acknowledged();
  const { writesMeanwhile } = await volume.cut();
  // Nothing was sent since the process was stopped, so whatever has been read by now was sent before the copy began.
  if (isHeld && writesMeanwhile === 0) acknowledged = rig.acknowledged();
  await relay.kill();
  await writing;
  return acknowledged;
}
