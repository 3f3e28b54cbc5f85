// walcast config: what would be in effect, and where each value comes from.
import { readBuildInfo } from '../config/build-info.ts';
import { configFileSchema } from '../config/file-schema.ts';
import { loadConfig } from '../config/load.ts';
import { printConfig } from '../config/print.ts';
import { configJson } from '../http/status-json.ts';
import { configEntries } from '../relay/reload-words.ts';
import { EXIT, isSet } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { configSources, configurationOptions, printConfigErrors } from './config-options.ts';

/** The command. */
export const configCommand: Command = {
  name: 'config',
  summary: 'Show the effective configuration and where each value comes from.',
  options: [
    {
      name: 'print',
      description: 'Print every key as a configuration file; comments say where its value is from.',
    },
    {
      name: 'json',
      description: 'Print a JSON array instead: key, value, default, origin, place.',
    },
    {
      name: 'schema',
      description: 'Print the JSON Schema of the configuration file instead, for editors.',
    },
    ...configurationOptions(),
  ],
  help: `
Takes the same options as "walcast run" and reads the same file and environment, but starts nothing and looks at no
server. Secrets are masked. Each comment says where the value was written (file:line:column, variable or flag), the
default where that is another one, and whether a reload (SIGHUP) or only a restart puts a change in effect.

Exit codes: 0 ok, 2 usage, 78 bad configuration (every mistake is printed).

Examples:
  walcast config --print -c walcast.yaml
  WALCAST_LOG_LEVEL=debug walcast config --json -c walcast.yaml
  walcast config --schema > walcast.schema.json
`,
  async run(context): Promise<number> {
    return show(context);
  },
};

function show(context: CommandContext): number {
  if (isSet(context.input, 'schema')) {
    context.print(`${JSON.stringify(configFileSchema(), null, 2)}\n`);
    return EXIT.ok;
  }
  const isJson = isSet(context.input, 'json');
  if (!isJson && !isSet(context.input, 'print')) {
    context.printError(
      'walcast: config needs --print, --json or --schema; see walcast config --help\n',
    );
    return EXIT.usage;
  }
  const sources = configSources(context);
  const loaded = loadConfig(sources);
  if ('errors' in loaded) {
    printConfigErrors(context, loaded.errors);
    return EXIT.configuration;
  }
  const { config } = loaded;
  for (const warning of config.warnings) context.printError(`walcast: warning: ${warning}\n`);
  if (isJson) {
    const entries = configJson(configEntries(config, []));
    context.print(`${JSON.stringify(entries, null, 2)}\n`);
    return EXIT.ok;
  }
  const from = sources.file === null ? 'no file' : sources.file;
  const { version } = readBuildInfo(context.env);
  context.print(`# effective configuration of walcast ${version}, from ${from}\n`);
  context.print(printConfig(config));
  return EXIT.ok;
}
