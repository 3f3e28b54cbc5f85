// Does SIGTERM end a start at any of its steps, and walcast as the first process of a container? Is what can be asked over
// HTTP for the end of the process, or for a pause, done?
import { spawn, spawnSync } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { childrenOf, pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { RawClient, query, summary } from '../support/raw-client.ts';
import { FULL_FAULTS, needs, requires } from '../support/requirements.ts';
import { injected } from './disk-rig.ts';
import { PROGRAM, httpJson } from './fault-support.ts';
import { ProcessRig, confirm, lsnText, playedWal, post, tokenFile } from './process-rig.ts';

const FAILPOINTS = fileURLToPath(new URL('../support/failpoints.mjs', import.meta.url));
const OK = { exitCode: 0, signal: null };
/** Undoing a start (2 s), giving a hanging call up (1 s), and a busy machine. */
const START_END_MS_MAX = 8_000;
/** Starts that our own handlers ended: with nothing loaded yet, amid the steps, and behind them. */
const ENDED_STARTS = FULL_FAULTS ? 5 : 2;

let workspace: Workspace;
let token: string;
let rigs = 0;

beforeAll(async () => {
  workspace = await openWorkspace(await serverUser());
  token = await tokenFile(workspace);
});

afterAll(async () => {
  await workspace.close();
});

function open(byteCount?: number): Promise<ProcessRig> {
  rigs += 1;
  const wal = byteCount === undefined ? undefined : playedWal(byteCount);
  return ProcessRig.open(workspace, `store-${rigs}`, wal);
}

async function filled(): Promise<ProcessRig> {
  const rig = await open();
  await rig.startStreaming();
  await rig.signal('SIGINT');
  await rig.started.process.ended;
  return rig;
}

describe('SIGTERM during a start', () => {
  it('ends it at whatever moment it comes, and the next start works', async () => {
    await using rig = await filled();
    const ends: string[] = [];
    let ended = 0;
    // From before the program is loaded up to when it has started, on a machine of any speed.
    for (let delayMs = 0; ended < ENDED_STARTS && delayMs < 20_000; delayMs += 40 + delayMs / 4) {
      const { process } = await rig.start();
      await new Promise<void>((resolve) => systemClock.setTimer(delayMs, resolve));
      process.signal('SIGTERM');
      const startMs = systemClock.nowMs();
      const end = await process.ended;
      ends.push(`${Math.round(delayMs)} ms: ${end.exitCode ?? end.signal}`);
      if (end.exitCode === 0) ended += 1;
      expect(systemClock.nowMs() - startMs).toBeLessThan(START_END_MS_MAX);
      // Before Node.js runs any of our code the kernel does as it is asked.
      expect([0, 'SIGTERM'], ends.join('; ')).toContain(end.exitCode ?? end.signal);
      expect(rig.log).not.toMatch(/crashed|"level":"error"/);
    }
    expect(ended, ends.join('; ')).toBe(ENDED_STARTS);
    await rig.startStreaming();
    await rig.signal('SIGTERM');
    expect((await rig.ended()).end).toEqual(OK);
  });

  const steps = [
    ['takes the lock', 'link,linkat'],
    ['looks for the end of its WAL', 'fdatasync'],
    ['opens its store', 'pread64'],
  ] as const;

  requires('strace').it.concurrent.each(FULL_FAULTS ? steps : steps.slice(0, 1))(
    'ends one whose disk hangs while it %s',
    async (_, calls) => {
      await using rig = await filled();
      await rig.start({ wrapper: injected({ calls, what: 'delay_enter=6000000:when=1' }) });
      await rig.started.process.waitForLog(/"msg":"walcast starts"/);
      await rig.signal('SIGTERM');
      const startMs = systemClock.nowMs();
      await rig.started.process.waitForLog(/before it has started/);
      await Promise.race([
        rig.started.process.waitForLog(/walcast kills itself/),
        rig.started.process.ended,
      ]).catch(() => {});
      expect(systemClock.nowMs() - startMs).toBeLessThan(START_END_MS_MAX);
      const { end, wasStuck } = await rig.ended();
      expect(wasStuck).toBe(false);
      expect([0, 'SIGKILL']).toContain(end.exitCode ?? end.signal);
      expect(rig.log).not.toMatch(/crashed/);
      await rig.startStreaming();
    },
  );
});

requires('unshare').describe('as the first process of a PID namespace walcast', () => {
  const wrapper = ['unshare', '--pid', '--fork', '--mount-proc'];

  /** The program's process id as we see it; inside it is 1. */
  async function insidePid(rig: ProcessRig): Promise<number> {
    const [pid] = await childrenOf(rig.started.process.pid);
    if (pid === undefined) throw new Error('nothing runs in the namespace');
    return pid;
  }

  async function begin(
    context: { skip(note?: string): never },
    rig: ProcessRig,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<number> {
    needs(context, await namespaceProblem());
    await rig.start({ wrapper, drainTimeout: '20s', environment });
    await rig.started.process.waitForLog(/"pid":1,/);
    await rig.untilFlushed();
    return await insidePid(rig);
  }

  it('drains at SIGTERM, and has started nothing', async (context) => {
    await using rig = await open();
    const pid = await begin(context, rig);
    const reader = await rig.standby();
    const { endLsn } = rig.upstream.fixture;
    await reader.readTo(endLsn);
    const threads = await readdir(`/proc/${pid}/task`);
    const children = threads.map((id) => readFile(`/proc/${pid}/task/${id}/children`, 'utf8'));
    expect((await Promise.all(children)).join('').trim()).toBe('');
    process.kill(pid, 'SIGTERM');
    await rig.started.process.waitForLog(/"msg":"draining"/);
    confirm(reader, endLsn);
    const end = await reader.nextOther();
    expect(end === null ? 'closed' : summary(end)).toBe('C COPY 0');
    expect(await rig.started.process.ended).toEqual(OK);
  });

  it('ends all the same when a call to the disk hangs, although it cannot kill itself', async (context) => {
    await using rig = await open();
    const fifo = join(workspace.directory, 'fifo');
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
    const pid = await begin(context, rig, {
      NODE_OPTIONS: `--import ${FAILPOINTS}`,
      WALCAST_TEST_FAILPOINT: 'call-hangs',
      WALCAST_TEST_FIFO: fifo,
    });
    process.kill(pid, 'SIGUSR2');
    await rig.started.process.waitForLog(/a call hangs now/);
    process.kill(pid, 'SIGTERM');
    await rig.started.process.waitForLog(/walcast kills itself/);
    const end = await rig.started.process.ended;
    expect(end).not.toEqual(OK);
    await rig.startStreaming();
  });

  it('ends at once at the second signal', async (context) => {
    await using rig = await open();
    const pid = await begin(context, rig);
    const reader = await rig.standby();
    await reader.readTo(rig.upstream.fixture.endLsn);
    process.kill(pid, 'SIGTERM');
    await rig.started.process.waitForLog(/"msg":"draining"/);
    process.kill(pid, 'SIGTERM');
    expect(await rig.started.process.ended).toEqual(OK);
  });
});

/** Why there can be no PID namespace; null when there can. */
async function namespaceProblem(): Promise<string | null> {
  const child = spawn('unshare', ['--pid', '--fork', '--mount-proc', 'true'], { stdio: 'ignore' });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return code === 0 ? null : 'PID namespaces are not allowed here';
}

/** A command of walcast with the token. */
async function command(words: readonly string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [PROGRAM, ...words, '--token-file', token], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, output };
}

describe('a drain over HTTP', () => {
  it('may be asked for twice, is waited for by "walcast drain", and is not hurried by SIGTERM', async () => {
    await using rig = await open();
    await rig.startStreaming({ httpTokenFile: token, drainTimeout: '1min' });
    const { httpPort } = rig.started;
    const { endLsn } = rig.upstream.fixture;
    const reader = await rig.standby();
    await reader.readTo(endLsn);
    const waiting = command(['drain', '--url', `http://127.0.0.1:${httpPort}`]);
    await rig.started.process.waitForLog(/"msg":"draining"/);
    const again = await Promise.all([1, 2].map(() => post(httpPort, '/api/v1/drain')));
    expect(again.map(({ code }) => code)).toEqual([202, 202]);
    await rig.signal('SIGTERM');
    await rig.started.process.waitForLog(/received SIGTERM/);
    const short = await command([
      'drain',
      '--timeout',
      '1',
      '--url',
      `http://127.0.0.1:${httpPort}`,
    ]);
    expect(short).toEqual({ code: 1, output: expect.stringMatching(/: it is draining still\n$/) });
    expect(await rig.state()).toBe('draining');
    confirm(reader, endLsn);
    expect(await waiting).toEqual({ code: 0, output: expect.stringMatching(/walcast is gone\n$/) });
    expect((await rig.ended()).end).toEqual(OK);
    expect(rig.upstream.goodbyes).toBe(1);
  });

  requires('strace').it('that is asked for while walcast starts ends the start', async () => {
    await using rig = await filled();
    await rig.start({
      httpTokenFile: token,
      wrapper: injected({ calls: 'fdatasync', what: 'delay_enter=6000000:when=1' }),
    });
    await rig.started.process.waitForLog(/HTTP port is open/);
    expect((await post(rig.started.httpPort, '/api/v1/drain')).code).toBe(202);
    await rig.started.process.waitForLog(/before it has started/);
    const { end } = await rig.ended();
    expect([0, 'SIGKILL']).toContain(end.exitCode ?? end.signal);
  });
});

describe('a pause', () => {
  const REFUSED =
    'E|ERROR|55000|walcast is paused: no new replication is started|Try again after RESUME.';

  it('refuses new streams, leaves those that run alone, and does not outlive the process', async () => {
    await using rig = await open();
    await rig.startStreaming({ httpTokenFile: token, drainTimeout: '20s' });
    const { httpPort } = rig.started;
    const reader = await rig.standby();
    await reader.readTo(rig.upstream.fixture.endLsn);
    expect(await rig.state()).toBe('streaming');
    expect(await post(httpPort, '/api/v1/pause')).toEqual({ code: 200, answer: { paused: true } });
    expect(await httpJson(httpPort, '/api/v1/status')).toMatchObject({
      state: 'paused',
      paused: true,
      detail: expect.stringContaining('resume'),
    });
    expect(await httpJson(httpPort, '/readyz')).toMatchObject({
      status: 'unavailable',
      reason: expect.stringContaining('paused'),
    });

    // A stream that runs goes on, and so does what is acknowledged.
    rig.upstream.sendMore(100_000);
    const { endLsn } = rig.upstream.fixture;
    await reader.readTo(endLsn);
    await rig.untilFlushed();

    const late = await rig.client();
    const start = `START_REPLICATION ${lsnText(rig.upstream.fixture.startLsn)} TIMELINE 1`;
    expect(await late.ask(start)).toEqual([REFUSED, 'Z I']);
    expect((await late.ask('IDENTIFY_SYSTEM')).at(-1)).toBe('Z I');

    // A reload changes nothing about it.
    await rig.signal('SIGHUP');
    await rig.started.process.waitForLog(/the configuration was read again/);
    expect(await late.ask(start)).toEqual([REFUSED, 'Z I']);

    expect(await post(httpPort, '/api/v1/resume')).toEqual({
      code: 200,
      answer: { paused: false },
    });
    late.send(query(start));
    expect((await late.next())?.type).toBe('W');
    expect(await rig.state()).toBe('streaming');
    expect(rig.log).toMatch(/"msg":"paused: /);
    expect(rig.log).toMatch(/"msg":"resumed: /);
    late.close();

    await post(httpPort, '/api/v1/pause');
    await rig.signal('SIGTERM');
    await rig.started.process.waitForLog(/"msg":"draining"/);
    confirm(reader, endLsn);
    expect((await rig.ended()).end).toEqual(OK);
    await rig.startStreaming();
    expect(await rig.state()).toBe('streaming');
    expect((await RawClient.standby(rig.started.port)).client.isClosed).toBe(false);
  });

  it('is told behind what weighs more', async () => {
    await using rig = await open();
    rig.upstream.part.silentAt = 'startup';
    await rig.start({ httpTokenFile: token });
    await rig.untilState('starting').catch(() => {});
    await pollUntil(
      'a pause',
      async () =>
        (await post(rig.started.httpPort, '/api/v1/pause').catch(() => null))?.code === 200 || null,
      { timeoutMs: 20_000 },
    );
    const status = await httpJson(rig.started.httpPort, '/api/v1/status');
    expect(status).toMatchObject({ paused: true });
    expect(['starting', 'connecting']).toContain(status['state']);
  });
});
