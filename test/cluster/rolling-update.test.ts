// A rolling update of two relays at noon: does a commit fail, how long does a commit wait, and for how long is a standby without
// its stream?
import { afterAll, beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { STANDBY_HOSTS } from '../support/kubernetes-page.ts';
import { PUBLISH_MS } from '../harness/kubelet-cluster.ts';
import { NEWEST_MAJOR, needs, requires } from '../support/requirements.ts';
import { clusterProblem, openClusterRig, restarted, waitsForRelays } from './cluster-rig.ts';
import type { ClusterRig } from './cluster-rig.ts';
import { commitsOn, startCommits } from './commit-clients.ts';
import { watchStream } from './stream-watch.ts';

/** Far more than is measured, and less than any timeout on the way (60 s) and than a drain may take (30 s). */
const COMMIT_MS_MAX = 8_000;
const GAP_MS_MAX = 15_000;

const START_TIMEOUT_MS = 300_000;

requires('kubectl', `postgres-${NEWEST_MAJOR}`).describe('a rolling update of two relays', () => {
  let problem: string | null = null;
  let opened: ClusterRig | null = null;

  // The image is built where nobody has built it yet.
  beforeAll(async () => {
    problem = await clusterProblem();
    if (problem === null) opened = await openClusterRig();
  }, START_TIMEOUT_MS);

  afterAll(async () => {
    await opened?.[Symbol.asyncDispose]();
  });

  it('fails no commit, and standbys have their stream again within what is stated', async (context) => {
    needs(context, problem);
    const rig = theRig(opened);
    const { cluster, primary, standbys } = rig;
    await waitsForRelays(rig);
    const watches = await Promise.all(standbys.map(watchStream));
    const clients = await startCommits(primary);
    const before = new Map(cluster.pods.map((pod) => [pod.name, pod]));
    const beganMs = systemClock.nowMs();
    await cluster.apply(await restarted());
    const updated = cluster.rollOut('walcast');
    // Nothing else is to fail before this is heard of.
    updated.catch(() => {});
    await pollUntil('an update that has begun', () => endingPod(rig), { timeoutMs: 20_000 });
    expect(endingPod(rig)).toBe('walcast-1');
    expect(await cluster.evict('walcast-0'), 'a node is drained meanwhile').toBe(false);
    await updated;
    const tookMs = systemClock.nowMs() - beganMs;
    const gaps = watches.map((watch) => watch.takeLongestGap());
    const { commits, failures, longestMs } = await clients.stop();
    await Promise.all(watches.map((watch) => watch.stop()));
    process.stderr.write(
      `rolling update of two relays: ${(tookMs / 1000).toFixed(0)} s, ${commits} commits, ${failures.length} failed, the slowest took ${longestMs.toFixed(0)} ms; ` +
        `longest time without new WAL: ${gaps.map((ms, index) => `${ms.toFixed(0)} ms by ${STANDBY_HOSTS[index]}`).join(', ')}\n`,
    );
    expect(failures).toEqual([]);
    expect(longestMs).toBeLessThan(COMMIT_MS_MAX);
    expect(Math.max(...gaps)).toBeLessThan(GAP_MS_MAX);
    for (const standby of standbys) expect(await commitsOn(standby, primary)).toBe(commits);
    for (const pod of cluster.pods) {
      expect(before.get(pod.name)).not.toBe(pod);
      expect(pod.container().restarts).toBe(0);
    }
    for (const pod of ['walcast-1', 'walcast-0'])
      expect(servedMs(rig, pod), 'no Service leads to who is told to end').toBeGreaterThan(
        PUBLISH_MS,
      );
    const ends = cluster.events.map(({ pod, what }) => `${pod}: ${what}`);
    expect(ends.filter((text) => / ended | killed| probe failed/.test(text))).toEqual(
      ['walcast-1', 'walcast-0'].map((pod) => `${pod}: walcast ended (exit code 0, signal null)`),
    );
  });
});

function endingPod({ cluster }: ClusterRig): string | null {
  return cluster.pods.find((pod) => pod.isEnding)?.name ?? null;
}

/** From the moment on that a pod is no endpoint any more until its process hears of the end. */
function servedMs({ cluster }: ClusterRig, name: string): number {
  const atMs = (text: string): number =>
    cluster.events.find(({ pod, what }) => pod === name && what === text)?.atMs ?? Number.NaN;
  return atMs('walcast is told to end') - atMs('Killing');
}

function theRig(rig: ClusterRig | null): ClusterRig {
  if (rig === null) throw new Error('there is no cluster');
  return rig;
}
