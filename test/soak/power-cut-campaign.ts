// Power cut under load: walcast is stopped at a random instant and the disk of its store copied while it is mounted; walcast goes
// on with the copy. What it had acknowledged by then has to be in it. (F2, P22, F54)
import { join } from 'node:path';
import { mkdir } from 'node:fs/promises';
import { signalProcess } from '../../src/demo/postgres-process.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { openLoopVolume } from '../harness/loop-volume.ts';
import type { LoopVolume } from '../harness/loop-volume.ts';
import { campaignRandom, runRounds } from './campaign.ts';
import type { CampaignOptions, CampaignResult } from './campaign.ts';
import { openCrashRig } from './crash-rig.ts';
import type { CrashRig } from './crash-rig.ts';
import { PAUSE_MS, pause } from './mixed-load.ts';

/** Room for the rounds that a campaign of usual length makes; the file behind it is sparse. */
const VOLUME_MB = 4_096;

/** What walcast is doing when the power goes. */
export const CUT_MOMENTS = ['streaming', 'segments', 'large record', 'starting'] as const;
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
  const moment = CUT_MOMENTS[index % CUT_MOMENTS.length] ?? 'streaming';
  await rig.standbyStreams();
  const acknowledged = await strike(stage, moment, random);
  await volume.replace();
  const violations = await rig.storeViolations(acknowledged);
  violations.push(...(await rig.restart(acknowledged)));
  return { moment, violations };
}

/** Cuts the power, and ends the process that ran on the old disk. Gives what had been acknowledged before. */
async function strike({ rig, volume }: Stage, moment: Moment, random: () => number): Promise<Lsn> {
  const { relay } = rig.scenario;
  const writing = await beginWriting(rig, moment, random);
  // A process that is stopped does nothing until the copy is made; calls it is in are finished by the kernel first.
  signalProcess(relay.process.pid, 'SIGSTOP');
  await volume.cut();
  await relay.kill();
  await rig.everythingWasRead();
  await writing.done;
  // Whatever it had sent, it had sent before the copy began.
  return rig.acknowledged();
}

/** Brings walcast into the middle of `moment`. Gives the end of what the primary is made to write for it. */
async function beginWriting(
  rig: CrashRig,
  moment: Moment,
  random: () => number,
): Promise<{ readonly done: Promise<unknown> }> {
  const { relay, primary } = rig.scenario;
  let done: Promise<unknown> = Promise.resolve();
  switch (moment) {
    case 'streaming':
      await rig.load.waitForCommits(1 + Math.floor(random() * 60));
      await pause(random() * 20);
      break;
    case 'segments': {
      const sql = `SELECT pg_logical_emit_message(true, 's', repeat('x', 20000)), pg_switch_wal()`;
      done = Promise.all([0, 1, 2, 3].map(() => primary.query(sql)));
      await pause(random() * 40);
      break;
    }
    case 'large record':
      done = primary.query(`SELECT pg_logical_emit_message(true, 's', repeat('x', 3000000))`);
      await pause(random() * 60);
      break;
    case 'starting':
      await relay.kill();
      await relay.start({ wait: false });
      await pause(random() * 1_200);
      break;
    default:
      throw new Error(`unknown moment ${String(moment satisfies never)}`);
  }
  return { done };
}
