// May these manifests be given to somebody? Our own rules, for what no type can say: each is a function that returns what is wrong, a
// line a problem.
import type { IPodDisruptionBudget } from 'kubernetes-models/policy/v1';
import type { INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import type { IPodMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
import type { IPrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
import type { IStatefulSet } from 'kubernetes-models/apps/v1';
import type { IContainer, IProbe, IService } from 'kubernetes-models/v1';
import { CATALOGUE, METRIC_PREFIX } from '../../src/metrics/catalogue.ts';
import { configurationOf, environmentOf, isOf, podSpec, statefulSets } from './manifest-pod.ts';
import { bytesOfQuantity } from './quantity.ts';
import type { KubernetesObject } from './manifests.ts';

type Rule = (objects: readonly KubernetesObject[], set: IStatefulSet) => readonly string[];
type Labels = Readonly<Record<string, string>>;

/** The user and group of the image. */
const IMAGE_ID = 10001;

/** What a selector may ask for: nothing that another version has otherwise. */
const SELECTOR_LABELS: ReadonlySet<string> = new Set(
  ['name', 'instance', 'component'].map((word) => `app.kubernetes.io/${word}`),
);

/** What every object has, to be found by: `kubectl get all -l …`, and whose it is. */
const OWN_LABELS: readonly string[] = [
  ...SELECTOR_LABELS,
  ...['version', 'part-of', 'managed-by'].map((word) => `app.kubernetes.io/${word}`),
];

/** Share of the limit of memory that V8's heap may have: blocks of WAL and sockets are not in it. */
const HEAP_SHARE_MAX = 0.6;

/** Between the end of draining and SIGKILL. */
const SPARE_SECONDS = 10;

/** What `kubectl apply` can write into the annotation by which it compares. */
const OBJECT_BYTES_MAX = 262_144;

/** Rules by what they are about, in the words of the tests. */
export const POLICY: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['images', images],
  ['probes', probes],
  ['memory and CPU', resources],
  ['security context', security],
  ['labels', labelsOfAll],
  ['selectors', selectors],
  ['ports', ports],
  ['volumes and secrets', volumes],
  ['room on the volume', room],
  ['termination', termination],
  ['immutable fields', immutable],
  ['metrics in rules', metricsInRules],
  ['size of objects', sizes],
]);

/** Everything that is wrong, each line with its rule; empty: nothing is. Throws where there is no StatefulSet, or a configuration with mistakes. */
export function policyProblems(objects: readonly KubernetesObject[]): readonly string[] {
  const sets = statefulSets(objects);
  if (sets.length === 0) throw new Error('no StatefulSet among the objects');
  return sets.flatMap((set) =>
    [...POLICY].flatMap(([name, rule]) =>
      rule(objects, set).map((problem) => `${name}: ${problem}`),
    ),
  );
}

function images(_objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  return allContainers(set)
    .filter(({ image = '' }) => !/(?::(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})$/.test(image))
    .map(({ name, image }) => `${name} has image ${image}, which is no fixed one`);
}

function probes(_objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  return podSpec(set).containers.flatMap((container) => [
    ...probe(container, 'startupProbe', /^\/startupz$/),
    ...probe(container, 'livenessProbe', /^\/livez$/),
    ...probe(container, 'readinessProbe', /^\/readyz(\?lag=\d+(kB|MB|GB))?$/),
    ...(patience(container.startupProbe) >= 600
      ? []
      : [`${container.name} has too little time to start`]),
    ...(patience(container.livenessProbe) >= 30 ? [] : [`${container.name} is restarted too soon`]),
  ]);
}

function probe(
  container: IContainer,
  kind: 'startupProbe' | 'livenessProbe' | 'readinessProbe',
  path: RegExp,
): string[] {
  const get = container[kind]?.httpGet;
  if (get === undefined) return [`${container.name} has no ${kind}`];
  if (!path.test(get.path ?? '')) return [`${kind} of ${container.name} asks ${get.path}`];
  return get.port === 'metrics' ? [] : [`${kind} of ${container.name} asks port ${get.port}`];
}

/** Seconds for which it may fail. */
function patience(asked: IProbe | undefined): number {
  return (asked?.periodSeconds ?? 10) * (asked?.failureThreshold ?? 3);
}

function resources(_objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  // Counted against the container that writes it.
  const inMemory = (podSpec(set).volumes ?? [])
    .filter(({ emptyDir }) => emptyDir?.medium === 'Memory')
    .reduce((sum, { emptyDir }) => sum + bytesOfQuantity(emptyDir?.sizeLimit ?? '1Ti'), 0);
  return allContainers(set).flatMap((container) => {
    const { requests, limits } = container.resources ?? {};
    if (limits?.['memory'] === undefined) return [`${container.name} has no limit of memory`];
    const limit = bytesOfQuantity(limits['memory']) - inMemory;
    const heap = /--max-old-space-size=(\d+)/.exec(environmentOf(container)['NODE_OPTIONS'] ?? '');
    const heapBytes = Number(heap?.[1] ?? Infinity) * 1024 * 1024;
    return [
      ...(limits['cpu'] === undefined ? [] : [`${container.name} has a limit of CPU`]),
      ...(requests?.['memory'] === undefined || requests['cpu'] === undefined
        ? [`${container.name} requests no memory or no CPU`]
        : []),
      ...(heapBytes <= limit * HEAP_SHARE_MAX
        ? []
        : [`the heap of ${container.name} may have ${heapBytes} of ${limit} bytes`]),
    ];
  });
}

function security(_objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  const spec = podSpec(set);
  const pod = spec.securityContext ?? {};
  const isPodRestricted =
    pod.runAsNonRoot === true &&
    pod.runAsUser === IMAGE_ID &&
    pod.runAsGroup === IMAGE_ID &&
    pod.fsGroup === IMAGE_ID &&
    pod.fsGroupChangePolicy === 'OnRootMismatch' &&
    pod.seccompProfile?.type === 'RuntimeDefault';
  const isContainerRestricted = ({ securityContext: own = {} }: IContainer): boolean =>
    own.allowPrivilegeEscalation === false &&
    own.readOnlyRootFilesystem === true &&
    own.privileged !== true &&
    own.runAsUser === undefined &&
    own.capabilities?.drop?.join() === 'ALL' &&
    (own.capabilities.add ?? []).length === 0;
  const hasHostAccess =
    spec.hostNetwork === true ||
    spec.hostPID === true ||
    spec.hostIPC === true ||
    (spec.volumes ?? []).some(({ hostPath }) => hostPath !== undefined);
  return [
    ...(isPodRestricted ? [] : ['the pod is not restricted']),
    ...allContainers(set)
      .filter((container) => !isContainerRestricted(container))
      .map(({ name }) => `container ${name} is not restricted`),
    ...(hasHostAccess ? ['the pod reaches into its node'] : []),
    ...(spec.automountServiceAccountToken === false
      ? []
      : ['the pod gets a token of the API server']),
    ...(spec.enableServiceLinks === false ? [] : ['services set variables of the environment']),
  ];
}

function labelsOfAll(objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  const wanted = set.spec?.template.metadata?.labels ?? {};
  return objects.flatMap(({ kind, metadata }) =>
    OWN_LABELS.filter(
      (name) => wanted[name] === undefined || metadata.labels?.[name] !== wanted[name],
    ).map((name) => `${kind}/${metadata.name} has not the ${name} of the pods`),
  );
}

function selectors(objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  const labels = set.spec?.template.metadata?.labels ?? {};
  const asked: [string, Labels | undefined][] = [
    ['StatefulSet', set.spec?.selector.matchLabels],
    ...(podSpec(set).topologySpreadConstraints ?? []).map(
      ({ topologyKey, labelSelector }): [string, Labels | undefined] => [
        `spread over ${topologyKey}`,
        labelSelector?.matchLabels,
      ],
    ),
    ...objects.flatMap((object): [string, Labels | undefined][] => {
      const name = `${object.kind}/${object.metadata.name}`;
      if (isService(object)) return [[name, object.spec?.selector]];
      if (isBudget(object)) return [[name, object.spec?.selector?.matchLabels]];
      if (isPodMonitor(object)) return [[name, object.spec.selector.matchLabels]];
      if (isNetworkPolicy(object)) return [[name, object.spec?.podSelector?.matchLabels]];
      return [];
    }),
  ];
  const spread = (podSpec(set).topologySpreadConstraints ?? []).map(
    ({ topologyKey }) => topologyKey,
  );
  return [
    ...asked.flatMap(([name, selector]) => selectorProblems(name, selector, labels)),
    ...['topology.kubernetes.io/zone', 'kubernetes.io/hostname']
      .filter((key) => !spread.includes(key))
      .map((key) => `pods are not spread over ${key}`),
    ...(podSpec(set).topologySpreadConstraints ?? [])
      .filter(({ whenUnsatisfiable }) => whenUnsatisfiable === 'DoNotSchedule')
      // With one node left, all on it are spread as evenly as can be.
      .filter(({ minDomains = 1 }) => minDomains < 2)
      .map(({ topologyKey }) => `all pods may come to the only ${topologyKey}`),
    ...(objects.some(isBudget) ? [] : ['no PodDisruptionBudget']),
    ...(objects.some(
      (object) => object.metadata.name === set.spec?.serviceName && isService(object),
    )
      ? []
      : [`no Service ${set.spec?.serviceName} for the names of the pods`]),
  ];
}

function selectorProblems(name: string, selector: Labels = {}, labels: Labels): string[] {
  const keys = Object.keys(selector);
  if (keys.length !== SELECTOR_LABELS.size || keys.some((key) => !SELECTOR_LABELS.has(key)))
    return [`${name} selects by ${keys.join(', ')}`];
  return keys.every((key) => selector[key] === labels[key]) ? [] : [`${name} selects no pod`];
}

function ports(objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  const config = configurationOf(objects, set);
  const found = new Map(
    podSpec(set).containers.flatMap(({ ports: list = [] }) =>
      list.map(({ name = '', containerPort }): [string, number] => [name, containerPort]),
    ),
  );
  const listened = config.listen.map((address) => ('port' in address ? address.port : null));
  const isHttps = config.http.tls !== null;
  const schemes = podSpec(set).containers.flatMap((container) =>
    [container.startupProbe, container.livenessProbe, container.readinessProbe].map(
      (asked) => asked?.httpGet?.scheme === 'HTTPS',
    ),
  );
  const named = objects.flatMap((object): [string, string | number | undefined][] => {
    const name = `${object.kind}/${object.metadata.name}`;
    if (isService(object))
      return (object.spec?.ports ?? []).map(({ targetPort }) => [name, targetPort]);
    if (isPodMonitor(object))
      return (object.spec.podMetricsEndpoints ?? []).map(({ port }) => [name, port]);
    if (isNetworkPolicy(object))
      return (object.spec?.ingress ?? []).flatMap(({ ports: list = [] }) =>
        list.map(({ port }): [string, string | number | undefined] => [name, port]),
      );
    return [];
  });
  const scraped = objects
    .filter(isPodMonitor)
    .flatMap(({ spec }) => spec.podMetricsEndpoints ?? []);
  return [
    ...named
      .filter(([, port]) => !found.has(String(port)))
      .map(([name, port]) => `${name} names port ${port}, which no container has`),
    ...(listened.includes(found.get('postgresql') ?? -1) ? [] : ['nobody listens on postgresql']),
    ...(config.http.listen?.port === found.get('metrics') ? [] : ['nobody listens on metrics']),
    ...(schemes.every((isAsked) => isAsked === isHttps)
      ? []
      : ['probes and port do not agree on TLS']),
    ...(scraped.every(({ scheme }) => (scheme === 'https') === isHttps)
      ? []
      : ['scraping and port do not agree on TLS']),
  ];
}

function volumes(_objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  const spec = podSpec(set);
  const claims = (set.spec?.volumeClaimTemplates ?? []).map(({ metadata }) => metadata?.name);
  const names = [...claims, ...(spec.volumes ?? []).map(({ name }) => name)];
  const mounts = allContainers(set).flatMap(({ volumeMounts = [] }) => volumeMounts);
  const secrets = (spec.volumes ?? []).filter(({ secret }) => secret !== undefined);
  const isReadOnly = (name: string): boolean =>
    mounts.filter((mount) => mount.name === name).every(({ readOnly }) => readOnly === true);
  return [
    ...mounts.filter(({ name }) => !names.includes(name)).map(({ name }) => `no volume ${name}`),
    ...mounts
      .filter(({ subPath, subPathExpr }) => (subPath ?? subPathExpr) !== undefined)
      .map(({ name }) => `${name} is mounted by subPath, and never renewed`),
    ...secrets
      .filter(({ secret }) => ((secret?.defaultMode ?? 0o644) & 0o337) !== 0)
      .map(({ name }) => `others may read secret ${name}`),
    ...(spec.volumes ?? [])
      .filter(({ secret, configMap }) => (secret ?? configMap) !== undefined)
      .filter(({ name }) => !isReadOnly(name))
      .map(({ name }) => `${name} can be written`),
    // In the environment everybody who may look at the process sees it, and no renewal reaches it.
    ...allContainers(set)
      .flatMap(({ env = [], envFrom = [] }) => [
        ...env.map(({ valueFrom }) => valueFrom?.secretKeyRef),
        ...envFrom,
      ])
      .filter((source) => source !== undefined)
      .map(() => 'a secret, or a whole object, is put into the environment'),
  ];
}

function room(objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  const { storage } = configurationOf(objects, set);
  const mounts = podSpec(set).containers.flatMap(({ volumeMounts = [] }) => volumeMounts);
  const mount = mounts.find(({ mountPath }) => storage.directory.startsWith(`${mountPath}/`));
  if (mount === undefined) return [`${storage.directory} is not below the root of a volume`];
  const claim = set.spec?.volumeClaimTemplates?.find(
    ({ metadata }) => metadata?.name === mount.name,
  );
  const volume = podSpec(set).volumes?.find(({ name }) => name === mount.name);
  const size = claim?.spec?.resources?.requests?.['storage'] ?? volume?.emptyDir?.sizeLimit;
  const { quotaBytes, walKeepSizeBytes, maxSlotWalKeepSizeBytes } = storage;
  if (quotaBytes === null || size === undefined) return ['the store, or its volume, has no bound'];
  return [
    ...(quotaBytes * 1.1 <= bytesOfQuantity(size)
      ? []
      : [`a quota of ${quotaBytes} bytes in ${size}`]),
    ...(walKeepSizeBytes <= quotaBytes ? [] : ['wal_keep_size is above the quota']),
    ...((maxSlotWalKeepSizeBytes ?? Infinity) <= quotaBytes
      ? []
      : ['max_slot_wal_keep_size is above the quota']),
  ];
}

function termination(objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  const spec = podSpec(set);
  const drainSeconds = configurationOf(objects, set).drainTimeoutMs / 1000;
  return spec.containers.flatMap(({ name, lifecycle, terminationMessagePolicy }) => {
    if (terminationMessagePolicy !== 'FallbackToLogsOnError')
      return [`${name} does not say why it ended`];
    const sleep = lifecycle?.preStop?.sleep?.seconds;
    if (sleep === undefined) return [`${name} ends while connections are still sent to it`];
    const needed = sleep + drainSeconds + SPARE_SECONDS;
    return (spec.terminationGracePeriodSeconds ?? 30) >= needed
      ? []
      : [`${name} is killed before the ${needed} s that it may need`];
  });
}

function immutable(_objects: readonly KubernetesObject[], set: IStatefulSet): string[] {
  const claims = set.spec?.volumeClaimTemplates ?? [];
  return claims
    .filter(({ metadata }) => metadata?.labels?.['app.kubernetes.io/version'] !== undefined)
    .map(({ metadata }) => `the claim ${metadata?.name} has the version in it`);
}

function metricsInRules(objects: readonly KubernetesObject[]): string[] {
  const families = new Set(CATALOGUE.map(({ name }) => `${METRIC_PREFIX}${name}`));
  const expressions = objects
    .filter(
      (object): object is KubernetesObject & IPrometheusRule => object.kind === 'PrometheusRule',
    )
    .flatMap(({ spec }) => spec.groups ?? [])
    .flatMap(({ rules = [] }) => rules.map(({ expr }) => String(expr)));
  const names = expressions.flatMap((expr) =>
    [...expr.matchAll(/\bwalcast_\w+/g)].map(([name]) => name),
  );
  const isFamily = (name: string): boolean =>
    families.has(name) || families.has(name.replace(/_(bucket|count|sum)$/, ''));
  return [...new Set(names)].filter((name) => !isFamily(name)).map((name) => `no metric ${name}`);
}

function sizes(objects: readonly KubernetesObject[]): string[] {
  return objects
    .filter((object) => Buffer.byteLength(JSON.stringify(object)) > OBJECT_BYTES_MAX)
    .map(({ metadata }) => `kubectl apply cannot take ${metadata.name}`);
}

function allContainers(set: IStatefulSet): readonly IContainer[] {
  const { containers, initContainers = [] } = podSpec(set);
  return [...initContainers, ...containers];
}

function isService(object: KubernetesObject): object is KubernetesObject & IService {
  return isOf(object, 'v1', 'Service');
}

function isBudget(object: KubernetesObject): object is KubernetesObject & IPodDisruptionBudget {
  return isOf(object, 'policy/v1', 'PodDisruptionBudget');
}

function isPodMonitor(object: KubernetesObject): object is KubernetesObject & IPodMonitor {
  return isOf(object, 'monitoring.coreos.com/v1', 'PodMonitor');
}

function isNetworkPolicy(object: KubernetesObject): object is KubernetesObject & INetworkPolicy {
  return isOf(object, 'networking.k8s.io/v1', 'NetworkPolicy');
}
