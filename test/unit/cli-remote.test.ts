// Do the commands that talk to a running walcast ask for the right thing, tell what came of it, and end with their codes?
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { HandledSignal } from '../../src/cli/command.ts';
import type { HttpServer, HttpSources } from '../../src/http/server.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { walcast } from '../support/cli.ts';
import type { CliOutcome } from '../support/cli.ts';
import { openTestPort, RecordingActions, sampleFile } from '../support/http-port.ts';
import { sampleStatus } from '../support/relay-status.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const TOKEN = 'a-token-of-some-length';
let directory: string;
let tokenFile: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-cli-remote-'));
  tokenFile = join(directory, 'token');
  writeFileSync(tokenFile, `${TOKEN}\n`);
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** A port that wants the token, with actions that are written down. */
async function serve(
  sources: Partial<HttpSources> = {},
): Promise<{ server: HttpServer; actions: RecordingActions; url: string }> {
  const actions = new RecordingActions();
  const server = await openTestPort({ actions, token: () => TOKEN, ...sources });
  onTestFinished(() => server.close());
  return { server, actions, url: server.url };
}

async function type(url: string, ...words: string[]): Promise<CliOutcome> {
  return await walcast([...words, '--url', url, '--token-file', tokenFile], {
    workingDirectory: directory,
  });
}

describe('slots', () => {
  test('are listed as pg_replication_slots shows them', async () => {
    const slots = [
      {
        ...sampleStatus().slots[0],
        name: 'standby_a',
        temporary: false,
        activePid: 42,
        restartLsn: toLsn(0x2000000n),
        xmin: null,
        catalogXmin: null,
        walStatus: 'extended' as const,
        safeWalSize: -3 * 1024 * 1024,
        invalidationReason: null,
        inactiveSinceMs: null,
      },
      {
        ...sampleStatus().slots[0],
        name: 'unused',
        temporary: false,
        activePid: null,
        restartLsn: INVALID_LSN,
        xmin: null,
        catalogXmin: null,
        walStatus: null,
        safeWalSize: null,
        invalidationReason: null,
        inactiveSinceMs: null,
      },
    ];
    const { url } = await serve({ source: { status: () => sampleStatus({ slots }) } });
    const { code, out } = await type(url, 'slots', 'list');
    expect(code).toBe(0);
    expect(out.split('\n')[0]).toMatch(/^slot_name +\| slot_type \| temporary \| active_pid/);
    expect(out).toMatch(
      /standby_a \| physical +\| no +\| +42 \| 0\/2000000 +\| extended +\| +-3.0 MB \| -/,
    );
    expect(out).toMatch(/unused +\| physical +\| no +\| +- \| - +\| -/);
    const json: unknown = JSON.parse((await type(url, 'slots', 'list', '--json')).out);
    expect(json).toMatchObject([
      { slot_name: 'standby_a', active: true },
      { slot_name: 'unused', restart_lsn: null },
    ]);
  });

  test('are created and dropped', async () => {
    const { url, actions } = await serve();
    expect(await type(url, 'slots', 'create', 'one')).toMatchObject({
      code: 0,
      out: 'slot one was created\n',
    });
    expect(await type(url, 'slots', 'create', 'two', '--reserve-wal', '--json')).toMatchObject({
      code: 0,
      out: '{"slot_name":"two","created":true}\n',
    });
    expect(await type(url, 'slots', 'drop', 'one')).toMatchObject({
      code: 0,
      out: 'slot one was dropped\n',
    });
    expect(actions.done).toEqual(['create one false', 'create two true', 'drop one']);
  });

  test('a refusal is told with its SQLSTATE and what to do', async () => {
    const { url, actions } = await serve();
    actions.refusal = {
      sqlstate: '42710',
      message: 'replication slot "one" already exists',
      hint: 'Take another name.',
    };
    expect(await type(url, 'slots', 'create', 'one')).toEqual({
      code: 1,
      out: '',
      err: 'walcast slots create: replication slot "one" already exists (SQLSTATE 42710). Take another name.\n',
    });
  });

  test('without the token nothing is changed, and the message says what is missing', async () => {
    const { url, actions } = await serve();
    const { code, err } = await walcast(['slots', 'drop', 'one', '--url', url]);
    expect(code).toBe(1);
    expect(err).toContain('token');
    expect(actions.done).toEqual([]);
    const named = await walcast(['slots', 'drop', 'one', '--url', url], {
      env: { WALCAST_HTTP_TOKEN_FILE: tokenFile },
    });
    expect(named.code).toBe(0);
  });

  test('a token file that is missing, or holds no token, is told', async () => {
    const words = ['slots', 'list', '--token-file'];
    const missing = await walcast([...words, join(directory, 'nowhere')]);
    expect(missing).toMatchObject({ code: 1, err: expect.stringContaining('cannot be read') });
    const file = join(directory, 'no-token');
    writeFileSync(file, 'two words\n');
    expect((await walcast([...words, file])).err).toContain('holds no token');
  });

  test.each([
    [['slots']],
    [['slots', 'lsit']],
    [['slots', '--url', 'http://x', 'list']],
    [['slots', 'list', 'more']],
    [['slots', 'create']],
    [['slots', 'create', 'a', 'b']],
    [['slots', 'drop', '']],
    [['slots', 'list', '--url', 'nonsense']],
  ])('%j is a mistake of usage', async (words) => {
    const { code, out, err } = await walcast(words);
    expect([code, out]).toEqual([2, '']);
    expect(err).not.toBe('');
  });

  test('an unknown command of the group is answered with the one that was meant', async () => {
    expect((await walcast(['slots', 'crate'])).err).toBe(
      'walcast slots: unknown command "crate"; did you mean "create"? "walcast help slots" shows what there is.\n',
    );
  });
});

