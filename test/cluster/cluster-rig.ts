// The overlay of two relays as it stands, in the stand-in for a cluster: what its user has to add (credentials, certificates), a
// primary outside of the cluster whose commits wait for one of the relays, and standbys behind its Services.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { renderConninfo } from '../../src/demo/postgres-settings.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { imageProblem, imageTree } from '../harness/image-tree.ts';
import { openCluster } from '../harness/kubelet-cluster.ts';
import type { StandInCluster } from '../harness/kubelet-cluster.ts';
import { resolvConf } from '../harness/kubelet-dns.ts';
import { namespaceProblem } from '../harness/namespaces.ts';
import {
  relayHbaLine,
  relayRoleSql,
  STANDBY_HOSTS,
  SYNC_NAMES,
  USER_TIMEOUT_MS,
} from '../support/kubernetes-page.ts';
import { rendered, theObject } from '../support/manifests.ts';
import type { KubernetesObject } from '../support/manifests.ts';
import { NEWEST_MAJOR } from '../support/requirements.ts';
import {
  credentialsSecret,
  makeCertificates,
  makePrimary,
  relayCertificate,
  tlsSecret,
} from './cluster-parts.ts';

/** The overlay under test. */
const OVERLAY = 'deploy/kustomize/overlays/ha';
/** The name of the primary in the cluster. */
const PRIMARY_HOST = 'postgres-rw';
/** Whom the primary knows, and whom the relays know; docs/kubernetes.md calls them so. */
const RELAY_USER = 'walcast';
const STANDBY_USER = 'replicator';
const PASSWORD = 'a password of the tests';
const ROOT = join(import.meta.dirname, '../..');

/** Everything of one cluster. */
export interface ClusterRig extends AsyncDisposable {
  readonly workspace: Workspace;
  readonly cluster: StandInCluster;
  readonly primary: PostgresCluster;
  /** One for each of {@link STANDBY_HOSTS}: behind the names of both pods, and behind the Service. */
  readonly standbys: readonly PostgresCluster[];
  readonly ca: string;
  /** The Secret `walcast-tls` with a certificate that was renewed. */
  readonly renewedTls: () => KubernetesObject;
  /** A ConfigMap as the overlay has it, with other text under some keys. */
  readonly configMap: (
    name: string,
    data: Readonly<Record<string, string>>,
  ) => Promise<KubernetesObject>;
}

/** Why this machine cannot do it; null when it can. */
export async function clusterProblem(): Promise<string | null> {
  return namespaceProblem() ?? (await imageProblem());
}

