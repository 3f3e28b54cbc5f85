// How is a name written where the user pastes it: into SQL, pg_hba.conf, postgresql.conf, a connection string, a shell?

/** What every place takes as it is. */
const PLAIN_NAME = /^[a-z_][a-z0-9_]*$/;

/** Words that SQL takes as a name in quotes only. (kwlist.h: RESERVED_KEYWORD) */
const RESERVED: ReadonlySet<string> = new Set(
  (
    'all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create ' +
    'current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc ' +
    'distinct do else end except false fetch for foreign from grant group having in initially intersect into lateral ' +
    'leading limit localtime localtimestamp not null offset on only or order placing primary references returning ' +
    'select session_user some symmetric system_user table then to trailing true union unique user using variadic ' +
    'when where window with'
  ).split(' '),
);

/** Words of pg_hba.conf that stand for more than themselves. (hba.c:check_role, check_db) */
const HBA_KEYWORDS: ReadonlySet<string> = new Set([
  'all',
  'replication',
  'sameuser',
  'samerole',
  'samegroup',
]);

/** `name` as SQL needs it. (ruleutils.c:quote_identifier) */
export function quoteIdentifier(name: string): string {
  return PLAIN_NAME.test(name) && !RESERVED.has(name) ? name : doubleQuoted(name);
}

/** `name` as a field of pg_hba.conf, where a quoted word is never a keyword. (hba.c:next_token) */
export function hbaWord(name: string): string {
  return PLAIN_NAME.test(name) && !HBA_KEYWORDS.has(name) ? name : doubleQuoted(name);
}

/** `text` as a string of postgresql.conf, quotes included. (guc-file.l:DeescapeQuotedString) */
export function settingString(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}

/** `value` as the value of a keyword of a connection string. (fe-connect.c:conninfo_parse) */
export function conninfoValue(value: string): string {
  if (/^[\w.:/@+-]+$/.test(value)) return value;
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/** `text` as one word of a POSIX shell. */
export function shellWord(text: string): string {
  return /^[\w./:@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function doubleQuoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
