// walcast init: from the address of a primary to a configuration that runs, and the lines for primary and standbys.
import { randomBytes } from 'node:crypto';
import { dirname, join, resolve } from 'node:path';
import { authFindings } from '../check/auth-findings.ts';
import { deepCheck } from '../check/deep-check.ts';
import { formatFinding } from '../check/finding.ts';
import type { StandbyAddress } from '../check/init-lines.ts';
import type { Config } from '../config/config.ts';
import type { LoadedConfig } from '../config/load.ts';
import type { ConfigError } from '../config/problem.ts';
import { maskConninfo } from '../pg/conninfo-syntax.ts';
import { formatUserListLine } from '../pg/user-list.ts';
import { exitCodeOf, summaryLine } from './check.ts';
import { EXIT, isSet, optionValue } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { printConfigErrors, settingFlags, settingOptions } from './config-options.ts';
import { YES_OPTION } from './confirm.ts';
import {
  draftOf,
  draftText,
  fillDraft,
  has,
  loadDraft,
  needsSecret,
  needsToken,
  setValue,
  STANDBY_PASSWORD_FILE,
  standbyUser,
  TOKEN_FILE,
  UPSTREAM_PASSWORD_FILE,
  USERS_FILE,
} from './init-draft.ts';
import type { InitDraft, InitPlaces } from './init-draft.ts';
import { isForOthers, refuseExisting, writeNewFiles } from './init-files.ts';
import type { NewFile } from './init-files.ts';
import { INIT_OPTIONS, readInitOptions } from './init-options.ts';
import { askQuestions } from './init-questions.ts';
import { lastWords, nextSteps, passwordFileLine, standbyAccess } from './init-report.ts';
import { makeScramSecret } from './scram.ts';

/** The command. */
export const initCommand: Command = {
  name: 'init',
  summary: 'Check the primary, write a commented walcast.yaml, print the lines for the standbys.',
  options: [...settingOptions(), ...INIT_OPTIONS],
  help: `
On a terminal asks for what flags and WALCAST_… variables leave open, each question with a default, and checks each answer at
once; elsewhere, and with --yes, defaults count: the server that PGHOST, PGPORT and PGUSER name, else localhost. Every other
key is written as a comment with its default. No file that exists is overwritten.

Nobody is let in without a password, and no other machine without TLS: beside the configuration userlist.txt gets the secret
of the user that standbys log in as, standby.pgpass the password where it was made up, upstream.pgpass the one for the
primary where it was asked for, token what "slots create", "drain" and others that change something have to show. Only
their owner may read them (and the group of the folder, where root writes them).

The servers are looked at as "walcast check --deep" does. The files are also written when a check fails: what has to be
changed on the primary is printed.

Exit codes: 0 no errors, 1 errors (or a file exists), 2 usage, 78 a value is not valid.

Examples:
  walcast init
  walcast init --upstream 'host=pg-a,pg-b user=replicator sslmode=verify-full' -o /etc/walcast/walcast.yaml
  walcast init --yes --upstream 'host=pg-a user=replicator' --allow 10.0.0.0/8 --tls-cert relay.crt --tls-key relay.key
  walcast init --yes --upstream 'host=/run/postgresql user=postgres' -o -
`,
  run: init,
};

const DEFAULT_FILE = 'walcast.yaml';

/** Of a password, or a token, that is made up: as many as a SCRAM secret has, so that it is no weaker than that. */
const PASSWORD_BYTES = 32;

/** What standbys log in with, and where it is from. */
interface Credential {
  readonly user: string;
  readonly password: string;
  readonly isMadeUp: boolean;
}

