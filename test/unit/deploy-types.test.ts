// Does the API server know every field that the manifests have? Asked of the published types, offline.
import { describe, expect } from 'vitest';
import { DEPLOYMENTS, EXAMPLES, rendered } from '../support/manifests.ts';
import type { KubernetesObject } from '../support/manifests.ts';
import { schemaProblems, typeProblems } from '../support/manifest-types.ts';
import { requires } from '../support/requirements.ts';

const { it } = requires('kubectl');

/** A copy with something else at a path: `spec.replicas`. */
function changed(object: KubernetesObject, path: string, value: unknown): KubernetesObject {
  const copy = structuredClone(object);
  const names = path.split('.');
  const last = names.pop() ?? '';
  let place: unknown = copy;
  for (const name of names) place = Reflect.get(Object(place), name);
  Reflect.set(Object(place), last, value);
  return copy;
}

describe('the manifests', () => {
  it('have only fields that their APIs have, with values of the right type', async () => {
    const objects = (await Promise.all([...DEPLOYMENTS, ...EXAMPLES].map(rendered))).flat();
    expect(new Set(objects.map(({ kind }) => kind))).toEqual(
      new Set([
        'ConfigMap',
        'NetworkPolicy',
        'PodDisruptionBudget',
        'PodMonitor',
        'PrometheusRule',
        'Service',
        'StatefulSet',
      ]),
    );
    expect(typeProblems(objects)).toEqual([]);
    expect(schemaProblems(objects)).toEqual([]);
  });

  it('would be found out with a field that does not exist, or a value that does not fit', async () => {
    const objects = await rendered('deploy/kustomize/overlays/ha');
    const one = (kind: string): KubernetesObject => {
      const found = objects.find((object) => object.kind === kind);
      if (found === undefined) throw new Error(`no ${kind}`);
      return found;
    };
    const wrong: readonly [KubernetesObject, RegExp][] = [
      [changed(one('StatefulSet'), 'spec.replicaz', 2), /StatefulSet\/walcast: .*TS2353.*replicaz/],
      [changed(one('StatefulSet'), 'spec.replicas', '2'), /StatefulSet\/walcast: .*TS2322/],
      [
        changed(one('StatefulSet'), 'spec.template.spec.containers.0.livenessProbe.period', 1),
        /StatefulSet\/walcast: .*TS2353.*period/,
      ],
      [
        changed(one('PodMonitor'), 'spec.podMetricsEndpoints.0.intervall', '15s'),
        /PodMonitor\/walcast: .*TS2353.*intervall/,
      ],
      [
        changed(one('PrometheusRule'), 'spec.groups.0.rules.0.sevrity', 'x'),
        /PrometheusRule\/walcast: .*TS2353.*sevrity/,
      ],
      [
        changed(one('NetworkPolicy'), 'spec.policyTypes', 'Ingress'),
        /NetworkPolicy\/walcast: .*TS2322/,
      ],
      [changed(one('Service'), 'apiVersion', 'v9.example.com/v1'), /Service\/\S+: no types for/],
    ];
    const problems = typeProblems(wrong.map(([object]) => object));
    for (const [, words] of wrong) expect(problems).toContainEqual(expect.stringMatching(words));
    expect(problems).toHaveLength(wrong.length);
    const interval = changed(one('PodMonitor'), 'spec.podMetricsEndpoints.0.interval', 'often');
    expect(typeProblems([interval])).toEqual([]);
    expect(schemaProblems([interval])).toEqual([expect.stringContaining('PodMonitor/walcast')]);
  });
});
