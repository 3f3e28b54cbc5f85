// What the operator of CloudNativePG does to a server that a replica cluster is made from, and to its own primary, as its code says
// (version 1.30): texts and SQL are its own, file and function named beside each.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { message } from '../support/naive-writer.ts';
import { query, rowValues, startup } from '../support/raw-client.ts';
import { rawFields } from '../support/raw-session.ts';
import type { RawMessage } from '../support/raw-session.ts';
import { classic, rawClient } from '../support/tls-server-rig.ts';
import { at, certificateOf, serverFile, texts } from './deploy-examples-rig.ts';

/** Settings that the operator gives every server. (pkg/postgres/configuration.go:CnpgConfigurationSettings) */
export const SERVER_SETTINGS: ServerSettings = {
  archive_timeout: '5min',
  full_page_writes: 'on',
  max_replication_slots: '32',
  ssl: 'on',
  ssl_ca_file: 'client-ca.crt',
  ssl_max_protocol_version: 'TLSv1.3',
  ssl_min_protocol_version: 'TLSv1.3',
  wal_keep_size: '512MB',
  wal_level: 'logical',
  wal_log_hints: 'on',
  wal_sender_timeout: '5s',
  wal_receiver_timeout: '5s',
};

/** (pkg/postgres/configuration.go:hbaTemplateString; the first line is for this test, which is no local user of theirs) */
const HBA = `host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
hostssl postgres streaming_replica all cert map=cnpg_streaming_replica
hostssl replication streaming_replica all cert map=cnpg_streaming_replica
host all all all scram-sha-256
`;

/** (pkg/postgres/configuration.go:identTemplateString) */
const IDENT = 'cnpg_streaming_replica streaming_replica streaming_replica\n';

/** Names in the certificate of a cluster. (api/v1/cluster_funcs.go:GetClusterAltDNSNames) */
function serverNames(cluster: string): string[] {
  return [`${cluster}-rw`, `${cluster}-r`, `${cluster}-ro`].flatMap((service) =>
    ['', '.default', '.default.svc', '.default.svc.cluster.local'].map((end) => service + end),
  );
}

/** A primary as the operator sets one up. */
export async function createOperatedPrimary(
  workspace: Workspace,
  options: { major: number; name: string; authority: TestCertificate; settings: ServerSettings },
): Promise<PostgresCluster> {
  const { major, name, authority } = options;
  const settings = { ...SERVER_SETTINGS, ...options.settings };
  const primary = await createPrimary(workspace, { major, name, settings });
  await dressServer(primary, authority);
  await primary.start();
  // (internal/cmd/manager/instance/run/lifecycle/run.go:configureStreamingReplicaUser)
  await primary.query('CREATE USER "streaming_replica" REPLICATION');
  return primary;
}

/** Certificates and rules of a server of the cluster; those of a base backup come along. */
export async function dressServer(
  server: PostgresCluster,
  authority: TestCertificate,
): Promise<void> {
  const certificate = certificateOf(authority, 'pg-rw', serverNames('pg'));
  const files = {
    'client-ca.crt': authority.pem,
    'server.crt': certificate.pem,
    'server.key': certificate.key,
    'pg_hba.conf': HBA,
    'pg_ident.conf': IDENT,
  };
  for (const [name, content] of Object.entries(files)) {
    await serverFile(server.workspace, join(server.dataDirectory, name), content);
  }
}

/** Copies the slots of the primary to a standby. (slots/runner/runner.go:synchronizeReplicationSlots) */
export async function synchronizeSlots(
  primary: PostgresCluster,
  standby: PostgresCluster,
): Promise<void> {
  const listing = `SELECT slot_name, coalesce(restart_lsn::TEXT, '') AS restart_lsn
    FROM pg_catalog.pg_replication_slots WHERE NOT temporary AND slot_type = 'physical'`;
  const local = new Set((await standby.query(listing)).map(([name]) => name));
  for (const [name = '', restartLsn = ''] of await primary.query(listing)) {
    if (name.startsWith('_cnpg_')) continue;
    if (!local.has(name)) {
      await standby.query(
        `SELECT pg_catalog.pg_create_physical_replication_slot('${name}', ${String(restartLsn !== '')})`,
      );
    }
    if (restartLsn !== '') {
      await standby.query(
        `SELECT pg_catalog.pg_replication_slot_advance('${name}', '${restartLsn}')`,
      );
    }
  }
}

