// A stop after any step of what is done to a slot on the disk: is the slot afterwards as it was before, or as it was to be,
// and never half?
import type * as FsPromises from 'node:fs/promises';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import { NO_XMINS } from '../../src/pg/xmins.ts';
import { SlotFiles } from '../../src/slot/slot-files.ts';
import type { PersistentSlot } from '../../src/slot/slot.ts';

/** Calls that may still be made; afterwards every call fails, as nothing is done any more after a kill -9. */
const power = vi.hoisted(() => ({ left: Number.POSITIVE_INFINITY, used: 0 }));

vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof FsPromises>();
  const step = (): void => {
    if (power.left <= 0) throw new Error('stopped');
    power.left--;
    power.used++;
  };
  /** Writing half of what is given is a step of its own. */
  const openStepwise = async (
    ...args: Parameters<typeof real.open>
  ): Promise<FsPromises.FileHandle> => {
    step();
    const handle = await real.open(...args);
    const write = handle.write.bind(handle) as (...given: unknown[]) => Promise<unknown>;
    const sync = handle.sync.bind(handle);
    const stepwise = {
      write: async (bytes: Uint8Array, from: number, length: number, at: number) => {
        step();
        return await write(bytes, from, Math.min(length, 40), at);
      },
      sync: async () => {
        step();
        await sync();
      },
    };
    return Object.assign(handle, stepwise);
  };
  const stepped = <Args extends unknown[], Result>(call: (...args: Args) => Promise<Result>) => {
    return async (...args: Args): Promise<Result> => {
      step();
      return await call(...args);
    };
  };
  return {
    ...real,
    open: openStepwise,
    mkdir: stepped(real.mkdir as (...args: unknown[]) => Promise<unknown>),
    rename: stepped(real.rename),
    rm: stepped(real.rm),
    unlink: stepped(real.unlink),
  };
});

const BEFORE: PersistentSlot = {
  name: 'a',
  restartLsn: toLsn(0x1000000n),
  invalidation: null,
  ...NO_XMINS,
};
const AFTER: PersistentSlot = { ...BEFORE, restartLsn: toLsn(0x2000000n) };
const HELD: PersistentSlot = { ...AFTER, xmin: 0x2_0000_02f1n, catalogXmin: 0x1_ffff_fff0n };
const LOST: PersistentSlot = { ...BEFORE, restartLsn: toLsn(0n), invalidation: 'wal_removed' };

/** Runs `change` on a directory that holds `before`, stopped after `steps`. Gives what a start finds, and what it leaves. */
async function stoppedAfter(
  steps: number,
  before: readonly PersistentSlot[],
  change: (files: SlotFiles) => Promise<void>,
): Promise<{ found: PersistentSlot[]; names: string[]; isDone: boolean }> {
  const directory = await mkdtemp(join(tmpdir(), 'walcast-slots-'));
  try {
    const files = new SlotFiles(directory);
    await files.load();
    for (const slot of before) await files.create(slot);
    power.left = steps;
    const isDone = await change(files).then(
      () => true,
      () => false,
    );
    power.left = Number.POSITIVE_INFINITY;
    const found = await new SlotFiles(directory).load();
    return { found, names: await readdir(join(directory, 'pg_replslot')), isDone };
  } finally {
    power.left = Number.POSITIVE_INFINITY;
    await rm(directory, { recursive: true, force: true });
  }
}

describe.each([
  ['creating', [], [BEFORE], (files: SlotFiles) => files.create(BEFORE)],
  ['advancing', [BEFORE], [AFTER], (files: SlotFiles) => files.save(AFTER)],
  ['holding rows with', [BEFORE], [HELD], (files: SlotFiles) => files.save(HELD)],
  ['letting rows go with', [HELD], [AFTER], (files: SlotFiles) => files.save(AFTER)],
  ['losing', [BEFORE], [LOST], (files: SlotFiles) => files.save(LOST)],
  ['dropping', [BEFORE], [], (files: SlotFiles) => files.remove('a')],
] as const)('%s a slot', (_what, before, after, change) => {
  test('leaves the state before or the state after, whichever step was the last', async () => {
    let steps = 0;
    const states = new Set<string>();
    for (let isDone = false; !isDone; steps++) {
      const result = await stoppedAfter(steps, before, change);
      expect([before, after], `stopped after ${steps} steps`).toContainEqual(result.found);
      expect(result.names).toEqual(result.found.map(({ name }) => name));
      if (result.isDone) expect(result.found).toEqual(after);
      states.add(JSON.stringify(result.found, (_key, value: unknown) => String(value)));
      isDone = result.isDone;
    }
    expect(steps).toBeGreaterThan(3);
  });
});
