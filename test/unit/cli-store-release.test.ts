// Does `walcast store release` say which WAL goes, ask first, and remove nothing else: in a directory, and through the HTTP
// port of a running walcast?
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { DirectoryLock } from '../../src/net/directory-lock.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { AcknowledgedBeyond } from '../../src/status/status.ts';
import { loadControl, saveControl } from '../../src/wal/control-file.ts';
import { walcast } from '../support/cli.ts';
import { openTestPort, RecordingActions } from '../support/http-port.ts';
import { sampleStatus } from '../support/relay-status.ts';
import { saveControlOf } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const TOKEN = 'a-token-of-some-length';
const NAMES = ['000000010000000000000031.partial', '000000010000000000000032'];
const BEYOND: AcknowledgedBeyond = {
  timeline: toTimelineId(1),
  reportedFlushLsn: toLsn(0x3180000n),
  switchLsn: toLsn(0x3100100n),
  bytes: 0x7ff00,
};
const TEXT =
  '2 files with 3.0 kB of WAL from behind a switch point; timeline 1 was left at 0/3100100, and WAL up to 0/3180000 had ' +
  'been acknowledged: 524032 bytes with commits that were told to be safe and are on no timeline any more\n';

let directory: string;
let data: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-release-'));
  data = join(directory, 'data');
  await mkdir(join(data, 'pg_wal'), { recursive: true, mode: 0o700 });
  await writeFile(join(data, 'pg_wal', '000000020000000000000031'), 'alive');
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** Leaves dead WAL in the directory. */
async function leaveDead(acknowledgedBeyond: AcknowledgedBeyond | null): Promise<void> {
  const wal = new WalFixture();
  wal.fill(400_000, 3);
  await saveControlOf(data, wal, { firstLsn: wal.startLsn });
  const control = await loadControl(data);
  if (control === null) throw new Error('no control file');
  await saveControl(data, { ...control, acknowledgedBeyond });
  await mkdir(join(data, 'dead'));
  for (const name of NAMES) await writeFile(join(data, 'dead', name), Buffer.alloc(1536));
}

describe('of a directory', () => {
  test('says which LSNs and bytes, asks, and removes what lies there', async () => {
    await leaveDead(BEYOND);
    let question = '';
    const ask = (answer: string) => async (text: string) => {
      question = text;
      return answer;
    };
    const refused = await walcast(['store', 'release', '--data', data], { ask: ask('y') });
    expect(refused).toEqual({
      code: 1,
      out: '',
      err: 'walcast store release: nothing was changed\n',
    });
    expect(question).toBe(`${data}: ${TEXT}Remove it? Type "yes": `);
    expect((await readdir(join(data, 'dead'))).toSorted()).toEqual(NAMES);
    expect((await walcast(['store', 'release', '--data', data])).code).toBe(2);

    const done = await walcast(['store', 'release', '--data', data], { ask: ask('yes') });
    expect(done).toEqual({
      code: 0,
      out: `${data}: ${TEXT}2 files were removed\n`,
      err: '',
    });
    expect(await readdir(join(data, 'dead'))).toEqual([]);
    expect((await loadControl(data))?.acknowledgedBeyond).toBeNull();
    expect(existsSync(join(data, 'pg_wal', '000000020000000000000031'))).toBe(true);
    const again = await walcast(['store', 'release', '--data', data]);
    expect(again).toEqual({ code: 0, out: `${data}: there is no dead WAL\n`, err: '' });
  });

  test('tells a script as JSON what went, also of WAL that nobody was told of', async () => {
    await leaveDead(null);
    const { code, out } = await walcast(['store', 'release', '--data', data, '--yes', '--json']);
    expect([code, JSON.parse(out)]).toEqual([0, { files: 2, bytes: 3072, acknowledged: null }]);
    const again = await walcast(['store', 'release', '--data', data, '--json']);
    expect(JSON.parse(again.out)).toEqual({ files: 0, bytes: 0, acknowledged: null });
  });

  test('keeps its hands off one that a running walcast holds', async () => {
    await leaveDead(BEYOND);
    const lock = await DirectoryLock.acquire(data);
    const { code, err } = await walcast(['store', 'release', '--data', data, '--yes']);
    await lock.release();
    expect(code).toBe(1);
    expect(err).toContain(`is using data directory "${data}"`);
    expect((await readdir(join(data, 'dead'))).toSorted()).toEqual(NAMES);
  });

  test.each([
    [['store', 'release']],
    [['store', 'release', 'x', '--data', 'y']],
    [['store', 'release', '--url', 'http://127.0.0.1:1', '--data', 'y']],
    [['store', 'release', '--url', 'nonsense']],
  ])('%j is a mistake of usage', async (words) => {
    expect((await walcast(words)).code).toBe(2);
  });
});

describe('of a running walcast', () => {
  async function serve(dead: Partial<RecordingActions['dead']>): Promise<{
    actions: RecordingActions;
    words: string[];
  }> {
    const tokenFile = join(directory, 'token');
    await writeFile(tokenFile, `${TOKEN}\n`);
    const actions = new RecordingActions();
    actions.dead = { ...actions.dead, ...dead };
    const status = sampleStatus();
    const source = {
      status: () => ({ ...status, store: { ...status.store, dead: actions.dead } }),
    };
    const server = await openTestPort({ actions, source, token: () => TOKEN });
    onTestFinished(() => server.close());
    return {
      actions,
      words: ['store', 'release', '--url', server.url, '--token-file', tokenFile],
    };
  }

  test('asks with what its status says, and tells what the answer says', async () => {
    const { actions, words } = await serve({ files: 2, bytes: 3072, acknowledged: BEYOND });
    let question = '';
    const { code, out } = await walcast(words, {
      ask: async (text) => {
        question = text;
        return 'yes';
      },
    });
    expect(question).toContain(`${words[3]}/: ${TEXT}`);
    expect([code, out]).toEqual([0, `${words[3]}/: ${TEXT}2 files were removed\n`]);
    expect(actions.done).toEqual(['release dead WAL']);
  });

  test('changes nothing without a yes, nor without anything to remove', async () => {
    const some = await serve({ files: 1, bytes: 10 });
    expect((await walcast(some.words)).code).toBe(2);
    const none = await serve({});
    const { code, out } = await walcast(none.words);
    expect([code, out]).toEqual([0, `${none.words[3]}/: there is no dead WAL\n`]);
    expect([some.actions.done, none.actions.done]).toEqual([[], []]);
  });

  test('is refused without the token, and tells why', async () => {
    const { actions, words } = await serve({ files: 1, bytes: 10 });
    const { code, err } = await walcast([...words.slice(0, 4), '--yes']);
    expect(code).toBe(1);
    expect(err).toContain('token');
    actions.refusal = { sqlstate: '57P03', message: 'the database system is starting up' };
    const refused = await walcast([...words, '--yes']);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('the database system is starting up (SQLSTATE 57P03)');
    expect(actions.done).toEqual(['release dead WAL']);
  });
});