describe('drain', () => {
  test('asks once, shows how far it is, and ends when the port is closed', async () => {
    const { url, server, actions } = await serve();
    let shown = '';
    let asked = 0;
    const outcome = await walcast(['drain', '--url', url, '--token-file', tokenFile], {
      isErrorTerminal: true,
      printError: (text) => {
        shown += text;
        asked++;
        if (asked === 1) void server.close();
      },
      clock: {
        ...systemClock,
        setTimer: (ms, callback) => systemClock.setTimer(ms === 500 ? 0 : ms, callback),
      },
    });
    expect(outcome).toMatchObject({ code: 0, out: 'walcast is gone\n' });
    expect(actions.done).toEqual(['drain']);
    expect(shown).toContain('draining: 1 standbys connected, 4.3 kB behind in all');
    expect(shown.endsWith('\r\u001b[2K')).toBe(true);
  });

  test('waits on while it is told that walcast is shutting down, and says nothing of it', async () => {
    let refused = 0;
    const ending = createServer((request, response) => {
      const isAsked = request.method === 'POST';
      response.writeHead(isAsked ? 202 : 503, {
        'content-type': 'application/problem+json',
        connection: 'close',
      });
      response.end(
        JSON.stringify(
          isAsked
            ? {}
            : { type: 'urn:walcast:problem:shutting-down', detail: 'walcast is shutting down' },
        ),
      );
      refused += isAsked ? 0 : 1;
      if (refused === 3) ending.close();
    });
    await new Promise<void>((resolve) => ending.listen(0, '127.0.0.1', resolve));
    const address = ending.address();
    const port = typeof address === 'object' ? address?.port : null;
    const outcome = await walcast(
      ['drain', '--url', `http://127.0.0.1:${port}`, '--token-file', tokenFile],
      {
        clock: {
          ...systemClock,
          setTimer: (ms, callback) => systemClock.setTimer(ms === 500 ? 0 : ms, callback),
        },
      },
    );
    expect(outcome).toEqual({ code: 0, out: 'walcast is gone\n', err: '' });
    expect(refused).toBeGreaterThanOrEqual(3);
  });

  test('stops waiting when it is told to, or when time is up, and says so', async () => {
    const { url } = await serve();
    let interrupt: () => void = () => {};
    const interrupted = await walcast(['drain', '--url', url, '--token-file', tokenFile], {
      isErrorTerminal: true,
      onSignal: (listener) => {
        interrupt = () => listener('SIGINT');
        return () => {};
      },
      clock: {
        ...systemClock,
        setTimer: (ms, callback) => {
          if (ms === 500) interrupt();
          return systemClock.setTimer(ms === 500 ? 0 : ms, callback);
        },
      },
    });
    expect(interrupted.code).toBe(1);
    expect(interrupted.err).toContain('it is draining still');
    let nowMs = 0;
    const late = await walcast(
      ['drain', '--url', url, '--token-file', tokenFile, '--timeout', '5'],
      {
        clock: {
          ...systemClock,
          nowMs: () => (nowMs += 1000),
          setTimer: (ms, callback) => systemClock.setTimer(ms === 500 ? 0 : ms, callback),
        },
      },
    );
    expect(late).toMatchObject({ code: 1, err: 'walcast drain: it is draining still\n' });
  });

  test('is refused without the token, and needs somebody there', async () => {
    const { url, actions, server } = await serve();
    expect((await walcast(['drain', '--url', url])).code).toBe(1);
    expect(actions.done).toEqual([]);
    await server.close();
    expect((await type(url, 'drain')).code).toBe(1);
    expect((await walcast(['drain', '--timeout', '0'])).code).toBe(2);
    expect((await walcast(['drain', 'now'])).code).toBe(2);
  });
});

