// walcast init: from the address of a primary to a configuration that runs, and the lines for primary and standbys.
import { writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';
import { authFindings } from '../check/auth-findings.ts';
import { deepCheck } from '../check/deep-check.ts';
import { formatFinding } from '../check/finding.ts';
import {
  primaryInstructions,
  standbyAddress,
  standbyInstructions,
  userInstructions,
} from '../check/init-lines.ts';
import type { Instructions } from '../check/init-lines.ts';
import { shellWord } from '../check/quoting.ts';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import type { FlagValue } from '../config/named-layers.ts';
import { environmentName, isListKind, SETTINGS, settingOf } from '../config/settings.ts';
import { maskConninfo } from '../pg/conninfo-syntax.ts';
import { exitCodeOf, summaryLine } from './check.ts';
import { EXIT, optionValue } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { printConfigErrors, settingFlags, settingOptions } from './config-options.ts';
import { configTemplate } from './config-template.ts';

/** The command. */
export const initCommand: Command = {
  name: 'init',
  summary: 'Check the primary, write a commented walcast.yaml, print the lines for the standbys.',
  options: [
    ...settingOptions(),
    {
      name: 'output',
      short: 'o',
      placeholder: 'FILE',
      description: 'Write the configuration there; "-" is standard output. Default: walcast.yaml.',
    },
  ],
  help: `
Looks at the servers of --upstream as "walcast check --deep" does; without it, at the one that PGHOST, PGPORT and PGUSER
name, else at localhost. What is given as flags or WALCAST_… variables is written into the file, and every other key as a
comment with its default. An existing file is never overwritten. A file with a password in it can be read by its owner only.

The file is also written when a check fails: what has to be changed on the primary is printed.

Exit codes: 0 no errors, 1 errors (or the file exists), 2 usage, 78 a value is not valid.

Examples:
  walcast init --upstream 'host=pg-a,pg-b user=replicator sslmode=verify-full'
  walcast init --upstream 'host=pg-a user=replicator' --data /srv/walcast -o /etc/walcast/walcast.yaml
  walcast init --upstream 'host=/run/postgresql user=postgres' -o -
`,
  run: init,
};

const DEFAULT_FILE = 'walcast.yaml';

const LOCAL_RULE = 'local replication all trust';
const LOOPBACK_RULES = `host replication all 127.0.0.1/32 trust
host replication all ::1/128 trust`;

/** Lets in what runs on this machine, by each kind of `addresses`; everybody else has to be let in by a line of the user's. */
function firstRules(addresses: readonly string[]): string {
  const isUnix = (address: string): boolean => address.trim().startsWith('/');
  const lines = [
    '# TYPE DATABASE USER ADDRESS METHOD, as in pg_hba.conf; the first line that matches decides',
    ...(addresses.some((address) => isUnix(address)) ? [LOCAL_RULE] : []),
    ...(addresses.every((address) => isUnix(address)) ? [] : [LOOPBACK_RULES]),
    '# hostssl replication replicator 10.0.0.0/8 scram-sha-256',
    '# host walcast all 127.0.0.1/32 scram-sha-256 # database walcast is the console',
  ];
  return lines.join('\n');
}

async function init(context: CommandContext): Promise<number> {
  const flags = valuesToWrite(context);
  const { env, workingDirectory, clock } = context;
  // Variables are among the flags already.
  const others = withoutSettings(env);
  const loaded = loadConfig({ flags, env: others, file: null, workingDirectory });
  if ('errors' in loaded) {
    printConfigErrors(context, loaded.errors);
    return EXIT.configuration;
  }
  const { config } = loaded;
  const output = optionValue(context.input, 'output') ?? DEFAULT_FILE;
  const text = configTemplate(byPath(flags, workingDirectory));
  const isToStandardOutput = output === '-';
  const tell = (line: string): void =>
    isToStandardOutput ? context.printError(`${line}\n`) : context.print(`${line}\n`);
  // Before anything takes long: a file that exists ends it.
  if (isToStandardOutput) context.print(text);
  else await writeNew(resolve(workingDirectory, output), text, config);
  const { findings: found, probes } = await deepCheck(config, { clock, env });
  const findings = [...authFindings(config), ...found];
  for (const finding of findings) tell(formatFinding(finding));
  tell(summaryLine(findings));
  for (const part of primaryInstructions(probes, findings)) tellPart(tell, part);
  const user = probes[0]?.user ?? 'replicator';
  const address = standbyAddress(config.listen, { machineName: hostname(), user });
  for (const part of userInstructions(config, user)) tellPart(tell, part);
  if (address !== null) {
    for (const part of standbyInstructions(address)) tellPart(tell, part);
  }
  if (!isToStandardOutput)
    tellWritten(tell, { output, config, isClean: exitCodeOf(findings) === 0 });
  return exitCodeOf(findings);
}

function tellPart(tell: (line: string) => void, { heading, lines }: Instructions): void {
  tell('');
  tell(heading);
  for (const line of lines) tell(`  ${line}`);
}

function tellWritten(
  tell: (line: string) => void,
  { output, config, isClean }: { output: string; config: Config; isClean: boolean },
): void {
  tell('');
  tell(`Wrote ${output}. Look at auth.hba in it: it says which standbys may connect.`);
  if (holdsPassword(config)) {
    tell(
      'It holds a password, so its mode is 0600. Better: keep the connection string in a file of its own (upstream.conninfo_file), or the password in ~/.pgpass.',
    );
  }
  const file = shellWord(output);
  tell(isClean ? `Next: walcast run -c ${file}` : `Next: walcast check -c ${file} --deep`);
}

/** Flags, before them variables, before them what makes a first configuration work. */
function valuesToWrite(context: CommandContext): FlagValue[] {
  const { env } = context;
  const variables = SETTINGS.flatMap(({ path }) => {
    const name = environmentName(path);
    const text = env[name];
    return text === undefined ? [] : [{ path, text, flag: name }];
  });
  const flags = settingFlags(context.input);
  const overruled = new Set(flags.map(({ path }) => path));
  const given = [...variables.filter(({ path }) => !overruled.has(path)), ...flags];
  const has = (...paths: string[]): boolean => given.some(({ path }) => paths.includes(path));
  const added: FlagValue[] = [];
  if (!has('upstream.conninfo', 'upstream.conninfo_file')) {
    added.push({ path: 'upstream.conninfo', text: addressOf(env), flag: '--upstream' });
  }
  for (const path of ALWAYS_WRITTEN) {
    const text = settingOf(path)?.defaultText ?? null;
    if (text !== null && !has(path)) added.push({ path, text, flag: '--set' });
  }
  if (!has('auth.hba', 'auth.hba_file')) {
    const listens = [...added, ...given].filter(({ path }) => path === 'listen');
    const addresses = listens.flatMap(({ text }) => text.split(','));
    added.push({ path: 'auth.hba', text: firstRules(addresses), flag: '--set' });
  }
  return [...added, ...given];
}

/** What a reader looks for first. */
const ALWAYS_WRITTEN: readonly string[] = ['upstream.slot', 'listen', 'storage.directory'];

function addressOf(env: CommandContext['env']): string {
  const parts = [
    ['host', env['PGHOST'] ?? 'localhost'],
    ['port', env['PGPORT']],
    ['user', env['PGUSER']],
  ];
  return parts
    .flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]))
    .join(' ');
}

