// Is a call that hangs told from calls that come back, however many there are?
import { spawnSync } from 'node:child_process';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { registerThread, settleKernelWork } from '../../src/base/kernel-work.ts';

let directory: string;
let isBusy: boolean;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-kernel-'));
  isBusy = false;
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** Call after call until it is told to stop: at each moment one is under way. */
async function keepBusy(): Promise<void> {
  isBusy = true;
  const handle = await open(join(directory, 'busy'), 'w');
  while (isBusy) await handle.write('x', 0);
  await handle.close();
}

describe('the end of a process', () => {
  it('waits for nothing where nothing is under way', async () => {
    expect(await settleKernelWork(systemClock, 10_000)).toBe(true);
  });

  it('is not held up by calls that come back, though others follow', async () => {
    const busy = keepBusy();
    expect(await settleKernelWork(systemClock, 10_000)).toBe(true);
    isBusy = false;
    await busy;
  });

  it('ends threads, also one that is started meanwhile', async () => {
    const ended: string[] = [];
    const thread = (name: string, onEnd: () => void): { terminate(): Promise<void> } => ({
      terminate: async () => {
        ended.push(name);
        onEnd();
      },
    });
    registerThread(thread('first', () => registerThread(thread('second', () => {}))));
    expect(await settleKernelWork(systemClock, 10_000)).toBe(true);
    expect(ended).toEqual(['first', 'second']);
  });

  it.each([false, true])('knows a call that hangs (others come and go: %s)', async (withOthers) => {
    const busy = withOthers ? keepBusy() : Promise.resolve();
    const fifo = join(directory, 'fifo');
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
    // Nobody writes there: the call does not return.
    const hanging = open(fifo, 'r');
    expect(await settleKernelWork(systemClock, 400)).toBe(false);
    const writer = await open(fifo, 'r+');
    await (await hanging).close();
    await writer.close();
    isBusy = false;
    await busy;
  });
});
