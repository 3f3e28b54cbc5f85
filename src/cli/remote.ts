// Which walcast is asked, and with which token: the options that every command has which talks to a running one.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Value } from 'typebox/value';
import type { Clock } from '../base/clock.ts';
import { errorText, OperationalError } from '../base/errors.ts';
import { HTTP_TOKEN_FILE_BYTES_MAX } from '../config/limits.ts';
import { settingOf } from '../config/settings.ts';
import type { StatusJson } from '../http/api-types.ts';
import { SCHEMAS } from '../http/schemas.ts';
import { optionValue } from './command.ts';
import type { CommandContext, CommandOption } from './command.ts';
import { askJson, getJson } from './http-client.ts';
import type { HttpRequest, JsonAnswer } from './http-client.ts';
import { printable } from './plain-text.ts';
import type { HttpsFiles } from '../net/https-fetch.ts';

export { refusalOf } from './refusal.ts';

/** Where a walcast is when nothing is said. */
export const DEFAULT_URL: string = `http://${settingOf('http.listen')?.defaultText ?? ''}`;

/** What a user who does not give `--token-file` may have set for walcast itself. */
const TOKEN_FILE_VARIABLE = 'WALCAST_HTTP_TOKEN_FILE';

/** The same for WAL files, for which there may be a token of their own. */
export const WAL_TOKEN_FILE_VARIABLES: readonly string[] = [
  'WALCAST_HTTP_WAL_TOKEN_FILE',
  TOKEN_FILE_VARIABLE,
];

/** `--url URL`. */
export const URL_OPTION: CommandOption = {
  name: 'url',
  placeholder: 'URL',
  description: `Where its HTTP port is; ${DEFAULT_URL} when not given.`,
};

/** `--token-file FILE`. */
export const TOKEN_OPTION: CommandOption = {
  name: 'token-file',
  placeholder: 'FILE',
  description: `The file with the token that its http.token_file names (also ${TOKEN_FILE_VARIABLE}).`,
};

/** `--ca FILE`. */
export const CA_OPTION: CommandOption = {
  name: 'ca',
  placeholder: 'FILE',
  description:
    'For an https URL: who may have signed its certificate (PEM); the authorities of the system when not given.',
};

/** `--cert FILE`. */
export const CERT_OPTION: CommandOption = {
  name: 'cert',
  placeholder: 'FILE',
  description: 'Our own certificate (PEM), for a walcast with http.tls.ca.',
};

/** `--key FILE`. */
export const KEY_OPTION: CommandOption = {
  name: 'key',
  placeholder: 'FILE',
  description: 'The private key of --cert.',
};

/** What every command takes that talks to a running walcast. */
export const REMOTE_OPTIONS: readonly CommandOption[] = [
  URL_OPTION,
  TOKEN_OPTION,
  CA_OPTION,
  CERT_OPTION,
  KEY_OPTION,
];

/** `--json`. */
export const JSON_OPTION: CommandOption = {
  name: 'json',
  description: 'Print one JSON value instead of text.',
};

/** A walcast that can be asked. */
export interface Remote {
  /** Ends in a slash. */
  readonly base: URL;
  readonly token: string | null;
  readonly tls: HttpsFiles;
  readonly clock: Clock;
}

/**
 * The walcast that the options name, or what is wrong with them. Throws OperationalError when the token file cannot be
 * read. `variables` name the token file where no option does, the first that is set.
 */
export function remoteOf(
  context: CommandContext,
  variables: readonly string[] = [TOKEN_FILE_VARIABLE],
): Remote | { readonly problem: string } {
  const text = optionValue(context.input, URL_OPTION.name) ?? DEFAULT_URL;
  const base = baseUrl(text);
  if (base === null) {
    const shown = printable(text).replace(/\/\/[^/]*@/, '//…@');
    return { problem: `--url needs a URL such as http://127.0.0.1:9188, not "${shown}"` };
  }
  const tls = tlsOf(context);
  if ((tls.cert === null) !== (tls.key === null)) return { problem: '--cert needs --key' };
  return { base, token: tokenOf(context, variables), tls, clock: context.clock };
}

/** A path below the walcast's URL. */
export function urlOf(remote: Remote, path: string): URL {
  return new URL(path, remote.base);
}

/** One request to the API; gives any answer back. Rejects with OperationalError when nobody answers. */
export async function askRemote(
  remote: Remote,
  path: string,
  request: Pick<HttpRequest, 'method' | 'body'> = {},
): Promise<JsonAnswer> {
  const { token, tls, clock } = remote;
  return await askJson({ ...request, url: urlOf(remote, path), token, tls, clock });
}

/** `GET /api/v1/status`. Rejects with OperationalError when nobody answers, or somebody else does. */
export async function remoteStatus(remote: Remote): Promise<StatusJson> {
  const url = urlOf(remote, 'api/v1/status');
  const answer = Value.Clean(SCHEMAS.status, await getJson({ ...remote, url }));
  if (isStatus(answer)) return answer;
  throw badAnswer(url, 'a status');
}

/** What to throw when an answer has not the shape that was asked for. */
export function badAnswer(url: URL, wanted: string): OperationalError {
  return new OperationalError('BAD_ANSWER', `${url.href} answered something else than ${wanted}`, {
    hint: 'Is it a walcast, and of this version?',
  });
}

function isStatus(value: unknown): value is StatusJson {
  return Value.Check(SCHEMAS.status, value);
}

function baseUrl(text: string): URL | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) return null;
  // None of these would reach the walcast: a path is put behind it, and names are no tokens.
  if (`${url.username}${url.password}${url.search}${url.hash}` !== '') return null;
  return new URL(url.href.endsWith('/') ? url.href : `${url.href}/`);
}

function tlsOf({ input, workingDirectory }: CommandContext): HttpsFiles {
  const file = ({ name }: CommandOption): string | null => {
    const given = optionValue(input, name);
    return given === null ? null : resolve(workingDirectory, given);
  };
  return { ca: file(CA_OPTION), cert: file(CERT_OPTION), key: file(KEY_OPTION) };
}

function tokenOf(
  { input, env, workingDirectory }: CommandContext,
  variables: readonly string[],
): string | null {
  const named = variables.map((name) => env[name] ?? '').find((file) => file !== '');
  const given = optionValue(input, TOKEN_OPTION.name) ?? named ?? null;
  if (given === null || given === '') return null;
  const file = resolve(workingDirectory, given);
  let text: string;
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new OperationalError('TOKEN_FILE', `the token file cannot be read: ${errorText(error)}`, {
      hint: 'It is the file that http.token_file of the running walcast names.',
      cause: error,
    });
  }
  if (/^[\x21-\x7e]+$/.test(text) && text.length <= HTTP_TOKEN_FILE_BYTES_MAX) return text;
  throw new OperationalError('TOKEN_FILE', `"${file}" holds no token: one line without spaces`);
}