/** What `synchronous` becomes. (pkg/postgres/replication/explicit.go, configuration.go:String) */
export function synchronousStandbyNames(spec: unknown, cluster: string): string {
  const synchronous = at(spec, 'postgresql', 'synchronous');
  const instances = Number(at(spec, 'instances'));
  const pods = Array.from({ length: instances }, (_, index) => `${cluster}-${index + 1}`);
  const most = at(synchronous, 'maxStandbyNamesFromCluster');
  const list = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);
  const names = [
    ...list(at(synchronous, 'standbyNamesPre')),
    ...(typeof most === 'number' ? pods.slice(0, most) : pods),
    ...list(at(synchronous, 'standbyNamesPost')),
  ];
  const quoted = names.map((name) => `"${name.replaceAll('"', '""')}"`);
  const method = String(at(synchronous, 'method')).toUpperCase();
  return `${method} ${String(at(synchronous, 'number'))} (${quoted.join(',')})`;
}

/** Why the operator would refuse `synchronous`; null when it takes it. (internal/webhook/v1/cluster_webhook.go) */
export function synchronousProblem(spec: unknown): string | null {
  const synchronous = at(spec, 'postgresql', 'synchronous');
  const count = (key: string): number => {
    const names = at(synchronous, key);
    return Array.isArray(names) ? names.length : 0;
  };
  const outside = count('standbyNamesPre') + count('standbyNamesPost');
  if (at(synchronous, 'dataDurability') === 'preferred' && outside > 0) return 'preferred';
  const isTooMany = Number(at(synchronous, 'number')) >= Number(at(spec, 'instances')) + outside;
  return isTooMany ? 'the number must be less than instances and names' : null;
}

/** One entry of externalClusters, and what its Secrets hold: `NAME/KEY`. */
export interface Source {
  readonly entry: unknown;
  readonly secrets: Readonly<Record<string, string>>;
  /** In place of /controller/external. */
  readonly directory: string;
}

/**
 * Writes the files of a source and makes its connection string.
 * (pkg/management/external/external.go:ConfigureConnectionToServer, configfile/connection_string.go)
 */
export async function connectionString(
  workspace: Workspace,
  { entry, secrets, directory }: Source,
  overrides: Readonly<Record<string, string>> = {},
): Promise<string> {
  const parameters = { ...texts(at(entry, 'connectionParameters')), ...overrides };
  const server = String(at(entry, 'name'));
  for (const [field, keyword] of [
    ['sslCert', 'sslcert'],
    ['sslKey', 'sslkey'],
    ['sslRootCert', 'sslrootcert'],
    ['password', 'passfile'],
  ] as const) {
    const selector = at(entry, field);
    if (selector === undefined) continue;
    const [name, key] = [String(at(selector, 'name')), String(at(selector, 'key'))];
    const content = secrets[`${name}/${key}`];
    if (content === undefined) throw new Error(`missing key ${key} in secret ${name}`);
    const isPassword = field === 'password';
    const file = join(directory, isPassword ? `${server}_pgpass` : `${name}_${key}`);
    await serverFile(workspace, file, isPassword ? passLine(parameters, content) : content);
    parameters[keyword] = file;
  }
  return Object.entries(parameters)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}='${value.replaceAll("'", "''")}'`)
    .join(' ');
}

/** (pkg/management/external/internal/pgpass/conninfo.go:NewConnectionInfo, BuildLine) */
function passLine(parameters: Readonly<Record<string, string>>, password: string): string {
  const escaped = (value: string): string => value.replaceAll('\\', '\\\\').replaceAll(':', '\\:');
  const { host = '*', port = '*', user = '*' } = parameters;
  return [host, port, '*', user, password].map(escaped).join(':');
}

/** What the operator adds while it clones. (internal/cmd/manager/instance/pgbasebackup/cmd.go:bootstrapUsingPgbasebackup) */
export const CLONE_OPTIONS = " options='-c wal_sender_timeout=0s'";

/** (pkg/management/postgres/join.go:ClonePgData) */
export function cloneArguments(directory: string, conninfo: string): string[] {
  return ['-D', directory, '-v', '-w', '-d', conninfo];
}

