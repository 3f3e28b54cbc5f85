// Is what walcast shows of standbys, slots and its upstream true? Everything that the API, the metrics and the console say is
// compared with what those say who know: the primary, and the standbys themselves.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { claimsOf, judged, untrue } from '../harness/claims.ts';
import { Looker } from '../harness/looks.ts';
import { openValuesRig } from '../harness/values-rig.ts';
import type { ValuesRig } from '../harness/values-rig.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import { newestOfEdges } from '../support/requirements.ts';

describe.each(newestOfEdges())('what is shown of standbys of PostgreSQL %i', (major) => {
  let rig: ValuesRig;

  beforeAll(async () => {
    rig = await openValuesRig({ major, hasDirect: true });
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  it('is what they and the primary say themselves within one status interval, under load', async () => {
    await using looker = new Looker(rig);
    const load = await startWriteLoad(() => rig.primary, 2, 5);
    const looks = await looker.watch(6_000);
    await load.stop();
    looks.push(await looker.look());
    const claims = claimsOf(looks);
    expect(untrue(claims)).toEqual([]);
    for (const count of Object.values(judged(claims))) expect(count).toBeGreaterThan(10);
  });
});
