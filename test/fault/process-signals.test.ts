// What do the signals do that neither drain nor reload: is no debugger opened, is the state written down, is an immediate end one?
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { LOG_COMPONENTS } from '../../src/config/log-components.ts';
import { PROGRAM } from './fault-support.ts';
import { ProcessRig } from './process-rig.ts';

const OK = { exitCode: 0, signal: null };

/** The Node.js that runs here, and that of the image where it is given. */
const NODES = [
  ...new Set([process.execPath, process.env['WALCAST_TEST_IMAGE_NODE'] ?? process.execPath]),
];

/** State LISTEN of /proc/net/tcp. */
const LISTENING = '0A';

let workspace: Workspace;

beforeAll(async () => {
  workspace = await openWorkspace(await serverUser());
});

afterAll(async () => {
  await workspace.close();
});

/** TCP ports that a process listens on. */
function listeningPorts(pid: number): number[] {
  const own = new Set(
    readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
      } catch {
        return undefined;
      }
    }),
  );
  const rows = ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8').trim().split('\n').slice(1),
  );
  return rows
    .map((row) => row.trim().split(/\s+/))
    .filter((cells) => cells[3] === LISTENING && own.has(cells[9]))
    .map((cells) => Number.parseInt(cells[1]?.split(':').at(-1) ?? '', 16))
    .toSorted((a, b) => a - b);
}

