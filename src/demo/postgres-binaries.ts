// Where a PostgreSQL server of a wanted major is on this machine: in the npm packages of tools/postgres, else the
// system's own.
import { constants } from 'node:fs';
import { access, cp, readFile, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { delimiter, dirname, join, relative } from 'node:path';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import { runCommand } from './postgres-user.ts';
import type { Workspace } from './postgres-workspace.ts';

/** The programs of one server. */
export interface PostgresBinaries {
  readonly major: number;
  /** Holds at least `initdb` and `postgres`. */
  readonly binDirectory: string;
  readonly origin: 'npm' | 'system';
}

// Asked once a workspace: servers made side by side must not copy the same files over each other.
const found = new WeakMap<Workspace, Map<number, Promise<PostgresBinaries>>>();

/**
 * Finds a server of `major` that the workspace's user can run; a copy is made inside the workspace when our own
 * installation lies where that user may not look (a clone under a home directory of mode 0700).
 * Throws OperationalError that says how to get one.
 */
export function findPostgres(major: number, workspace: Workspace): Promise<PostgresBinaries> {
  const known = found.get(workspace) ?? new Map<number, Promise<PostgresBinaries>>();
  found.set(workspace, known);
  const search = known.get(major) ?? searchPostgres(major, workspace);
  known.set(major, search);
  return search;
}

async function searchPostgres(major: number, workspace: Workspace): Promise<PostgresBinaries> {
  const packaged = await packagedDirectory(major);
  if (packaged !== null) {
    const native = await readableCopy(packaged, major, workspace);
    return { major, binDirectory: join(native, 'bin'), origin: 'npm' };
  }
  for (const binDirectory of systemDirectories(major)) {
    if (await runsMajor(binDirectory, major, workspace)) {
      return { major, binDirectory, origin: 'system' };
    }
  }
  throw new OperationalError(
    'POSTGRES_NOT_FOUND',
    `no PostgreSQL ${major} server on this machine`,
    {
      hint:
        `Run "npm ci" in a clone of walcast (it installs ${packageName(major)} where npm has one for this platform), ` +
        `or install PostgreSQL ${major} so that its "postgres" is in PATH or in /usr/lib/postgresql/${major}/bin.`,
    },
  );
}

function packageName(major: number): string {
  return `pg${major}-${process.platform}-${process.arch}`;
}

function resolvePackage(major: number): string | null {
  try {
    return createRequire(import.meta.url).resolve(packageName(major));
  } catch {
    return null;
  }
}

async function packagedDirectory(major: number): Promise<string | null> {
  const entry = resolvePackage(major);
  if (entry === null) return null;
  const native = join(dirname(dirname(entry)), 'native');
  const isComplete = await access(join(native, 'bin/postgres')).then(
    () => true,
    () => false,
  );
  return isComplete ? native : null;
}

/** Makes the links that npm cannot pack, in `native`. Done again it changes nothing; two at once do no harm. */
async function makeLinks(native: string): Promise<void> {
  const packageDirectory = dirname(native);
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of parseLinks(list)) {
    const path = join(packageDirectory, target);
    await symlink(relative(dirname(target), source), path).catch((error: unknown) => {
      if (systemErrorCode(error) !== 'EEXIST') throw error;
    });
  }
}

function parseLinks(text: string): { source: string; target: string }[] {
  const list: unknown = JSON.parse(text);
  if (!Array.isArray(list)) return [];
  return list.filter(isLink);
}

function isLink(value: unknown): value is { source: string; target: string } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'source' in value &&
    'target' in value &&
    typeof value.source === 'string' &&
    typeof value.target === 'string'
  );
}

async function readableCopy(native: string, major: number, workspace: Workspace): Promise<string> {
  const isLinked = await makeLinks(native).then(
    () => true,
    () => false,
  );
  if (isLinked && (await runsMajor(join(native, 'bin'), major, workspace))) return native;
  const copy = join(workspace.directory, `postgres-${major}`, 'native');
  const isCopied = await access(join(copy, 'bin/postgres')).then(
    () => true,
    () => false,
  );
  if (!isCopied) {
    // Static libraries are half of the package, and nobody links against it here.
    await cp(native, copy, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => !path.endsWith('.a'),
    });
    await makeLinks(copy);
    await workspace.giveAwayTree(dirname(copy));
  }
  if (await runsMajor(join(copy, 'bin'), major, workspace)) return copy;
  throw new OperationalError(
    'POSTGRES_UNUSABLE',
    `the PostgreSQL ${major} server of ${packageName(major)} does not run on this machine`,
    { hint: `Run ${join(copy, 'bin/postgres')} --version to see why.` },
  );
}

function systemDirectories(major: number): string[] {
  const fromPath = (process.env['PATH'] ?? '').split(delimiter).filter((path) => path !== '');
  return [
    `/usr/lib/postgresql/${major}/bin`,
    `/usr/pgsql-${major}/bin`,
    `/opt/homebrew/opt/postgresql@${major}/bin`,
    `/usr/local/opt/postgresql@${major}/bin`,
    ...fromPath,
  ];
}

async function runsMajor(
  binDirectory: string,
  major: number,
  workspace: Workspace,
): Promise<boolean> {
  const postgres = join(binDirectory, 'postgres');
  const initdb = join(binDirectory, 'initdb');
  try {
    await Promise.all([access(postgres, constants.X_OK), access(initdb, constants.X_OK)]);
    const result = await runCommand(postgres, ['--version'], {
      user: workspace.user,
      cwd: workspace.directory,
    });
    return new RegExp(`\\(PostgreSQL\\) ${major}(?!\\d)`).test(result.stdout);
  } catch {
    return false;
  }
}
