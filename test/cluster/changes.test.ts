// What may change around two relays while everybody is at work? Their configuration, their certificates, a process that dies, a node
// that is lost; and what a pod cannot change about itself.
import type { IProbe } from 'kubernetes-models/v1/Probe';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { StatusJson } from '../../src/http/api-types.ts';
import type { Pod } from '../harness/kubelet-pod.ts';
import { probesOver } from '../harness/kubelet-patience.ts';
import { askHttp } from '../harness/kubelet-probes.ts';
import { STATUS_COMMAND, USER_TIMEOUT_MS } from '../support/kubernetes-page.ts';
import { theObject } from '../support/manifests.ts';
import { FULL_FAULTS, itWhen, NEWEST_MAJOR, needs, requires } from '../support/requirements.ts';
import { clusterProblem, openClusterRig, waitsForRelays } from './cluster-rig.ts';
import type { ClusterRig } from './cluster-rig.ts';
import { commitsOn, startCommits } from './commit-clients.ts';
import type { CommitClients } from './commit-clients.ts';
import { podCertificate, podMetric, podShell, podText } from './pod-requests.ts';
import { watchStream } from './stream-watch.ts';
import type { StreamWatch } from './stream-watch.ts';

/** After so much silence the primary lets go of a relay's slot; the default is a minute. */
const SENDER_TIMEOUT_S = 4;
/** After so much silence a standby gives its stream up; the default is a minute, too. */
const RECEIVER_TIMEOUT_S = 5;
/** It may try the silent host twice then. */
const LOST_MS_MAX = RECEIVER_TIMEOUT_S * 1000 + 2 * USER_TIMEOUT_MS + 10_000;
const WAIT_MS = 30_000;
/** So long the primary is away for probes. */
const AWAY_S = 180;
const PODS = ['walcast-0', 'walcast-1'];
/** A cluster notices a lost node after 40 s or more. */
const NOTICED_MS = 5_000;
const SENDERS = `SELECT string_agg(pid || ' ' || sender_host, ',') FROM pg_stat_wal_receiver WHERE status = 'streaming'`;

const START_TIMEOUT_MS = 300_000;

