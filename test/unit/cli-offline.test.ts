// Do the commands that work on a directory say what they found, ask before they remove, and keep their hands off a store
// that somebody uses?
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { HandledSignal } from '../../src/cli/command.ts';
import { formatLsn, INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { NO_XMINS } from '../../src/pg/xmins.ts';
import { DirectoryLock } from '../../src/net/directory-lock.ts';
import { SlotFiles } from '../../src/slot/slot-files.ts';
import { walcast } from '../support/cli.ts';
import { saveControlOf } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const MB = 1 << 20;
const NAMES = ['30', '31', '32'].map((number) => `0000000100000000000000${number}`);
let directory: string;
let data: string;
let archive: string;
let wal: WalFixture;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-offline-'));
  data = join(directory, 'data');
  archive = join(directory, 'archive');
  await mkdir(join(data, 'pg_wal'), { recursive: true, mode: 0o700 });
  await mkdir(archive);
  wal = new WalFixture();
  wal.fill(2.4 * MB, 3);
  const bytes = wal.bytes();
  for (const [index, name] of NAMES.entries()) {
    const segment = Buffer.alloc(MB);
    bytes.copy(segment, 0, index * MB, (index + 1) * MB);
    await writeFile(join(archive, name), segment);
    if (index > 0) await writeFile(join(data, 'pg_wal', name), segment);
  }
  await saveStore();
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** A store that holds the second and third segment. */
async function saveStore(): Promise<void> {
  await saveControlOf(data, wal, { firstLsn: wal.startLsn + BigInt(MB) });
}

async function damage(file: string): Promise<void> {
  const handle = await open(file, 'r+');
  await handle.write(Buffer.from('damage'), 0, 6, 300_000);
  await handle.close();
}

describe('wal verify', () => {
  test('says what there is, and 0', async () => {
    const { code, out, err } = await walcast(['wal', 'verify', data]);
    expect([code, err]).toEqual([0, '']);
    expect(out.split('\n')).toEqual([
      `${data}/pg_wal: walcast store of system ${wal.systemIdentifier}, PostgreSQL 15, segments of 1.0 MB`,
      expect.stringMatching(
        /^timeline 1: 0\/3100000 to 0\/32\w+, 2 segments, \d+ records; it ends there: invalid record length/,
      ),
      'all of it is good (2.0 MB)',
      '',
    ]);
  });

  test('names file, LSN and reason of damage, and ends with 1', async () => {
    await damage(join(archive, NAMES[1] ?? ''));
    const text = await walcast(['wal', 'verify', 'archive'], { workingDirectory: directory });
    expect(text.code).toBe(1);
    expect(text.out).toMatch(/^damage: 000000010000000000000031 at 0\/314\w+: .* at 0\/314\w+$/m);
    expect(text.out).toMatch(/\n1 problem\n$/);
    const json = await walcast(['wal', 'verify', archive, '--json']);
    expect(json.code).toBe(1);
    expect(JSON.parse(json.out)).toMatchObject({
      ok: false,
      kind: 'archive',
      system_identifier: wal.systemIdentifier,
      postgresql_major: 15,
      wal_segment_size: MB,
      timelines: [
        { timeline: 1, start_lsn: '0/3000000', end_lsn: formatLsn(wal.endLsn), segments: 3 },
      ],
      problems: [{ kind: 'damage', timeline: 1, file: NAMES[1] }],
      more_problems: false,
    });
    const later = await walcast(['wal', 'verify', archive, '--from', '0/3200000']);
    expect(later.code).toBe(0);
  });

  test.each([
    [['wal', 'verify']],
    [['wal', 'verify', '']],
    [['wal', 'verify', 'a', 'b']],
    [['wal', 'verify', 'a', '--from', 'nonsense']],
  ])('%j is a mistake of usage', async (words) => {
    expect((await walcast(words)).code).toBe(2);
  });

  test('after the first signal the next one has its ordinary effect', async () => {
    let released = 0;
    let releasedAtSignal = 0;
    let signal: (name: HandledSignal) => void = () => {};
    const outcome = await walcast(['wal', 'verify', archive], {
      onSignal: (listener) => {
        signal = listener;
        return () => released++;
      },
      clock: {
        ...systemClock,
        setTimer: (ms, callback) => {
          signal('SIGHUP');
          expect(released).toBe(0);
          signal('SIGINT');
          releasedAtSignal = released;
          return systemClock.setTimer(ms, callback);
        },
      },
    });
    expect([outcome.code, releasedAtSignal]).toEqual([1, 1]);
  });

  test('nothing to verify is 1, and an interrupt too', async () => {
    expect(await walcast(['wal', 'verify', directory])).toMatchObject({
      code: 1,
      err: expect.stringContaining('holds no WAL segment that can be read'),
    });
    const interrupted = await walcast(['wal', 'verify', archive], {
      onSignal: (listener) => {
        listener('SIGINT');
        return () => {};
      },
    });
    expect(interrupted).toEqual({ code: 1, out: '', err: 'walcast wal verify: interrupted\n' });
  });
});

describe('wal ls', () => {
  test('lists a directory', async () => {
    await writeFile(join(archive, '00000002.history'), '1\t0/3200000\tx\n');
    const { code, out } = await walcast(['wal', 'ls', archive]);
    expect(code).toBe(0);
    expect(out).toBe(`name                     | kind    | timeline |   size | start_lsn | end_lsn
-------------------------+---------+----------+--------+-----------+----------
000000010000000000000030 | segment |        1 | 1.0 MB | 0/3000000 | 0/3100000
000000010000000000000031 | segment |        1 | 1.0 MB | 0/3100000 | 0/3200000
000000010000000000000032 | segment |        1 | 1.0 MB | 0/3200000 | 0/3300000
00000002.history         | history |        2 |   14 B | -         | -
(4 files, 3.0 MB)
`);
  });
});

describe('store import', () => {
  test('brings what is missing and says so', async () => {
    const { code, out } = await walcast(['store', 'import', archive, '--data', data]);
    expect(code).toBe(0);
    expect(out).toBe(
      `1 older segments and 0 B of newer WAL were imported\n` +
        `the store has 0/3000000 to ${formatLsn(wal.endLsn)} now, it had 0/3100000 to ${formatLsn(wal.endLsn)}\n`,
    );
    const again = await walcast(['store', 'import', archive, '--json'], {
      env: { WALCAST_STORAGE_DIRECTORY: data },
    });
    expect(JSON.parse(again.out)).toEqual({
      older_segments: 0,
      newer_bytes: 0,
      oldest_lsn: '0/3000000',
      end_lsn: formatLsn(wal.endLsn),
      oldest_lsn_before: '0/3000000',
      end_lsn_before: formatLsn(wal.endLsn),
      notes: [],
    });
  });

  test('finds the store through the configuration, and tells its mistakes with 78', async () => {
    const file = join(directory, 'walcast.yaml');
    await writeFile(file, `upstream:\n  conninfo: host=x\nstorage:\n  directory: ${data}\n`);
    expect((await walcast(['store', 'import', archive, '-c', file])).code).toBe(0);
    await writeFile(file, 'nonsense: 1\n');
    const { code, err } = await walcast(['store', 'import', archive, '-c', file]);
    expect(code).toBe(78);
    expect(err).toContain('unknown key `nonsense`');
  });

  test.each(['import', 'reset'])('%s refuses a store that is in use', async (word) => {
    const lock = await DirectoryLock.acquire(data);
    const words = word === 'import' ? ['import', archive] : ['reset', '--yes'];
    const { code, err } = await walcast(['store', ...words, '--data', data]);
    await lock.release();
    expect(code).toBe(1);
    expect(err).toContain(`is using data directory "${data}"`);
    expect(await readdir(join(data, 'pg_wal'))).toEqual(NAMES.slice(1));
  });

  test.each([
    [['store', 'import']],
    [['store', 'import', 'a', 'b', '--data', 'x']],
    [['store', 'import', 'a']],
    [['store', 'reset']],
    [['store', 'reset', 'x', '--data', 'y']],
  ])('%j is a mistake of usage', async (words) => {
    expect((await walcast(words)).code).toBe(2);
  });

  test('a directory that is not there is 1', async () => {
    expect(await walcast(['store', 'import', archive, '--data', '/nowhere'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('the data directory "/nowhere" cannot be used: ENOENT'),
    });
  });
});

describe('store reset', () => {
  const slots = (): SlotFiles => new SlotFiles(data);

  beforeEach(async () => {
    await slots().load();
    await slots().create({
      name: 'standby_a',
      restartLsn: toLsn(0x3100000n),
      invalidation: null,
      ...NO_XMINS,
    });
  });

  test('asks, and changes nothing without a yes', async () => {
    for (const answer of ['no', '', 'y']) {
      let question = '';
      const { code, err } = await walcast(['store', 'reset', '--data', data], {
        ask: async (text) => {
          question = text;
          return answer;
        },
      });
      expect([code, err]).toEqual([1, 'walcast store reset: nothing was changed\n']);
      expect(question).toContain(`WAL of system ${wal.systemIdentifier}, timeline 1, up to 0/`);
      expect(question).toContain('2 files; 1 slots stay by name.');
    }
    expect(await readdir(join(data, 'pg_wal'))).toEqual(NAMES.slice(1));
  });

  test('without anybody to ask it refuses unless it is told yes', async () => {
    const refused = await walcast(['store', 'reset', '--data', data], { ask: async () => null });
    expect(refused.code).toBe(2);
    expect(refused.err).toContain('there is nobody to ask here');
    expect((await walcast(['store', 'reset', '--data', data])).code).toBe(2);
    expect(existsSync(join(data, 'walcast.control'))).toBe(true);
  });

  test('removes the WAL; slots stay by name and keep nothing', async () => {
    const { code, out } = await walcast(['store', 'reset', '--data', data, '--yes']);
    expect([code, out]).toEqual([0, `${data}: 2 files were removed\n`]);
    expect(existsSync(join(data, 'walcast.control'))).toBe(false);
    expect(await readdir(join(data, 'pg_wal'))).toEqual([]);
    expect(await slots().load()).toEqual([
      { name: 'standby_a', restartLsn: INVALID_LSN, invalidation: null, ...NO_XMINS },
    ]);
    const again = await walcast(['store', 'reset', '--data', data]);
    expect([again.code, again.out]).toEqual([0, `${data}: there is no WAL\n`]);
  });

  test('clears away what a reset that was cut short, or a damaged control file, left', async () => {
    await writeFile(join(data, 'walcast.control'), 'damaged');
    expect((await walcast(['store', 'reset', '--data', data, '-y'])).code).toBe(0);
    expect(await readdir(join(data, 'pg_wal'))).toEqual([]);
  });

  test('keeps its hands off a directory that is not of walcast', async () => {
    await writeFile(join(data, 'PG_VERSION'), '15\n');
    const { code, err } = await walcast(['store', 'reset', '--data', data, '--yes']);
    expect(code).toBe(1);
    expect(err).toContain('is the data directory of a PostgreSQL server');
    expect(await readdir(join(data, 'pg_wal'))).toEqual(NAMES.slice(1));
  });
});
