// Commits that wait for standbys behind walcast, and kill -9 of walcast, of a standby that is waited for, of the primary, in
// turns and together: no commit that a client was told of is missing where the policy says it is. (P5–P7, F49, F50)
import { systemClock } from '../../src/base/clock.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { campaignRandom, runRounds } from './campaign.ts';
import type { CampaignOptions, CampaignResult, RoundResult } from './campaign.ts';
import { noFigures } from './crash-rig.ts';
import { pause } from './mixed-load.ts';
import { LEVELS, blockers, brokenGuarantee, guaranteed } from './sync/policies.ts';
import { openSyncRig } from './sync/sync-rig.ts';
import type { Standing, SyncRig } from './sync/sync-rig.ts';

/** What is hit, in turns; all but the first three end with the promotion of a standby that was waited for. */
export const SYNC_MOMENTS = [
  'walcast',
  'standby',
  'waiting',
  'primary and walcast',
  'primary',
] as const;
type Moment = (typeof SYNC_MOMENTS)[number];

/** Load runs so long before it is hit, at most. */
const LOAD_MS = 600;
/** One standby stands still so long before the blow, at most. */
const STAGGER_MS = 150;
/** Answers that were on their way when standbys were stopped have arrived by then. */
const ON_ITS_WAY_MS = 1_000;
const WAITING_MS = 600;
/** WAL of all timelines, rows and logs are compared after so many rounds. */
const COMPARE_EVERY_ROUNDS = 10;

/**
 * After a crash walcast does not know how much of what it stored last it had reported, and says so where the new primary lacks
 * some of that: with a policy that may be WAL that no standby had confirmed.
 */
const MAY_HAVE_BEEN_REPORTED = /was stored before a crash, and may have been acknowledged/;

/** Figures of this campaign besides those of all. */
export interface SyncFigures {
  /** Commits that clients were told of. */
  commits: number;
  promotions: number;
  /** Times that a killed standby was one of those that commits waited for. */
  chosenKilled: number;
  /** Longest time from the start of walcast after a crash until commits were acknowledged again, in milliseconds. */
  longestReleaseMs: number;
}

/** Runs it on servers of its own. */
export async function syncCampaign(
  options: CampaignOptions,
): Promise<CampaignResult & { readonly sync: SyncFigures }> {
  const { strike, load } = campaignRandom(options.seed);
  const rig = await openSyncRig({ major: options.major, random: load });
  const figures = noFigures();
  const sync: SyncFigures = { commits: 0, promotions: 0, chosenKilled: 0, longestReleaseMs: 0 };
  try {
    const campaign = new Campaign(rig, strike, sync);
    const result = await runRounds('commits that wait for standbys', options, {
      figures,
      round: async (index) => {
        const round = await campaign.round(index);
        figures.rounds += 1;
        sync.commits = rig.load.commits;
        return round;
      },
      finish: () => campaign.compare(),
    });
    return { ...result, sync };
  } finally {
    await rig.close();
  }
}

class Campaign {
  readonly #rig: SyncRig;
  readonly #random: () => number;
  readonly #figures: SyncFigures;
  readonly #told = new Set<string>();

  constructor(rig: SyncRig, random: () => number, figures: SyncFigures) {
    this.#rig = rig;
    this.#random = random;
    this.#figures = figures;
  }

