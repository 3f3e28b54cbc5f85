// Does the page on Kubernetes work as it is written? Its files are written, its commands run, with kubectl's own client where no cluster
// has to answer.
import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { hostNameProblem } from '../../src/net/tls-host-name.ts';
import { decodeServerCertificate } from '../../src/wire/server-certificate.ts';
import { makeCertificate } from '../support/certificates.ts';
import {
  CERTIFICATE_NAMES,
  KUBERNETES_PAGE,
  pageBlocks,
  pageFiles,
  STANDBY_HOSTS,
  STATUS_COMMAND,
} from '../support/kubernetes-page.ts';
import { configurationOf, statefulSets, theContainer } from '../support/manifest-pod.ts';
import { policyProblems } from '../support/manifest-policy.ts';
import { schemaProblems, typeProblems } from '../support/manifest-types.ts';
import { objectsOf, rendered, theObject } from '../support/manifests.ts';
import type { KubernetesObject } from '../support/manifests.ts';
import { findProgram, requires } from '../support/requirements.ts';

const ROOT = join(import.meta.dirname, '../..');
const { it } = requires('kubectl', 'openssl');

/** What needs a cluster: only that it names what is there can be looked at. */
const NEEDS_A_CLUSTER = ['label', 'rollout', 'exec', 'rollout'];