/** override.conf and standby.signal. (pkg/management/postgres/configuration.go:UpdateReplicaConfiguration) */
export async function writeReplicaConfiguration(
  server: PostgresCluster,
  conninfo: string,
): Promise<void> {
  const path = join(server.dataDirectory, 'override.conf');
  const settings = {
    // theirs asks an object store, which has nothing here.
    restore_command: 'false',
    recovery_target_timeline: 'latest',
    primary_conninfo: conninfo,
  };
  const lines = Object.entries(settings).map(
    ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`,
  );
  await serverFile(server.workspace, path, lines.join(''));
  await serverFile(server.workspace, join(server.dataDirectory, 'standby.signal'), '');
  const main = join(server.dataDirectory, 'postgresql.conf');
  const text = await readFile(main, 'utf8');
  if (!text.includes("include 'override.conf'")) {
    await writeFile(main, `${text}\ninclude 'override.conf'\n`);
  }
}

/** Is a server ready to start, as the startup probe of type `streaming` asks? (webserver/probes/streaming.go) */
export function startupProbe(maximumLag: number): string {
  return `WITH lag AS (
      SELECT (latest_end_lsn - pg_last_wal_replay_lsn()) AS value, latest_end_time FROM pg_catalog.pg_stat_wal_receiver
    )
    SELECT CASE
      WHEN NOT pg_is_in_recovery() THEN true
      WHEN (SELECT coalesce(setting, '') = '' FROM pg_catalog.pg_settings WHERE name = 'primary_conninfo') THEN true
      WHEN (SELECT value FROM lag) <= ${maximumLag} THEN true
      ELSE false
    END AS ready_to_start`;
}

/** How a login of the operator's driver is answered. */
export interface DriverAnswer {
  readonly error: string | null;
  readonly row: readonly string[];
  readonly columns: number;
  readonly parameters: Map<string, string>;
}

/** How the operator's driver logs in. */
export interface DriverLogin {
  readonly port: number;
  readonly user: string;
  readonly authority: TestCertificate;
  readonly client: TestCertificate;
}

/**
 * IDENTIFY_SYSTEM as its Go driver asks it before a clone: TLS, the connection string's own options among the parameters, the
 * simple protocol. (pkg/management/postgres/pool/profiles.go, instance.go:waitForStreamingConnectionAvailable)
 */
export async function identifyAsDriver(login: DriverLogin): Promise<DriverAnswer> {
  const { port, user, authority, client } = login;
  const socket = await classic(port, {
    ca: authority.pem,
    cert: client.pem,
    key: client.key,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.2',
  });
  const session = rawClient(socket);
  try {
    session.send(
      startup({
        user,
        database: 'postgres',
        client_encoding: 'UTF8',
        datestyle: 'ISO',
        search_path: 'pg_catalog, public, pg_temp',
        replication: '1',
        options: '-c wal_sender_timeout=0s',
        application_name: 'pg_replica',
      }),
    );
    const greeting = await session.until('ZE');
    const refusal = errorOf(greeting);
    if (refusal !== null) return { error: refusal, row: [], columns: 0, parameters: new Map() };
    session.send(query('IDENTIFY_SYSTEM'));
    const answer = await session.until('Z');
    const row = answer.find(({ type }) => type === 'D');
    const columns = answer.find(({ type }) => type === 'T')?.body.readInt16BE(0) ?? 0;
    session.send(message('X'));
    return {
      error: errorOf(answer),
      row: row === undefined ? [] : rowValues(row.body),
      columns,
      parameters: parametersOf(greeting),
    };
  } finally {
    session.close();
  }
}

function errorOf(messages: readonly RawMessage[]): string | null {
  const error = messages.find(({ type }) => type === 'E');
  if (error === undefined) return null;
  const fields = rawFields(error.body);
  return `${fields['C'] ?? ''} ${fields['M'] ?? ''}`;
}

function parametersOf(messages: readonly RawMessage[]): Map<string, string> {
  const statuses = messages.filter(({ type }) => type === 'S');
  return new Map(
    statuses.map(({ body }) => {
      const [name = '', value = ''] = body.toString().split('\0');
      return [name, value];
    }),
  );
}
