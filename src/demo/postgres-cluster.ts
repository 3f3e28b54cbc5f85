// How servers of the demo and the tests come to be: a primary by initdb, a standby by a base backup.
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OperationalError } from '../base/errors.ts';
import { takeBaseBackup } from './base-backup.ts';
import { findPostgres } from './postgres-binaries.ts';
import { PostgresCluster, SUPERUSER } from './postgres-server.ts';
import type { ClusterOptions, ClusterPlace } from './postgres-server.ts';
import type { ConnectTarget } from './postgres-connect.ts';
import { INCLUDE_LINE, TRUST_HBA } from './postgres-settings.ts';
import { runCommand } from './postgres-user.ts';
import type { Workspace } from './postgres-workspace.ts';

export type { PostgresCluster } from './postgres-server.ts';

/** A primary of its own. */
export interface PrimaryOptions extends ClusterOptions {
  /** `--wal-segsize` in MB; PostgreSQL's 16 when absent. */
  readonly segmentSizeMb?: number;
  /** Further arguments of initdb. */
  readonly initdbArguments?: readonly string[];
}

/** A standby made from a base backup. */
export interface StandbyOptions extends ClusterOptions {
  /** Where the backup is taken: a primary, a standby, or walcast. */
  readonly backupFrom: ConnectTarget;
  /** Where it streams from afterwards: its primary_conninfo. */
  readonly upstream: ConnectTarget;
  /** Its primary_slot_name; none when absent. */
  readonly slot?: string;
  readonly onBackupProgress?: (bytesDone: number) => void;
}

/** Makes a primary with initdb. It does not run yet. */
export async function createPrimary(
  workspace: Workspace,
  options: PrimaryOptions,
): Promise<PostgresCluster> {
  const place = await makePlace(workspace, options);
  await runInitdb(place, options);
  const cluster = new PostgresCluster(options, place);
  await prepareDataDirectory(cluster);
  return cluster;
}

/** Makes a standby from a base backup. It does not run yet. */
export async function createStandby(
  workspace: Workspace,
  options: StandbyOptions,
): Promise<PostgresCluster> {
  const place = await makePlace(workspace, options);
  const directory = await workspace.makeDirectory(join(options.name, 'data'));
  await takeBaseBackup({
    source: { ...options.backupFrom, applicationName: `${options.name}_backup` },
    major: options.major,
    directory,
    user: workspace.user,
    ...(options.onBackupProgress === undefined ? {} : { onProgress: options.onBackupProgress }),
  });
  const cluster = new PostgresCluster(options, place);
  await prepareDataDirectory(cluster);
  await cluster.becomeStandby(options.upstream, options.slot);
  return cluster;
}

async function makePlace(workspace: Workspace, options: ClusterOptions): Promise<ClusterPlace> {
  const binaries = await findPostgres(options.major, workspace);
  return { workspace, binaries, directory: await workspace.makeDirectory(options.name) };
}

async function runInitdb(place: ClusterPlace, options: PrimaryOptions): Promise<void> {
  const segmentSize = options.segmentSizeMb;
  const args = [
    `--pgdata=${join(place.directory, 'data')}`,
    `--username=${SUPERUSER}`,
    '--auth=trust',
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
    ...(segmentSize === undefined ? [] : [`--wal-segsize=${segmentSize}`]),
    ...(options.initdbArguments ?? []),
  ];
  const result = await runCommand(join(place.binaries.binDirectory, 'initdb'), args, {
    user: place.workspace.user,
    cwd: place.directory,
  });
  if (result.exitCode === 0) return;
  throw new OperationalError(
    'INITDB_FAILED',
    `initdb failed (exit code ${result.exitCode}): ${result.stdout}${result.stderr}`,
  );
}

/** Access rules and the include line; files of a base backup may bring them already. */
async function prepareDataDirectory(cluster: PostgresCluster): Promise<void> {
  await writeFile(join(cluster.dataDirectory, 'pg_hba.conf'), TRUST_HBA);
  const main = join(cluster.dataDirectory, 'postgresql.conf');
  const text = await readFile(main, 'utf8');
  if (!text.includes(INCLUDE_LINE)) await appendFile(main, `\n${INCLUDE_LINE}\n`);
  await cluster.configure({});
}
