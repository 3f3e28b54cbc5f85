// Does the stand-in for a cluster do what the kubelet and the controllers do? Its parts, one by one.
import {
  chmod,
  lstat,
  mkdtemp,
  readFile,
  readdir,
  readlink,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { answerTo, resolvConf } from '../harness/kubelet-dns.ts';
import { containerCommand, containerEnvironment, expand } from '../harness/kubelet-environment.ts';
import type { EnvironmentSources } from '../harness/kubelet-environment.ts';
import { ContainerProbes, ProbeTally } from '../harness/kubelet-probes.ts';
import { identityOf } from '../harness/kubelet-root.ts';
import { mayEvict, rolloutStep } from '../harness/kubelet-rollout.ts';
import { makeFilesVolume, prepareClaim, writeAtomically } from '../harness/kubelet-volumes.ts';
import { ManualClock } from '../support/manual-clock.ts';

const GROUP = process.getgid?.() ?? 0;

describe('a volume of a ConfigMap', () => {
  let directory = '';

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'walcast-volume-'));
  });

  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  const file = (path: string, text: string): { path: string; bytes: Buffer; mode: number } => ({
    path,
    bytes: Buffer.from(text),
    mode: 0o440,
  });

  it('shows its files through ..data, and is renewed by one rename', async () => {
    await makeFilesVolume(directory, GROUP);
    expect(await writeAtomically(directory, [file('a', '1'), file('b', '1')], GROUP)).toBe(true);
    expect(await readlink(join(directory, 'a'))).toBe('..data/a');
    const before = await readlink(join(directory, '..data'));
    expect(await writeAtomically(directory, [file('a', '2'), file('c', '2')], GROUP)).toBe(true);
    expect(await readFile(join(directory, 'a'), 'utf8')).toBe('2');
    expect((await readdir(directory)).filter((name) => !name.startsWith('..'))).toEqual(['a', 'c']);
    expect(await readlink(join(directory, '..data'))).not.toBe(before);
    await expect(lstat(join(directory, before))).rejects.toThrow('ENOENT');
  });

  it('is left alone where nothing changed', async () => {
    await makeFilesVolume(directory, GROUP);
    await writeAtomically(directory, [file('a', '1')], GROUP);
    const before = await readlink(join(directory, '..data'));
    expect(await writeAtomically(directory, [file('a', '1')], GROUP)).toBe(false);
    expect(await readlink(join(directory, '..data'))).toBe(before);
  });

  it('has the modes and the group that fsGroup gives', async () => {
    await makeFilesVolume(directory, GROUP);
    await writeAtomically(directory, [{ ...file('a', '1'), mode: 0o400 }], GROUP);
    const entry = await stat(join(directory, 'a'));
    expect([(entry.mode & 0o7777).toString(8), entry.gid]).toEqual(['440', GROUP]);
    expect(((await stat(join(directory, '..data'))).mode & 0o7777).toString(8)).toBe('2755');
  });

  it('of a claim is given to the group once, and with OnRootMismatch not again', async () => {
    const inside = join(directory, 'inside');
    await writeFile(inside, '');
    await chmod(inside, 0o600);
    await prepareClaim(directory, GROUP, true);
    expect(((await stat(inside)).mode & 0o7777).toString(8)).toBe('660');
    await chmod(inside, 0o600);
    await prepareClaim(directory, GROUP, true);
    expect(((await stat(inside)).mode & 0o7777).toString(8)).toBe('600');
    await prepareClaim(directory, GROUP, false);
    expect(((await stat(inside)).mode & 0o7777).toString(8)).toBe('660');
  });
});