requires('kubectl', `postgres-${NEWEST_MAJOR}`).describe('two relays of the overlay ha', () => {
  let problem: string | null = null;
  let opened: ClusterRig | null = null;

  // The image is built where nobody has built it yet.
  beforeAll(async () => {
    problem = await clusterProblem();
    if (problem !== null) return;
    opened = await openClusterRig({
      primary: { wal_sender_timeout: `${SENDER_TIMEOUT_S}s` },
      standby: { wal_receiver_timeout: `${RECEIVER_TIMEOUT_S}s` },
    });
    await waitsForRelays(opened);
  }, START_TIMEOUT_MS);

  beforeEach((context) => needs(context, problem));

  afterAll(async () => {
    await opened?.[Symbol.asyncDispose]();
  });

  it('has the rights that the manifest leaves it, and writes into its volume only', async () => {
    const pod = theRig().cluster.pod('walcast-0');
    const status = await podShell(pod, 'cat /proc/1/status');
    const line = (name: string): string =>
      new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(status)?.[1]?.trim() ?? '';
    expect([line('Uid'), line('Gid'), line('Groups')]).toEqual([
      '10001\t10001\t10001\t10001',
      '10001\t10001\t10001\t10001',
      '10001',
    ]);
    expect([line('CapPrm'), line('CapBnd'), line('NoNewPrivs')]).toEqual([
      '0000000000000000',
      '0000000000000000',
      '1',
    ]);
    const directories = ['/', '/tmp', '/opt/walcast', '/etc/walcast', '/etc/walcast-secrets'];
    for (const directory of directories)
      expect(await podShell(pod, `touch ${directory}/x`)).toMatch(/Read-only file system/);
    expect(await podShell(pod, 'touch /var/lib/walcast/x && rm /var/lib/walcast/x')).toBe('');
    const modes = await podShell(
      pod,
      'stat -L -c "%U:%g %a %n" /etc/walcast-secrets/* /etc/walcast/*',
    );
    expect(modes.split('\n').filter((text) => text.includes('secrets'))).toEqual(
      ['conninfo', 'token', 'upstream-ca.crt', 'userlist.txt', 'wal-token'].map(
        (name) => `root:10001 440 /etc/walcast-secrets/${name}`,
      ),
    );
    expect(modes).toContain('root:10001 644 /etc/walcast/walcast.yaml');
  });

  it('answers the command that docs/kubernetes.md has for a look at it', async () => {
    const pod = theRig().cluster.pod('walcast-0');
    const told = await podShell(pod, STATUS_COMMAND);
    expect(told).toMatch(/streaming/);
  });

  describe('while commits wait for them', () => {
    let clients: CommitClients | null = null;
    let watches: readonly StreamWatch[] = [];

    beforeEach(async () => {
      const { primary, standbys } = theRig();
      await waitsForRelays(theRig());
      clients = await startCommits(primary);
      watches = await Promise.all(standbys.map(watchStream));
    });

    /** Ends the clients; looks at what they were told. Says what it took. */
    async function allWell(what: string): Promise<void> {
      const { primary, standbys } = theRig();
      const gaps = watches.map((watch) => watch.takeLongestGap());
      const report = await clients?.stop();
      await Promise.all(watches.map((watch) => watch.stop()));
      process.stderr.write(
        `${what}: ${report?.commits} commits, the slowest took ${report?.longestMs.toFixed(0)} ms; longest time without new WAL: ${gaps.map((ms) => ms.toFixed(0)).join(', ')} ms\n`,
      );
      expect(report?.failures).toEqual([]);
      for (const standby of standbys)
        expect(await commitsOn(standby, primary)).toBe(report?.commits);
    }

    it('take a changed ConfigMap twice in a row without a restart, and none that is wrong', async () => {
      const { cluster, configMap, standbys } = theRig();
      const senders = await Promise.all(standbys.map((standby) => standby.value(SENDERS)));
      const pids = cluster.pods.map((pod) => pod.container().process.pid);
      const yaml = await configText();
      const applyText = async (text: string): Promise<void> =>
        cluster.apply(await configMap('walcast-config', { 'walcast.yaml': text }));
      await applyText(yaml.replace('drain_timeout: 30s', 'drain_timeout: 29s'));
      await applyText(yaml.replace('drain_timeout: 30s', 'drain_timeout: 28s'));
      for (const pod of PODS) await isInEffect(pod, 'drain_timeout', '28s');
      await applyText(`${yaml}\ndrain_timeuot: 1s\n`);
      for (const pod of PODS) {
        const wrong = await cluster
          .pod(pod)
          .container()
          .process.waitForLog(/drain_timeuot/, { timeoutMs: WAIT_MS });
        expect(wrong).toMatch(/walcast\.yaml:\d+:\d+/);
        await pollUntil(
          'a refused reload in the metrics',
          async () =>
            (await podMetric(theRig(), pod, 'walcast_config_last_reload_successful')) === 0 || null,
          { timeoutMs: WAIT_MS },
        );
        await isInEffect(pod, 'drain_timeout', '28s');
        expect(cluster.pod(pod).isReady).toBe(true);
      }
      await applyText(yaml);
      for (const pod of PODS) await isInEffect(pod, 'drain_timeout', '30s');
      expect(cluster.pods.map((pod) => pod.container().process.pid)).toEqual(pids);
      expect(await Promise.all(standbys.map((standby) => standby.value(SENDERS)))).toEqual(senders);
      await allWell('a ConfigMap that changes four times');
    });

    it('show a renewed certificate without a restart', async () => {
      const { cluster, renewedTls, standbys } = theRig();
      const senders = await Promise.all(standbys.map((standby) => standby.value(SENDERS)));
      const before = await podCertificate(theRig(), 'walcast-0');
      await cluster.apply(renewedTls());
      for (const pod of PODS)
        await pollUntil(
          `a new certificate of ${pod}`,
          async () => ((await podCertificate(theRig(), pod)) === before ? null : true),
          { timeoutMs: WAIT_MS },
        );
      expect(await Promise.all(standbys.map((standby) => standby.value(SENDERS)))).toEqual(senders);
      await allWell('a renewed certificate');
    });

    it('stand in for each other when a process is killed, which comes back in its pod', async () => {
      const { cluster } = theRig();
      const pod = cluster.pod(await relayOf('standby_1'));
      const container = pod.container();
      const { pid } = container.process;
      await container.kill(false);
      await pollUntil('a restart', () => (container.restarts === 1 && pod.isReady) || null, {
        timeoutMs: WAIT_MS,
      });
      expect(container.process.pid).not.toBe(pid);
      await waitsForRelays(theRig());
      await allWell('a relay that is killed');
    });

    // Slow by nature: the timeouts of the standbys, one after the other.
    itWhen(FULL_FAULTS)(
      'stand in for each other when a node is lost, whose pod comes back with its volume',
      async () => {
        const { cluster, primary, standbys } = theRig();
        // The one with both names: what another one would measure is how our Service takes a silence, which is not how a kernel does.
        const lost = await relayOf('standby_1');
        const { address } = cluster.pod(lost);
        const oldest = await oldestLsn(lost);
        await cluster.loseNode(lost, NOTICED_MS);
        const lsn = await primary.walPosition();
        for (const standby of standbys) await standby.waitForReplay(lsn);
        const gaps = watches.map((watch) => watch.takeLongestGap());
        const beganMs = systemClock.nowMs();
        const pod = await cluster.comeBack('walcast', Number(lost.at(-1)));
        await cluster.ready();
        const seconds = (ms: number): string => (ms / 1000).toFixed(1);
        process.stderr.write(
          `a node that is lost, wal_receiver_timeout = ${RECEIVER_TIMEOUT_S} s, tcp_user_timeout=${USER_TIMEOUT_MS}: a standby with the names of both without new WAL for ${seconds(gaps[0] ?? Number.NaN)} s; its pod is ready ${seconds(systemClock.nowMs() - beganMs)} s after it is made anew\n`,
        );
        // It was silent, and that is all that its standby could notice.
        expect(gaps[0]).toBeGreaterThan(USER_TIMEOUT_MS / 2);
        expect(Math.max(...gaps)).toBeLessThan(LOST_MS_MAX);
        expect(pod.address).not.toBe(address);
        // It went on where it was.
        expect(await oldestLsn(lost)).toBe(oldest);
        await waitsForRelays(theRig());
        await allWell('a node that is lost');
      },
    );
  });

  it('are not restarted while the primary is away, as one whose liveness probe asked about it would be', async () => {
    const { cluster, primary } = theRig();
    await primary.stop('immediate');
    try {
      for (const pod of cluster.pods) {
        const { spec } = pod.container();
        const asksWrongly = { ...spec, livenessProbe: { ...spec.livenessProbe, ...asked(pod) } };
        await pollUntil(
          `${pod.name} misses the primary`,
          async () => (await askHttp(pod.address, spec, asked(pod))).isSuccess === false || null,
          { timeoutMs: WAIT_MS },
        );
        expect(await probesOver(AWAY_S, spec, pod.address)).toEqual(['started', 'not ready']);
        expect(await probesOver(AWAY_S, asksWrongly, pod.address)).toContain('liveness dead');
      }
    } finally {
      await primary.start();
    }
    await waitsForRelays(theRig());
    await cluster.ready();
  });

  // The same in the time of the manifest.
  itWhen(FULL_FAULTS)('are not restarted while the primary is really away', async () => {
    const { cluster, primary } = theRig();
    const pids = cluster.pods.map((pod) => pod.container().process.pid);
    await primary.stop('immediate');
    try {
      await pollUntil(
        'no relay that is ready',
        () => cluster.pods.every((pod) => !pod.isReady) || null,
        { timeoutMs: 120_000 },
      );
      // As long again as a liveness probe would have needed.
      await new Promise<void>((resolve) => systemClock.setTimer(30_000, resolve));
    } finally {
      await primary.start();
    }
    await waitsForRelays(theRig());
    await cluster.ready();
    expect(cluster.pods.map((pod) => pod.container().process.pid)).toEqual(pids);
  });

  /** How its readiness probe asks. */
  function asked(pod: Pod): Pick<IProbe, 'httpGet'> {
    const { httpGet } = pod.container().spec.readinessProbe ?? {};
    if (httpGet === undefined) throw new Error('nobody asks whether it is ready');
    return { httpGet };
  }

  async function statusOf(pod: string): Promise<StatusJson> {
    return JSON.parse(await podText(theRig(), pod, '/api/v1/status'));
  }

  async function oldestLsn(pod: string): Promise<string | null> {
    return (await statusOf(pod)).store.oldest_lsn;
  }

  /** The pod that a standby streams from. */
  async function relayOf(standby: string): Promise<string> {
    for (const pod of PODS) {
      const { standbys } = await statusOf(pod);
      if (standbys.some((each) => each.application_name === standby)) return pod;
    }
    throw new Error(`${standby} streams from no relay`);
  }

  async function isInEffect(pod: string, key: string, value: string): Promise<void> {
    await pollUntil(
      `${key} = ${value} in ${pod}`,
      async () => {
        const entries = [...Object(JSON.parse(await podText(theRig(), pod, '/api/v1/config')))];
        return entries.some((entry) => entry.key === key && entry.value === value) || null;
      },
      { timeoutMs: WAIT_MS },
    );
  }

  async function configText(): Promise<string> {
    const object = await theRig().configMap('walcast-config', {});
    const text: unknown = Object(theObject([object], 'ConfigMap', 'walcast-config')['data'])[
      'walcast.yaml'
    ];
    return String(text);
  }

  function theRig(): ClusterRig {
    if (opened === null) throw new Error('there is no cluster');
    return opened;
  }
});
