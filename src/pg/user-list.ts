// Whose secrets are in a user list? The format is PgBouncer's auth_file: `"name" "secret"`, one user a line.
// (PgBouncer's loader.c:load_auth_file)
import { readPasswordSecret } from './password-secret.ts';
import type { PasswordSecret } from './password-secret.ts';

/** What is wrong with one line, counted from 1. Repeats no secret. */
export interface UserListError {
  readonly line: number;
  readonly message: string;
}

/** The users of a list. */
export interface UserList {
  readonly users: ReadonlyMap<string, PasswordSecret>;
  /** Line of each user, those without a secret too. */
  readonly lines: ReadonlyMap<string, number>;
}

/** Bytes of a user's name: longer ones are cut by PostgreSQL and never match. (NAMEDATALEN - 1) */
const NAME_BYTES_MAX = 63;

/** A quote that ends a word has none behind it: what is cut in the middle of `""` is no shorter secret. */
const LINE = /^\s*"((?:[^"]|"")*)"(?!")\s*"((?:[^"]|"")*)"(?!")/;

/**
 * Reads a list. Empty lines and lines that begin with `;` are left out, so is what stands behind the second word; `""`
 * inside a word is one quote. An empty secret is a user without one: no password lets it in. When any line is wrong, every
 * wrong line is returned instead; PgBouncer keeps the users before it, and we nobody.
 */
export function parseUserList(text: string): UserList | readonly UserListError[] {
  const users = new Map<string, PasswordSecret>();
  const lines = new Map<string, number>();
  const errors: UserListError[] = [];
  for (const [index, content] of text.split('\n').entries()) {
    const written = content.trim();
    if (written === '' || written.startsWith(';')) continue;
    const line = index + 1;
    const read = readEntry(written);
    if ('problem' in read) errors.push({ line, message: read.problem });
    else if (lines.has(read.name)) {
      errors.push({ line, message: `user "${read.name}" is given twice` });
    } else {
      lines.set(read.name, line);
      if (read.secret !== null) users.set(read.name, read.secret);
    }
  }
  return errors.length > 0 ? errors : { users, lines };
}

type Entry = { readonly name: string; readonly secret: PasswordSecret | null };

function readEntry(line: string): Entry | { readonly problem: string } {
  const match = LINE.exec(line);
  if (match === null)
    return { problem: 'a line is written "name" "secret", both in double quotes' };
  const name = (match[1] ?? '').replaceAll('""', '"');
  const nameProblem = findUserNameProblem(name);
  if (nameProblem !== null) return { problem: nameProblem };
  const text = (match[2] ?? '').replaceAll('""', '"');
  if (text === '') return { name, secret: null };
  const secret = readPasswordSecret(text);
  return 'problem' in secret ? { problem: `user "${name}": ${secret.problem}` } : { name, secret };
}

/** What keeps a text from being the name of a user; null when nothing does. */
export function findUserNameProblem(name: string): string | null {
  if (name === '') return 'the name of a user is empty';
  if (Buffer.byteLength(name) > NAME_BYTES_MAX) {
    // Not repeated: it may be the secret, where the two were written the other way round.
    return `the name of a user has more than ${NAME_BYTES_MAX} bytes`;
  }
  return /\p{Cc}/u.test(name) ? 'the name of a user holds a control character' : null;
}

/** A line of the list. */
export function formatUserListLine(name: string, secret: string): string {
  const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;
  return `${quoted(name)} ${quoted(secret)}`;
}