/** In the place of kubectl: what would be made is printed into made.yaml, what needs a cluster is written down. */
const SHIM = `#!/bin/sh
echo "$*" >> "$PAGE_FOLDER/calls"
case "$1 $2" in
  'create '*) "$REAL_KUBECTL" "$@" --dry-run=client -o yaml >> "$PAGE_FOLDER/made.yaml"; echo '---' >> "$PAGE_FOLDER/made.yaml" ;;
  'apply -k') "$REAL_KUBECTL" kustomize "$3" >> "$PAGE_FOLDER/applied.yaml" ;;
esac
`;

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'walcast-page-'));
  symlinkSync(ROOT, join(folder, 'walcast'));
  mkdirSync(join(folder, 'bin'));
  writeProgram('kubectl', SHIM);
  writeProgram('walcast', `#!/bin/sh\nexec "${process.execPath}" "${ROOT}/bin/walcast.mjs" "$@"\n`);
  // What the authorities of the user's place gave him.
  for (const name of ['upstream-ca.crt', 'tls.crt', 'tls.key', 'ca.crt'])
    writeFileSync(join(folder, name), 'a certificate of the sample\n');
  for (const [path, text] of pageFiles()) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('the page on Kubernetes', () => {
  it('has commands that make the Secrets and the objects that it speaks of', () => {
    for (const block of pageBlocks(/^sh$/)) run(block);
    const made = objectsOf(readFileSync(join(folder, 'made.yaml'), 'utf8').replace(/---\n$/, ''));
    expect(made.map(({ kind, metadata }) => `${kind}/${metadata.name}`)).toEqual([
      'Namespace/walcast',
      'Secret/walcast-credentials',
      'Secret/walcast-tls',
    ]);
    const applied = objectsOf(readFileSync(join(folder, 'applied.yaml'), 'utf8'));
    expect(typeProblems(applied)).toEqual([]);
    expect(schemaProblems(applied)).toEqual([]);
    expect(policyProblems(applied)).toEqual([]);
    expect(applied.map(({ metadata }) => metadata.namespace)).toEqual(applied.map(() => 'walcast'));
    const [set] = statefulSets(applied);
    if (set === undefined) throw new Error('no StatefulSet');
    expect(theContainer(set).image).toBe('registry.example/walcast:0.1.0');
    const secrets = new Set(
      (set.spec?.template.spec?.volumes ?? []).map(({ secret }) => secret?.secretName),
    );
    for (const { metadata } of made.slice(1)) expect(secrets).toContain(metadata.name);
    // The certificates are those of TLS, which nobody reads before a port is opened.
    const config = configurationOf(
      applied,
      set,
      filesOf(theObject(made, 'Secret', 'walcast-credentials')),
    );
    expect(config.upstream.server.hosts.map(({ host }) => host)).toEqual([
      'pg-a.example',
      'pg-b.example',
    ]);
    expect(config.upstream).toMatchObject({ slot: 'walcast_0', applicationName: 'walcast_0' });
    expect(config.http.token).toMatch(/^[0-9a-f]{64}$/);
    expect(config.http.walToken).not.toBe(config.http.token);
    expect([...config.auth.users.keys()]).toEqual(['replicator']);
  });

  it('has an overlay without volumes whose store has room, and which Kubernetes takes', async () => {
    const objects = await rendered(join(folder, 'pass-through'));
    expect(typeProblems(objects)).toEqual([]);
    expect(schemaProblems(objects)).toEqual([]);
    expect(policyProblems(objects)).toEqual([]);
    const [set] = statefulSets(objects);
    expect(set?.spec?.volumeClaimTemplates).toBeUndefined();
    if (set === undefined) throw new Error('no StatefulSet');
    expect(configurationOf(objects, set).storage.quotaBytes).toBe(4 * 2 ** 30);
  });

  it('asks of a cluster only what is there to be asked', () => {
    const calls = readFileSync(join(folder, 'calls'), 'utf8').trim().split('\n');
    const rest = calls.filter((call) => !/^(create|apply) /.test(call));
    expect(rest.map((call) => call.split(' ')[0])).toEqual(NEEDS_A_CLUSTER);
    const applied = readFileSync(join(folder, 'applied.yaml'), 'utf8');
    expect(rest[0]).toContain('walcast-standbys=allowed');
    expect(applied).toContain('walcast-standbys: allowed');
    expect(rest[1]).toContain('statefulset/walcast -n walcast');
    // Before an update: does not wait for ever where one is not ready.
    expect(rest[3]).toContain(`${rest[1]} --timeout=`);
    for (const path of ['/etc/walcast-tls', '/etc/walcast-secrets']) {
      expect(rest[2]).toContain(path);
      expect(applied).toContain(`mountPath: ${path}`);
    }
    // As the image begins.
    expect(readFileSync(join(ROOT, 'Dockerfile'), 'utf8')).toContain(
      '"/opt/walcast/bin/walcast.mjs"',
    );
  });

  it('asks for a certificate that is for every name that it has others connect to', async () => {
    const certificate = makeCertificate({ dns: CERTIFICATE_NAMES });
    const hosts = STANDBY_HOSTS.flatMap((list) => list.split(','));
    expect(hosts).toHaveLength(3);
    // As libpq looks at it, …
    const seen = decodeServerCertificate(certificate.der);
    expect(hosts.map((host) => hostNameProblem(seen, host))).toEqual(hosts.map(() => null));
    // … our own commands, and Prometheus.
    const url = new URL(/--url (\S+)/.exec(STATUS_COMMAND)?.[1] ?? '');
    const monitor = theObject(
      await rendered('deploy/kustomize/overlays/ha'),
      'PodMonitor',
      'walcast',
    );
    const { serverName } = Object(monitor['spec']).podMetricsEndpoints[0].tlsConfig;
    const own = new X509Certificate(certificate.pem);
    for (const name of [url.hostname, serverName]) expect(own.checkHost(name), name).toBeDefined();
    const { metadata } = theObject(
      await rendered('deploy/kustomize/overlays/ha'),
      'Service',
      'walcast-headless',
    );
    for (const host of hosts.slice(0, 2)) expect(host).toContain(`.${metadata.name}.walcast.svc`);
  });

  it('leaves no block out that could be run', () => {
    const words = [...KUBERNETES_PAGE.matchAll(/^```(.*)\n/gm)].map(([, word = '']) => word);
    const opened = words.filter((_word, index) => index % 2 === 0);
    expect(opened.filter((word) => !/^(sh|sql|((yaml )?file=\S+)?)$/.test(word))).toEqual([]);
  });
});

function run(block: string): void {
  const { status, stderr } = spawnSync('bash', ['--norc', '-euo', 'pipefail', '-c', block], {
    cwd: folder,
    encoding: 'utf8',
    input: 'the password of the standbys\n',
    env: {
      PATH: `${join(folder, 'bin')}:${process.env['PATH']}`,
      PAGE_FOLDER: folder,
      REAL_KUBECTL: findProgram('kubectl') ?? '',
      HOME: folder,
    },
  });
  expect(status, `${block}\n${stderr}`).toBe(0);
}

function filesOf({ data }: KubernetesObject): Record<string, string> {
  return Object.fromEntries(
    Object.entries(Object(data)).map(([name, text]) => [
      name,
      Buffer.from(String(text), 'base64').toString(),
    ]),
  );
}

function writeProgram(name: string, text: string): void {
  const path = join(folder, 'bin', name);
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}
