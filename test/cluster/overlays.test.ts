// Does each overlay and each example run as it stands, with nothing added but the Secrets that it asks for?
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { imageTree } from '../harness/image-tree.ts';
import type { ImageTree } from '../harness/image-tree.ts';
import { openCluster } from '../harness/kubelet-cluster.ts';
import type { StandInCluster } from '../harness/kubelet-cluster.ts';
import { memberAt, openPatroniApi } from '../harness/patroni-api.ts';
import type { PatroniApi } from '../harness/patroni-api.ts';
import { makeCertificate } from '../support/certificates.ts';
import { rendered } from '../support/manifests.ts';
import type { KubernetesObject } from '../support/manifests.ts';
import { FULL_FAULTS, NEWEST_MAJOR, needs, requires } from '../support/requirements.ts';
import {
  credentialsSecret,
  makeCertificates,
  makePrimary,
  secretObject,
  tlsSecret,
} from './cluster-parts.ts';
import type { Certificates } from './cluster-parts.ts';
import { clusterProblem } from './cluster-rig.ts';

const ROOT = join(import.meta.dirname, '../..');
/** As the files of the examples have it. */
const PASSWORD = 'change-me';
const USER = 'replicator';
const BASE_CONNINFO = `host=pg-a port=5432 user=${USER} password=${PASSWORD} sslmode=disable`;
/** The one that logs in with a certificate is the quick one: everything else is in it, too. */
const FOLDERS = [
  'deploy/examples/cloudnative-pg',
  ...(FULL_FAULTS
    ? [
        'deploy/kustomize/base',
        'deploy/kustomize/overlays/dev',
        'deploy/examples/plain',
        'deploy/examples/patroni',
      ]
    : []),
];

const START_TIMEOUT_MS = 300_000;

requires('kubectl', `postgres-${NEWEST_MAJOR}`).describe('a relay as it is rendered from', () => {
  let problem: string | null = null;
  let image: ImageTree | null = null;
  let workspace: Workspace | null = null;
  let patroni: PatroniApi | null = null;
  let surroundings: { primary: PostgresCluster; certificates: Certificates } | null = null;

  // The image is built where nobody has built it yet.
  beforeAll(async () => {
    problem = await clusterProblem();
    if (problem !== null) return;
    image = await imageTree(ROOT);
    workspace = await openWorkspace(await serverUser());
    const certificates = await makeCertificates(workspace);
    const primary = await makePrimary(workspace, {
      listen: '*',
      // The operator's own rule, and the one of the plain example.
      rules: [
        'hostssl replication streaming_replica all cert',
        await file('deploy/examples/plain/primary-pg_hba.conf'),
        `host replication ${USER} 198.19.0.0/16 scram-sha-256`,
      ],
      roles: ['streaming_replica', USER],
      password: PASSWORD,
    });
    patroni = await openPatroniApi();
    patroni.members = [memberAt('pg-a', 5432, { role: 'leader', host: 'pg-a', timeline: 1 })];
    surroundings = { primary, certificates };
  }, START_TIMEOUT_MS);

  beforeEach((context) => needs(context, problem));

  afterAll(async () => {
    await patroni?.[Symbol.asyncDispose]();
    await workspace?.close();
  });

  it.each(FOLDERS)('%s starts, streams, is ready and ends in order', async (folder) => {
    await using cluster = await openRelay(folder);
    const { primary } = theSurroundings();
    await cluster.ready();
    expect(
      await primary.value(
        "SELECT state FROM pg_stat_replication WHERE application_name = 'walcast_0'",
      ),
    ).toBe('streaming');
    const pod = cluster.pod('walcast-0');
    expect(pod.container().restarts).toBe(0);
    expect(await pod.terminate()).toEqual({ exitCode: 0, signal: null });
    expect(cluster.events.map(({ what }) => what)).not.toContainEqual(
      expect.stringMatching(/kill/),
    );
  });

  /** The objects of `folder`, its Secrets, and its primary behind the names that it uses. */
  async function openRelay(folder: string): Promise<StandInCluster> {
    if (workspace === null || image === null) throw new Error('nothing was opened');
    const cluster = await openCluster(workspace, image);
    const { primary } = theSurroundings();
    // From an address that pods may have: whoever comes from 127.0.0.1 is let in without being asked.
    const at = { host: cluster.network.gateway, port: primary.port };
    const api = { host: '127.0.0.1', port: Number(new URL(thePatroni().url).port) };
    await cluster.services.addServer('pg-a', { 5432: at, 8008: api });
    await cluster.services.addServer('pg-rw', { 5432: at });
    await cluster.apply(...(await secrets(folder)), ...(await rendered(folder)));
    return cluster;
  }

  async function secrets(folder: string): Promise<KubernetesObject[]> {
    const { primary, certificates } = theSurroundings();
    const { authority, relays } = certificates;
    const conninfo = await file(`${folder}/conninfo`).catch(() => BASE_CONNINFO);
    const operator = makeCertificate({ commonName: 'streaming_replica', issuer: authority });
    return [
      await credentialsSecret(primary, certificates, { conninfo, standbyUser: USER }),
      tlsSecret(authority, relays),
      // As the operator makes them.
      secretObject('pg-replication', { 'tls.crt': operator.pem, 'tls.key': operator.key }),
      secretObject('pg-ca', { 'ca.crt': authority.pem, 'ca.key': authority.key }),
    ];
  }

  function thePatroni(): PatroniApi {
    if (patroni === null) throw new Error('there is no Patroni');
    return patroni;
  }

  function theSurroundings(): { primary: PostgresCluster; certificates: Certificates } {
    if (surroundings === null) throw new Error('there is no primary');
    return surroundings;
  }
});

async function file(path: string): Promise<string> {
  return (await readFile(join(ROOT, path), 'utf8')).trimEnd();
}
