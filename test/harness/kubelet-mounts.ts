// Which directory of this machine is which volume of a pod, and what is renewed in it while the pod runs?
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { IContainer } from 'kubernetes-models/v1/Container';
import type { IKeyToPath } from 'kubernetes-models/v1/KeyToPath';
import type { IPodSpec } from 'kubernetes-models/v1/PodSpec';
import type { IVolume } from 'kubernetes-models/v1/Volume';
import type { RootMount } from './kubelet-root.ts';
import {
  makeEmptyVolume,
  makeFilesVolume,
  prepareClaim,
  writeAtomically,
} from './kubelet-volumes.ts';
import type { VolumeFile } from './kubelet-volumes.ts';

/** What a ConfigMap or a Secret holds, by key. */
export type ObjectData = ReadonlyMap<string, Uint8Array>;

/** Finds a ConfigMap or Secret of the namespace; null when there is none. */
export type FindData = (kind: 'ConfigMap' | 'Secret', name: string) => ObjectData | null;

const DEFAULT_MODE = 0o644;

/** The volumes of one pod. */
export class PodVolumes {
  readonly #spec: IPodSpec;
  readonly #directory: string;
  readonly #find: FindData;
  readonly #claims: Readonly<Record<string, string>>;

  /** `directory` goes with the pod; `claims`: by the name of a volume, directories that do not. */
  constructor(
    spec: IPodSpec,
    options: {
      readonly directory: string;
      readonly find: FindData;
      readonly claims: Readonly<Record<string, string>>;
    },
  ) {
    this.#spec = spec;
    this.#directory = options.directory;
    this.#find = options.find;
    this.#claims = options.claims;
  }

  /** Makes all of them. Throws where a pod would wait for what it mounts. */
  async prepare(): Promise<void> {
    const { fsGroup = null, fsGroupChangePolicy } = this.#spec.securityContext ?? {};
    await mkdir(this.#directory, { recursive: true });
    for (const claim of Object.values(this.#claims))
      await prepareClaim(claim, fsGroup, fsGroupChangePolicy === 'OnRootMismatch');
    for (const volume of this.#spec.volumes ?? []) {
      const path = this.#pathOf(volume.name);
      if (volume.emptyDir !== undefined) await makeEmptyVolume(path, fsGroup);
      else await makeFilesVolume(path, fsGroup);
    }
    await this.refresh();
  }

  /** Looks at ConfigMaps and Secrets again, as the kubelet does once a minute. Gives the names of the volumes that changed. */
  async refresh(): Promise<string[]> {
    const changed: string[] = [];
    const fsGroup = this.#spec.securityContext?.fsGroup ?? null;
    for (const volume of this.#spec.volumes ?? []) {
      if (volume.emptyDir !== undefined) continue;
      const files = this.#filesOf(volume);
      if (await writeAtomically(this.#pathOf(volume.name), files, fsGroup))
        changed.push(volume.name);
    }
    return changed;
  }

  /** What `container` sees of them. */
  mountsOf(container: IContainer): RootMount[] {
    return (container.volumeMounts ?? []).map(({ name, mountPath, readOnly, subPath }) => {
      if (subPath !== undefined) throw new Error(`${name}: a subPath is never renewed`);
      const volume = this.#spec.volumes?.find((each) => each.name === name);
      const isFiles = volume !== undefined && volume.emptyDir === undefined;
      return {
        source: this.#pathOf(name),
        path: mountPath,
        isReadOnly: isFiles || readOnly === true,
      };
    });
  }

  /** Removes what goes with the pod. */
  async remove(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }

  #pathOf(name: string): string {
    const isThere = this.#spec.volumes?.some((volume) => volume.name === name) === true;
    const path = this.#claims[name] ?? (isThere ? join(this.#directory, name) : undefined);
    if (path === undefined) throw new Error(`the pod has no volume ${name}`);
    return path;
  }

  #filesOf(volume: IVolume): VolumeFile[] {
    const { configMap, secret, projected } = volume;
    if (configMap !== undefined)
      return this.#picked({ kind: 'ConfigMap', ...configMap, mode: configMap.defaultMode });
    if (secret !== undefined)
      return this.#picked({
        kind: 'Secret',
        ...secret,
        name: secret.secretName,
        mode: secret.defaultMode,
      });
    if (projected === undefined)
      throw new Error(`the stand-in does not know volume ${volume.name}`);
    const mode = projected.defaultMode;
    return (projected.sources ?? []).flatMap((source) => {
      if (source.configMap !== undefined)
        return this.#picked({ kind: 'ConfigMap', ...source.configMap, mode });
      if (source.secret !== undefined)
        return this.#picked({ kind: 'Secret', ...source.secret, mode });
      throw new Error(`the stand-in does not know all sources of volume ${volume.name}`);
    });
  }

  #picked(source: {
    readonly kind: 'ConfigMap' | 'Secret';
    readonly name?: string | undefined;
    readonly items?: readonly IKeyToPath[] | undefined;
    readonly mode?: number | undefined;
    readonly optional?: boolean | undefined;
  }): VolumeFile[] {
    const { kind, name = '', items, mode = DEFAULT_MODE, optional = false } = source;
    const data = this.#find(kind, name);
    if (data === null) {
      if (optional) return [];
      throw new Error(`MountVolume.SetUp failed: ${kind} "${name}" not found`);
    }
    const wanted: readonly IKeyToPath[] =
      items ?? [...data.keys()].map((key) => ({ key, path: key }));
    return wanted.flatMap((item) => {
      const bytes = data.get(item.key);
      if (bytes !== undefined) return [{ path: item.path, bytes, mode: item.mode ?? mode }];
      if (optional) return [];
      throw new Error(`MountVolume.SetUp failed: ${kind} "${name}" has no key ${item.key}`);
    });
  }
}
