// Do base, components and overlays say the same thing, and can one version of them follow another?
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { describe, expect } from 'vitest';
import type { IStatefulSet } from 'kubernetes-models/apps/v1';
import { parse } from 'yaml';
import type { Config } from '../../src/config/config.ts';
import {
  configurationOf,
  environmentOf,
  podSpec,
  SAMPLE_CREDENTIALS,
  statefulSets,
  theContainer,
} from '../support/manifest-pod.ts';
import { policyProblems } from '../support/manifest-policy.ts';
import { DEPLOYMENTS, rendered, theObject } from '../support/manifests.ts';
import type { KubernetesObject } from '../support/manifests.ts';
import { requires } from '../support/requirements.ts';

const ROOT = join(import.meta.dirname, '../..');
const BASE = 'deploy/kustomize/base';
const DEV = 'deploy/kustomize/overlays/dev';
const HA = 'deploy/kustomize/overlays/ha';
const COMPONENTS = ['monitoring', 'networkpolicy', 'tls'].map(
  (name) => `deploy/kustomize/components/${name}`,
);
const { it } = requires('kubectl');

/** All that the API server lets anybody change in a StatefulSet; in older versions less by the last one. */
const MUTABLE: ReadonlySet<string> = new Set([
  'replicas',
  'ordinals',
  'template',
  'updateStrategy',
  'persistentVolumeClaimRetentionPolicy',
  'minReadySeconds',
  'revisionHistoryLimit',
]);

describe('every deployment', () => {
  it('is one of the folders that are tested', () => {
    const overlays = readdirSync(join(ROOT, 'deploy/kustomize/overlays')).toSorted();
    expect(DEPLOYMENTS).toEqual([
      BASE,
      ...overlays.map((name) => `deploy/kustomize/overlays/${name}`),
    ]);
    const components = readdirSync(join(ROOT, 'deploy/kustomize/components')).toSorted();
    const { components: used } = parse(read(`${HA}/kustomization.yaml`));
    expect(used.toSorted()).toEqual(components.map((name) => `../../components/${name}`));
  });

  it.each(DEPLOYMENTS)('has the version of the program in %s', async (folder) => {
    const { version } = JSON.parse(read('package.json'));
    const set = await relay(folder);
    expect(theContainer(set).image).toBe(`walcast:${version}`);
    for (const labels of [set.metadata?.labels, set.spec?.template.metadata?.labels])
      expect(labels).toMatchObject({ 'app.kubernetes.io/version': version });
  });

  it.each(DEPLOYMENTS)('gives each pod of %s a name and a slot of its own', async (folder) => {
    const container = theContainer(await relay(folder));
    expect(container.env?.find(({ name }) => name === 'POD_INDEX')?.valueFrom?.fieldRef).toEqual({
      fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']",
    });
    expect(environmentOf(container)).toMatchObject({
      WALCAST_UPSTREAM_SLOT: 'walcast_0',
      WALCAST_UPSTREAM_APPLICATION_NAME: 'walcast_0',
    });
    expect((await configuration(folder)).upstream).toMatchObject({
      slot: 'walcast_0',
      applicationName: 'walcast_0',
    });
  });

  it.each(DEPLOYMENTS)(
    'asks for the secrets that the page describes in %s, and no others',
    async (folder) => {
      // With one of them missing walcast does not start; what is there beside them is not looked at.
      for (const name of Object.keys(SAMPLE_CREDENTIALS)) {
        const { [name]: _left, ...others } = SAMPLE_CREDENTIALS;
        const objects = await rendered(folder);
        const [set] = statefulSets(objects);
        if (set === undefined) throw new Error('no StatefulSet');
        expect(() => configurationOf(objects, set, others)).toThrow(`${name}" cannot be read`);
      }
    },
  );

  it.each(DEPLOYMENTS)('trusts nobody in %s, and has nothing to be warned of', async (folder) => {
    const { warnings, listen, http } = await configuration(folder);
    expect(warnings).toEqual([]);
    expect(http.tls === null).toBe(folder !== HA);
    expect(listen).toHaveLength(1);
  });
});

