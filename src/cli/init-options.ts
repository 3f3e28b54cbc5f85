// What does the command line of walcast init say besides keys of the configuration?
import { readTextFile } from '../config/read-file.ts';
import { isSet, optionValue } from './command.ts';
import type { CommandInput, CommandOption } from './command.ts';
import { YES_OPTION } from './confirm.ts';
import { findStandbyUserProblem, networkProblem } from './init-draft.ts';
import type { InitDraft } from './init-draft.ts';
import { findPasswordProblem } from './scram.ts';

/** A password is shorter; what is longer is another file. */
const PASSWORD_FILE_BYTES_MAX = 4_096;

/** Options of init that set no key. */
export const INIT_OPTIONS: readonly CommandOption[] = [
  {
    name: 'output',
    short: 'o',
    placeholder: 'FILE',
    description: 'Write the configuration there; "-" is standard output. Default: walcast.yaml.',
  },
  {
    name: 'allow',
    placeholder: 'CIDR',
    isRepeatable: true,
    description:
      'Let in standbys of this network, with a password and TLS. Default: this machine only.',
  },
  {
    name: 'tls-cert',
    placeholder: 'FILE',
    description: 'Certificate that standbys are shown. It is read again when it changes.',
  },
  { name: 'tls-key', placeholder: 'FILE', description: 'Key of the certificate.' },
  {
    name: 'standby-user',
    placeholder: 'NAME',
    description: 'Who standbys log in as. Default: the user of --upstream.',
  },
  {
    name: 'standby-password-file',
    placeholder: 'FILE',
    description:
      'The first line is the password of that user. Default: one is made up, and kept in standby.pgpass.',
  },
  {
    name: 'trust',
    description: 'Let in whoever is on this machine without a password.',
  },
  { ...YES_OPTION, description: 'Do not ask, also on a terminal: flags and defaults count.' },
];

/** Puts into `draft` what the options say. Returns the password for standbys, if one is given; or what is wrong. */
export function readInitOptions(
  input: CommandInput,
  draft: InitDraft,
  resolvePath: (path: string) => string,
): { readonly password: string | null } | { readonly problem: string } {
  draft.networks = input.options.get('allow') ?? [];
  draft.user = optionValue(input, 'standby-user');
  draft.isTrusting = isSet(input, 'trust');
  const cert = optionValue(input, 'tls-cert');
  const key = optionValue(input, 'tls-key');
  if ((cert === null) !== (key === null)) {
    return { problem: '--tls-cert and --tls-key belong together' };
  }
  if (cert !== null && key !== null) draft.tls = { cert, key };
  const problem =
    draft.networks.map(networkProblem).find((found) => found !== null) ??
    (draft.user === null ? null : findStandbyUserProblem(draft.user));
  if (problem !== null) return { problem };
  const file = optionValue(input, 'standby-password-file');
  if (file === null) return { password: null };
  const content = readTextFile(resolvePath(file), PASSWORD_FILE_BYTES_MAX);
  if ('problem' in content) return { problem: `"${file}" ${content.problem}` };
  const password = content.text.split('\n')[0]?.replace(/\r$/, '') ?? '';
  const passwordProblem = findPasswordProblem(password);
  return passwordProblem === null ? { password } : { problem: `"${file}": ${passwordProblem}` };
}
