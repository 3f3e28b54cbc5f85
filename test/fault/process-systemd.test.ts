// Is walcast a service as systemd wants one, with the lines of our own unit: told when it is ready, reloads, lives and ends; and
// does it run all the same where nobody listens?
import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect } from 'vitest';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { requires } from '../support/requirements.ts';
import { PROGRAM, httpJson, programPid } from './fault-support.ts';
import { NotifySocket, unitWords } from './notify-socket.ts';
import { ProcessRig } from './process-rig.ts';

const OK = { exitCode: 0, signal: null };
const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
const { it, describe } = requires('python3', 'systemd-notify');

let workspace: Workspace;

beforeAll(async () => {
  workspace = await openWorkspace(await serverUser());
});

afterAll(async () => {
  await workspace.close();
});

/** Signs of life are wanted this often in these tests. */
const WATCHDOG_USEC = 1_200_000;

function environment(socket: string): Record<string, string> {
  return { NOTIFY_SOCKET: socket, WATCHDOG_USEC: String(WATCHDOG_USEC) };
}

describe('under a service manager', () => {
  it('the unit starts, reloads and ends walcast, which says each time how far it is', async () => {
    using manager = await NotifySocket.open(join(workspace.directory, 'notify-1'));
    await using rig = await ProcessRig.open(workspace, 'unit-1');
    await rig.start({ environment: environment(manager.path) });
    const installed = unitWords('ExecStart').map((word) =>
      word
        .replace('/usr/bin/node', process.execPath)
        .replace('/opt/walcast/', REPOSITORY)
        .replace('/etc/walcast/walcast.yaml', rig.started.configurationFile),
    );
    const pid = await programPid(rig.started.process);
    expect(installed).toEqual([
      process.execPath,
      PROGRAM,
      'run',
      '-c',
      rig.started.configurationFile,
    ]);

    const ready = await manager.message('READY=1');
    // At that moment every port is open.
    expect(await httpJson(rig.started.httpPort, '/livez')).toMatchObject({ status: 'ok' });
    await rig.client();
    expect(ready.words).toContainEqual(expect.stringMatching(/^STATUS=\w+.*; 0 standbys/));
    await rig.untilFlushed();
    await manager.message('STATUS=streaming from 127.0.0.1:');

    const from = manager.messages.length;
    const [reload = '', ...words] = unitWords('ExecReload');
    const before = process.hrtime.bigint() / 1000n;
    expect(
      spawnSync(
        reload,
        words.map((word) => word.replace('$MAINPID', String(pid))),
      ).status,
    ).toBe(0);
    const reloading = await manager.message('RELOADING=1', from);
    const usec = reloading.words.find((word) => word.startsWith('MONOTONIC_USEC='))?.slice(15);
    expect(BigInt(usec ?? 0)).toBeGreaterThanOrEqual(before);
    expect(Number(usec)).toBeLessThanOrEqual(reloading.usec);
    const again = await manager.message('READY=1', from);
    expect(again.usec).toBeGreaterThan(reloading.usec);
    await rig.started.process.waitForLog(/the configuration was read again/);

    await rig.signal('SIGTERM');
    const stopping = await manager.message('STOPPING=1');
    expect(stopping.words).toContain('EXTEND_TIMEOUT_USEC=20000000');
    expect(await rig.started.process.ended).toEqual(OK);
    expect(rig.log).not.toContain('the service manager could not be told');
  });

  it('signs of life come from the event loop: while that stands still there are none', async () => {
    using manager = await NotifySocket.open(join(workspace.directory, 'notify-2'));
    await using rig = await ProcessRig.open(workspace, 'unit-2');
    const block = join(workspace.directory, 'block.mjs');
    await writeFile(
      block,
      `process.on('SIGUSR2', () => { const end = Date.now() + 3000; while (Date.now() < end); });\n`,
      { mode: 0o644 },
    );
    await rig.startStreaming({
      environment: { ...environment(manager.path), NODE_OPTIONS: `--import ${block}` },
    });
    await manager.message('WATCHDOG=1');
    await rig.signal('SIGUSR2');
    await rig.started.process.waitForLog(/walcast stood still for/);
    await manager.message('WATCHDOG=1', manager.messages.length);
    const alive = manager.messages.filter(({ words }) => words.includes('WATCHDOG=1'));
    const gaps = alive.slice(1).map(({ usec }, index) => usec - (alive[index]?.usec ?? usec));
    expect(Math.max(...gaps)).toBeGreaterThan(2 * WATCHDOG_USEC);
    await rig.signal('SIGINT');
    expect(await rig.started.process.ended).toEqual(OK);
  });
});

describe('without anybody who listens', () => {
  it.each([
    ['a socket that nobody reads', {}],
    ['no systemd-notify', { PATH: '/nonexistent' }],
  ])('walcast runs, and says once that it cannot tell: %s', async (what, more) => {
    await using rig = await ProcessRig.open(workspace, `unit-${what.length}`);
    const socket = join(workspace.directory, 'nobody');
    await rig.startStreaming({ environment: { ...environment(socket), ...more } });
    await rig.started.process.waitForLog(/the service manager could not be told/);
    await rig.started.process.waitForLog(/"reason":"/);
    await rig.signal('SIGTERM');
    expect(await rig.started.process.ended).toEqual(OK);
    expect(rig.log.match(/the service manager could not be told/g)).toHaveLength(1);
  });
});
