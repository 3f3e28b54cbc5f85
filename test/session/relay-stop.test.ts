// Is a relay that ends at once taken for one that serves, while it closes what it has open?
import { expect, it } from 'vitest';
import { readiness } from '../../src/http/probes.ts';
import { eventually } from '../support/eventually.ts';
import { SyncRelay } from '../support/sync-relay.ts';

it('is ready for nobody from the moment on that it is told to stop', async () => {
  await using rig = await SyncRelay.start();
  const upstream = await rig.upstream();
  upstream.send();
  await eventually(() => rig.status.store.receivedLsn).toBe(rig.wal.endLsn);
  expect(readiness(rig.status, null).status).toBe('ok');
  const stopped = rig.relay.stop();
  expect(readiness(rig.status, null)).toMatchObject({ status: 'unavailable', state: 'draining' });
  await stopped;
});
