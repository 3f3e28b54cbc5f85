// What is known of a configuration that is being made: values as flags have them, and who the standbys are.
import { accessSync, constants } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import type { LoadedConfig } from '../config/load.ts';
import type { FlagValue } from '../config/named-layers.ts';
import { environmentName, isListKind, SETTINGS, settingOf } from '../config/settings.ts';
import { isConninfoUri } from '../pg/conninfo-uri.ts';
import { parseConninfoOptions } from '../pg/conninfo-syntax.ts';
import { findUserNameProblem } from '../pg/user-list.ts';
import { parseIpAddress, prefixMask } from '../pg/ip-address.ts';
import { conninfoValue } from '../check/quoting.ts';
import type { CommandContext } from './command.ts';
import { configTemplate } from './config-template.ts';
import type { TemplateTls } from './config-template.ts';
import { asksForPassword, firstRules } from './init-rules.ts';
import type { RuleNeeds } from './init-rules.ts';

/** A configuration that is being made. Questions and flags fill it; nothing of it is on the disk. */
export interface InitDraft {
  /** By the path of their key, in the order they were given. */
  readonly values: Map<string, readonly FlagValue[]>;
  /** Who standbys log in as; null: as walcast does upstream. */
  user: string | null;
  /** Other machines with standbys, in CIDR notation. */
  networks: readonly string[];
  isTrusting: boolean;
  tls: TemplateTls | null;
  /** What walcast logs in with upstream, as far as a person told it; null: the connection string knows. */
  upstreamPassword: string | null;
}

/** Where the files of a configuration go. */
export interface InitPlaces {
  /** Absolute; null: standard output, and no file besides. */
  readonly output: string | null;
  readonly workingDirectory: string;
}

/** Name of the list of users beside the configuration. */
export const USERS_FILE = 'userlist.txt';
/** Name of the password file for standbys, where the password was made up. */
export const STANDBY_PASSWORD_FILE = 'standby.pgpass';
/** Name of the file with the token for what changes something. */
export const TOKEN_FILE = 'token';
/** Name of our own password file for the upstream. */
export const UPSTREAM_PASSWORD_FILE = 'upstream.pgpass';

/** Addresses where none are given. The port is not PostgreSQL's: a server may be on the same machine. */
const LISTEN_HERE = '127.0.0.1:5433';
const LISTEN_EVERYWHERE = '*:5433';

/** Values that flags and `WALCAST_…` variables give. */
export function draftOf(
  { env }: Pick<CommandContext, 'env'>,
  flags: readonly FlagValue[],
): InitDraft {
  const values = new Map<string, readonly FlagValue[]>();
  for (const { path } of SETTINGS) {
    const name = environmentName(path);
    const text = env[name];
    if (text !== undefined) values.set(path, [{ path, text, flag: name }]);
  }
  for (const path of new Set(flags.map((flag) => flag.path))) {
    values.set(
      path,
      flags.filter((flag) => flag.path === path),
    );
  }
  return {
    values,
    user: null,
    networks: [],
    isTrusting: false,
    tls: null,
    upstreamPassword: null,
  };
}

/** True where one of `paths` was given. */
export function has({ values }: InitDraft, ...paths: readonly string[]): boolean {
  return paths.some((path) => values.has(path));
}

/** Takes `text` for the value of `path`. */
export function setValue({ values }: InitDraft, path: string, text: string): void {
  const flag = `--${settingOf(path)?.flag?.name ?? 'set'}`;
  values.set(path, [{ path, text, flag }]);
}

/** Gives what a first configuration cannot do without, and nobody gave, its default. */
export function fillDraft(
  draft: InitDraft,
  context: Pick<CommandContext, 'env'>,
  places: InitPlaces,
): void {
  const add = (path: string, text: string): void => {
    if (!has(draft, path)) setValue(draft, path, text);
  };
  if (!has(draft, 'upstream.conninfo_file')) add('upstream.conninfo', defaultConninfo(context.env));
  add('upstream.slot', settingOf('upstream.slot')?.defaultText ?? '');
  add('listen', defaultListen(draft));
  add('storage.directory', defaultDirectory(places));
}

