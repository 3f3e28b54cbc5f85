// What becomes of walcast when the file system under its store is full, ends up read-only, is shut down, or loses what an
// fsync was to keep? On real file systems of their own, mounted from a file.
import { rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { FREE_SPACE_INTERVAL_MS } from '../../src/config/limits.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { runCommand } from '../../src/demo/postgres-user.ts';
import { formatLsn } from '../../src/pg/lsn.ts';
import { streamsOf } from '../harness/ledger.ts';
import { loopVolumeProblem, openLoopVolume } from '../harness/loop-volume.ts';
import type { LoopVolume } from '../harness/loop-volume.ts';
import { FULL_FAULTS, needs, NEWEST_MAJOR, requires } from '../support/requirements.ts';
import { complaints, httpJson, logLines, remount, waitForState } from './fault-support.ts';
import type { Attempt } from './fault-support.ts';
import { DiskRig, lastWord } from './disk-rig.ts';

/** Longer than walcast waits for space before it lets go of the upstream. */
const FULL_SECONDS = FULL_FAULTS ? 66 : 4;

/** Asks the file system of a directory to stop at once, without writing its journal. (FS_IOC_SHUTDOWN, NOLOGFLUSH) */
const SHUT_DOWN =
  'open(F, "<", $ARGV[0]) or die $!; $f = pack("L", 2); ioctl(F, 0x8004587d, $f) or die $!';

requires('perl', `postgres-${NEWEST_MAJOR}`).describe('the file system under the store', () => {
  let rig: DiskRig;

  let problem: string | null;

  beforeAll(async () => {
    rig = await DiskRig.open();
    problem = await loopVolumeProblem(rig.workspace);
  });

  beforeEach((context) => {
    needs(context, problem);
  });

  afterAll(async () => {
    await rig.close();
  });

  /** Does something with a volume of its own. */
  async function withVolume(
    name: string,
    action: (volume: LoopVolume) => Promise<void>,
  ): Promise<void> {
    const volume = await openLoopVolume(rig.workspace, { name, megabytes: 64 });
    if (typeof volume === 'string') throw new Error(volume);
    rig.beginStore();
    try {
      await action(volume);
    } finally {
      await rig.stop();
    }
  }

  async function asRoot(program: string, ...args: readonly string[]): Promise<void> {
    const path = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin';
    const result = await runCommand('env', [path, program, ...args], { user: null, cwd: '/' });
    if (result.exitCode !== 0) throw new Error(`${program}: ${result.stderr}`);
  }

  /** Unmounts and mounts again, as a person does who has looked at the disk. */
  async function mountAgain(volume: LoopVolume): Promise<void> {
    await asRoot('umount', volume.directory);
    await volume.mount();
  }

  /** Writes until walcast ends over the error of its disk; nothing is acknowledged that is not there afterwards. */
  async function expectEnd(started: Attempt): Promise<void> {
    await rig.burstUntilEnd(started);
    expect(started.process.end, started.process.log.join('\n')).toEqual({
      exitCode: 1,
      signal: null,
    });
    expect(lastWord(started)).toMatch(/^walcast ends: .*(EIO|EROFS|ENOSPC)/);
    const lines = logLines(started.process);
    const failed = lines.find(({ msg }) => /could not be|the WAL store failed/.test(msg));
    const ended = lines.find(({ msg }) => msg.startsWith('walcast ends'));
    const lasted =
      Date.parse(String(ended?.fields['ts'])) - Date.parse(String(failed?.fields['ts']));
    expect(lasted).toBeLessThan(2_000);
  }

  /** Takes all space of a volume but `leaveBytes`. */
  async function fill(directory: string, leaveBytes: number): Promise<string> {
    const filler = join(directory, 'filler');
    const { bavail, bsize } = await statfs(directory);
    await writeFile(filler, new Uint8Array(bavail * bsize - leaveBytes));
    return filler;
  }

  it(
    `is full for ${FULL_SECONDS} s: it waits, says so, and goes on by itself`,
    {
      timeout: 180_000,
    },
    async () => {
      await withVolume('full', waitOutFullDisk);
    },
  );

  async function waitOutFullDisk(volume: LoopVolume): Promise<void> {
    const directory = join(volume.directory, 'store');
    const started = await rig.start(directory);
    await waitForState(started, 'streaming');
    await rig.checkContent(started, directory);
    const filler = await fill(volume.directory, 1_400_000);
    await expectWarned(started);
    const streams = streamsOf(rig.recorder.ledger).length;
    await rig.burstUntilLog(started, /no space for WAL/);
    const acknowledged = rig.acknowledgedLsn();
    const replies = rig.replyCount();
    await new Promise<void>((resolve) => systemClock.setTimer(FULL_SECONDS * 1000, resolve));
    await rig.burst();
    expect(formatLsn(rig.acknowledgedLsn())).toBe(formatLsn(acknowledged));
    expect(rig.replyCount() - replies).toBeGreaterThan(2);
    expect(started.process.end).toBeNull();
    expect(complaints(started.process).filter(({ msg }) => /no space/.test(msg))).toHaveLength(1);
    const lastEnd = streamsOf(rig.recorder.ledger).at(-1)?.end ?? null;
    if (FULL_FAULTS) expect(lastEnd).not.toBeNull();
    else expect([lastEnd, streamsOf(rig.recorder.ledger).length]).toEqual([null, streams]);
    await rm(filler);
    await rig.checkContent(started, directory);
    await started.process.waitForLog(/there is space for WAL again/);
    expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
    await rig.checkRestart(directory);
  }

  /** Before it is full an operator can read that it will be, and how much is left. */
  async function expectWarned(started: Attempt): Promise<void> {
    await pollUntil(
      'a finding disk_filling',
      async () => {
        const status = await httpJson(started.httpPort, '/api/v1/status');
        expect(status['state']).not.toBe('full');
        const store = await httpJson(started.httpPort, '/api/v1/store');
        const isLow = Number(store['free_bytes']) < 2_000_000;
        const isTold = JSON.stringify(status['findings']).includes('"disk_filling"');
        return isLow && isTold ? true : null;
      },
      { timeoutMs: 2 * FREE_SPACE_INTERVAL_MS },
    );
  }

  it.each([
    ['is shut down', 'perl', ['-e', SHUT_DOWN]],
    ['becomes read-only after an error', 'mount', ['-o', 'remount,abort']],
  ] as const)(
    '%s: walcast ends, and goes on when it is back',
    {
      timeout: 60_000,
    },
    async (what, program, args) => {
      await withVolume(what.replaceAll(' ', '-'), async (volume) => {
        const directory = join(volume.directory, 'store');
        const started = await rig.start(directory);
        await waitForState(started, 'streaming');
        // Something is acknowledged that has to be there afterwards, and more is on its way.
        await rig.checkContent(started, directory);
        const writing = rig.burst();
        await asRoot(program, ...args, volume.directory);
        await writing;
        await expectEnd(started);
        await mountAgain(volume);
        await rig.checkRestart(directory);
      });
    },
  );

  it('is made read-only by hand: not while WAL is written, and with a clear end while none is', async () => {
    await withVolume('by-hand', async (volume) => {
      const directory = join(volume.directory, 'store');
      const readOnly = (): Promise<void> => remount(volume.directory, 'ro');
      let started = await rig.start(directory);
      await waitForState(started, 'streaming');
      await rig.checkContent(started, directory);
      // A segment is open for writing.
      await expect(readOnly()).rejects.toThrow(/busy/);
      await rig.checkContent(started, directory);
      for (let isReadOnly = false; !isReadOnly;) {
        expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
        started = await rig.start(directory);
        await waitForState(started, 'streaming');
        // The primary may just have written something of its own.
        isReadOnly = await readOnly().then(
          () => true,
          () => false,
        );
      }
      await expectEnd(started);
      expect(lastWord(started)).toMatch(/EROFS/);
      await remount(volume.directory, 'rw');
      await rig.checkRestart(directory);
    });
  });

  it(
    'loses what an fsync was to keep, and says it only once: walcast believes nothing it reads there',
    {
      timeout: 60_000,
    },
    async () => {
      await withVolume('lying', async (volume) => {
        const directory = join(volume.directory, 'store');
        const started = await rig.start(directory);
        await waitForState(started, 'streaming');
        await rig.burst();
        // The disk behind the file system has no more blocks to give; the file system itself has plenty.
        const images = `${volume.directory}-images`;
        await asRoot('sync', '-f', volume.directory);
        const { blocks, bavail, bsize } = await statfs(images);
        await remount(images, `size=${(blocks - bavail) * bsize + (3 << 20)}`);
        await expectEnd(started);
        await remount(images, 'size=1g');
        await mountAgain(volume);
        await rig.checkRestart(directory);
      });
    },
  );
});
