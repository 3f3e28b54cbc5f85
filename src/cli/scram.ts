// walcast scram: from a password to the secret that a list of users holds. The password is never a word of the command line.
import { randomBytes } from 'node:crypto';
import {
  deriveScramSecret,
  formatScramSecret,
  SCRAM_ITERATIONS_DEFAULT,
  SCRAM_SALT_BYTES,
} from '../auth/scram-secret.ts';
import { findUserNameProblem, formatUserListLine } from '../pg/user-list.ts';
import { EXIT, optionValue } from './command.ts';
import type { Command, CommandContext } from './command.ts';

/** Bytes of a password at most, as PgBouncer and most clients take it. */
const PASSWORD_BYTES_MAX = 1_024;

/** More takes every login longer than a client waits. */
const ITERATIONS_MAX = 10_000_000;

/** The command. */
export const scramCommand: Command = {
  name: 'scram',
  summary: 'Make the SCRAM-SHA-256 secret of a password, for auth.users_file or a PostgreSQL role.',
  operands: '[USER]',
  options: [
    {
      name: 'user',
      short: 'u',
      placeholder: 'NAME',
      description: 'Print a line of auth.users_file for this user instead of the secret alone.',
    },
    {
      name: 'iterations',
      placeholder: 'NUMBER',
      description: `How often the password is hashed, ${SCRAM_ITERATIONS_DEFAULT} to ${ITERATIONS_MAX}. Default: ${SCRAM_ITERATIONS_DEFAULT}, as PostgreSQL.`,
    },
  ],
  help: `
Asks for the password twice, without showing it; without a terminal the first line of standard input is the password. It is
not taken from the command line, where every user of the machine could read it. The secret is printed alone on the last line,
with --user as a line of a list. It does not tell the password, but keep it secret all the same: who has it can try passwords
at leisure. USER is for the reader: a secret does not depend on the name.

PostgreSQL takes the same text: ALTER ROLE name PASSWORD 'SCRAM-SHA-256$…'.

Examples:
  walcast scram replicator
  walcast scram --user replicator >> userlist.txt
  walcast scram --iterations 100000
`,
  run: scram,
};

async function scram(context: CommandContext): Promise<number> {
  const { input } = context;
  const user = optionValue(input, 'user');
  const [named = null, extra] = input.positionals;
  if (extra !== undefined) return usage(context, `"${extra}" is not expected here`);
  const name = user ?? named;
  const nameProblem = name === null ? null : findUserNameProblem(name);
  if (nameProblem !== null) return usage(context, nameProblem);
  const written = optionValue(input, 'iterations') ?? String(SCRAM_ITERATIONS_DEFAULT);
  const iterations = /^\d{1,8}$/.test(written) ? Number(written) : 0;
  if (iterations < SCRAM_ITERATIONS_DEFAULT || iterations > ITERATIONS_MAX) {
    const range = `${SCRAM_ITERATIONS_DEFAULT} to ${ITERATIONS_MAX}`;
    return usage(context, `--iterations is a whole number, ${range}`);
  }
  const password = await readPassword(context);
  if ('problem' in password) {
    context.printError(`walcast scram: ${password.problem}\n`);
    return EXIT.failure;
  }
  const secret = await makeScramSecret(password.text, iterations);
  context.print(`${user === null ? secret : formatUserListLine(user, secret)}\n`);
  return EXIT.ok;
}

/** The secret of `password`, as `pg_authid.rolpassword` holds it, with a salt of its own. */
export async function makeScramSecret(
  password: string,
  iterations: number = SCRAM_ITERATIONS_DEFAULT,
): Promise<string> {
  const salt = randomBytes(SCRAM_SALT_BYTES);
  return formatScramSecret(await deriveScramSecret(password, { salt, iterations }));
}

function usage(context: CommandContext, problem: string): number {
  context.printError(`walcast scram: ${problem}\n`);
  return EXIT.usage;
}

async function readPassword(
  context: CommandContext,
): Promise<{ text: string } | { problem: string }> {
  const first = (await context.askSecret?.('Password: ')) ?? null;
  if (first === null) return checked(await readFirstLine(context));
  // Nothing was typed, or the question was left with Ctrl-C or Ctrl-D.
  if (first === '') return checked(first);
  const again = (await context.askSecret?.('Once more: ')) ?? null;
  if (first !== again) return { problem: 'the two passwords are not the same' };
  return checked(first);
}

async function readFirstLine(context: CommandContext): Promise<string> {
  const text = (await context.readInput?.(PASSWORD_BYTES_MAX + 2)) ?? '';
  return text.split('\n')[0]?.replace(/\r$/, '') ?? '';
}

function checked(text: string): { text: string } | { problem: string } {
  const problem = findPasswordProblem(text);
  return problem === null ? { text } : { problem };
}

/** Why `text` is no password that a secret can be made of; null when it is one. Does not repeat it. */
export function findPasswordProblem(text: string): string | null {
  if (text === '') return 'no password was given';
  if (Buffer.byteLength(text) > PASSWORD_BYTES_MAX) {
    return `the password has more than ${PASSWORD_BYTES_MAX} bytes`;
  }
  if (text.includes('\u{FFFD}')) return 'the password is not UTF-8 text';
  return text.includes('\0') ? 'the password holds a zero byte' : null;
}
