// Do the manifests keep our own rules, and is each of these rules one that can be broken?
import { describe, expect } from 'vitest';
import { DEPLOYMENTS, EXAMPLES, rendered } from '../support/manifests.ts';
import type { KubernetesObject } from '../support/manifests.ts';
import { policyProblems, POLICY } from '../support/manifest-policy.ts';
import { requires } from '../support/requirements.ts';

const { it } = requires('kubectl');

const CONTAINER = 'spec.template.spec.containers.0';
const POD = 'spec.template.spec';

/** What to break: kind, name, path; the new value (undefined takes the field away); what is said about it, with the rule in front. */
type Break = readonly [string, string, unknown, RegExp];

const BREAKS: readonly Break[] = [
  ['StatefulSet', `${CONTAINER}.image`, 'walcast:latest', /^images: /],
  ['StatefulSet', `${CONTAINER}.image`, 'registry.example:5000/walcast', /^images: /],
  ['StatefulSet', `${CONTAINER}.livenessProbe`, undefined, /^probes: .* has no livenessProbe/],
  [
    'StatefulSet',
    `${CONTAINER}.livenessProbe.httpGet.path`,
    '/readyz',
    /^probes: .* asks \/readyz/,
  ],
  ['StatefulSet', `${CONTAINER}.readinessProbe.httpGet.path`, '/standbys', /^probes: /],
  ['StatefulSet', `${CONTAINER}.readinessProbe.httpGet.port`, 9188, /^probes: .* asks port/],
  ['StatefulSet', `${CONTAINER}.startupProbe.failureThreshold`, 30, /^probes: .* too little time/],
  ['StatefulSet', `${CONTAINER}.livenessProbe.failureThreshold`, 1, /^probes: .* too soon/],
  ['StatefulSet', `${CONTAINER}.resources.limits`, undefined, /^memory and CPU: .* no limit/],
  ['StatefulSet', `${CONTAINER}.resources.limits.memory`, '300Mi', /^memory and CPU: the heap/],
  [
    'StatefulSet',
    `${POD}.volumes.0.emptyDir`,
    { medium: 'Memory', sizeLimit: '400Mi' },
    /^memory and CPU: the heap/,
  ],
  ['StatefulSet', `${CONTAINER}.resources.limits.cpu`, '1', /^memory and CPU: .* limit of CPU/],
  ['StatefulSet', `${CONTAINER}.resources.requests.memory`, undefined, /^memory and CPU: /],
  ['StatefulSet', `${CONTAINER}.env`, [], /^memory and CPU: the heap/],
  ['StatefulSet', `${POD}.securityContext.runAsNonRoot`, false, /^security context: the pod/],
  ['StatefulSet', `${POD}.securityContext.runAsUser`, 0, /^security context: the pod/],
  ['StatefulSet', `${POD}.securityContext.fsGroupChangePolicy`, 'Always', /^security context: /],
  ['StatefulSet', `${POD}.securityContext.seccompProfile`, undefined, /^security context: /],
  [
    'StatefulSet',
    `${CONTAINER}.securityContext`,
    undefined,
    /^security context: container walcast/,
  ],
  [
    'StatefulSet',
    `${CONTAINER}.securityContext.readOnlyRootFilesystem`,
    false,
    /^security context: /,
  ],
  [
    'StatefulSet',
    `${CONTAINER}.securityContext.capabilities.add`,
    ['SYS_ADMIN'],
    /^security context: /,
  ],
  [
    'StatefulSet',
    `${CONTAINER}.securityContext.capabilities.drop`,
    ['NET_RAW'],
    /^security context: /,
  ],
  ['StatefulSet', `${POD}.hostNetwork`, true, /^security context: the pod reaches/],
  ['StatefulSet', `${POD}.automountServiceAccountToken`, undefined, /^security context: .* token/],
  ['StatefulSet', `${POD}.enableServiceLinks`, true, /^security context: services/],
  ['PodMonitor', 'metadata.labels', {}, /^labels: PodMonitor.*version/],
  ['Service', 'spec.selector', { 'app.kubernetes.io/name': 'walcast' }, /^selectors: Service/],
  [
    'PodDisruptionBudget',
    'spec.selector.matchLabels.walcast',
    'x',
    /^selectors: PodDisruptionBudget/,
  ],
  ['PodMonitor', 'spec.selector.matchLabels', {}, /^selectors: PodMonitor/],
  ['NetworkPolicy', 'spec.podSelector', {}, /^selectors: NetworkPolicy/],
  [
    'StatefulSet',
    'spec.template.metadata.labels',
    {},
    /^selectors: Service\/walcast selects no pod/,
  ],
  ['StatefulSet', 'spec.selector.matchLabels.version', '1', /^selectors: StatefulSet/],
  ['StatefulSet', `${POD}.topologySpreadConstraints`, [], /^selectors: pods are not spread/],
  [
    'StatefulSet',
    `${POD}.topologySpreadConstraints.1.minDomains`,
    undefined,
    /^selectors: all pods may come to the only kubernetes.io\/hostname/,
  ],
  ['StatefulSet', 'spec.serviceName', 'other', /^selectors: no Service other/],
  [
    'Service',
    'spec.ports.0.targetPort',
    'postgres',
    /^ports: Service\/walcast names port postgres,/,
  ],
  ['PodMonitor', 'spec.podMetricsEndpoints.0.port', 'http', /^ports: PodMonitor/],
  ['PodMonitor', 'spec.podMetricsEndpoints.0.scheme', 'http', /^ports: scraping/],
  [
    'StatefulSet',
    `${CONTAINER}.ports.0.containerPort`,
    5433,
    /^ports: nobody listens on postgresql/,
  ],
  ['StatefulSet', `${CONTAINER}.livenessProbe.httpGet.scheme`, 'HTTP', /^ports: probes/],
  ['StatefulSet', `${CONTAINER}.volumeMounts.0.name`, 'other', /^volumes and secrets: no volume/],
  [
    'StatefulSet',
    `${CONTAINER}.volumeMounts.1.subPath`,
    'walcast.yaml',
    /^volumes and secrets: .* subPath/,
  ],
  [
    'StatefulSet',
    `${CONTAINER}.volumeMounts.1.readOnly`,
    undefined,
    /^volumes and secrets: .* written/,
  ],
  ['StatefulSet', `${POD}.volumes.0.secret.defaultMode`, 0o444, /^volumes and secrets: others/],
  ['StatefulSet', `${POD}.volumes.0.secret.defaultMode`, undefined, /^volumes and secrets: others/],
  [
    'StatefulSet',
    `${CONTAINER}.env.1.valueFrom`,
    { secretKeyRef: { name: 'walcast-credentials', key: 'conninfo' } },
    /^volumes and secrets: .* environment/,
  ],
  [
    'StatefulSet',
    'spec.volumeClaimTemplates.0.spec.resources.requests.storage',
    '42Gi',
    /^room on the volume: a quota/,
  ],
  [
    'StatefulSet',
    `${CONTAINER}.volumeMounts.3.mountPath`,
    '/data',
    /^room on the volume: .* not below/,
  ],
  [
    'StatefulSet',
    `${CONTAINER}.volumeMounts.3.mountPath`,
    '/var/lib/walcast/data',
    /^room on the volume: /,
  ],
  ['StatefulSet', `${POD}.terminationGracePeriodSeconds`, 40, /^termination: .* 45 s/],
  ['StatefulSet', `${CONTAINER}.lifecycle`, undefined, /^termination: .* connections/],
  [
    'StatefulSet',
    `${CONTAINER}.terminationMessagePolicy`,
    'File',
    /^termination: .* does not say why/,
  ],
  [
    'StatefulSet',
    'spec.volumeClaimTemplates.0.metadata.labels',
    { 'app.kubernetes.io/version': '0.1.0' },
    /^immutable fields: /,
  ],
  [
    'PrometheusRule',
    'spec.groups.1.rules.0.expr',
    'walcast_upp == 0',
    /^metrics in rules: .*walcast_upp/,
  ],
  ['ConfigMap', 'data.walcast-overview', 'x'.repeat(300_000), /^size of objects: /],
];

