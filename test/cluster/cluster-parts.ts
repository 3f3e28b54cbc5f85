// What surrounds walcast in a cluster: certificates from one authority, a primary that pods reach, and the Secrets that
// docs/kubernetes.md asks for.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { TRUST_HBA } from '../../src/demo/postgres-settings.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { CERTIFICATE_NAMES } from '../support/kubernetes-page.ts';
import type { KubernetesObject } from '../support/manifests.ts';
import { NEWEST_MAJOR } from '../support/requirements.ts';

/** Names of the primary, here and in the examples. */
const PRIMARY_NAMES = ['postgres-rw', 'pg-a', 'pg-rw'];
/** What the API asks for. */
export const API_TOKEN = 'the-token-of-the-tests-for-the-api';

/** One authority and what it signed. */
export interface Certificates {
  readonly authority: TestCertificate;
  /** For all names of relays and primary. */
  readonly relays: TestCertificate;
}

/** Makes them; server.crt, server.key and ca.crt are in the workspace for its servers. */
export async function makeCertificates(workspace: Workspace): Promise<Certificates> {
  const authority = makeCertificate({
    commonName: 'authority of the tests',
    isAuthority: true,
    keyUsage: 0x06,
  });
  const relays = relayCertificate(authority);
  await give(workspace, 'server.crt', relays.pem);
  await give(workspace, 'server.key', relays.key);
  await give(workspace, 'ca.crt', authority.pem);
  return { authority, relays };
}

/** A new one, for all names of relays and primary. */
export function relayCertificate(issuer: TestCertificate): TestCertificate {
  return makeCertificate({
    commonName: 'walcast',
    dns: [...CERTIFICATE_NAMES, ...PRIMARY_NAMES],
    issuer,
  });
}

/** The Secret as cert-manager makes it. */
export function tlsSecret(
  authority: TestCertificate,
  { pem, key }: TestCertificate,
): KubernetesObject {
  const data = { 'tls.crt': pem, 'tls.key': key, 'ca.crt': authority.pem };
  return secretObject('walcast-tls', data);
}

async function give(workspace: Workspace, name: string, text: string): Promise<void> {
  const path = join(workspace.directory, name);
  await writeFile(path, text, { mode: 0o600 });
  await workspace.giveAway(path);
}

/** Starts a primary with TLS and with roles of that password. `rules`: lines of its pg_hba.conf besides those for tests. */
export async function makePrimary(
  workspace: Workspace,
  options: {
    readonly listen: string;
    readonly rules: readonly string[];
    readonly roles: readonly string[];
    readonly password: string;
    readonly settings?: ServerSettings;
  },
): Promise<PostgresCluster> {
  const hba = join(workspace.directory, 'primary.hba');
  await writeFile(hba, [TRUST_HBA, ...options.rules].join('\n') + '\n');
  const primary = await createPrimary(workspace, {
    major: NEWEST_MAJOR,
    name: 'primary',
    segmentSizeMb: 1,
    settings: {
      listen_addresses: options.listen,
      hba_file: hba,
      ssl: 'on',
      ssl_cert_file: join(workspace.directory, 'server.crt'),
      ssl_key_file: join(workspace.directory, 'server.key'),
      ssl_ca_file: join(workspace.directory, 'ca.crt'),
      password_encryption: 'scram-sha-256',
      wal_keep_size: '1GB',
      ...options.settings,
    },
  });
  await primary.start();
  for (const role of options.roles)
    await primary.query(`CREATE ROLE ${role} REPLICATION LOGIN PASSWORD '${options.password}'`);
  return primary;
}

/** `walcast-credentials` as docs/kubernetes.md has it; `standbyUser` logs in at the relays with the password that the primary knows. */
export async function credentialsSecret(
  primary: PostgresCluster,
  { authority }: Certificates,
  options: { readonly conninfo: string; readonly standbyUser: string },
): Promise<KubernetesObject> {
  const { conninfo, standbyUser } = options;
  const secret = await primary.value(
    `SELECT rolpassword FROM pg_authid WHERE rolname = '${standbyUser}'`,
  );
  return secretObject('walcast-credentials', {
    conninfo: `${conninfo}\n`,
    'userlist.txt': `"${standbyUser}" "${secret}"\n`,
    'upstream-ca.crt': authority.pem,
    token: `${API_TOKEN}\n`,
    'wal-token': `${API_TOKEN}-wal\n`,
  });
}

/** A Secret of plain text. */
export function secretObject(
  name: string,
  data: Readonly<Record<string, string>>,
): KubernetesObject {
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name }, stringData: data };
}
