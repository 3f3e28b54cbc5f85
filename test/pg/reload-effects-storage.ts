// What is seen of the keys that say how much WAL is kept, and for whom?
import { formatLsn, parseLsn, INVALID_LSN } from '../../src/pg/lsn.ts';
import { RawClient, query } from '../support/raw-client.ts';
import type { Effects } from './reload-effect.ts';
import type { ReloadRig } from './reload-rig.ts';

/** A slot that keeps some segments and that nobody uses. */
async function lagging(rig: ReloadRig): Promise<void> {
  await rig.replication('CREATE_REPLICATION_SLOT "lagging" PHYSICAL RESERVE_WAL');
  await rig.switchSegments(5);
}

async function isLost(rig: ReloadRig): Promise<boolean> {
  return (await rig.walStatus('lagging')) === 'lost';
}

/** Whether one more slot may be made; it is not kept. */
async function oneMore(rig: ReloadRig): Promise<string> {
  const answer = await rig.replication('CREATE_REPLICATION_SLOT "more" PHYSICAL');
  await rig.request('DELETE', '/api/v1/slots/more', 'the-first-token-of-the-tests');
  return answer.startsWith('[') ? 'made' : answer;
}

/** Whether a standby may begin with a slot that is not there. */
async function unknownSlot(rig: ReloadRig): Promise<string> {
  const { client } = await RawClient.standby(rig.ports.pg, { user: 'postgres' });
  const end = parseLsn((await rig.status()).store.flushed_lsn ?? '') ?? INVALID_LSN;
  client.send(query(`START_REPLICATION SLOT "unknown" PHYSICAL ${formatLsn(end)}`));
  const answer = await client.until('WE');
  client.close();
  return answer.at(-1)?.type ?? 'closed';
}

const SMALL = { storage: { wal_keep_size: '1MB' } };

export const STORAGE_EFFECTS: Effects = {
  'storage.wal_keep_size': {
    arrange: (rig) => rig.switchSegments(5),
    after: { storage: { wal_keep_size: '1MB' } },
    observe: async (rig) => (await rig.status()).store.segments > 4,
    old: true,
    now: false,
  },
  'storage.max_slot_wal_keep_size': {
    before: SMALL,
    arrange: lagging,
    after: { storage: { max_slot_wal_keep_size: '2MB' } },
    observe: isLost,
    old: false,
    now: true,
  },
  'storage.quota': {
    before: SMALL,
    arrange: lagging,
    after: { storage: { quota: '4MB' } },
    observe: isLost,
    old: false,
    now: true,
  },
  'storage.max_replication_slots': {
    after: { storage: { max_replication_slots: 0 } },
    observe: oneMore,
    old: 'made',
    now: '53400',
  },
  idle_replication_slot_timeout: {
    arrange: lagging,
    after: { idle_replication_slot_timeout: '1s' },
    observe: isLost,
    old: false,
    now: true,
  },
  slots: {
    after: { slots: ['always'] },
    observe: async (rig) => (await rig.slotNames()).includes('always'),
    old: false,
    now: true,
  },
  auto_create_slots: {
    after: { auto_create_slots: 'on' },
    observe: unknownSlot,
    old: 'E',
    now: 'W',
  },
};
