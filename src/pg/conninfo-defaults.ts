// What does a connection string leave to its surroundings, and what do they say? The string, then the service file,
// then the environment. (src/interfaces/libpq/fe-connect.c: conninfo_add_defaults, parseServiceInfo)
import { CONNINFO_OPTIONS } from './conninfo-options.ts';
import type { ConninfoError, ConninfoOptions } from './conninfo-options.ts';
import { readServiceFile } from './service-file.ts';

/** A file as a reader of configuration sees it. `text` is null where it cannot be read. */
export type FileLook =
  | { readonly kind: 'absent' }
  | { readonly kind: 'other' }
  | {
      readonly kind: 'file';
      readonly text: string | null;
      /** Permission bits. */
      readonly mode: number;
      /** It belongs to root. */
      readonly isRoots?: boolean;
    };

/** What a connection string is completed from. */
export interface ConninfoSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Of the user in the user database; HOME comes before it. */
  readonly homeDirectory: string | null;
  /** Never throws. */
  readonly readFile: (path: string) => FileLook;
}

/** Options with what the surroundings add. */
export interface CompletedOptions {
  readonly options: ConninfoOptions;
  /** Where an option was found that the connection string did not give, in words. */
  readonly origins: ReadonlyMap<string, string>;
}

/** Folders with `pg_service.conf` where PGSYSCONFDIR names none: those of Debian's and of the RPM packages. */
const SYSTEM_DIRECTORIES: readonly string[] = ['/etc/postgresql-common', '/etc/sysconfig/pgsql'];

interface FoundService {
  readonly path: string;
  readonly options: ConninfoOptions;
}

/** HOME, or the home directory of the user; null when there is none. (pqGetHomeDirectory) */
export function homeOf({ env, homeDirectory }: ConninfoSurroundings): string | null {
  const home = env['HOME'] ?? '';
  return home === '' ? homeDirectory : home;
}

/** `given` completed by its service and by the environment; the error is libpq's. */
export function completeOptions(
  given: ConninfoOptions,
  surroundings: ConninfoSurroundings,
): CompletedOptions | ConninfoError {
  const options = new Map(given);
  const origins = new Map<string, string>();
  const service = given.get('service') ?? surroundings.env['PGSERVICE'];
  if (service !== undefined) {
    const found = findService(service, given.get('servicefile'), surroundings);
    if ('error' in found) return found;
    const origin = `service "${service}" in ${found.path}`;
    for (const [keyword, value] of found.options) {
      if (options.has(keyword)) continue;
      options.set(keyword, value);
      origins.set(keyword, origin);
    }
  }
  addEnvironment(options, origins, surroundings.env);
  return { options, origins };
}

function addEnvironment(
  options: Map<string, string>,
  origins: Map<string, string>,
  env: ConninfoSurroundings['env'],
): void {
  const add = (keyword: string, variable: string, value: string | undefined): void => {
    if (value === undefined || options.has(keyword)) return;
    options.set(keyword, value);
    origins.set(keyword, `environment variable ${variable}`);
  };
  for (const [keyword, variable] of CONNINFO_OPTIONS) {
    if (variable !== null) add(keyword, variable, env[variable]);
  }
  // Deprecated since 9.3, and still heard.
  if ((env['PGREQUIRESSL'] ?? '').startsWith('1')) add('sslmode', 'PGREQUIRESSL', 'require');
}

function findService(
  service: string,
  fileGiven: string | undefined,
  surroundings: ConninfoSurroundings,
): FoundService | ConninfoError {
  for (const { path, isNamed } of serviceFiles(fileGiven, surroundings)) {
    const look = surroundings.readFile(path);
    if (look.kind === 'absent' && !isNamed) continue;
    // A folder opens like a file, and is as good as an empty one.
    const text = look.kind === 'file' ? look.text : '';
    if (look.kind === 'absent' || text === null) {
      return { error: `service file "${path}" not found`, keyword: 'service' };
    }
    const options = readServiceFile(text, { service, path });
    if (options === null) continue;
    return 'error' in options ? { ...options, keyword: 'service' } : { path, options };
  }
  return { error: `definition of service "${service}" not found`, keyword: 'service' };
}

/** In the order they are looked at; only a file that was named must be there. */
function serviceFiles(
  given: string | undefined,
  surroundings: ConninfoSurroundings,
): { path: string; isNamed: boolean }[] {
  const { env } = surroundings;
  const named = given ?? env['PGSERVICEFILE'];
  const home = homeOf(surroundings);
  const own = named ?? (home === null ? null : `${home}/.pg_service.conf`);
  const directories =
    env['PGSYSCONFDIR'] === undefined ? SYSTEM_DIRECTORIES : [env['PGSYSCONFDIR']];
  return [
    ...(own === null ? [] : [{ path: own, isNamed: named !== undefined }]),
    ...directories.map((directory) => ({ path: `${directory}/pg_service.conf`, isNamed: false })),
  ];
}