describe('a container', () => {
  const sources: EnvironmentSources = {
    image: { NODE_ENV: 'production' },
    services: [{ name: 'pg-rw', address: '10.0.0.1', ports: [{ name: 'postgresql', port: 5432 }] }],
    field: (path) => (path === 'metadata.name' ? 'walcast-1' : ''),
    key: (_kind, name, key) => (name === 'there' && key === 'k' ? 'v' : null),
  };

  it('gets variables that refer to those before them, and its services', () => {
    const env = [
      { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
      { name: 'SLOT', value: 'slot-$(POD)-$(LATER)-$$(POD)' },
      { name: 'LATER', value: 'x' },
      { name: 'KEY', valueFrom: { secretKeyRef: { name: 'there', key: 'k' } } },
    ];
    const result = containerEnvironment({ name: 'c', env }, sources);
    expect(result['SLOT']).toBe('slot-walcast-1-$(LATER)-$(POD)');
    expect(result['KEY']).toBe('v');
    expect(result['NODE_ENV']).toBe('production');
    expect(result['PG_RW_PORT_5432_TCP_ADDR']).toBe('10.0.0.1');
    expect(result['PG_RW_SERVICE_PORT_POSTGRESQL']).toBe('5432');
  });

  it('does not start without a Secret that it needs', () => {
    const env = [{ name: 'KEY', valueFrom: { secretKeyRef: { name: 'absent', key: 'k' } } }];
    expect(() => containerEnvironment({ name: 'c', env }, sources)).toThrow(
      'CreateContainerConfigError',
    );
  });

  it('runs the command of its image unless it names one', () => {
    const image = { entrypoint: ['node', 'x'], cmd: ['run'] };
    expect(containerCommand({}, image, {})).toEqual(['node', 'x', 'run']);
    expect(containerCommand({ args: ['$(A)'] }, image, { A: 'b' })).toEqual(['node', 'x', 'b']);
    expect(containerCommand({ command: ['sh'] }, image, {})).toEqual(['sh']);
    expect(expand('$(A', { A: 'b' })).toBe('$(A');
  });

  it('is refused where it would be root against the manifest', () => {
    const pod = { containers: [], securityContext: { runAsNonRoot: true } };
    expect(() => identityOf(pod, { name: 'c' }, '')).toThrow('will run as root');
    expect(() => identityOf(pod, { name: 'c' }, 'node')).toThrow('cannot see that it is not root');
    expect(identityOf(pod, { name: 'c' }, '10001:10001').uid).toBe(10001);
  });
});

describe('probes', () => {
  it('count answers in a row', () => {
    const tally = new ProbeTally({ failureThreshold: 2, successThreshold: 2 });
    const answers = [false, false, true, true, false, true, false, false];
    expect(answers.map((answer) => tally.take(answer))).toEqual([
      null,
      false,
      null,
      true,
      null,
      null,
      null,
      false,
    ]);
  });

  it('wait for the startup probe, and tell of a container that is to be restarted', async () => {
    const clock = new ManualClock();
    const answers: Record<string, boolean> = { startup: false, liveness: true, readiness: true };
    const told: string[] = [];
    const probe = (path: string): object => ({ httpGet: { path, port: 1 }, periodSeconds: 1 });
    const probes = new ContainerProbes(
      {
        name: 'c',
        startupProbe: { ...probe('startup'), failureThreshold: 5 },
        livenessProbe: { ...probe('liveness'), failureThreshold: 2 },
        readinessProbe: { ...probe('readiness'), failureThreshold: 1 },
      },
      {
        clock,
        ask: async ({ httpGet }) => ({
          isSuccess: answers[httpGet?.path ?? ''] === true,
          text: httpGet?.path ?? '',
        }),
        events: {
          onStarted: () => told.push('started'),
          onReady: (isReady) => told.push(isReady ? 'ready' : 'not ready'),
          onDead: (kind) => told.push(`${kind} dead`),
        },
      },
    );
    const pass = async (seconds: number): Promise<void> => {
      for (let second = 0; second < seconds; second += 1) {
        clock.advance(1_000);
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    };
    probes.start();
    await pass(2);
    expect(told).toEqual([]);
    answers['startup'] = true;
    await pass(3);
    expect(told.slice(0, 2)).toEqual(['started', 'ready']);
    answers['liveness'] = false;
    await pass(1);
    expect(told).not.toContain('liveness dead');
    await pass(2);
    expect(told.filter((text) => text === 'liveness dead')).toHaveLength(1);
    probes.stop();
    expect(clock.nextTimerMs()).toBe(null);
  });
});

describe('a rolling update', () => {
  const pod = (
    ordinal: number,
    state: Partial<{ isCurrent: boolean; isEnding: boolean; isAvailable: boolean }> = {},
  ): Parameters<typeof rolloutStep>[0][number] => ({
    ordinal,
    isCurrent: false,
    isEnding: false,
    isAvailable: true,
    ...state,
  });

  it('goes from the highest number to the lowest, and waits for each to be available', () => {
    expect(rolloutStep([pod(0), pod(1)], 2)).toEqual({ replace: 1 });
    expect(rolloutStep([pod(0), pod(1, { isEnding: true, isAvailable: false })], 2)).toBe('wait');
    expect(rolloutStep([pod(0)], 2)).toBe('wait');
    expect(rolloutStep([pod(0), pod(1, { isCurrent: true, isAvailable: false })], 2)).toBe('wait');
    expect(rolloutStep([pod(0), pod(1, { isCurrent: true })], 2)).toEqual({ replace: 0 });
    const both = [pod(0, { isCurrent: true }), pod(1, { isCurrent: true })];
    expect(rolloutStep(both, 2)).toBe('done');
    // What the page warns of: nobody asks whether the one that stays is any good.
    expect(rolloutStep([pod(0, { isAvailable: false }), pod(1)], 2)).toEqual({ replace: 1 });
  });

  it('and a disruption budget leave one of two', () => {
    const [ready, away] = [
      [
        { name: 'a', isReady: true },
        { name: 'b', isReady: true },
      ],
      [
        { name: 'a', isReady: true },
        { name: 'b', isReady: false },
      ],
    ];
    const budget = { maxUnavailable: 1, unhealthyPodEvictionPolicy: 'AlwaysAllow' } as const;
    expect(mayEvict(budget, ready, { name: 'a', expected: 2 })).toBe(true);
    expect(mayEvict(budget, away, { name: 'a', expected: 2 })).toBe(false);
    expect(mayEvict(budget, away, { name: 'b', expected: 2 })).toBe(true);
    expect(mayEvict({ minAvailable: '50%' }, ready, { name: 'a', expected: 2 })).toBe(true);
    expect(mayEvict({ minAvailable: 2 }, ready, { name: 'a', expected: 2 })).toBe(false);
    expect(mayEvict({ minAvailable: 2 }, away, { name: 'b', expected: 2 })).toBe(false);
  });
});

describe('the DNS', () => {
  const names = (name: string): readonly string[] | null =>
    name === 'walcast.svc' ? ['10.0.0.7'] : null;
  const query = (type: number): Buffer =>
    Buffer.concat([
      Buffer.from([7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
      Buffer.from('\x07Walcast\x03svc\x00', 'latin1'),
      Buffer.from([0, type, 0, 1]),
    ]);

  it('answers with addresses, with nothing for IPv6, and says what does not exist', () => {
    const found = answerTo(query(1), names);
    expect(found?.readUInt16BE(6)).toBe(1);
    expect(found?.subarray(-4)).toEqual(Buffer.from([10, 0, 0, 7]));
    const other = answerTo(query(28), names);
    expect([other?.readUInt16BE(6), (other?.[3] ?? 0) & 15]).toEqual([0, 0]);
    expect((answerTo(query(1), () => null)?.[3] ?? 0) & 15).toBe(3);
    expect(answerTo(query(1).subarray(0, 20), names)).toBe(null);
    expect(resolvConf('10.0.0.10', 'walcast')).toContain('search walcast.svc.cluster.local');
  });
});
