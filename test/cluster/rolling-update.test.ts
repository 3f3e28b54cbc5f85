// A rolling update of two relays at noon: does a commit fail, how long does a commit wait, and for how long is a standby without
// its stream?
import { afterAll, beforeAll, expect, it } from 'vitest';
import { needs, requires, NEWEST_MAJOR } from '../support/requirements.ts';
import { clusterProblem, openClusterRig, SYNC_NAMES } from './cluster-rig.ts';
import type { ClusterRig } from './cluster-rig.ts';

requires('kubectl', `postgres-${NEWEST_MAJOR}`).describe(
  'two relays as the overlay ha makes them',
  () => {
    let rig: ClusterRig | null = null;
    let problem: string | null = null;

    beforeAll(async () => {
      problem = await clusterProblem();
      if (problem === null) rig = await openClusterRig();
    });

    afterAll(async () => {
      await rig?.[Symbol.asyncDispose]();
    });

    it('start', async (context) => {
      needs(context, problem);
      console.log(rig?.cluster.story(), SYNC_NAMES);
      expect(1).toBe(1);
    });
  },
);
