// Who may log in, and against what are passwords checked? What the keys of authentication say together, checked.
import { parseUserList } from '../pg/user-list.ts';
import type { UserList, UserListError } from '../pg/user-list.ts';
import type { AuthConfig, AuthQueryConfig } from './config.ts';
import type { Place } from './problem.ts';
import { USER_NAME } from './settings.ts';
import { wordsOf } from './values.ts';
import type { ConfigValues, FoundText } from './values.ts';
import { resolveIdentMaps } from './resolve-rules.ts';

const USERS = 'auth.users';
const USERS_FILE = 'auth.users_file';
const ADMINS = 'auth.admin_users';
const QUERY = 'auth.auth_query';
const DATABASE = 'auth.auth_dbname';

/** Reads the keys; mistakes go to `values`. */
export function resolveAuth(values: ConfigValues, found: FoundText): AuthConfig {
  return {
    identMaps: resolveIdentMaps(values, found),
    ...readUsers(values, found),
    adminUsers: readAdmins(values),
    query: readQuery(values),
    timeoutMs: values.number('authentication_timeout'),
  };
}

type Users = Pick<AuthConfig, 'users' | 'usersWithoutSecret'>;

const NOBODY: Users = { users: new Map(), usersWithoutSecret: new Set() };

function readUsers(values: ConfigValues, found: FoundText): Users {
  const inline = values.get(USERS);
  if (inline !== null) {
    const lines = wordsOf(inline.text);
    const placeOf = (line: number): Place => inline.itemPlaces?.[line - 1] ?? inline.place;
    return take(values, parseUserList(lines.join('\n')), { key: USERS, placeOf, found });
  }
  if (values.get(USERS_FILE) === null) return NOBODY;
  const secret = values.secretFile(USERS_FILE, found);
  if (secret === null) return NOBODY;
  const placeOf = (line: number): Place => ({ source: secret.name, line, column: 1 });
  return take(values, parseUserList(secret.text), { key: USERS_FILE, placeOf, found });
}

interface Taking {
  readonly key: string;
  readonly placeOf: (line: number) => Place;
  readonly found: FoundText;
}

function take(
  values: ConfigValues,
  list: UserList | readonly UserListError[],
  { key, placeOf, found }: Taking,
): Users {
  if (!('users' in list)) {
    for (const { line, message } of list) values.report(placeOf(line), `\`${key}\`: ${message}`);
    return NOBODY;
  }
  const { users, lines } = list;
  const plain = [...users].filter(([, { kind }]) => kind === 'plain').map(([name]) => name);
  if (plain.length > 0) {
    found.warnings.push(
      `${key}: passwords of ${named(plain)} are kept as plain text; "walcast scram --user NAME" makes a secret that does not tell the password`,
    );
  }
  return {
    users,
    usersWithoutSecret: new Set([...lines.keys()].filter((name) => !users.has(name))),
  };
}

/** NAMEDATALEN - 1. */
const USER_NAME_BYTES_MAX = 63;

const NAMES_SHOWN = 5;

function named(names: readonly string[]): string {
  const shown = names.slice(0, NAMES_SHOWN).map((name) => `"${name}"`);
  const more = names.length - shown.length;
  return more === 0 ? shown.join(', ') : `${shown.join(', ')} and ${more} more`;
}

function readAdmins(values: ConfigValues): ReadonlySet<string> {
  const { place, itemPlaces, text } = values.mustChoose(ADMINS);
  const admins = new Set<string>();
  for (const [index, name] of wordsOf(text).entries()) {
    const at = itemPlaces?.[index] ?? place;
    const shown = name.slice(0, 100);
    if (!new RegExp(USER_NAME).test(name) || Buffer.byteLength(name) > USER_NAME_BYTES_MAX) {
      values.report(
        at,
        `\`${ADMINS}\`: ${JSON.stringify(shown)} is no name of a user, 1 to 63 bytes`,
      );
    }
    if (admins.has(name)) values.report(at, `\`${ADMINS}\`: "${shown}" is given twice`);
    admins.add(name);
  }
  return admins;
}

function readQuery(values: ConfigValues): AuthQueryConfig | null {
  const text = values.text(QUERY).trim();
  const database = values.text(DATABASE);
  if (database === '' || Buffer.byteLength(database) > 63 || /\p{Cc}/u.test(database)) {
    const { place } = values.mustChoose(DATABASE);
    values.report(place, `\`${DATABASE}\` must be the name of a database, 1 to 63 bytes`);
  }
  const cacheMs = values.number('auth.auth_cache_time');
  if (text === '') return null;
  if (!/\$1(?!\d)/.test(text)) {
    values.report(
      values.mustChoose(QUERY).place,
      `\`${QUERY}\` does not ask for $1: it would answer the same for every user`,
      'Such as: SELECT * FROM walcast_auth($1)',
    );
  }
  return { text, database, cacheMs };
}