async function init(context: CommandContext): Promise<number> {
  const { input, workingDirectory } = context;
  const output = optionValue(input, 'output') ?? DEFAULT_FILE;
  const places = {
    output: output === '-' ? null : resolve(workingDirectory, output),
    workingDirectory,
  };
  const draft = draftOf(context, settingFlags(input));
  const options = readInitOptions(input, draft, (path) => resolve(workingDirectory, path));
  if ('problem' in options) {
    context.printError(`walcast init: ${options.problem}\n`);
    return EXIT.usage;
  }
  // Before anything takes long, or somebody is asked: values that cannot be, and files that exist.
  const first = firstLook(context, draft, places);
  if ('errors' in first) return refuse(context, first);
  if (places.output !== null) {
    const isPasswordGiven = options.password !== null;
    const beside = filesBeside(context, draft, { output: places.output, isPasswordGiven });
    await refuseExisting(places.output, beside);
  }
  const typed = await askAll(context, draft, { places, given: options.password });
  fillDraft(draft, context, places);
  const credential = credentialOf(draft, {
    env: context.env,
    places,
    given: options.password ?? typed,
  });
  const users = credential === null ? null : await userLine(credential);
  const loaded = loadDraft(draft, { ...context, users });
  if ('errors' in loaded) return refuse(context, loaded);
  return await finish(context, { draft, places, output, credential, users, config: loaded.config });
}

function refuse(context: CommandContext, { errors }: { errors: readonly ConfigError[] }): number {
  printConfigErrors(context, errors);
  return EXIT.configuration;
}

/** What flags and variables give, with defaults for the rest. */
function firstLook(context: CommandContext, draft: InitDraft, places: InitPlaces): LoadedConfig {
  const copy = { ...draft, values: new Map(draft.values) };
  fillDraft(copy, context, places);
  return loadDraft(copy, { ...context, users: null });
}

/** What may be written beside the configuration. */
function filesBeside(
  context: CommandContext,
  draft: InitDraft,
  { output, isPasswordGiven }: { output: string; isPasswordGiven: boolean },
): string[] {
  const names = [
    ...(needsSecret(draft) ? [USERS_FILE] : []),
    ...(needsSecret(draft) && !isPasswordGiven ? [STANDBY_PASSWORD_FILE] : []),
    ...(needsToken(draft) ? [TOKEN_FILE] : []),
    ...(isAsking(context) ? [UPSTREAM_PASSWORD_FILE] : []),
  ];
  return names.map((name) => join(dirname(output), name));
}

function isAsking({ openDialogue, input }: CommandContext): boolean {
  return openDialogue !== undefined && !isSet(input, YES_OPTION.name);
}

/** The password for standbys that was typed; null without a terminal, and where none was. */
async function askAll(
  context: CommandContext,
  draft: InitDraft,
  { places, given }: { places: InitPlaces; given: string | null },
): Promise<string | null> {
  const { openDialogue, env, clock } = context;
  if (openDialogue === undefined || !isAsking(context)) return null;
  const dialogue = openDialogue();
  const tell = (line: string): void => context.printError(`${line}\n`);
  try {
    const isPasswordGiven = given !== null;
    return await askQuestions(draft, { env, clock, places, dialogue, tell, isPasswordGiven });
  } finally {
    dialogue.close();
  }
}

/** Null where no user is to be made. On standard output there is no place for a password that was made up. */
function credentialOf(
  draft: InitDraft,
  { env, places, given }: { env: CommandContext['env']; places: InitPlaces; given: string | null },
): Credential | null {
  if (!needsSecret(draft)) return null;
  const user = standbyUser(draft, env);
  if (given !== null) return { user, password: given, isMadeUp: false };
  if (places.output === null) return null;
  return { user, password: madeUp(), isMadeUp: true };
}

function madeUp(): string {
  return randomBytes(PASSWORD_BYTES).toString('base64url');
}

async function userLine({ user, password }: Credential): Promise<string> {
  return formatUserListLine(user, await makeScramSecret(password));
}

/** All that was decided. */
interface Decided {
  readonly draft: InitDraft;
  readonly places: InitPlaces;
  /** As it was typed. */
  readonly output: string;
  readonly credential: Credential | null;
  /** Line of the list of users; null for none. */
  readonly users: string | null;
  readonly config: Config;
}

