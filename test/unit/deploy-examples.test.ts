// Are the worked examples what Kubernetes and the operator of CloudNativePG take? Rendered, put to the types, the schemas and our own
// rules; an invented field is found.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { configurationOf, SAMPLE_CREDENTIALS, statefulSets } from '../support/manifest-pod.ts';
import { policyProblems } from '../support/manifest-policy.ts';
import { schemaProblems, typeProblems } from '../support/manifest-types.ts';
import { objectsOf, rendered, theObject } from '../support/manifests.ts';
import type { KubernetesObject } from '../support/manifests.ts';
import { requires } from '../support/requirements.ts';

const EXAMPLES = ['cloudnative-pg', 'patroni', 'plain'];
const CLUSTERS = ['cluster.yaml', 'replica-cluster.yaml', 'replica-cluster-password.yaml'];

const { describe: describeWithKubectl } = requires('kubectl');

function path(example: string, file = ''): string {
  return join(import.meta.dirname, '../../deploy/examples', example, file);
}

function text(example: string, file: string): string {
  return readFileSync(path(example, file), 'utf8');
}

function clusters(): KubernetesObject[] {
  return CLUSTERS.flatMap((file) => objectsOf(text('cloudnative-pg', file)));
}

/** RFC 7396, which `kubectl patch --type merge` applies. */
function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const base =
    typeof target === 'object' && target !== null && !Array.isArray(target) ? target : {};
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}

describeWithKubectl('the slots that Patroni is told to keep', () => {
  it('are those of the relays that run: one without a relay would hold back WAL', async () => {
    const [set] = statefulSets(await rendered(path('patroni')));
    const { slots } = parse(text('patroni', 'primary.yml')) as { slots: Record<string, unknown> };
    const relays = Array.from(
      { length: set?.spec?.replicas ?? 1 },
      (_, index) => `walcast_${index}`,
    );
    expect(Object.keys(slots)).toEqual(relays);
  });
});

describeWithKubectl.each(EXAMPLES)('the example for %s', (example) => {
  it('renders objects that the API takes, with the files of the folder in the pod', async () => {
    const objects = await rendered(path(example));
    expect(typeProblems(objects)).toEqual([]);
    expect(schemaProblems(objects)).toEqual([]);
    const { data } = theObject(objects, 'ConfigMap', 'walcast-config');
    expect(data).toEqual({
      'walcast.yaml': text(example, 'walcast.yaml'),
      'pg_hba.conf': text(example, 'pg_hba.conf'),
    });
  });

  it('keeps to the rules for manifests, and its configuration has no mistake', async () => {
    const objects = await rendered(path(example));
    expect(policyProblems(objects)).toEqual([]);
    const [set] = statefulSets(objects);
    if (set === undefined) throw new Error('no StatefulSet');
    const conninfo = example === 'cloudnative-pg' ? {} : { conninfo: text(example, 'conninfo') };
    const config = configurationOf(objects, set, { ...SAMPLE_CREDENTIALS, ...conninfo });
    expect(config.upstream.slot).toBe('walcast_0');
    expect(config.upstream.applicationName).toBe('walcast_0');
  });
});

describe('the clusters of CloudNativePG', () => {
  it('are what the operator takes, also with the synchronous settings', () => {
    const [first, ...others] = clusters();
    const patched = merged(first, parse(text('cloudnative-pg', 'synchronous.yaml')));
    const objects = [...objectsOf(JSON.stringify(patched)), ...others];
    expect(typeProblems(objects)).toEqual([]);
    expect(schemaProblems(objects)).toEqual([]);
  });

  it('with a field that does not exist are found out', () => {
    const wrong = clusters().map((cluster) => ({
      ...cluster,
      spec: merged(cluster['spec'], {
        replica: { enabled: true, source: 'walcast', slot: 'mine' },
      }),
    }));
    const problems = typeProblems(wrong).join('\n');
    for (const { metadata } of wrong) expect(problems).toContain(metadata.name);
    expect(problems).toMatch(/'"?slot"?' does not exist/);
  });
});
