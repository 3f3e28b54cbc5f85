// Is what walcast shows true when things have just changed: in the first seconds after a restart, across a promotion, and for
// a slot whose standby is gone until that is lost?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SlotJson } from '../../src/http/api-types.ts';
import { claimsOf, untrue } from '../harness/claims.ts';
import { seriesOf } from '../harness/exposition.ts';
import { Looker, standbyIn } from '../harness/looks.ts';
import { exactFigures } from '../harness/quiet.ts';
import { openValuesRig } from '../harness/values-rig.ts';
import type { ValuesRig } from '../harness/values-rig.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { eventually } from '../support/eventually.ts';
import { newestOfEdges } from '../support/requirements.ts';

/** Longer than figures get old. */
const WATCH_MS = 4_500;
const KEEP_SIZE = '8MB';
const SLOT_KEEP_SIZE = '16MB';

describe.each(newestOfEdges())('what is shown of standbys of PostgreSQL %i', (major) => {
  let rig: ValuesRig;
  let load: WriteLoad;

  beforeAll(async () => {
    rig = await openValuesRig({
      major,
      hasDirect: true,
      relaySettings: {
        storage: { wal_keep_size: KEEP_SIZE, max_slot_wal_keep_size: SLOT_KEEP_SIZE },
      },
      primarySettings: { wal_keep_size: KEEP_SIZE, max_slot_wal_keep_size: SLOT_KEEP_SIZE },
    });
    load = await startWriteLoad(() => rig.primary, 2, 5);
    await load.stop();
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  it('is of the horizon what a query on a standby holds, there, here and on the primary', async () => {
    await using looker = new Looker(rig);
    const standby = await rig.standby('standby_a').session();
    await standby.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    const held = await standby.value('SELECT txid_snapshot_xmin(txid_current_snapshot())');
    // What it holds is behind what all others do.
    await rig.primary.query('INSERT INTO lines SELECT 1; INSERT INTO lines SELECT 2');
    const horizons = async (): Promise<Record<string, unknown>> => {
      const { views } = await looker.look();
      const slot = views?.slots.find((one) => one.slot_name === 'standby_a');
      const row = views?.slotRows.find((one) => one['slot_name'] === 'standby_a');
      const { feedback } = views?.status ?? {};
      const [[there] = []] = await rig.primary.query(
        "SELECT xmin FROM pg_replication_slots WHERE slot_name = 'walcast'",
      );
      return {
        ofStandby: views === null ? null : standbyIn(views, 'standby_a')?.feedback?.xmin,
        ofSlot: slot?.xmin,
        inConsole: row?.['xmin'],
        ofAll: feedback?.xmin,
        heldBy: feedback?.held_by,
        onPrimary: there,
      };
    };
    await eventually(horizons).toEqual({
      ofStandby: held,
      ofSlot: held,
      inConsole: held,
      ofAll: held,
      heldBy: 'standby_a',
      onPrimary: held,
    });
    standby.close();
    await eventually(async () => (await horizons())['onPrimary'] !== held).toBe(true);
  });

  it('is true in the first seconds after a restart of walcast', async () => {
    await using looker = new Looker(rig);
    load.start();
    const watching = looker.watch(WATCH_MS);
    await load.waitForCommits(50);
    await rig.relay.kill();
    await rig.relay.start();
    const looks = await watching;
    await load.stop();
    looks.push(await looker.lookAtWitnesses());
    expect(untrue(claimsOf(looks))).toEqual([]);
    await exactFigures(rig, looker);
  });

  it('is true across a promotion', async () => {
    const { direct } = rig;
    await rig.primary.stop('fast');
    rig.primary = direct;
    await using looker = new Looker(rig);
    const watching = looker.watch(WATCH_MS);
    await direct.promote();
    load.start();
    const looks = await watching;
    await load.stop();
    looks.push(await looker.lookAtWitnesses());
    expect(untrue(claimsOf(looks))).toEqual([]);
    const { views } = await exactFigures(rig, looker);
    expect(views?.status.timeline).toBe(2);
    expect(
      views?.metrics.samples.get(seriesOf('walcast_upstream_timeline', { upstream: 'default' })),
    ).toBe(2);
  });

  it('is of a slot what the primary says of one that holds the same, until both are lost', async () => {
    await using looker = new Looker(rig);
    const { primary } = rig;
    await primary.configure({ max_wal_size: KEEP_SIZE });
    await primary.reload();
    await primary.query('CHECKPOINT');
    await primary.query("SELECT pg_create_physical_replication_slot('twin', true)");
    await primary.query('INSERT INTO lines SELECT 1');
    await exactFigures(rig, looker);
    await rig.standby('standby_a').kill();
    const [row] = await primary.query(
      `SELECT pg_replication_slot_advance('twin', '${await restartLsn()}')`,
    );
    expect(row).toBeDefined();
    const states: unknown[] = [];
    for (const megabytes of [2, 10, 8]) {
      await primary.query(
        `INSERT INTO lines SELECT i, repeat('x', 1000) FROM generate_series(1, ${megabytes * 1_000}) AS i`,
      );
      if (states.length === 2) await primary.query('CHECKPOINT');
      const [others] = [['standby_b', 'standby_c']];
      const { views } = await exactFigures(rig, looker, others);
      const ours = views?.slotRows.find((slot) => slot['slot_name'] === 'standby_a');
      const [theirs = []] = await primary.query(
        "SELECT restart_lsn, wal_status, safe_wal_size, active FROM pg_replication_slots WHERE slot_name = 'twin'",
      );
      const columns = ['restart_lsn', 'wal_status', 'safe_wal_size', 'active'];
      expect(columns.map((column) => ours?.[column] ?? '')).toEqual(theirs);
      states.push(ours?.['wal_status']);
    }
    expect(states).toEqual(['reserved', 'extended', 'lost']);
  });

  async function restartLsn(): Promise<string> {
    const slots = (await rig.relay.get('/api/v1/slots')) as readonly SlotJson[];
    return slots.find((slot) => slot.slot_name === 'standby_a')?.restart_lsn ?? '';
  }
});
