// How the configuration is given on the command line: the options that run, check and init share, and what they mean.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { ConfigSources } from '../config/load.ts';
import { CONFIG_FILE_VARIABLE } from '../config/named-layers.ts';
import type { FlagValue } from '../config/named-layers.ts';
import { formatConfigError } from '../config/problem.ts';
import type { ConfigError } from '../config/problem.ts';
import { isListKind, SETTINGS } from '../config/settings.ts';
import { optionValue } from './command.ts';
import type { CommandContext, CommandInput, CommandOption } from './command.ts';

/** `-c FILE`. */
export const CONFIG_OPTION: CommandOption = {
  name: 'config',
  short: 'c',
  placeholder: 'FILE',
  description: `Read this configuration file (also ${CONFIG_FILE_VARIABLE}). Without one, flags and environment count alone.`,
};

/** `--set KEY=VALUE`. */
export const SET_OPTION: CommandOption = {
  name: 'set',
  placeholder: 'KEY=VALUE',
  isRepeatable: true,
  description: 'Set any key of the configuration, such as storage.wal_keep_size=4GB.',
};

/** One option for each key that has a flag, and `--set`. */
export function settingOptions(): CommandOption[] {
  return [...SETTINGS.flatMap(flagOption), SET_OPTION];
}

/** Everything a command that reads the whole configuration takes. */
export function configurationOptions(): CommandOption[] {
  return [CONFIG_OPTION, ...settingOptions()];
}

/** Where the configuration of this command line comes from. */
export function configSources({ input, env, workingDirectory }: CommandContext): ConfigSources {
  const variable = env[CONFIG_FILE_VARIABLE] ?? '';
  const file = optionValue(input, CONFIG_OPTION.name) ?? (variable === '' ? null : variable);
  return { flags: settingFlags(input), env, file, workingDirectory };
}

/** The keys that were set by flags and `--set`. */
export function settingFlags(input: CommandInput): FlagValue[] {
  const flags: FlagValue[] = [];
  for (const { path, flag } of SETTINGS) {
    if (flag === null) continue;
    const values = input.options.get(flag.name) ?? [];
    flags.push(...values.map((text) => ({ path, text, flag: `--${flag.name}` })));
  }
  const given = input.options.get(SET_OPTION.name) ?? [];
  return [...flags, ...given.map(setFlag)];
}

/** Prints every mistake of a configuration, one a line, and where a configuration file may have been meant. */
export function printConfigErrors(context: CommandContext, errors: readonly ConfigError[]): void {
  for (const error of errors) context.printError(`walcast: ${formatConfigError(error)}\n`);
  const isNamed = optionValue(context.input, CONFIG_OPTION.name) !== null;
  if (!isNamed && existsSync(join(context.workingDirectory, 'walcast.yaml'))) {
    context.printError('walcast: there is a walcast.yaml here; it is read with -c walcast.yaml\n');
  }
}

function flagOption(setting: (typeof SETTINGS)[number]): CommandOption[] {
  const { flag, kind, description, choices } = setting;
  if (flag === null) return [];
  return [
    {
      ...flag,
      description,
      values: choices,
      isRepeatable: isListKind(kind),
    },
  ];
}

function setFlag(entry: string): FlagValue {
  const end = entry.indexOf('=');
  const path = end < 0 ? entry : entry.slice(0, end);
  return { path, text: end < 0 ? '' : entry.slice(end + 1), flag: `--${SET_OPTION.name}` };
}
