// What a connection string leaves open is filled in here, as libpq fills it in: from a service file, the environment,
// the password file and the files of ~/.postgresql. Everything is read once, when the target is made.
import { readFileSync, statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import { CONNINFO_FILE_BYTES_MAX } from '../config/limits.ts';
import { completeOptions, homeOf } from '../pg/conninfo-defaults.ts';
import type { CompletedOptions, ConninfoSurroundings, FileLook } from '../pg/conninfo-defaults.ts';
import type { ConninfoError } from '../pg/conninfo-options.ts';
import { conninfoWarnings } from '../pg/conninfo-warnings.ts';
import { conninfoOf } from '../pg/conninfo.ts';
import type { Conninfo, ConninfoHost, ConninfoTls } from '../pg/conninfo.ts';
import { findPassword, passwordFileHosts } from '../pg/password-file.ts';
import { upstreamTarget } from '../walreceiver/upstream-target.ts';
import type { UpstreamTarget } from '../walreceiver/upstream-target.ts';

/** Whatever a connection string can be completed from. */
export interface UpstreamSurroundings extends ConninfoSurroundings {
  readonly userId: number;
  /** The name of that user; null when the user database does not know it. */
  readonly userName: string | null;
}

/** An address that can be used. */
export interface UpstreamResolution {
  readonly target: UpstreamTarget;
  /** The connection string with what the surroundings added. */
  readonly conninfo: Conninfo;
  /** What was left out of account and should be known, one line each, without a secret. */
  readonly warnings: readonly string[];
}

/** Why there is none: one line in libpq's words where libpq has some, and what to do. */
export interface UpstreamRefusal {
  readonly error: string;
  readonly hint: string;
}

/** The database under which a password file has the passwords of WAL receivers. (libpqwalreceiver.c:libpqrcv_connect) */
const REPLICATION_DATABASE = 'replication';

/** Group and others: nobody but its owner may have a password file. */
const OTHERS_MODE = 0o077;

/** Of root's file: reading by the group is what a mounted secret has. */
const OTHERS_MODE_OF_ROOT = 0o037;

/**
 * Completes `conninfo` from `surroundings`. Never throws. `discovered` hosts take the place of its own, in their order; a
 * null is none.
 */
export function resolveUpstream(
  conninfo: Conninfo,
  surroundings: UpstreamSurroundings,
  discovered: readonly ConninfoHost[] | null = null,
): UpstreamResolution | UpstreamRefusal {
  const completed = completeOptions(conninfo.given, surroundings);
  if ('error' in completed) return refusal(completed, null);
  const meaning = conninfoOf(completed.options, 'complete');
  if ('error' in meaning) return refusal(meaning, completed);
  const user = meaning.user ?? surroundings.userName;
  if (user === null) {
    return {
      error: `local user with ID ${surroundings.userId} does not exist`,
      hint: 'Name the user in upstream.conninfo (user=…) or in PGUSER.',
    };
  }
  const warnings = [...conninfoWarnings(withoutEnvironment(completed))];
  const passwords = new PasswordFile(meaning.passfile, surroundings);
  const list =
    discovered === null ? {} : { hosts: discovered, loadBalanceHosts: 'disable' as const };
  const target = upstreamTarget(
    { ...meaning, ...list, tls: withDefaultFiles(meaning.tls, surroundings) },
    { user, passwordFor: (host, name) => passwords.find(host, name) },
  );
  return { target, conninfo: meaning, warnings: [...warnings, ...passwords.warnings] };
}

/**
 * The upstream's address, user and passwords, read now. Throws {@link OperationalError} `CONNINFO_UNUSABLE`; `onWarning`
 * gets one line for each thing that should be known.
 */
export function targetOf(
  conninfo: Conninfo,
  env: Readonly<Record<string, string | undefined>> = process.env,
  onWarning: (text: string) => void = () => {},
  discovered: readonly ConninfoHost[] | null = null,
): UpstreamTarget {
  const resolved = resolveUpstream(conninfo, processSurroundings(env), discovered);
  if ('error' in resolved) {
    throw new OperationalError('CONNINFO_UNUSABLE', `upstream.conninfo: ${resolved.error}`, {
      hint: resolved.hint,
    });
  }
  for (const warning of resolved.warnings) onWarning(warning);
  return resolved.target;
}

/** The surroundings of this process, with another environment if need be. */
export function processSurroundings(
  env: Readonly<Record<string, string | undefined>> = process.env,
): UpstreamSurroundings {
  const account = currentAccount();
  return {
    env,
    userId: process.geteuid?.() ?? 0,
    userName: account?.name ?? null,
    homeDirectory: account?.home ?? null,
    readFile: lookAtFile,
  };
}

/** Null where the user database does not know the user of this process, as in a container with any user ID. */
function currentAccount(): { name: string; home: string } | null {
  try {
    const { username, homedir } = userInfo();
    return { name: username, home: homedir };
  } catch {
    return null;
  }
}

/** What cannot be stat'ed counts as absent, as for libpq. Only plain files are opened: another kind might never answer. */
function lookAtFile(path: string): FileLook {
  try {
    const info = statSync(path);
    if (!info.isFile()) return { kind: 'other' };
    const facts = { kind: 'file', mode: info.mode & 0o777, isRoots: info.uid === 0 } as const;
    return { ...facts, text: info.size > CONNINFO_FILE_BYTES_MAX ? null : textOf(path) };
  } catch (error) {
    if (systemErrorCode(error) === null) throw error;
    return { kind: 'absent' };
  }
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === null) throw error;
    return null;
  }
}

