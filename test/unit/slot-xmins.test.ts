// What slots hold of the rows on the primary: how it moves, how it is kept over restarts, and on a full disk.
import fc from 'fast-check';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { encodeStateFile } from '../../src/base/state-file.ts';
import { formatLsn, INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { NO_XMINS } from '../../src/pg/xmins.ts';
import type { Xmins } from '../../src/pg/xmins.ts';
import { nameOfState, stateOfName } from '../../src/slot/slot-state-name.ts';
import { SlotStore } from '../../src/slot/slot-store.ts';
import { beginsToHold, slotXmins } from '../../src/slot/slot-xmins.ts';
import { INVALIDATION_CAUSES } from '../../src/slot/slot.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';

let directory: string;
let clock: ManualClock;
let slots: SlotStore;
/** How often something was saved. */
let changes = 0;

async function open(): Promise<SlotStore> {
  return await SlotStore.open({
    directory,
    wal: { oldestLsn: () => toLsn(0x1000000n), redoLsn: () => toLsn(0x1800028n) },
    bounds: () => null,
    slotsMax: 5,
    autoCreate: false,
    idleTimeoutMs: 0,
    facts: () => versionFacts(18),
    terminate: () => {},
    onChange: () => {
      changes += 1;
    },
    clock,
    log: silentLog,
  });
}

/** As a kill -9 leaves it: what is on the disk now is all there is. */
async function killed(): Promise<SlotStore> {
  const file = join(directory, 'pg_replslot/a/state');
  const onDisk = await readFile(file);
  await slots.close();
  await writeFile(file, onDisk);
  slots = await open();
  return slots;
}

const at = (xmin: bigint | null, catalogXmin: bigint | null = null): Xmins => ({
  xmin,
  catalogXmin,
});
const stored = (): Promise<string> => readFile(join(directory, 'pg_replslot/a/state'), 'utf8');
const held = (): unknown =>
  [...slots.held()].map(({ name, xmin, catalogXmin }) => ({ name, xmin, catalogXmin }));
const heldTemporarily = (): string[] =>
  [...slots.held()].filter(({ isTemporary }) => isTemporary).map(({ name }) => name);

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-slots-'));
  clock = new ManualClock();
  changes = 0;
  slots = await open();
  await slots.create({ name: 'a', temporary: false, reserveWal: true, pid: 7 });
});

afterEach(async () => {
  await slots.close();
  await rm(directory, { recursive: true, force: true });
});