/** Starts everything, with further settings of servers; resolves when both relays count for the primary and both standbys stream. */
export async function openClusterRig(
  settings: { readonly primary?: ServerSettings; readonly standby?: ServerSettings } = {},
): Promise<ClusterRig> {
  const image = await imageTree(ROOT);
  const workspace = await openWorkspace(await serverUser());
  const closers: (() => Promise<void>)[] = [() => workspace.close()];
  const close = async (): Promise<void> => {
    for (const closer of closers.toReversed()) await closer();
  };
  try {
    const cluster = await openCluster(workspace, image);
    // The servers go first: what they say of pods that vanish under them is nobody's business.
    closers.push(() => cluster[Symbol.asyncDispose]());
    const certificates = await makeCertificates(workspace);
    const primary = await makePrimary(workspace, {
      listen: `127.0.0.1,${cluster.network.gateway}`,
      rules: [relayHbaLine(cluster.network.cidr)],
      roles: [STANDBY_USER],
      password: PASSWORD,
      settings: settings.primary ?? {},
    });
    closers.push(() => primary.stop('immediate'));
    await primary.query(relayRoleSql(PASSWORD));
    cluster.services.addHost(PRIMARY_HOST, cluster.network.gateway);
    const secrets = [
      await credentialsSecret(primary, certificates, {
        conninfo: conninfoOf(primary),
        standbyUser: STANDBY_USER,
      }),
      tlsSecret(certificates.authority, certificates.relays),
    ];
    await cluster.apply(...secrets, ...(await rendered(OVERLAY)));
    await cluster.ready();
    const standbys = await makeStandbys({
      workspace,
      cluster,
      primary,
      settings: settings.standby ?? {},
    });
    closers.push(async () => {
      await Promise.all(standbys.map((standby) => standby.stop('immediate')));
    });
    return {
      workspace,
      cluster,
      primary,
      standbys,
      ca: certificates.authority.pem,
      renewedTls: () => tlsSecret(certificates.authority, relayCertificate(certificates.authority)),
      configMap: withData,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close().catch(() => {});
    throw error;
  }
}

/** How the relays reach the primary, as docs/kubernetes.md has it. */
function conninfoOf({ port }: PostgresCluster): string {
  return renderConninfo({
    host: PRIMARY_HOST,
    port: String(port),
    user: RELAY_USER,
    password: PASSWORD,
    sslmode: 'verify-full',
    sslrootcert: '/etc/walcast-secrets/upstream-ca.crt',
  });
}

/** From backups of the primary. */
async function makeStandbys(rig: {
  readonly workspace: Workspace;
  readonly cluster: StandInCluster;
  readonly primary: PostgresCluster;
  readonly settings: ServerSettings;
}): Promise<PostgresCluster[]> {
  const { workspace, cluster, primary, settings } = rig;
  const wrapper = await resolving(workspace, cluster);
  return await Promise.all(
    STANDBY_HOSTS.map(async (host, index) => {
      const name = `standby_${index + 1}`;
      const standby = await createStandby(workspace, {
        major: NEWEST_MAJOR,
        name,
        wrapper,
        backupFrom: primary.target(),
        upstream: primary.target(),
        slot: name,
        settings,
      });
      await standby.configure({
        listen_addresses: '127.0.0.1',
        ssl: 'off',
        primary_conninfo: renderConninfo({
          host,
          port: '5432',
          user: STANDBY_USER,
          password: PASSWORD,
          application_name: name,
          tcp_user_timeout: String(USER_TIMEOUT_MS),
          sslmode: 'verify-full',
          sslrootcert: join(workspace.directory, 'ca.crt'),
        }),
      });
      await standby.start();
      await standby.waitForLog(/started streaming WAL from primary/);
      return standby;
    }),
  );
}

/** Runs a server where the cluster's DNS answers, as its user. */
async function resolving(workspace: Workspace, cluster: StandInCluster): Promise<string[]> {
  const file = join(workspace.directory, 'resolv.conf');
  await writeFile(file, resolvConf(cluster.network.gateway, 'default'));
  const { user } = workspace;
  if (user === null) throw new Error('namespaces need root');
  const become = `exec setpriv --reuid ${user.uid} --regid ${user.gid} --clear-groups -- "$@"`;
  const script = `mount --make-rprivate / && mount --bind '${file}' /etc/resolv.conf && ${become}`;
  return ['unshare', '--mount', 'sh', '-c', script, 'sh'];
}

async function withData(
  name: string,
  data: Readonly<Record<string, string>>,
): Promise<KubernetesObject> {
  const found = theObject(await rendered(OVERLAY), 'ConfigMap', name);
  return { ...found, data: { ...Object(found['data']), ...data } };
}

/** Commits wait for one of the relays from now on, and both count. */
export async function waitsForRelays({ primary }: ClusterRig): Promise<void> {
  await primary.configure({ synchronous_standby_names: SYNC_NAMES, synchronous_commit: 'on' });
  await primary.reload();
  await primary.waitForValue(
    `SELECT count(*) FROM pg_stat_replication
     WHERE application_name LIKE 'walcast\\_%' AND state = 'streaming' AND sync_state = 'quorum' AND flush_lsn IS NOT NULL`,
    '2',
    30_000,
  );
}

/** The StatefulSet as `kubectl rollout restart` leaves it. */
export async function restarted(): Promise<KubernetesObject> {
  const objects = await rendered(OVERLAY);
  const set = structuredClone(theObject(objects, 'StatefulSet', 'walcast'));
  const { template }: { template: { metadata: Record<string, unknown> } } = Object(set['spec']);
  template.metadata['annotations'] = {
    'kubectl.kubernetes.io/restartedAt': new Date().toISOString(),
  };
  return set;
}