/** Writes, looks at everything once more, and says what is next. */
async function finish(context: CommandContext, decided: Decided): Promise<number> {
  const { draft, places, credential, config } = decided;
  const { env, clock } = context;
  const tell = (line: string): void =>
    places.output === null ? context.printError(`${line}\n`) : context.print(`${line}\n`);
  const access = standbyAccess(config, {
    user: standbyUser(draft, env),
    passwordFile: passwordFileOf(decided),
    hasSecret: credential !== null || !needsSecret(draft),
    networks: draft.networks,
  });
  const files = filesOf(context, decided, passwordLine(access.address, credential));
  if (places.output === null) context.print(files[0]?.text ?? '');
  else await writeNewFiles(files);
  const password = draft.upstreamPassword;
  const known = password === null ? env : { ...env, PGPASSWORD: password };
  const { findings: found, probes } = await deepCheck(config, { clock, env: known });
  const findings = [...authFindings(config), ...found];
  for (const finding of findings) tell(formatFinding(finding));
  tell(summaryLine(findings));
  const parts = nextSteps(config, { access, findings, probes, networks: draft.networks });
  for (const { heading, lines } of parts) {
    tell('');
    tell(heading);
    for (const line of lines) tell(`  ${line}`);
  }
  const isClean = exitCodeOf(findings) === EXIT.ok;
  if (places.output !== null) {
    const { output } = decided;
    const isOthers = await isForOthers(places.output);
    for (const line of lastWords(files, { output, isClean, isForOthers: isOthers })) tell(line);
  }
  return exitCodeOf(findings);
}

function passwordFileOf({ credential, places }: Decided): string | null {
  if (credential === null || !credential.isMadeUp || places.output === null) return null;
  return join(dirname(places.output), STANDBY_PASSWORD_FILE);
}

/** The configuration, first, and what goes beside it. */
function filesOf(context: CommandContext, decided: Decided, line: string | null): NewFile[] {
  const { draft, places, users } = decided;
  const output = places.output ?? '';
  const beside = (name: string): string => join(dirname(output), name);
  const isAlone = places.output === null;
  if (isAlone && users !== null) setValue(draft, 'auth.users', users);
  const upstream = isAlone ? null : draft.upstreamPassword;
  const token = !isAlone && needsToken(draft) ? madeUp() : null;
  const text = draftText(draft, {
    ...context,
    beside: {
      hasUsers: !isAlone && users !== null,
      hasToken: token !== null,
      upstreamPasswordFile: upstream === null ? null : beside(UPSTREAM_PASSWORD_FILE),
    },
  });
  const files: NewFile[] = [{ path: output, text, isSecret: holdsPassword(draft) }];
  const add = (name: string, content: string | null): void => {
    if (isAlone || content === null) return;
    const isPersonal = name === STANDBY_PASSWORD_FILE;
    files.push({ path: beside(name), text: `${content}\n`, isSecret: true, isPersonal });
  };
  add(USERS_FILE, users);
  add(STANDBY_PASSWORD_FILE, line);
  add(TOKEN_FILE, token);
  // It is for this one connection string, whose hosts may change.
  add(
    UPSTREAM_PASSWORD_FILE,
    upstream === null ? null : passwordFileLine(['*', '*', '*', '*', upstream]),
  );
  return files;
}

function passwordLine(
  address: StandbyAddress | null,
  credential: Credential | null,
): string | null {
  if (credential === null || !credential.isMadeUp || address === null) return null;
  const { host, port } = address;
  const { user, password } = credential;
  // libpq has names of its own for the directories of sockets.
  const fields = [host.startsWith('/') ? '*' : host, String(port), '*', user, password];
  return passwordFileLine(fields);
}

function holdsPassword(draft: InitDraft): boolean {
  const conninfo = draft.values.get('upstream.conninfo')?.at(-1)?.text ?? '';
  return has(draft, 'auth.users') || maskConninfo(conninfo) !== conninfo;
}
