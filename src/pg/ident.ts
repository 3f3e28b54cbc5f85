// Which of our users may somebody be whom another system vouches for? (pg_ident.conf; hba.c:parse_ident_line, check_usermap)
import { tokenizeHba } from './hba-includes.ts';
import type { HbaOrigin } from './hba.ts';
import { PatternBudget, readLines } from './hba-reading.ts';
import type { HbaError } from './hba-reading.ts';
import type { HbaField, HbaLine } from './hba-tokens.ts';
import { matchesUser, readWord } from './hba-words.ts';
import type { HbaWord } from './hba-words.ts';
import { bytesAsText, matchName } from './name-pattern.ts';

/** All lines of pg_ident.conf, in order. */
export interface IdentMaps {
  readonly lines: readonly IdentLine[];
}

/** One line of pg_ident.conf. */
export interface IdentLine {
  /** Where it stands, as with {@link HbaError}. */
  readonly source: string;
  readonly line: number;
  readonly map: string;
  readonly systemUser: HbaWord;
  readonly user: HbaWord;
}

/** No maps at all. */
export const NO_IDENT_MAPS: IdentMaps = { lines: [] };

/** Who wants to be whom. */
export interface MappedUser {
  /** Of the rule; null or empty: the names have to be the same. */
  readonly map: string | null;
  /** The name that is vouched for: in a certificate. */
  readonly systemUser: string;
  /** The name that was asked for. */
  readonly user: string;
}

/** Reads maps, as {@link parseHba} reads rules. */
export function parseIdent(
  text: string,
  { source = '', files }: HbaOrigin = {},
): IdentMaps | readonly HbaError[] {
  const lines: IdentLine[] = [];
  const budget = new PatternBudget();
  const errors = readLines(tokenizeHba(text, source, files), (line) => {
    const parsed = parseIdentLine(line);
    if ('problem' in parsed) return parsed.problem;
    lines.push(parsed);
    return budget.spend([parsed.systemUser, parsed.user]);
  });
  return errors.length > 0 ? errors : { lines };
}

/** True when `systemUser` may log in as `user`. */
export function isMappedTo(maps: IdentMaps, who: MappedUser): boolean {
  return findMapProblem(maps, who) === null;
}

/** Null when `systemUser` may log in as `user`; else why not, for our own log, in PostgreSQL's words. */
export function findMapProblem(
  { lines }: IdentMaps,
  { map, systemUser, user }: MappedUser,
): string | null {
  if (map === null || map === '') {
    return systemUser === user
      ? null
      : `provided user name (${user}) and authenticated user name (${systemUser}) do not match`;
  }
  for (const line of lines) {
    if (line.map !== map) continue;
    const result = checkLine(line, systemUser, user);
    if (result === 'found') return null;
    if (result !== 'other') return result.problem;
  }
  return `no match in usermap "${map}" for user "${user}" authenticated as "${systemUser}"`;
}

/** (check_ident_line) */
function checkLine(
  { systemUser: wanted, user: target }: IdentLine,
  systemUser: string,
  user: string,
): 'found' | 'other' | { problem: string } {
  if (wanted.pattern === null) {
    return wanted.text === systemUser && matchesUser(target, user) ? 'found' : 'other';
  }
  const match = matchName(wanted.pattern, systemUser);
  if (match === null) return 'other';
  if (target.pattern !== null || !target.text.includes('\\1')) {
    return matchesUser(target, user) ? 'found' : 'other';
  }
  const { group } = match;
  if (group === null) {
    return {
      problem: `regular expression "${wanted.pattern.text}" has no subexpressions as requested by backreference in "${target.text}"`,
    };
  }
  // What was put in has no special meaning, such as "all". It may begin or end within a character.
  const wantedUser = bytesAsText(target.text).replace('\\1', () => group);
  return wantedUser === bytesAsText(user) ? 'found' : 'other';
}

function parseIdentLine(line: HbaLine): IdentLine | { readonly problem: string } {
  if (line.problem !== null) return { problem: line.problem };
  const [map, systemUser, user] = [0, 1, 2].map((index) => readField(line.fields[index]));
  for (const field of [map, systemUser, user]) {
    if (field !== undefined && 'problem' in field) return field;
  }
  if (map === undefined || systemUser === undefined || user === undefined) {
    return { problem: MISSING };
  }
  if ('problem' in map || 'problem' in systemUser || 'problem' in user) return { problem: MISSING };
  const system = readWord(systemUser);
  if ('problem' in system) return system;
  const target = readWord(user);
  if ('problem' in target) return target;
  if (!target.isQuoted && target.text.startsWith('+')) {
    return {
      problem: `"${target.text}" cannot be used: walcast knows no role members; write the names, or a regular expression`,
    };
  }
  if (system.pattern?.isGroupUnsure === true && target.text.includes('\\1')) {
    return {
      problem: `regular expression "${system.pattern.text}" cannot be used with \\1: the first group must not be repeated, and no *?, +? or ?? be there`,
    };
  }
  return {
    source: line.source,
    line: line.number,
    map: map.text,
    systemUser: system,
    user: target,
  };
}

const MISSING = 'missing entry at end of line';

function readField(field: HbaField | undefined): HbaField[0] | { problem: string } {
  const word = field?.[0];
  if (field === undefined || word === undefined) return { problem: MISSING };
  return field.length > 1 ? { problem: 'multiple values in ident field' } : word;
}