describe('SIGUSR1', () => {
  it.each(NODES)('opens a debugger of a program that does not hear it: %s', async (node) => {
    const idle = 'setInterval(() => {}, 1000); console.log("up")';
    const child = spawn(node, ['--inspect-port=0', '-e', idle], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    try {
      const output = createInterface({ input: child.stdout });
      await new Promise((resolve) => output.once('line', resolve));
      child.kill('SIGUSR1');
      const errors = createInterface({ input: child.stderr });
      const line = await new Promise((resolve) => errors.once('line', resolve));
      expect(line).toContain('Debugger listening on');
      expect(listeningPorts(child.pid ?? 0)).toHaveLength(1);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it.each(NODES)('opens none of walcast, and is a line in its log: %s', async (node) => {
    await using rig = await ProcessRig.open(workspace, `usr1-${NODES.indexOf(node)}`);
    // `env` runs the program named first, and leaves the Node.js of this test out.
    const wrapper = ['sh', '-c', `shift; exec "${node}" "$@"`, 'sh'];
    await rig.startStreaming({ wrapper, environment: { NODE_OPTIONS: '--inspect-port=0' } });
    const { pid } = rig.started.process;
    const before = listeningPorts(pid);
    expect(before).toEqual([rig.started.port, rig.started.httpPort].toSorted((a, b) => a - b));
    for (let count = 0; count < 3; count += 1) await rig.signal('SIGUSR1');
    await rig.started.process.waitForLog(/received SIGUSR1/);
    // What a debugger's thread would have done by now: the next line comes from behind it.
    await rig.signal('SIGUSR2');
    await rig.started.process.waitForLog(/received SIGUSR2/);
    expect(listeningPorts(pid)).toEqual(before);
    expect(rig.log).not.toContain('Debugger');
    await rig.signal('SIGTERM');
    expect(await rig.started.process.ended).toEqual(OK);
  });

  it('opens none of another command, which goes on', async () => {
    const child = spawn(process.execPath, ['--inspect-port=0', PROGRAM, 'scram', 'somebody'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    const output: Buffer[] = [];
    child.stdout.on('data', (data: Buffer) => output.push(data));
    child.stderr.on('data', (data: Buffer) => output.push(data));
    try {
      const ended = new Promise((resolve) => child.once('close', resolve));
      // Nobody but the program hears SIGHUP, and it hears SIGUSR1 before.
      await hears(child.pid ?? 0, SIGHUP);
      child.kill('SIGUSR1');
      child.stdin.end('secret\n');
      expect(await ended).toBe(0);
      expect(Buffer.concat(output).toString()).not.toContain('Debugger');
      expect(Buffer.concat(output).toString()).toContain('SCRAM-SHA-256$');
    } finally {
      child.kill('SIGKILL');
    }
  });
});

const SIGHUP = 1n;

/** Until a process has a handler for the signal. */
async function hears(pid: number, signal: bigint): Promise<void> {
  const bit = signal - 1n;
  for (;;) {
    const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(
      readFileSync(`/proc/${pid}/status`, 'utf8'),
    )?.[1];
    if (((BigInt(`0x${caught ?? '0'}`) >> bit) & 1n) === 1n) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('SIGUSR2', () => {
  it('writes the state into the log, whatever the level is', async () => {
    await using rig = await ProcessRig.open(workspace, 'usr2');
    await rig.startStreaming({ extraYaml: 'log: { level: error }\n' });
    const reader = await rig.standby();
    await reader.readTo(rig.upstream.fixture.endLsn);
    // The line that names its process is not written.
    rig.started.process.signal('SIGUSR2');
    await rig.started.process.waitForLog(/received SIGUSR2: the state is written down above/);
    const lines = rig.started.process.log.map(
      (line) => JSON.parse(line) as Record<string, unknown>,
    );
    const end = rig.upstream.fixture.endLsn;
    expect(lines.find(({ msg }) => msg === 'state: relay')).toMatchObject({ state: 'streaming' });
    expect(lines.find(({ msg }) => msg === 'state: upstream')).toMatchObject({
      port: rig.upstream.port,
    });
    expect(lines.find(({ msg }) => msg === 'state: standby')).toMatchObject({
      state: 'streaming',
      sent_lsn: `${(end >> 32n).toString(16).toUpperCase()}/${(end & 0xffff_ffffn).toString(16).toUpperCase()}`,
    });
    rig.started.process.signal('SIGINT');
    expect(await rig.started.process.ended).toEqual(OK);
  });
});

describe('SIGQUIT', () => {
  it('ends walcast as a crash does: no word to anybody, and the next start goes on', async () => {
    await using rig = await ProcessRig.open(workspace, 'quit');
    await rig.startStreaming();
    const reader = await rig.standby();
    await reader.readTo(rig.upstream.fixture.endLsn);
    const said = rig.upstream.statuses.length;
    await rig.signal('SIGQUIT');
    expect(await rig.started.process.ended).toEqual(OK);
    expect(rig.log).toContain('received SIGQUIT; walcast ends as in a crash');
    expect(rig.log).not.toContain('draining');
    expect(rig.upstream.goodbyes).toBe(0);
    const { endLsn } = rig.upstream.fixture;
    for (const { flush } of rig.upstream.statuses.slice(said))
      expect(flush).toBeLessThanOrEqual(endLsn);
    expect(await reader.nextOther()).toBeNull();
    await rig.startStreaming();
    expect(rig.log).not.toContain('"level":"error"');
  });
});

describe('every line of the log', () => {
  it('names a component that can have a level of its own, a time, a level and a message', async () => {
    await using rig = await ProcessRig.open(workspace, 'lines');
    await rig.startStreaming({
      extraYaml: 'log: { level: debug }\nlog_disconnections: on\n',
      drainTimeout: '100ms',
    });
    const reader = await rig.standby();
    await reader.readTo(rig.upstream.fixture.endLsn);
    await rig.signal('SIGHUP');
    await rig.started.process.waitForLog(/the configuration was read again/);
    await rig.signal('SIGTERM');
    expect(await rig.started.process.ended).toEqual(OK);
    const lines = rig.started.process.log.map(
      (line) => JSON.parse(line) as Record<string, unknown>,
    );
    for (const line of lines) {
      expect(line).toMatchObject({
        ts: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        level: expect.stringMatching(/^(debug|info|warn|error)$/),
        msg: expect.stringMatching(/^\S/),
        component: expect.toBeOneOf([...LOG_COMPONENTS]),
      });
    }
    const spoke = new Set(lines.map(({ component }) => component));
    for (const component of ['relay', 'config', 'walreceiver', 'walsender', 'http']) {
      expect(spoke).toContain(component);
    }
    expect(rig.log).toContain('received replication command: START_REPLICATION');
  });
});
