// kill -9 of walcast again and again: while it streams, in the middle of switches of segments and of large records, while slots
// are made, while it starts and recovers. (F1, F3)
import { campaignRandom, runRounds } from './campaign.ts';
import type { CampaignOptions, CampaignResult } from './campaign.ts';
import { openCrashRig } from './crash-rig.ts';
import type { CrashRig } from './crash-rig.ts';
import { PAUSE_MS, pause } from './mixed-load.ts';

/** Log lines of a start, in their order. */
const START_LINES = [
  /"msg":"walcast starts"/,
  /"msg":"HTTP port is open"/,
  /"msg":"stored WAL ends here"/,
];

/** What is hit, in turns. */
export const KILL_MOMENTS = [
  'streaming',
  'segments',
  'large record',
  'slot',
  'start',
  'recovery',
] as const;
type Moment = (typeof KILL_MOMENTS)[number];

/** Longest a start takes until WAL streams, roughly: a kill within it hits recovery and the first messages. */
const START_MS = 1_200;

/** Runs it on a cluster of its own. */
export async function killCampaign(options: CampaignOptions): Promise<CampaignResult> {
  const { strike, load } = campaignRandom(options.seed);
  const rig = await openCrashRig({ major: options.major, random: load, pauseMs: PAUSE_MS });
  try {
    return await runRounds('kill -9', options, {
      figures: rig.figures,
      round: (index) => killRound(rig, strike, index),
      finish: () => rig.finish(),
    });
  } finally {
    await rig.close();
  }
}

async function killRound(
  rig: CrashRig,
  random: () => number,
  index: number,
): Promise<{ moment: Moment; violations: string[] }> {
  const moment = KILL_MOMENTS[index % KILL_MOMENTS.length] ?? 'streaming';
  // Every fourth kill hits a standby that streams; the others hit while it is still on its way back.
  if (random() < 0.25) await rig.standbyStreams();
  await strike(rig, moment, random);
  await rig.everythingWasRead();
  const acknowledged = rig.acknowledged();
  const violations = await rig.storeViolations(acknowledged);
  violations.push(...(await rig.restart(acknowledged)));
  return { moment, violations };
}

async function strike(rig: CrashRig, moment: Moment, random: () => number): Promise<void> {
  const { relay, primary } = rig.scenario;
  const killWithin = async (ms: number): Promise<void> => {
    await pause(random() * ms);
    await relay.kill();
  };
  switch (moment) {
    case 'streaming':
      await rig.load.waitForCommits(1 + Math.floor(random() * 60));
      return await killWithin(20);
    case 'segments': {
      const sql = `SELECT pg_logical_emit_message(true, 's', repeat('x', 20000)), pg_switch_wal()`;
      const writing = Promise.all([0, 1, 2, 3].map(() => primary.query(sql)));
      await killWithin(40);
      await writing;
      return;
    }
    case 'large record': {
      const sql = `SELECT pg_logical_emit_message(true, 's', repeat('x', 3000000))`;
      const writing = primary.query(sql);
      await killWithin(60);
      await writing;
      return;
    }
    case 'slot': {
      // Some answers come before the kill, some do not.
      const moving = rig.moveSlot();
      await killWithin(400);
      await moving;
      return;
    }
    case 'start': {
      await relay.kill();
      await relay.start({ wait: false });
      await relay.process.waitForLog(START_LINES[Math.floor(random() * 3)] ?? /starts/);
      return await relay.kill();
    }
    case 'recovery':
      await relay.kill();
      // Again before the first recovery has come to its end, and once more.
      for (let time = 0; time < 2; time += 1) {
        await relay.start({ wait: false });
        await killWithin(START_MS);
      }
      return;
    default:
      throw new Error(`unknown moment ${String(moment satisfies never)}`);
  }
}
