// Which store does an offline command work on, and may it? The directory comes from --data, or from the configuration that
// walcast runs with; it must be ours, and nobody else may hold it.
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import { loadConfig } from '../config/load.ts';
import { CONFIG_FILE_VARIABLE } from '../config/named-layers.ts';
import { DirectoryLock } from '../net/directory-lock.ts';
import { EXIT, isSet, optionValue } from './command.ts';
import type { CommandContext, CommandOption } from './command.ts';
import { CONFIG_OPTION, configSources, printConfigErrors } from './config-options.ts';

/** The environment variable of storage.directory. */
const DIRECTORY_VARIABLE = 'WALCAST_STORAGE_DIRECTORY';

/** How a store is named. */
export const STORE_OPTIONS: readonly CommandOption[] = [
  {
    name: 'data',
    placeholder: 'DIR',
    description: `The data directory of walcast (also ${DIRECTORY_VARIABLE}).`,
  },
  {
    ...CONFIG_OPTION,
    description: `Take the data directory from this configuration file (also ${CONFIG_FILE_VARIABLE}).`,
  },
];

/** The data directory that is meant; or the exit code, after saying what is wrong. */
export function storeDirectory(context: CommandContext, command: string): string | number {
  const { input, env, workingDirectory } = context;
  const given = optionValue(input, 'data');
  if (given !== null && given !== '') return resolve(workingDirectory, given);
  const isFile = isSet(input, CONFIG_OPTION.name) || env[CONFIG_FILE_VARIABLE] !== undefined;
  const variable = env[DIRECTORY_VARIABLE];
  if (!isFile && variable !== undefined && variable !== '') {
    return resolve(workingDirectory, variable);
  }
  if (!isFile) {
    context.printError(`walcast ${command}: name the store with --data DIR or -c FILE\n`);
    return EXIT.usage;
  }
  const loaded = loadConfig({ ...configSources(context), flags: [] });
  if (!('errors' in loaded)) return loaded.config.storage.directory;
  printConfigErrors(context, loaded.errors);
  return EXIT.configuration;
}

/**
 * Runs `work` while we hold the lock of `directory`. Throws OperationalError when it is not there, belongs to another
 * user, or a running walcast has it.
 */
export async function withStoreLock<T>(directory: string, work: () => Promise<T>): Promise<T> {
  await refuseOthers(directory);
  const lock = await DirectoryLock.acquire(directory);
  try {
    return await work();
  } finally {
    await lock.release();
  }
}

/** Files that another user made here could not be written by the walcast that owns the directory. */
async function refuseOthers(directory: string): Promise<void> {
  const found = await stat(directory).catch((error: unknown) => {
    throw new OperationalError(
      'NO_STORE',
      `the data directory "${directory}" cannot be used: ${systemErrorCode(error) ?? String(error)}`,
      { cause: error },
    );
  });
  const own = process.getuid?.();
  if (own === undefined || own === found.uid) return;
  throw new OperationalError(
    'STORE_OWNER',
    `the data directory "${directory}" belongs to user id ${found.uid}, this is user id ${own}`,
    { hint: 'Run this as the user that runs walcast.' },
  );
}
