// Backups that pg_basebackup made: are they whole, and do they run?
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { findPostgres } from '../../src/demo/postgres-binaries.ts';
import { PostgresCluster } from '../../src/demo/postgres-server.ts';
import { runCommand } from '../../src/demo/postgres-user.ts';
import type { CommandResult } from '../../src/demo/postgres-user.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { findProgram } from './requirements.ts';

/** Makes an empty place for a backup in plain format, where {@link clusterOf} looks for it. */
export async function backupPlace(workspace: Workspace, name: string): Promise<string> {
  return join(await workspace.makeDirectory(name), 'data');
}

/** A backup in plain format as a server; it does not run yet. */
export async function clusterOf(
  workspace: Workspace,
  options: { name: string; major: number },
): Promise<PostgresCluster> {
  const binaries = await findPostgres(options.major, workspace);
  return new PostgresCluster(options, {
    workspace,
    binaries,
    directory: join(workspace.directory, options.name),
  });
}

/** Unpacks a backup in tar format in place. */
export async function unpack(workspace: Workspace, directory: string): Promise<void> {
  await asServerUser(workspace, 'tar', ['-x', '-C', directory, '-f', join(directory, 'base.tar')]);
  const walArchive = join(directory, 'pg_wal.tar');
  const walDirectory = join(directory, 'pg_wal');
  await mkdir(walDirectory, { recursive: true });
  // With -X fetch and -X none there is no second archive.
  await asServerUser(workspace, 'sh', [
    '-c',
    `[ ! -f "$1" ] || tar -x -C "$2" -f "$1"; rm -f "$1" "$3"`,
    'unpack',
    walArchive,
    walDirectory,
    join(directory, 'base.tar'),
  ]);
}

/** pg_verifybackup: every file against its checksum in the manifest and, unless it came without, the WAL. */
export async function verifyBackup(
  workspace: Workspace,
  directory: string,
  options: { hasWal: boolean },
): Promise<CommandResult> {
  const args = [...(options.hasWal ? [] : ['--no-parse-wal']), directory];
  const path = findProgram('pg_verifybackup');
  if (path === null) throw new Error('pg_verifybackup is not installed');
  return await runCommand(path, args, { user: workspace.user, cwd: workspace.directory });
}

async function asServerUser(workspace: Workspace, file: string, args: string[]): Promise<void> {
  const options = { user: workspace.user, cwd: workspace.directory };
  const { exitCode, stderr } = await runCommand(file, args, options);
  if (exitCode !== 0) throw new Error(`${file} ${args.join(' ')}: ${stderr}`);
}