describe('the manifests', () => {
  it.each([...DEPLOYMENTS, ...EXAMPLES])('of %s keep every rule', async (folder) => {
    expect(policyProblems(await rendered(folder))).toEqual([]);
  });
});

describe('the rules', () => {
  it.each(BREAKS)('find a %s with another %s: %j', async (kind, path, value, words) => {
    const objects = structuredClone(await rendered('deploy/kustomize/overlays/ha'));
    setPath(theFirst(objects, kind), path, value);
    expect(policyProblems(objects)).toContainEqual(expect.stringMatching(words));
  });

  it('are each broken by one of these', () => {
    const broken = BREAKS.map(([, , , words]) => words.source);
    for (const name of POLICY.keys())
      expect(
        broken.filter((source) => source.startsWith(`^${name}: `)),
        name,
      ).not.toEqual([]);
  });

  it('take no manifests without a relay, and none with a configuration that walcast would refuse', async () => {
    const objects = await rendered('deploy/kustomize/base');
    const others = objects.filter(({ kind }) => kind !== 'StatefulSet');
    expect(() => policyProblems(others)).toThrow('no StatefulSet');
    const mistaken = structuredClone(objects);
    setPath(theFirst(mistaken, 'ConfigMap'), 'data', { 'walcast.yaml': 'upstraem: {}' });
    expect(() => policyProblems(mistaken)).toThrow('upstraem');
  });
});

/** Of several Services the one that standbys name comes first. */
function theFirst(objects: readonly KubernetesObject[], kind: string): KubernetesObject {
  const found = objects.find((object) => object.kind === kind);
  if (found === undefined) throw new Error(`no ${kind}`);
  return found;
}

function setPath(object: KubernetesObject, path: string, value: unknown): void {
  const names = path.split('.');
  const last = names.pop() ?? '';
  let place: unknown = object;
  for (const name of names) {
    if (Reflect.get(Object(place), name) === undefined) throw new Error(`no ${name} of ${path}`);
    place = Reflect.get(Object(place), name);
  }
  if (value === undefined) Reflect.deleteProperty(Object(place), last);
  else Reflect.set(Object(place), last, value);
}