/** As libpq's own variables say, else a server on this machine. */
export function defaultConninfo(env: CommandContext['env']): string {
  const parts = [
    ['host', env['PGHOST'] ?? 'localhost'],
    ['port', env['PGPORT']],
    ['user', env['PGUSER']],
  ] as const;
  return parts
    .flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${conninfoValue(value)}`]))
    .join(' ');
}

/** This machine, unless standbys of others are let in. */
export function defaultListen({ networks }: Pick<InitDraft, 'networks'>): string {
  return networks.length === 0 ? LISTEN_HERE : LISTEN_EVERYWHERE;
}

/** The usual place where we may write there, else one beside the configuration. */
export function defaultDirectory({ output, workingDirectory }: InitPlaces): string {
  const usual = settingOf('storage.directory')?.defaultText ?? '';
  const beside = join(output === null ? workingDirectory : dirname(output), 'walcast-data');
  return isWritable(usual) || isWritable(dirname(usual)) ? usual : beside;
}

function isWritable(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Who standbys log in as. */
export function standbyUser(draft: InitDraft, env: CommandContext['env']): string {
  if (draft.user !== null) return draft.user;
  const conninfo = draft.values.get('upstream.conninfo')?.at(-1)?.text ?? '';
  const options = parseConninfoOptions(conninfo);
  const named = 'error' in options ? undefined : options.get('user');
  const found = named ?? env['PGUSER'] ?? '';
  return findStandbyUserProblem(found) === null ? found : 'replicator';
}

/** Why `name` cannot be the user that standbys log in as; null when it can. */
export function findStandbyUserProblem(name: string): string | null {
  if (!name.startsWith('/')) return findUserNameProblem(name);
  return 'the name begins with a slash, behind which an access rule has a regular expression';
}

/** True where our own rules are written, and some of them ask for a password that no user has yet. */
export function needsSecret(draft: InitDraft): boolean {
  if (has(draft, 'auth.hba', 'auth.hba_file')) return false;
  if (has(draft, 'auth.users', 'auth.users_file', 'auth.auth_query')) return false;
  return asksForPassword({ ...draft, addresses: [], user: '' });
}

/** True where there is an HTTP port and no token yet, without which nothing can be changed by it. */
export function needsToken(draft: InitDraft): boolean {
  return !has(draft, 'http.token_file') && draft.values.get('http.listen')?.at(-1)?.text !== '';
}

/** What keeps `text` from being a network; null when nothing does. */
export function networkProblem(text: string): string | null {
  const [, addressText = '', length = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const address = parseIpAddress(addressText);
  if (address !== null && prefixMask(Number(length), address.length) !== null) return null;
  return `"${text.slice(0, 100)}" is no network; it is written 10.0.0.0/8 or fd00::/8, one machine 10.1.2.3/32`;
}

/** Checks the values, with `users` (a line of a list of users) where secrets are to be made. */
export function loadDraft(
  draft: InitDraft,
  {
    env,
    workingDirectory,
    users,
  }: Pick<CommandContext, 'env' | 'workingDirectory'> & { users: string | null },
): LoadedConfig {
  const flags = [...draft.values.values()].flat();
  if (!has(draft, 'auth.hba', 'auth.hba_file')) {
    flags.push({ path: 'auth.hba', text: rulesOf(draft, env), flag: '--allow' });
  }
  if (users !== null) flags.push({ path: 'auth.users', text: users, flag: '--standby-user' });
  // Variables are among the values already.
  const names = new Set(SETTINGS.map(({ path }) => environmentName(path)));
  const others = Object.fromEntries(Object.entries(env).filter(([name]) => !names.has(name)));
  const loaded = loadConfig({ flags, env: others, file: null, workingDirectory });
  if ('errors' in loaded) return loaded;
  return { config: withTls(loaded.config, draft, workingDirectory) };
}

/** No flag can say it. */
function withTls(config: Config, { tls }: InitDraft, workingDirectory: string): Config {
  if (tls === null) return config;
  const [cert, key] = [resolve(workingDirectory, tls.cert), resolve(workingDirectory, tls.key)];
  const listen = config.listen.map((address) =>
    address.kind === 'unix'
      ? address
      : { ...address, tls: { cert, key, ca: null, crl: null, clientCert: 'none' as const } },
  );
  return { ...config, listen };
}

/** Text of `auth.hba`. */
function rulesOf(draft: InitDraft, env: CommandContext['env']): string {
  const needs: RuleNeeds = {
    addresses: (draft.values.get('listen') ?? []).flatMap(({ text }) => text.split(',')),
    user: standbyUser(draft, env),
    networks: draft.networks,
    isTrusting: draft.isTrusting,
  };
  return firstRules(needs);
}

/** What of the files besides the configuration it has to name. */
export interface Beside {
  /** A list of users is there. */
  readonly hasUsers: boolean;
  /** A file with a token is there. */
  readonly hasToken: boolean;
  /** A password file of ours for the upstream: absolute; null for none. */
  readonly upstreamPasswordFile: string | null;
}

/** The text of walcast.yaml. Files are named by their whole path, the list of users and the token by their names: they go where the configuration goes. */
export function draftText(
  draft: InitDraft,
  {
    env,
    workingDirectory,
    beside,
  }: Pick<CommandContext, 'env' | 'workingDirectory'> & { beside: Beside },
): string {
  const shown = new Map<string, readonly string[]>();
  for (const [path, flags] of draft.values) {
    const texts = flags.map(({ text }) => text);
    const kind = settingOf(path)?.kind ?? 'text';
    const written = kind === 'path' ? texts.map((text) => resolve(workingDirectory, text)) : texts;
    shown.set(path, isListKind(kind) ? written : written.slice(-1));
  }
  if (!has(draft, 'auth.hba', 'auth.hba_file')) shown.set('auth.hba', [rulesOf(draft, env)]);
  if (beside.hasUsers) shown.set('auth.users_file', [USERS_FILE]);
  if (beside.hasToken) shown.set('http.token_file', [TOKEN_FILE]);
  const conninfo = shown.get('upstream.conninfo')?.[0];
  if (conninfo !== undefined && beside.upstreamPasswordFile !== null) {
    shown.set('upstream.conninfo', [withPasswordFile(conninfo, beside.upstreamPasswordFile)]);
  }
  const tls =
    draft.tls === null
      ? null
      : {
          cert: resolve(workingDirectory, draft.tls.cert),
          key: resolve(workingDirectory, draft.tls.key),
        };
  return configTemplate(shown, tls);
}

/** `conninfo`, in whichever form, with `passfile`. */
export function withPasswordFile(conninfo: string, path: string): string {
  if (!isConninfoUri(conninfo))
    return `${conninfo.trimEnd()} passfile=${conninfoValue(path)}`.trimStart();
  return `${conninfo}${conninfo.includes('?') ? '&' : '?'}passfile=${encodeURIComponent(path)}`;
}
