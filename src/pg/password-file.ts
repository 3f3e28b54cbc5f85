// Which password does a password file (`~/.pgpass`) hold for a connection?
// (src/interfaces/libpq/fe-connect.c: passwordFromFile, pwdfMatchesString)

/** The connection a password is looked up for. */
export interface PasswordKey {
  /** Any of these may stand in the first field. */
  readonly hosts: readonly string[];
  readonly port: number;
  /** `replication` for a session that streams WAL, whatever its connection string names. */
  readonly database: string;
  readonly user: string;
}

/** Socket directories that PostgreSQL is built with: they are looked up as `localhost`. */
const DEFAULT_SOCKET_DIRECTORIES: readonly string[] = ['/tmp', '/var/run/postgresql'];

/** The names under which a password for `host` may be filed. */
export function passwordFileHosts(host: string): readonly string[] {
  return DEFAULT_SOCKET_DIRECTORIES.includes(host) ? ['localhost', host] : [host];
}

/**
 * The password of the first line `host:port:database:user:password` that fits, `*` fitting everything; null when none
 * does, or when the line that does holds none. A backslash takes the next character as it is.
 */
export function findPassword(text: string, key: PasswordKey): string | null {
  for (const raw of text.split('\n')) {
    const line = withoutReturns(raw);
    if (line === '' || line.startsWith('#')) continue;
    for (const host of key.hosts) {
      const password = matchLine(line, [host, String(key.port), key.database, key.user]);
      if (password !== null) return password === '' ? null : password;
    }
  }
  return null;
}

function withoutReturns(line: string): string {
  let end = line.length;
  while (line.charAt(end - 1) === '\r') end -= 1;
  return line.slice(0, end);
}

function matchLine(line: string, wanted: readonly string[]): string | null {
  let rest: string | null = line;
  for (const field of wanted) {
    rest = matchField(rest, field);
    if (rest === null) return null;
  }
  return unescapeField(rest);
}

/** What follows the field and its colon, when the field is `*` or stands for `wanted`. */
function matchField(text: string, wanted: string): string | null {
  if (text.startsWith('*:')) return text.slice(2);
  let at = 0;
  let matched = 0;
  while (at < text.length) {
    const isEscaped = text.charAt(at) === '\\';
    if (isEscaped) at += 1;
    if (text.charAt(at) === ':' && matched === wanted.length && !isEscaped) {
      return text.slice(at + 1);
    }
    if (
      at >= text.length ||
      matched >= wanted.length ||
      text.charAt(at) !== wanted.charAt(matched)
    ) {
      return null;
    }
    at += 1;
    matched += 1;
  }
  return null;
}

/** Up to the next colon that has no backslash before it. */
function unescapeField(text: string): string {
  let value = '';
  for (let at = 0; at < text.length && text.charAt(at) !== ':'; at += 1) {
    if (text.charAt(at) === '\\' && at + 1 < text.length) at += 1;
    value += text.charAt(at);
  }
  return value;
}
