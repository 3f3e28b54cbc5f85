// What does walcast in a pod of these manifests get told? Its environment, its files, and the configuration that comes of them.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IStatefulSet } from 'kubernetes-models/apps/v1';
import type { IConfigMap, IContainer, IPodSpec, IVolume } from 'kubernetes-models/v1';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { formatConfigError } from '../../src/config/problem.ts';
import type { KubernetesObject } from './manifests.ts';

/** Of the password `sample`. */
const SAMPLE_SECRET =
  'SCRAM-SHA-256$4096:6gA/SszXsMFiqrwykzDqug==$QeeCtANHFBWQCZQYj5ji4dD2kBrtHLX+osCjbacnZSg=:HblqQg55a4NukIwdZHNC6OgUNU7Ce000BUrPkGqc7DY=';

/** What users put into the Secret `walcast-credentials`, by name of the file. */
export const SAMPLE_CREDENTIALS: Readonly<Record<string, string>> = {
  conninfo: 'host=pg.example user=walcast password=sample sslmode=verify-full sslrootcert=system',
  'userlist.txt': `"replicator" "${SAMPLE_SECRET}"\n`,
  token: 'a-token-of-the-sample',
  'wal-token': 'another-token-of-the-sample',
};

const CONFIG_DIRECTORY = '/etc/walcast';

/** The objects of a kind, of whose shape the types are sure (see manifest-types.ts). */
export function statefulSets(objects: readonly KubernetesObject[]): readonly IStatefulSet[] {
  return objects.filter((object): object is KubernetesObject & IStatefulSet =>
    isOf(object, 'apps/v1', 'StatefulSet'),
  );
}

/** Of what apiVersion and kind an object is. */
export function isOf(object: KubernetesObject, apiVersion: string, kind: string): boolean {
  return object.apiVersion === apiVersion && object.kind === kind;
}

/** The pod's own part of it; throws where there is none. */
export function podSpec(set: IStatefulSet): IPodSpec {
  const spec = set.spec?.template.spec;
  if (spec === undefined) throw new Error('a StatefulSet without pods');
  return spec;
}

/** The container of that name; throws where there is none. */
export function theContainer(set: IStatefulSet, name: string = 'walcast'): IContainer {
  const found = podSpec(set).containers.find((container) => container.name === name);
  if (found === undefined) throw new Error(`no container ${name}`);
  return found;
}

/** The environment of the first pod: values as the kubelet expands them, the number of the pod being 0. */
export function environmentOf(container: IContainer): Readonly<Record<string, string>> {
  const values: Record<string, string> = {};
  for (const { name, value, valueFrom } of container.env ?? []) {
    const isIndex = valueFrom?.fieldRef?.fieldPath.includes('pod-index') === true;
    values[name] = isIndex
      ? '0'
      : (value ?? '').replaceAll(/\$\((\w+)\)/g, (whole, other: string) => values[other] ?? whole);
  }
  return values;
}

/**
 * The configuration of a pod, with made-up credentials. Throws what `walcast run` would print. Names of files in it lead to a
 * copy that is gone by then, but for `storage.directory`.
 */
export function configurationOf(
  objects: readonly KubernetesObject[],
  set: IStatefulSet,
  credentials: Readonly<Record<string, string>> = SAMPLE_CREDENTIALS,
): Config {
  const root = mkdtempSync(join(tmpdir(), 'walcast-manifest-'));
  // The folders of the pod stand below that one: names of them in files are changed alike.
  const moved = (text: string): string =>
    text.replaceAll(CONFIG_DIRECTORY, `${root}${CONFIG_DIRECTORY}`);
  try {
    const container = theContainer(set);
    for (const { name, mountPath } of container.volumeMounts ?? []) {
      const volume = podSpec(set).volumes?.find((other) => other.name === name);
      if (volume === undefined) continue;
      mkdirSync(join(root, mountPath), { recursive: true });
      for (const [file, text] of Object.entries(filesOf(objects, volume, credentials)))
        writeFileSync(join(root, mountPath, file), moved(text), { mode: 0o600 });
    }
    const file = argumentAfter(container.args ?? [], '-c');
    const loaded = loadConfig({
      flags: [],
      env: environmentOf(container),
      file: `${root}${file}`,
      workingDirectory: root,
    });
    if ('errors' in loaded) throw new Error(loaded.errors.map(formatConfigError).join('\n'));
    return loaded.config;
  } finally {
    rmSync(root, { recursive: true });
  }
}

function filesOf(
  objects: readonly KubernetesObject[],
  volume: IVolume,
  credentials: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  if (volume.secret !== undefined) return credentials;
  if (volume.configMap === undefined) return {};
  const map = objects.find(
    (object): object is KubernetesObject & IConfigMap =>
      isOf(object, 'v1', 'ConfigMap') && object.metadata.name === volume.configMap?.name,
  );
  if (map === undefined) throw new Error(`no ConfigMap ${volume.configMap.name}`);
  return map.data ?? {};
}

function argumentAfter(words: readonly string[], flag: string): string {
  const value = words[words.indexOf(flag) + 1];
  if (!words.includes(flag) || value === undefined)
    throw new Error(`no ${flag} in ${words.join(' ')}`);
  return value;
}
