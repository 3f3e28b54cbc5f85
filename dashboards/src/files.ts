// Which files are made from the sources here? Paths and contents, for the test that compares and writes them.
import { DASHBOARDS } from './dashboards.ts';
import type { DashboardSpec } from './panel-spec.ts';
import { renderDashboard } from './render-dashboard.ts';

/** Where the alerting and recording rules are, from the root of the project; written by hand. */
export const RULES_PATH: string = 'dashboards/prometheus/walcast.rules.yml';

/** Folder of the dashboards' JSON, from the root of the project. */
export const GRAFANA_PATH: string = 'dashboards/grafana';

/** Folder of the manifests for Kubernetes, from the root of the project. */
export const KUBERNETES_PATH: string = 'dashboards/kubernetes';

/** Contents by path, from the root of the project. `rules` is the text at {@link RULES_PATH}. */
export function generatedFiles(rules: string): ReadonlyMap<string, string> {
  const dashboards = DASHBOARDS.map((spec) => ({ uid: spec.uid, json: jsonOf(spec) }));
  const kubernetes = [
    ...dashboards.map(({ uid, json }) => [`${uid}.yaml`, configMap(uid, json)] as const),
    ['walcast-rules.yaml', prometheusRule(rules)] as const,
  ];
  return new Map([
    ...dashboards.map(({ uid, json }) => [`${GRAFANA_PATH}/${uid}.json`, json] as const),
    ...kubernetes.map(([name, text]) => [`${KUBERNETES_PATH}/${name}`, text] as const),
    [`${KUBERNETES_PATH}/kustomization.yaml`, kustomization(kubernetes.map(([name]) => name))],
  ]);
}

/** As Grafana takes it from a file: without an id, which is the database's. */
function jsonOf(spec: DashboardSpec): string {
  return `${JSON.stringify({ ...renderDashboard(spec), id: null }, null, 2)}\n`;
}

/** The form that the sidecar of kube-prometheus-stack and of CloudNativePG's charts looks for. */
function configMap(uid: string, json: string): string {
  return [
    '# Made from dashboards/src: do not edit.',
    'apiVersion: v1',
    'kind: ConfigMap',
    'metadata:',
    `  name: ${uid}`,
    '  labels:',
    '    app.kubernetes.io/name: walcast',
    '    grafana_dashboard: "1"',
    'data:',
    `  ${uid}.json: |`,
    indented(JSON.stringify(JSON.parse(json))),
    '',
  ].join('\n');
}

/** The rules as the Prometheus operator takes them. */
function prometheusRule(rules: string): string {
  return [
    `# Made from ${RULES_PATH}: do not edit.`,
    'apiVersion: monitoring.coreos.com/v1',
    'kind: PrometheusRule',
    'metadata:',
    '  name: walcast',
    '  labels:',
    '    app.kubernetes.io/name: walcast',
    'spec:',
    indented(rules, 2),
    '',
  ].join('\n');
}

/** `kubectl apply -k dashboards/kubernetes`: all of them, in the namespace and with the labels of whoever builds upon it. */
function kustomization(names: readonly string[]): string {
  return [
    '# Made from dashboards/src: do not edit.',
    'apiVersion: kustomize.config.k8s.io/v1beta1',
    'kind: Kustomization',
    'resources:',
    ...names.map((name) => `  - ${name}`),
    '',
  ].join('\n');
}

function indented(text: string, columns: number = 4): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => (line === '' ? '' : `${' '.repeat(columns)}${line}`))
    .join('\n');
}