function withoutSettings(env: CommandContext['env']): CommandContext['env'] {
  const names = new Set(SETTINGS.map(({ path }) => environmentName(path)));
  return Object.fromEntries(Object.entries(env).filter(([name]) => !names.has(name)));
}

/** Names of files are relative to the working directory here, and to the file's own directory in the file. */
function byPath(
  flags: readonly FlagValue[],
  workingDirectory: string,
): ReadonlyMap<string, readonly string[]> {
  const values = new Map<string, string[]>();
  for (const { path, text } of flags) {
    const kind = settingOf(path)?.kind ?? 'text';
    const written = kind === 'path' ? resolve(workingDirectory, text) : text;
    const before = isListKind(kind) ? (values.get(path) ?? []) : [];
    values.set(path, [...before, written]);
  }
  return values;
}

function holdsPassword({ upstream, values }: Config): boolean {
  if (values.get('auth.users')?.shown !== null) return true;
  const isInline = (values.get('upstream.conninfo')?.origin ?? 'default') !== 'default';
  return isInline && maskConninfo(upstream.conninfo) !== upstream.conninfo;
}

async function writeNew(file: string, text: string, config: Config): Promise<void> {
  const mode = holdsPassword(config) ? 0o600 : 0o644;
  try {
    await writeFile(file, text, { flag: 'wx', mode });
  } catch (cause) {
    if (systemErrorCode(cause) === 'EEXIST') {
      throw new OperationalError('FILE_EXISTS', `"${file}" exists, and is never overwritten`, {
        hint: 'Choose another file with -o, or look at the new one with -o -.',
        cause,
      });
    }
    throw new OperationalError(
      'FILE_NOT_WRITTEN',
      `"${file}" cannot be written: ${errorText(cause)}`,
      {
        hint: 'Choose another file with -o.',
        cause,
      },
    );
  }
}
