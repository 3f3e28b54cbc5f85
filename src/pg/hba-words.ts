// What does a word for databases, users or names match: itself, or a regular expression? (hba.c:AuthToken, regcomp_auth_token)
import type { HbaField, HbaToken } from './hba-tokens.ts';
import { matchName, readNamePattern } from './name-pattern.ts';
import type { NamePattern } from './name-pattern.ts';

/** A word, with its pattern when it begins with a slash, quoted or not. */
export interface HbaWord extends HbaToken {
  readonly pattern: NamePattern | null;
}

/** The words of a field; or what is wrong with the first one that is no regular expression, in PostgreSQL's words. */
export function readWords(field: HbaField): { words: HbaWord[] } | { problem: string } {
  const words: HbaWord[] = [];
  for (const token of field) {
    const word = readWord(token);
    if ('problem' in word) return word;
    words.push(word);
  }
  return { words };
}

/** One word; or what is wrong with it. */
export function readWord(token: HbaToken): HbaWord | { problem: string } {
  if (!token.text.startsWith('/')) return { ...token, pattern: null };
  const text = token.text.slice(1);
  const pattern = readNamePattern(text);
  if ('problem' in pattern) {
    return { problem: `invalid regular expression "${text}": ${pattern.problem}` };
  }
  return { ...token, pattern };
}

/** True for an unquoted word that is `keyword`. */
export function isKeyword(word: HbaToken, keyword: string): boolean {
  return !word.isQuoted && word.text === keyword;
}

/** By pattern, or letter for letter. */
export function matchesName(word: HbaWord, name: string): boolean {
  return word.pattern === null ? word.text === name : matchName(word.pattern, name) !== null;
}

/** As PostgreSQL takes a user in a rule, without members of roles. (check_role) */
export function matchesUser(word: HbaWord, user: string): boolean {
  return isKeyword(word, 'all') || matchesName(word, user);
}
