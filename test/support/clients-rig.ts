// A primary with walcast in front of it, and the stock client programs pointed at either of them.
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import { runCommand, serverUser } from '../../src/demo/postgres-user.ts';
import type { CommandResult } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay, WalcastSettings } from '../harness/walcast-process.ts';
import { findProgram } from './requirements.ts';

/** What to set up. */
export interface ClientsRigOptions {
  readonly major: number;
  readonly segmentSizeMb?: number;
  readonly primarySettings?: ServerSettings;
  readonly relaySettings?: WalcastSettings;
  /** Runs before walcast sees the primary, which is up. */
  readonly prepare?: (primary: PostgresCluster) => Promise<void>;
}

/** A running primary and a walcast that streams from it. */
export interface ClientsRig extends AsyncDisposable {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  readonly relay: WalcastRelay;
}

/** Starts both; walcast is ready to serve when this resolves. */
export async function openClientsRig(options: ClientsRigOptions): Promise<ClientsRig> {
  const workspace = await openWorkspace(await serverUser());
  try {
    const primary = await createPrimary(workspace, {
      major: options.major,
      name: 'primary',
      settings: { wal_keep_size: '1GB', ...options.primarySettings },
      ...(options.segmentSizeMb === undefined ? {} : { segmentSizeMb: options.segmentSizeMb }),
    });
    await primary.start();
    await options.prepare?.(primary);
    const relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => primary.target(),
      ...(options.relaySettings === undefined ? {} : { settings: options.relaySettings }),
    });
    await relay.start();
    return { workspace, primary, relay, [Symbol.asyncDispose]: () => workspace.close() };
  } catch (error) {
    await workspace.close();
    throw error;
  }
}

/** Connection arguments that every libpq program takes. */
export function connectArguments(server: { host: string; port: number }): string[] {
  return ['-h', server.host, '-p', String(server.port), '-U', 'postgres', '-w'];
}

/** Runs a PostgreSQL program as ourselves: one that reads files of walcast, which belong to us. */
export function runAsOurselves(
  workspace: Workspace,
  program: string,
  args: readonly string[],
): Promise<CommandResult> {
  const path = findProgram(program);
  if (path === null) throw new Error(`${program} is not installed`);
  return runCommand(path, args, { user: null, cwd: workspace.directory });
}

/** Writes about `megabytes` MB of WAL and ends with a commit. */
export async function writeWal(primary: PostgresCluster, megabytes: number): Promise<void> {
  await primary.query('CREATE TABLE IF NOT EXISTS clients_filler (filler text)');
  await primary.query(
    `INSERT INTO clients_filler SELECT repeat(md5(i::text), 30) FROM generate_series(1, ${Math.ceil(megabytes * 1000)}) AS i`,
  );
}
