// Every call that makes WAL durable fails once: fdatasync, write, fsync, rename, close; or the process is killed at it.
// After each: nothing more was acknowledged, the process ended with a clear word, the next start has every byte that was
// acknowledged, and a standby that followed all the time has everything in the end.
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { FULL_FAULTS, NEWEST_MAJOR, requires } from '../support/requirements.ts';
import { waitForState } from './fault-support.ts';
import type { Attempt } from './fault-support.ts';
import { DiskRig, foundEnd, injected, lastWord } from './disk-rig.ts';
import type { Injection } from './disk-rig.ts';

const SEED = randomInt(2 ** 31);

/** All of 1…30, or a few of them. */
function chosen(count: number, salt: number): number[] {
  const all = Array.from({ length: 30 }, (_, index) => index + 1);
  if (FULL_FAULTS) return all;
  const stride = 30 / count;
  const offset = (SEED + salt) % Math.max(1, Math.floor(stride));
  return Array.from({ length: count }, (_, index) => Math.floor(index * stride) + offset + 1);
}

requires('strace', `postgres-${NEWEST_MAJOR}`).describe('a disk that fails', () => {
  let rig: DiskRig;
  let directory: string;

  beforeAll(async () => {
    process.stderr.write(`disk errors: seed ${SEED}${FULL_FAULTS ? ', all of them' : ''}\n`);
    rig = await DiskRig.open();
    directory = join(rig.workspace.directory, 'store');
    const started = await rig.start(directory);
    await waitForState(started, 'streaming');
    await rig.followWithStandby();
    await rig.checkContent(started, directory);
    await started.process.stop('SIGTERM');
  });

  afterAll(async () => {
    await rig.close();
  });

  /** One process that the fault ends. Its start already was a recovery from the one before. */
  async function round(injection: Injection): Promise<Attempt> {
    const acknowledged = rig.acknowledgedLsn();
    const started = await rig.start(directory, { wrapper: injected(injection) });
    await rig.burstUntilEnd(started);
    expect(foundEnd(started) ?? acknowledged).toBeGreaterThanOrEqual(acknowledged);
    return started;
  }

  /** The same for an error: it is told, nothing is acknowledged behind it, and the process ends soon. */
  async function failingRound(injection: Injection): Promise<void> {
    const started = await round(injection);
    const told = `${JSON.stringify(injection)}: ${started.process.log.join('\n')}`;
    expect(started.process.end, told).toEqual({ exitCode: 1, signal: null });
    expect(lastWord(started), told).toMatch(/^walcast ends: /);
    expect(lastWord(started), told).toMatch(/EIO|ENOSPC|EDQUOT|EROFS/);
  }

  it.each([
    ['fdatasync', ['EIO', 'ENOSPC', 'EDQUOT']],
    ['pwrite64', ['EIO', 'EROFS']],
  ] as const)('at the n-th %s ends the process', { timeout: 600_000 }, async (calls, errors) => {
    const startMs = systemClock.nowMs();
    const numbers = chosen(3, calls.length);
    for (const when of numbers) {
      await failingRound({ calls, what: `error=${errors[when % errors.length]}:when=${when}` });
    }
    const seconds = (systemClock.nowMs() - startMs) / 1000 / numbers.length;
    process.stderr.write(`${calls}: n = ${numbers.join(' ')}; ${seconds.toFixed(1)} s each\n`);
  });

  const names = 'rename,renameat,renameat2';
  const later = FULL_FAULTS ? [1, 2, 3, 4, 5] : [1 + (SEED % 5)];
  it(
    'at a flush of the directory, or at a rename, ends the process',
    {
      timeout: 120_000,
    },
    async () => {
      const path = join(directory, 'pg_wal');
      for (const when of later) {
        await failingRound({ calls: 'fsync', what: `error=EIO:when=${when}`, path });
        await failingRound({ calls: names, what: `error=EIO:when=${when}` });
      }
    },
  );

  it('at the close of a segment ends the process', { timeout: 120_000 }, async () => {
    for (const _ of later) {
      const name = await rig.primary.value('SELECT pg_walfile_name(pg_current_wal_lsn())');
      const path = join(directory, 'pg_wal', name);
      await failingRound({ calls: 'close', what: 'error=EIO:when=1', path });
    }
  });

  describe('and a process that is killed', () => {
    it.each([
      ['before it renames', { calls: names }],
      ['before it flushes a directory or a new file', { calls: 'fsync' }],
      ['before it flushes WAL', { calls: 'fdatasync' }],
      ['before it writes', { calls: 'pwrite64' }],
    ] as const)('%s goes on from there', { timeout: 300_000 }, async (_, { calls }) => {
      for (const when of FULL_FAULTS ? [1, 2, 3, 5, 8, 13, 21] : [1 + (SEED % 12)]) {
        const started = await round({ calls, what: `signal=SIGKILL:when=${when}` });
        expect(started.process.end).toEqual({ exitCode: null, signal: 'SIGKILL' });
      }
    });
  });

  it('leaves nothing behind: every byte is there, and on the standby that followed', async () => {
    await rig.checkRestart(directory);
  });
});