function refusal(problem: ConninfoError, completed: CompletedOptions | null): UpstreamRefusal {
  const origin = completed?.origins.get(problem.keyword ?? '');
  const hint =
    origin === undefined ? 'Correct upstream.conninfo.' : `The value comes from the ${origin}.`;
  return { error: problem.error, hint };
}

/** A variable of the environment may be meant for other programs: no words about it. */
function withoutEnvironment({ options, origins }: CompletedOptions): ReadonlyMap<string, string> {
  return new Map(
    [...options].filter(([keyword]) => origins.get(keyword)?.startsWith('environment') !== true),
  );
}

/** Files that are used without being named, where they exist. (fe-secure-openssl.c:initialize_SSL) */
function withDefaultFiles(tls: ConninfoTls, surroundings: UpstreamSurroundings): ConninfoTls {
  const home = homeOf(surroundings);
  if (home === null) return tls;
  const path = (name: string): string => `${home}/.postgresql/${name}`;
  const ifThere = (name: string): string | null =>
    surroundings.readFile(path(name)).kind === 'absent' ? null : path(name);
  const cert = tls.cert ?? ifThere('postgresql.crt');
  return {
    ...tls,
    rootCert: tls.rootCert ?? ifThere('root.crt'),
    crl: tls.crl ?? (tls.crlDirectory === null ? ifThere('root.crl') : null),
    cert,
    key: tls.key ?? (cert === null ? null : path('postgresql.key')),
  };
}

/** The password file, read when it is first asked. */
class PasswordFile {
  readonly warnings: string[] = [];
  readonly #given: string | null;
  readonly #surroundings: UpstreamSurroundings;
  #text: string | null = null;

  constructor(given: string | null, surroundings: UpstreamSurroundings) {
    this.#given = given;
    this.#surroundings = surroundings;
  }

  find({ host, port }: ConninfoHost, user: string): string | null {
    this.#text ??= this.#read();
    return findPassword(this.#text, {
      hosts: passwordFileHosts(host),
      port,
      database: REPLICATION_DATABASE,
      user,
    });
  }

  /** Empty for a file that is not to be used. (fe-connect.c:passwordFromFile) */
  #read(): string {
    const home = homeOf(this.#surroundings);
    const path = this.#given ?? (home === null ? null : `${home}/.pgpass`);
    if (path === null) return '';
    const look = this.#surroundings.readFile(path);
    if (look.kind === 'file' && isPrivate(look) && look.text !== null) {
      return look.text;
    }
    const problem = this.#problem(look);
    if (problem !== null) this.warnings.push(`password file "${path}" ${problem}`);
    return '';
  }

  #problem(look: FileLook): string | null {
    switch (look.kind) {
      case 'absent':
        return this.#given === null ? null : 'does not exist';
      case 'other':
        return 'is not a plain file';
      case 'file':
        return isPrivate(look)
          ? 'cannot be read'
          : 'has group or world access; permissions should be u=rw (0600) or less';
    }
  }
}

/** As libpq has it, and where the file belongs to root, as it has it for keys. (fe-secure-openssl.c:initialize_SSL) */
function isPrivate({ mode, isRoots = false }: Extract<FileLook, { kind: 'file' }>): boolean {
  return (mode & (isRoots ? OTHERS_MODE_OF_ROOT : OTHERS_MODE)) === 0;
}