describe('a slot that its standby feeds', () => {
  it('is on the disk at once when it begins to hold something, also with a kill -9 right behind', async () => {
    slots.feedBack('a', at(700n));
    // The clock stands still: nothing that is saved lazily is saved.
    await eventually(stored).toContain('"xmin": "700"');
    clock.advance(1_000);
    slots.feedBack('a', at(900n, 800n));
    await eventually(stored).toContain('"catalog_xmin": "800"');
    await killed();
    expect(held()).toEqual([{ name: 'a', xmin: 900n, catalogXmin: 800n }]);
  });

  it('moves on the disk a second later at most, so that a kill -9 leaves it older and never younger', async () => {
    slots.feedBack('a', at(700n));
    await slots.saved();
    slots.feedBack('a', at(900n));
    expect(held()).toEqual([{ name: 'a', xmin: 900n, catalogXmin: null }]);
    await killed();
    expect(held()).toEqual([{ name: 'a', xmin: 700n, catalogXmin: null }]);
    slots.feedBack('a', at(900n));
    clock.advance(1_000);
    await eventually(stored).toContain('"xmin": "900"');
  });

  it('keeps the disk in peace when it begins to hold something again and again', async () => {
    for (let turn = 0n; turn < 50n; turn += 1n) {
      slots.feedBack('a', at(700n + turn));
      slots.feedBack('a', NO_XMINS);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(changes).toBeLessThanOrEqual(2);
    slots.feedBack('a', at(900n));
    clock.advance(1_000);
    await eventually(stored).toContain('"xmin": "900"');
  });

  it('does not move back, and clears when it is told so', () => {
    slots.feedBack('a', at(700n));
    slots.feedBack('a', at(600n));
    expect(held()).toEqual([{ name: 'a', xmin: 700n, catalogXmin: null }]);
    slots.feedBack('a', NO_XMINS);
    expect(held()).toEqual([]);
    slots.feedBack('a', at(600n));
    expect(held()).toEqual([{ name: 'a', xmin: 600n, catalogXmin: null }]);
  });

  it('holds also while nobody is connected, until it is dropped', async () => {
    slots.acquire('a', 7);
    slots.feedBack('a', at(700n));
    slots.release('a', 7);
    expect(held()).toEqual([{ name: 'a', xmin: 700n, catalogXmin: null }]);
    expect(slots.list()).toMatchObject([{ name: 'a', xmin: 700n, catalogXmin: null }]);
    await slots.drop('a', { wait: false, pid: 9 });
    expect(held()).toEqual([]);
  });

  it('that is lost holds over a restart only until its standby had time to come back', async () => {
    await slots.close();
    const xmins = { xmin: '700', catalog_xmin: null };
    const body = { name: 'a', restart_lsn: '0/0', invalidated: 'wal_removed', ...xmins };
    const file = encodeStateFile({ magic: 'walcast-slot', version: 3 }, body);
    await writeFile(join(directory, 'pg_replslot/a/state'), file);
    slots = await open();
    clock.advance(59_999);
    slots.checkObsolete();
    expect(held()).toEqual([{ name: 'a', xmin: 700n, catalogXmin: null }]);
    slots.acquire('a', 7, toLsn(0x1000000n));
    clock.advance(1);
    slots.checkObsolete();
    expect(held()).toHaveLength(1);
    slots.release('a', 7);
    expect(held()).toEqual([]);
    await slots.saved();
    await killed();
    expect(held()).toEqual([]);
  });

  it('that is lost, and is not asked for again, lets go by itself', async () => {
    await slots.close();
    const body = { name: 'a', restart_lsn: '0/0', invalidated: 'idle_timeout', xmin: '700' };
    const file = encodeStateFile({ magic: 'walcast-slot', version: 3 }, body);
    await writeFile(join(directory, 'pg_replslot/a/state'), file);
    slots = await open();
    expect(held()).toHaveLength(1);
    clock.advance(60_000);
    slots.checkObsolete();
    expect(held()).toEqual([]);
    const before = changes;
    await slots.saved();
    // Whoever feeds back is told.
    expect(changes).toBe(before + 1);
  });

  it('holds as a temporary one until its session ends, and is never on the disk', async () => {
    await slots.create({ name: 't', temporary: true, reserveWal: false, pid: 9 });
    slots.feedBack('t', at(700n));
    await slots.create({ name: 'p', temporary: false, reserveWal: false, pid: 9 });
    slots.feedBack('p', at(800n));
    expect(held()).toEqual([
      { name: 't', xmin: 700n, catalogXmin: null },
      { name: 'p', xmin: 800n, catalogXmin: null },
    ]);
    expect(heldTemporarily()).toEqual(['t']);
    slots.feedBack('p', NO_XMINS);
    slots.dropTemporary(9);
    expect(held()).toEqual([]);
  });

  it('is nothing to one that is not there', () => {
    slots.feedBack('nobody', at(700n));
    expect(held()).toEqual([]);
  });
});

describe('a state file', () => {
  it.each([
    ['a number', 700],
    ['text', 'seven'],
    ['more than 64 bits', String(1n << 64n)],
    ['a negative number', '-1'],
  ])('with %s for an id is refused aloud', async (_what, xmin) => {
    await slots.close();
    const body = { name: 'a', restart_lsn: '0/1800028', invalidated: null, xmin };
    const file = encodeStateFile({ magic: 'walcast-slot', version: 3 }, body);
    await writeFile(join(directory, 'pg_replslot/a/state'), file);
    await expect(open()).rejects.toMatchObject({ code: 'SLOT_DAMAGED' });
  });
});

describe('a state in a name', () => {
  const xid = fc.option(fc.bigInt({ min: 3n, max: (1n << 64n) - 1n }), { nil: null });

  it('says all of it', () => {
    const states = fc.record({
      restartLsn: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(toLsn),
      invalidation: fc.constantFrom(null, ...INVALIDATION_CAUSES),
      xmin: xid,
      catalogXmin: xid,
    });
    fc.assert(
      fc.property(states, (state) => {
        expect(stateOfName(nameOfState(state))).toEqual(state);
      }),
    );
  });

  it('is read as it was written before there were ids in it', () => {
    expect(stateOfName('at-0-5000000')).toEqual({
      restartLsn: toLsn(0x5000000n),
      invalidation: null,
      ...NO_XMINS,
    });
    const lost = stateOfName('at-0-0.wal_removed');
    expect(lost).toEqual({ restartLsn: INVALID_LSN, invalidation: 'wal_removed', ...NO_XMINS });
    expect(formatLsn(lost?.restartLsn ?? toLsn(1n))).toBe('0/0');
    for (const name of ['at-0-0.xmin-', 'at-0-0.nothing', 'at-0-0.catalog-1.xmin-1', 'state']) {
      expect(stateOfName(name)).toBeNull();
    }
  });
});

it('moves back from what the next transaction id has not reached', () => {
  slots.feedBack('a', at(900n, 800n), 1_000n);
  slots.feedBack('a', at(700n, 650n), 850n);
  expect(held()).toEqual([{ name: 'a', xmin: 700n, catalogXmin: 800n }]);
});

describe('what a slot holds', () => {
  const maybe = fc.option(fc.bigInt({ min: 3n, max: 1n << 40n }), { nil: null });
  const xmins: fc.Arbitrary<Xmins> = fc.record({ xmin: maybe, catalogXmin: maybe });

  it('moves forward only, or from and to none', () => {
    fc.assert(
      fc.property(xmins, xmins, (before, said) => {
        const now = slotXmins(before, said);
        for (const key of ['xmin', 'catalogXmin'] as const) {
          const [from, to] = [before[key], said[key]];
          const isBack = from !== null && to !== null && from > to;
          expect(now[key]).toBe(isBack ? from : to);
        }
        const begins = (key: keyof Xmins): boolean => before[key] === null && now[key] !== null;
        expect(beginsToHold(before, now)).toBe(begins('xmin') || begins('catalogXmin'));
      }),
    );
  });
});
