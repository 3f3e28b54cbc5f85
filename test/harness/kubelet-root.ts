// What does a container's process see of the machine? A root file system of the image's layers in a mount namespace of its own, the
// pod's volumes on it, its user, its capabilities. What a container runtime would add beyond that is absent: seccomp, cgroups.
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { IContainer } from 'kubernetes-models/v1/Container';
import type { IPodSpec } from 'kubernetes-models/v1/PodSpec';

/** A directory or file of the machine that a container sees. */
export interface RootMount {
  /** On the machine. */
  readonly source: string;
  /** In the container, absolute. */
  readonly path: string;
  readonly isReadOnly: boolean;
}

/** Who runs a container's process. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly dropsAll: boolean;
  readonly noNewPrivileges: boolean;
}

/** What a container's root is made of. */
export interface RootOptions {
  /** Absent until made; holds the mount point and the runtime's own layer. */
  readonly directory: string;
  /** The image's layers, the topmost first, as `lowerdir` of an overlay has them. */
  readonly lowers: readonly string[];
  readonly mounts: readonly RootMount[];
  readonly isReadOnly: boolean;
  /** Text of files that the kubelet makes: `/etc/hosts`, `/etc/resolv.conf`. */
  readonly files: Readonly<Record<string, string>>;
  readonly hostname: string;
  readonly workdir: string;
  readonly identity: Identity;
}

const DEVICES = [
  ['null', 3],
  ['zero', 5],
  ['full', 7],
  ['random', 8],
  ['urandom', 9],
] as const;

/** As whom a container runs. Throws where the kubelet would refuse to start it. */
export function identityOf(pod: IPodSpec, container: IContainer, imageUser: string): Identity {
  const [ofPod, own] = [pod.securityContext ?? {}, container.securityContext ?? {}];
  const [imageUid = '0', imageGid = '0'] = imageUser.split(':');
  const uid = own.runAsUser ?? ofPod.runAsUser ?? Number(imageUid);
  const gid = own.runAsGroup ?? ofPod.runAsGroup ?? Number(imageGid);
  if (!Number.isInteger(uid) || !Number.isInteger(gid))
    throw new Error(`the image runs as ${imageUser}: a cluster cannot see that it is not root`);
  if (uid === 0 && (own.runAsNonRoot ?? ofPod.runAsNonRoot) === true)
    throw new Error(
      'CreateContainerConfigError: container has runAsNonRoot and image will run as root',
    );
  const { fsGroup, supplementalGroups = [] } = ofPod;
  return {
    uid,
    gid,
    groups: [...supplementalGroups, ...(fsGroup === undefined ? [] : [fsGroup])],
    dropsAll: own.capabilities?.drop?.includes('ALL') === true,
    noNewPrivileges: own.allowPrivilegeEscalation === false,
  };
}

/**
 * Makes what a root needs. Gives a program with its arguments, for a process that is alone in new mount, process and host name
 * namespaces; it replaces itself by the command that follows, which is the first of its process namespace.
 */
export async function prepareRoot(options: RootOptions): Promise<string[]> {
  const { directory } = options;
  const [root, layer] = [join(directory, 'root'), join(directory, 'layer')];
  for (const path of [root, layer, join(directory, 'upper'), join(directory, 'work')]) {
    await mkdir(path, { recursive: true });
    await chmod(path, 0o755);
  }
  // What is mounted needs a place, also where nothing can be written.
  for (const { path } of options.mounts) await mkdir(join(layer, path), { recursive: true });
  for (const path of ['proc', 'dev']) await mkdir(join(layer, path), { recursive: true });
  for (const [path, text] of Object.entries(options.files)) {
    await mkdir(dirname(join(layer, path)), { recursive: true });
    await writeFile(join(layer, path), text, { mode: 0o644 });
  }
  const script = join(directory, 'enter.sh');
  await writeFile(script, enterScript(options, root, layer));
  return ['sh', script];
}

function enterScript(options: RootOptions, root: string, layer: string): string {
  const { directory, lowers, mounts, hostname, isReadOnly } = options;
  const writable = `,upperdir=${join(directory, 'upper')},workdir=${join(directory, 'work')}`;
  const layers = `lowerdir=${[layer, ...lowers].join(':')}${isReadOnly ? '' : writable}`;
  const dev = join(root, 'dev');
  return [
    'set -e',
    'mount --make-rprivate /',
    `mount -t overlay overlay -o ${quoted(layers)} ${quoted(root)}`,
    `mount -t proc -o nosuid,nodev,noexec proc ${quoted(join(root, 'proc'))}`,
    `mount -t tmpfs -o nosuid,mode=755 tmpfs ${quoted(dev)}`,
    ...DEVICES.map(([name, minor]) => `mknod -m 666 ${quoted(join(dev, name))} c 1 ${minor}`),
    ...[0, 1, 2].map(
      (number) =>
        `ln -s /proc/self/fd/${number} ${quoted(join(dev, ['stdin', 'stdout', 'stderr'][number] ?? ''))}`,
    ),
    ...mounts.flatMap((mount) => mountLines(mount, root)),
    `echo ${quoted(hostname)} > /proc/sys/kernel/hostname`,
    `exec chroot ${quoted(root)} ${becoming(options.identity, options.workdir).map(quoted).join(' ')} "$@"`,
    '',
  ].join('\n');
}

function mountLines({ source, path, isReadOnly }: RootMount, root: string): string[] {
  const at = quoted(join(root, path));
  return [
    `mount --bind ${quoted(source)} ${at}`,
    ...(isReadOnly ? [`mount -o remount,bind,ro ${at}`] : []),
  ];
}

/** A program that becomes `identity` and replaces itself by what follows. */
function becoming(identity: Identity, workdir: string): string[] {
  const { uid, gid, groups, dropsAll, noNewPrivileges } = identity;
  return [
    '/usr/bin/env',
    `--chdir=${workdir}`,
    '/usr/bin/setpriv',
    `--reuid=${uid}`,
    `--regid=${gid}`,
    ...(groups.length === 0 ? ['--clear-groups'] : [`--groups=${[...new Set(groups)].join(',')}`]),
    ...(dropsAll ? ['--bounding-set=-all', '--inh-caps=-all'] : []),
    ...(noNewPrivileges ? ['--no-new-privs'] : []),
    '--',
  ];
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