describe('wal get', () => {
  const wal = new WalFixture();
  wal.fill(1.1 * (1 << 20), 3);
  const segment = wal.bytes().subarray(0, 1 << 20);
  const name = '000000010000000000000030';

  async function get(
    wanted: string,
    bytes: readonly Uint8Array[] | null,
    options: { claimed?: number; target?: string } = {},
  ): Promise<CliOutcome> {
    const { url, actions } = await serve();
    if (bytes !== null) {
      const file = sampleFile(wanted, bytes);
      actions.file = () => ({ ...file, size: options.claimed ?? file.size });
    }
    return await type(url, 'wal', 'get', wanted, options.target ?? 'RECOVERYXLOG');
  }

  const left = (): string[] => readdirSync(directory).filter((file) => !file.includes('token'));

  test('puts the whole file where it was asked for', async () => {
    const pieces = [segment.subarray(0, 5), segment.subarray(5, 70_000), segment.subarray(70_000)];
    expect(await get(name, pieces)).toEqual({ code: 0, out: '', err: '' });
    const target = join(directory, 'RECOVERYXLOG');
    expect(Buffer.compare(readFileSync(target), segment)).toBe(0);
    expect(left()).toEqual(['RECOVERYXLOG']);
    rmSync(target);
    expect((await get('00000002.history', [Buffer.from('1\t0/3000000\tx\n')])).code).toBe(0);
    expect(readFileSync(target, 'utf8')).toBe('1\t0/3000000\tx\n');
    rmSync(target);
  });

  test('what is not there is told in one line with exit code 1, and nothing is left', async () => {
    const { code, out, err } = await get(name, null);
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(/^walcast wal get: 000000010000000000000030 is not stored by http:.*\n$/);
    expect(left()).toEqual([]);
  });

  test.each([
    ['another segment', [wal.bytes().subarray(1 << 20), Buffer.alloc(1 << 20)], /.*/],
    ['no WAL', [Buffer.alloc(1 << 20, 7)], /its first page is no WAL/],
    [
      'half a segment',
      [segment.subarray(0, 1 << 19)],
      /it has 524288 bytes, a segment has 1048576/,
    ],
    ['nothing', [], /its first page is no WAL/],
  ] as const)('%s in place of a segment is refused', async (_what, bytes, message) => {
    const { code, err } = await get(name, bytes);
    expect(code).toBe(1);
    expect(err).toMatch(message);
    expect(left()).toEqual([]);
  });

  test('a segment under another name is refused', async () => {
    const { code, err } = await get('000000010000000000000031', [segment]);
    expect([code, err.includes('its first page is of another segment')]).toEqual([1, true]);
    expect(left()).toEqual([]);
  });

  test('a connection that breaks in the middle leaves nothing', async () => {
    const { url, actions } = await serve();
    actions.file = () => ({
      ...sampleFile(name, []),
      size: 1 << 20,
      chunks: (async function* () {
        yield segment.subarray(0, 100_000);
        throw new Error('gone');
      })(),
    });
    const { code } = await type(url, 'wal', 'get', name, 'RECOVERYXLOG');
    expect(code).toBe(1);
    expect(left()).toEqual([]);
  });

  test('a target that cannot be written is told as such', async () => {
    const { code, err } = await get(name, [segment], { target: 'nowhere/RECOVERYXLOG' });
    expect(code).toBe(1);
    expect(err).toContain('nowhere/RECOVERYXLOG" cannot be written');
  });

  test.each([
    [['wal', 'get']],
    [['wal', 'get', name]],
    [['wal', 'get', name, 'a', 'b']],
    [['wal', 'get', '../etc/passwd', 'x']],
    [['wal', 'get', name, 'x', '--url', 'x']],
  ])('%j is a mistake of usage', async (words) => {
    expect((await walcast(words)).code).toBe(2);
  });

  test('a signal ends it with the code of that signal, and nothing is left', async () => {
    const { url, actions } = await serve();
    let signal: (name: HandledSignal) => void = () => {};
    actions.file = () => ({
      ...sampleFile(name, []),
      size: 1 << 20,
      chunks: (async function* () {
        yield segment.subarray(0, 100_000);
        while (left().length === 0) await new Promise((resolve) => setImmediate(resolve));
        signal('SIGHUP');
        signal('SIGTERM');
        await new Promise(() => {});
      })(),
    });
    const outcome = await walcast(['wal', 'get', name, 'RECOVERYXLOG', '--url', url], {
      workingDirectory: directory,
      env: { WALCAST_HTTP_TOKEN_FILE: tokenFile },
      onSignal: (listener) => {
        signal = listener;
        return () => {};
      },
    });
    expect(outcome).toEqual({ code: 143, out: '', err: '' });
    expect(left()).toEqual([]);
  });

  test('an answer without end does not fill the disk', async () => {
    let sent = 0;
    const endless = createServer((_request, response) => {
      const more = (): void => {
        for (;;) {
          sent += 65_536;
          if (!response.write(Buffer.alloc(65_536))) break;
        }
      };
      response.on('drain', more);
      more();
    });
    await new Promise<void>((resolve) => endless.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void endless.close());
    const address = endless.address();
    const port = typeof address === 'object' ? address?.port : null;
    const { code, err } = await type(`http://127.0.0.1:${port}`, 'wal', 'get', name, 'x');
    expect([code, err]).toEqual([1, expect.stringContaining('its first page is no WAL')]);
    expect(sent).toBeLessThan(1 << 25);
    expect(left()).toEqual([]);
  });

  test('nobody there is 1, as a server wants it to be', async () => {
    const { url, server } = await serve();
    await server.close();
    expect((await type(url, 'wal', 'get', name, 'x')).code).toBe(1);
  });
});