describe('the overlay of two relays', () => {
  it('is the base with TLS, more patience, and nothing else that walcast is told', async () => {
    const base = await configuration(BASE);
    const ha = await configuration(HA);
    const changed = [...ha.values.keys()].filter((key) => shown(base, key) !== shown(ha, key));
    expect(changed.toSorted()).toEqual(['http.tls.cert', 'http.tls.key', 'listen']);
    expect(shown(ha, 'listen')).toContain('/etc/walcast-tls/tls.key');
  });

  it('lets in over TLS whom the base lets in', async () => {
    const [open, tls] = await Promise.all([BASE, HA].map(rules));
    expect(tls).toEqual(open?.map((line) => line.replace(/^host /, 'hostssl ')));
  });

  it('has two relays, never both on one node, that are ready once they have caught up', async () => {
    const set = await relay(HA);
    expect(set.spec?.replicas).toBe(2);
    const spread = podSpec(set).topologySpreadConstraints ?? [];
    expect(
      spread.map(({ topologyKey, whenUnsatisfiable, minDomains }) => [
        topologyKey,
        whenUnsatisfiable,
        minDomains,
      ]),
    ).toEqual([
      ['topology.kubernetes.io/zone', 'ScheduleAnyway', undefined],
      // Nor when one node is all that is left: without the bound one domain is as even as can be.
      ['kubernetes.io/hostname', 'DoNotSchedule', 2],
    ]);
    expect(theContainer(set).readinessProbe?.httpGet?.path).toBe('/readyz?lag=64MB');
    expect(theContainer(await relay(BASE)).readinessProbe?.httpGet?.path).toBe('/readyz');
  });

  it('has the dashboards and rules of everybody else, and is found by their alerts', async () => {
    const objects = await rendered(HA);
    const files = readdirSync(join(ROOT, 'dashboards/kubernetes')).filter(
      (name) => name !== 'kustomization.yaml',
    );
    for (const file of files) {
      const own: KubernetesObject = parse(read(`dashboards/kubernetes/${file}`));
      const found = theObject(objects, own.kind, own.metadata.name);
      expect(written(found)).toEqual(written(own));
    }
    // The operator makes NAMESPACE/NAME of the PodMonitor the name of the job, by which rules look.
    expect(theObject(objects, 'PodMonitor', 'walcast').metadata.name).toContain('walcast');
    expect(read('dashboards/prometheus/walcast.rules.yml')).toContain('job=~".*walcast.*"');
  });

  it('lets relays reach names and the upstream, and only standbys and the scraper reach them', async () => {
    const policy = theObject(await rendered(HA), 'NetworkPolicy', 'walcast');
    const { ingress, egress, policyTypes }: Record<string, unknown[]> = Object(policy['spec']);
    expect(policyTypes).toEqual(['Ingress', 'Egress']);
    expect(ingress?.every((rule) => Object.hasOwn(Object(rule), 'from'))).toBe(true);
    const allowed = egress?.flatMap((rule) =>
      Object(rule).ports.map((port: { port: number }) => port.port),
    );
    expect(allowed).toEqual([53, 53, 5432]);
  });
});

