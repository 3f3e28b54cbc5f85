// What becomes of walcast when the disk does not answer, or when space, quota or the size of files have a limit? Each by
// what strace or prlimit does to the process.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { FULL_FAULTS, NEWEST_MAJOR, requires } from '../support/requirements.ts';
import { complaints, logLines, programPid, waitForState } from './fault-support.ts';
import { DiskRig, injected, lastWord } from './disk-rig.ts';
import { systemClock } from '../../src/base/clock.ts';
import { signalProcess } from '../../src/demo/postgres-process.ts';
import { runCommand } from '../../src/demo/postgres-user.ts';

/** Long against what walcast waits; strace itself lets go of a killed process only when the delay is over. */
const HANGS = 'delay_enter=5500000';

requires('strace', 'prlimit', `postgres-${NEWEST_MAJOR}`).describe('a disk with limits', () => {
  let rig: DiskRig;
  let directory: string;

  beforeAll(async () => {
    rig = await DiskRig.open();
    directory = join(rig.workspace.directory, 'store');
    const started = await rig.start(directory);
    await waitForState(started, 'streaming');
    await rig.checkContent(started, directory);
    await started.process.stop('SIGTERM');
  });

  afterEach(async () => {
    await rig.stop();
  });

  afterAll(async () => {
    await rig.close();
  });

  it.each(FULL_FAULTS ? ['ENOSPC', 'EDQUOT'] : ['ENOSPC'])(
    '%s at writes is waited out',
    async (error) => {
      const what = `error=${error}:when=4..6`;
      const started = await rig.start(directory, {
        wrapper: injected({ calls: 'pwrite64', what }),
      });
      await waitForState(started, 'streaming');
      await rig.burstUntilLog(started, /no space/);
      await rig.checkContent(started, directory);
      await started.process.waitForLog(/there is space for WAL again/);
      expect(complaints(started.process).map(({ fields }) => fields['error'])).toEqual([
        expect.stringContaining(error),
      ]);
      signalProcess(await programPid(started.process), 'SIGTERM');
      expect(await started.process.ended).toEqual({ exitCode: 0, signal: null });
      await rig.checkRestart(directory);
    },
  );

  const askedTo = [
    ['is asked twice', ['SIGTERM', 'SIGTERM']],
    ['is asked to end at once', ['SIGINT']],
  ] as const;
  it.each(FULL_FAULTS ? askedTo : askedTo.slice(0, 1))(
    'an fsync that hangs does not keep a process that %s',
    async (_, signals) => {
      const started = await rig.start(directory, {
        wrapper: injected({ calls: 'fdatasync', what: `${HANGS}:when=3+` }),
      });
      await waitForState(started, 'streaming');
      const pid = await programPid(started.process);
      const acknowledged = rig.acknowledgedLsn();
      for (let count = 0; count < 5; count++) await rig.burst();
      const timeOf = (text: RegExp): number => {
        const line = logLines(started.process).find(({ msg }) => text.test(msg));
        return Date.parse(String(line?.fields['ts']));
      };
      for (const [index, signal] of signals.entries()) {
        // Two of a kind that are pending at once are one.
        if (index > 0) await started.process.waitForLog(/"msg":"draining"/);
        signalProcess(pid, signal);
      }
      expect(await started.process.ended).toEqual({ exitCode: null, signal: 'SIGKILL' });
      const killed = /a call to the disk does not come back/;
      expect(started.process.log.join('\n')).toMatch(killed);
      expect(timeOf(killed) - timeOf(/walcast stops at once/)).toBeLessThan(4_000);
      expect(rig.acknowledgedLsn()).toBeGreaterThanOrEqual(acknowledged);
      await rig.checkRestart(directory);
    },
  );

  it('no free file descriptor is waited out', async () => {
    const started = await rig.start(directory);
    await waitForState(started, 'streaming');
    await rig.checkContent(started, directory);
    const pid = String(await programPid(started.process));
    const limitTo = async (count: number): Promise<void> => {
      const args = ['--pid', pid, `--nofile=${count}:`];
      const result = await runCommand('prlimit', args, { user: null, cwd: '/' });
      expect(result.stderr).toBe('');
    };
    // Those that are open stay so; whatever is opened from now on is one too many.
    await limitTo(3);
    await rig.burstUntilLog(started, /no file descriptor for WAL/);
    const acknowledged = rig.acknowledgedLsn();
    // Longer than it takes until the control file is due.
    for (let count = 0; count < 3; count++) {
      await rig.burst();
      await new Promise<void>((resolve) => systemClock.setTimer(1000, resolve));
    }
    expect(started.process.end, started.process.log.join('\n')).toBeNull();
    expect(rig.acknowledgedLsn()).toBe(acknowledged);
    await limitTo(1024);
    await rig.checkContent(started, directory);
    expect(complaints(started.process)).toHaveLength(1);
    expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
    await rig.checkRestart(directory);
  });

  it('a limit on file sizes is named', async () => {
    rig.beginStore();
    const fresh = join(rig.workspace.directory, 'limited');
    await mkdir(fresh, { mode: 0o700 });
    const started = await rig.start(fresh, { wrapper: ['prlimit', '--fsize=600000'] });
    expect(await started.process.ended).toEqual({ exitCode: 1, signal: null });
    expect(lastWord(started)).toMatch(/EFBIG/);
  });
});