  async round(index: number): Promise<RoundResult> {
    const moment = SYNC_MOMENTS[index % SYNC_MOMENTS.length] ?? 'walcast';
    const level = LEVELS[Math.floor(this.#random() * LEVELS.length)] ?? 'on';
    await this.#rig.begin(this.#random, level);
    await pause(this.#random() * LOAD_MS);
    const violations = await this.#strike(moment);
    if ((index + 1) % COMPARE_EVERY_ROUNDS === 0) violations.push(...(await this.compare()));
    const what = `${level}, ${this.#rig.policy.text}`;
    return { moment, violations: violations.map((text) => `${what}: ${text}`) };
  }

  /** Everything that everybody has, after the load has stopped for a moment; then it goes on. */
  async compare(): Promise<string[]> {
    const { load, servers } = this.#rig;
    await load.stop();
    const endLsn = await servers.settle();
    const lost = await Promise.all(servers.servers.map((server) => load.lostOn(server)));
    const violations = [
      ...lost.flat(),
      ...(await servers.violations(endLsn)),
      ...this.#problems().map((line) => `walcast says: ${line}`),
    ];
    load.start();
    return violations;
  }

  /** What walcast has complained of since the last look. */
  #problems(): string[] {
    const all = this.#rig.servers.relay.problems();
    const fresh = all.filter((line) => !this.#told.has(line) && !MAY_HAVE_BEEN_REPORTED.test(line));
    for (const line of fresh) this.#told.add(line);
    return fresh;
  }

  async #strike(moment: Moment): Promise<string[]> {
    const { relay } = this.#rig.servers;
    switch (moment) {
      case 'walcast': {
        const goOn = await this.#holdOneBack();
        await relay.kill();
        await goOn();
        return await this.#lookAndGoOn(true);
      }
      case 'standby': {
        const victim = this.#victim();
        await victim.kill();
        await pause(this.#random() * LOAD_MS);
        await relay.kill();
        await victim.start();
        return await this.#lookAndGoOn(false);
      }
      case 'waiting':
        return await this.#killWhatWaits();
      case 'primary and walcast':
        return await this.#killBoth();
      case 'primary': {
        const goOn = await this.#holdOneBack();
        await this.#rig.servers.primary.kill();
        await goOn();
        return await this.#promote();
      }
      default:
        throw new Error(`unknown moment ${String(moment satisfies never)}`);
    }
  }

  /**
   * Now and then any one of the standbys stands still for a moment before the blow: who is waited for holds commits up, and
   * the others fall behind. Gives the way to let it go on.
   */
  async #holdOneBack(): Promise<() => Promise<void>> {
    const { standbys } = this.#rig.servers;
    const held = standbys[Math.floor(this.#random() * standbys.length * 2)];
    if (held === undefined) return async () => {};
    await this.#rig.signalAll(held, 'SIGSTOP');
    await pause(this.#random() * STAGGER_MS);
    return () => this.#rig.signalAll(held, 'SIGCONT');
  }

  /** With walcast dead nothing is acknowledged: whoever was waited for has it all. Then walcast comes back, and commits go on. */
  async #lookAndGoOn(isSteady: boolean): Promise<string[]> {
    const violations = this.#look(await this.#rig.standings(), isSteady);
    await this.#rig.servers.relay.start();
    await this.#released();
    return violations;
  }

  #look(standings: readonly Standing[], isSteady: boolean): string[] {
    const complete = standings.filter(({ isComplete }) => isComplete);
    const names = complete.map(({ server }) => server.name);
    return brokenGuarantee(this.#rig.policy, names, isSteady);
  }

  /** Standbys without which no commit comes back are stopped; then walcast and one of them die while commits wait. */
  async #killWhatWaits(): Promise<string[]> {
    const { servers, load, policy } = this.#rig;
    const stopped = blockers(policy).map((name) => servers.server(name));
    for (const server of stopped) await this.#rig.signalAll(server, 'SIGSTOP');
    await pause(ON_ITS_WAY_MS);
    const before = load.commits;
    await pause(this.#random() * WAITING_MS);
    const released = load.commits - before;
    const [victim] = stopped;
    if (victim === undefined) throw new Error('nobody is waited for');
    if (this.#random() < 0.5) await Promise.all([servers.relay.kill(), victim.kill()]);
    else {
      await victim.kill();
      await servers.relay.kill();
    }
    this.#figures.chosenKilled += 1;
    for (const server of stopped) await this.#rig.signalAll(server, 'SIGCONT');
    await victim.start();
    return [
      ...(released === 0
        ? []
        : [
            `${released} commits were acknowledged while ${stopped.map(({ name }) => name).join(', ')} stood still`,
          ]),
      ...(await this.#lookAndGoOn(false)),
    ];
  }

  /** The primary and walcast die within moments of each other: standbys keep what they have, and the right one takes over. */
  async #killBoth(): Promise<string[]> {
    const { primary, relay } = this.#rig.servers;
    const goOn = await this.#holdOneBack();
    const inTurns = [relay, primary];
    if (this.#random() < 0.5) inTurns.reverse();
    const [first, second] = inTurns;
    const dying = first?.kill();
    await pause(this.#random() * 30);
    await Promise.all([dying, second?.kill()]);
    await goOn();
    return await this.#promote();
  }

  /** The primary is dead. Promotes a standby that has to have everything: by its name in the policy, else the furthest one. */
  async #promote(): Promise<string[]> {
    const { servers, policy } = this.#rig;
    const leftTimeline = this.#rig.timeline;
    const wasAlive = servers.relay.isRunning;
    const standings = await this.#rig.standings();
    const violations = this.#look(standings, true);
    const next = this.#successor(standings);
    const lost = await this.#rig.promote(next, standings);
    this.#figures.promotions += 1;
    violations.push(...lost.map((text) => `promoted with ${policy.text}: ${text}`));
    if (wasAlive) violations.push(...(await this.#falseAlarms(leftTimeline)));
    await this.#released();
    return violations;
  }

  #successor(standings: readonly Standing[]): PostgresCluster {
    const names = guaranteed(this.#rig.policy, true);
    const name = names[Math.floor(this.#random() * names.length)];
    const furthest = standings.reduce((best, each) => (each.endLsn > best.endLsn ? each : best));
    return name === undefined ? furthest.server : this.#rig.servers.server(name);
  }

  /** walcast was there all the time and knows what it reported: the promoted standby has all of that. */
  async #falseAlarms(leftTimeline: number): Promise<string[]> {
    const detail = (await this.#rig.servers.relay.get('/api/v1/store')) as {
      readonly dead: { readonly acknowledged: { readonly timeline: number } | null };
    };
    const { acknowledged } = detail.dead;
    if (acknowledged?.timeline !== leftTimeline) return [];
    return [`reported more than the new primary has: ${JSON.stringify(acknowledged)}`];
  }

  #victim(): PostgresCluster {
    const { names, required, method } = this.#rig.policy;
    const count = method === 'FIRST' ? required : names.length;
    const name = names[Math.floor(this.#random() * count)] ?? '';
    this.#figures.chosenKilled += 1;
    return this.#rig.servers.server(name);
  }

  async #released(): Promise<void> {
    const startedMs = systemClock.nowMs();
    await this.#rig.commitsAgain();
    const tookMs = Math.round(systemClock.nowMs() - startedMs);
    this.#figures.longestReleaseMs = Math.max(this.#figures.longestReleaseMs, tookMs);
  }
}

/** The figures of this campaign as a line. */
export function describeSync({ sync }: { readonly sync: SyncFigures }): string {
  return `  acknowledged commits: ${sync.commits}; standbys promoted: ${sync.promotions}; killed while they were waited for: ${sync.chosenKilled}; commits went on at most ${sync.longestReleaseMs} ms after walcast was back`;
}