describe('the components', () => {
  const ORDER = ['monitoring', 'networkpolicy', 'tls'];
  const sets = [0, 1, 2, 3, 4, 5, 6, 7].map((bits) =>
    ORDER.filter((_name, index) => (bits & (1 << index)) !== 0),
  );

  it.each(sets.map((chosen) => ({ chosen, name: chosen.join(' and ') || 'none of them' })))(
    'can be taken by choice: $name',
    async ({ chosen }) => {
      const folder = mkdtempSync(join(tmpdir(), 'walcast-components-'));
      try {
        const place = (name: string): string =>
          relative(folder, join(ROOT, 'deploy/kustomize', name));
        const kustomization = {
          resources: [place('base')],
          components: chosen.map((name) => place(`components/${name}`)),
        };
        writeFileSync(join(folder, 'kustomization.yaml'), JSON.stringify(kustomization));
        expect(policyProblems(await rendered(folder))).toEqual([]);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});

describe('the overlay to look at it', () => {
  it('keeps nothing when its pod goes, and little before', async () => {
    const set = await relay(DEV);
    expect(set.spec?.volumeClaimTemplates).toBeUndefined();
    expect(podSpec(set).volumes?.find(({ name }) => name === 'data')?.emptyDir).toBeDefined();
    const { storage, log } = await configuration(DEV);
    expect(storage.quotaBytes).toBeLessThan(2 ** 31);
    expect(log).toMatchObject({ level: 'debug', format: 'text' });
  });
});

describe('another version', () => {
  it.each(DEPLOYMENTS)('of %s changes nothing that Kubernetes forbids', async (folder) => {
    const root = mkdtempSync(join(tmpdir(), 'walcast-version-'));
    try {
      // Nothing but what the package has: it is as good a place for manifests as a clone.
      const { files }: { files: string[] } = JSON.parse(read('package.json'));
      for (const name of files.filter((entry) => /^(deploy|dashboards)\//.test(entry))) {
        mkdirSync(join(root, name), { recursive: true });
        cpSync(join(ROOT, name), join(root, name), { recursive: true });
      }
      const { version } = JSON.parse(read('package.json'));
      for (const part of [BASE, ...COMPONENTS]) {
        const path = join(root, part, 'kustomization.yaml');
        writeFileSync(path, readFileSync(path, 'utf8').replaceAll(version, '99.0.0'));
      }
      const next = await rendered(join(root, folder));
      const [before, after] = [await relay(folder), statefulSets(next)[0]];
      if (after === undefined) throw new Error('no StatefulSet');
      expect(theContainer(after).image).toBe('walcast:99.0.0');
      expect(fixedFields(after)).toEqual(fixedFields(before));
      // What selects pods selects those of both versions, while both are there.
      const chosen = (objects: readonly KubernetesObject[]): unknown[] =>
        objects.map(({ kind, spec }) => [kind, Object(spec).selector, Object(spec).podSelector]);
      expect(chosen(next)).toEqual(chosen(await rendered(folder)));
    } finally {
      rmSync(root, { recursive: true });
    }
  });
});

/** What kustomize writes folded has a line end more here and there, which no expression minds. */
function written(object: KubernetesObject): unknown {
  return JSON.parse(JSON.stringify(object['data'] ?? object['spec']).replaceAll(/(\\n|\s)+/g, ' '));
}

function fixedFields(set: IStatefulSet): unknown {
  return Object.fromEntries(Object.entries(set.spec ?? {}).filter(([name]) => !MUTABLE.has(name)));
}

async function relay(folder: string): Promise<IStatefulSet> {
  const [set, ...others] = statefulSets(await rendered(folder));
  if (set === undefined || others.length > 0) throw new Error('not one StatefulSet');
  return set;
}

async function configuration(folder: string): Promise<Config> {
  return configurationOf(await rendered(folder), await relay(folder));
}

/** As it is shown, without the folder that stands for the root of the pod. */
function shown(config: Config, key: string): string {
  const value = config.values.get(key);
  const tls = value?.tls.map((item) => [...(item ?? [])]);
  return JSON.stringify([value?.shown, tls]).replaceAll(/"[^"]*(\/etc\/walcast)/g, '"$1');
}

async function rules(folder: string): Promise<string[]> {
  const map = theObject(await rendered(folder), 'ConfigMap', 'walcast-config');
  const text = String(Object(map['data'])['pg_hba.conf']);
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.replaceAll(/ +/g, ' '));
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}
