// Does a flush of WAL change data only? Once WAL is removed as fast as it comes, no file of WAL grows or is cut, and hardly
// one is made, as the system calls of the process show.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { signalProcess } from '../../src/demo/postgres-process.ts';
import { NEWEST_MAJOR, requires } from '../support/requirements.ts';
import { programPid, waitForFlushed, waitForState } from './fault-support.ts';
import { DiskRig } from './disk-rig.ts';

const CALLS = 'openat,pwrite64,pwritev,ftruncate,fallocate,fdatasync';
const SEGMENT_BYTES = 1 << 20;

requires('strace', `postgres-${NEWEST_MAJOR}`).describe('a store that removes what it gets', () => {
  let rig: DiskRig;

  beforeAll(async () => {
    rig = await DiskRig.open();
  });

  afterAll(async () => {
    await rig.close();
  });

  it(
    'makes its segments of old ones and changes the size of none',
    { timeout: 120_000 },
    async () => {
      const directory = join(rig.workspace.directory, 'store');
      const trace = join(rig.workspace.directory, 'trace');
      const strace = ['strace', '-f', '-y', '-qq', '-s', '4', '--seccomp-bpf'];
      const started = await rig.start(directory, {
        wrapper: [
          'env',
          'WALCAST_STORAGE_WAL_KEEP_SIZE=2MB',
          ...strace,
          '-e',
          `trace=${CALLS}`,
          '-o',
          trace,
        ],
      });
      await waitForState(started, 'streaming');
      const write = async (): Promise<void> => {
        await rig.burst();
        await waitForFlushed(started, await rig.primary.walPosition());
      };
      for (let count = 0; count < 12; count++) await write();
      const before = (await readFile(trace, 'utf8')).length;
      for (let count = 0; count < 16; count++) await write();
      signalProcess(await programPid(started.process), 'SIGTERM');
      expect(await started.process.ended).toEqual({ exitCode: 0, signal: null });
      const lines = (await readFile(trace, 'utf8')).slice(before).split('\n');
      const ofWal = lines.filter((line) => line.includes('/pg_wal/'));
      expect(ofWal.filter((line) => /ftruncate|fallocate/.test(line))).toEqual([]);
      const opened = new Set(
        ofWal.flatMap((line) => /pg_wal\/([0-9A-F]{24})/.exec(line)?.[1] ?? []),
      );
      const made = ofWal.filter((line) => line.includes('O_CREAT'));
      // Where removal is late, a segment is made of zeros after all.
      expect(opened.size).toBeGreaterThan(8);
      expect(made.length, made.join('\n')).toBeLessThan(opened.size / 2);
      const ends = ofWal.flatMap((line) => {
        const [, offset, written] = /pwrite64\(.*, (\d+)\) += (\d+)$/.exec(line) ?? [];
        return offset === undefined ? [] : [Number(offset) + Number(written)];
      });
      expect(ends.length).toBeGreaterThan(20);
      expect(Math.max(...ends)).toBeLessThanOrEqual(SEGMENT_BYTES);
      expect(ofWal.filter((line) => line.includes('fdatasync(')).length).toBeGreaterThan(10);
    },
  );
});