describe('wal ls', () => {
  test('names the segments that a running walcast serves', async () => {
    const { url } = await serve();
    const { code, out } = await type(url, 'wal', 'ls', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual(
      ['01', '02'].map((number) => ({
        name: `0000000100000000000000${number}`,
        kind: 'segment',
        timeline: 1,
        size: 16 << 20,
        start_lsn: `0/${Number(number)}000000`,
        end_lsn: `0/${Number(number) + 1}000000`,
      })),
    );
  });

  test('a store that makes no sense is refused', async () => {
    const { store } = sampleStatus();
    for (const strange of [
      { ...store, sizeBytes: 12_345 },
      { ...store, flushedLsn: toLsn(1n << 60n) },
    ]) {
      const { url } = await serve({ source: { status: () => sampleStatus({ store: strange }) } });
      const { code, err } = await type(url, 'wal', 'ls');
      expect([code, err.includes('a store that makes sense')]).toEqual([1, true]);
    }
  });

  test.each([
    [['wal', 'ls', 'a', 'b']],
    [['wal', 'ls', 'a', '--url', 'http://x']],
    [['wal', 'ls', '--url', 'x']],
  ])('%j is a mistake of usage', async (words) => {
    expect((await walcast(words)).code).toBe(2);
  });

  test('a directory that is not there is 1', async () => {
    expect(await walcast(['wal', 'ls', '/nowhere'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('the directory "/nowhere" cannot be read: ENOENT'),
    });
  });
});

test('a walcast that refuses to be looked at is one: what it says is shown', async () => {
  const { server } = await serve();
  // As it is asked through a forwarded port, under the name of another machine.
  const url = `http://0.0.0.0:${server.port}`;
  for (const words of [['status'], ['status', '--json'], ['health']]) {
    const { code, out, err } = await type(url, ...words);
    expect(out + err).toContain('this port answers requests to localhost only');
    expect([code, err.includes('Ask under the name localhost')]).toEqual(
      words[0] === 'health' ? [2, false] : [1, true],
    );
  }
});
