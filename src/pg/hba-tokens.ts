// How does a line of pg_hba.conf or pg_ident.conf fall into fields, and a field into words?
// (hba.c:tokenize_auth_file, next_token, next_field_expand)
import type { IncludeError } from './hba-includes.ts';

/** One word. A quoted word is never a keyword. */
export interface HbaToken {
  readonly text: string;
  readonly isQuoted: boolean;
}

/** Words of one field: those joined by commas. Never empty. */
export type HbaField = readonly HbaToken[];

/** One line that says something. `number` counts from 1 and is that of the first line when lines are continued. */
export interface HbaLine {
  /** The file it stands in; empty for the text that was begun with, when that has no name. */
  readonly source: string;
  readonly number: number;
  readonly text: string;
  readonly fields: readonly HbaField[];
  /** Why the line cannot be taken apart; null when it was. */
  readonly problem: string | null;
}

/** A file with lines, `@file`s not yet put in place. */
export interface LogicalLine {
  readonly number: number;
  readonly text: string;
}

/** Lines joined that end in a backslash. */
export function logicalLines(text: string): LogicalLine[] {
  const physical = text.split('\n').map((line) => line.replace(/\r+$/, ''));
  if (physical.at(-1) === '') physical.pop();
  const lines: LogicalLine[] = [];
  for (let index = 0; index < physical.length; index += 1) {
    const number = index + 1;
    const parts: string[] = [];
    let part = physical[index] ?? '';
    while (part.endsWith('\\')) {
      parts.push(part.slice(0, -1));
      index += 1;
      part = physical[index] ?? '';
    }
    parts.push(part);
    lines.push({ number, text: parts.join('') });
  }
  return lines;
}

/** Puts the words of a file in the place of `@file`, or says why it cannot. */
export type ExpandFile = (name: string) => readonly HbaToken[] | IncludeError;

/** Fields of one line; a comment and an empty line have none. */
export function splitFields(
  line: string,
  expand: ExpandFile,
): { readonly fields: readonly HbaField[] } | { readonly problem: string } {
  const fields: HbaToken[][] = [];
  let position = 0;
  let isListOpen = false;
  for (;;) {
    while (isBlank(line[position]) || line[position] === ',') position += 1;
    if (position >= line.length || line[position] === '#') {
      return { fields: fields.filter((field) => field.length > 0) };
    }
    const word = readWord(line, position);
    if (word.isUnterminated) return { problem: 'a quote is opened and never closed' };
    const { token } = word;
    const isFile = !token.isQuoted && token.text.length > 1 && token.text.startsWith('@');
    const tokens = isFile ? expand(token.text.slice(1)) : [token];
    if ('problem' in tokens) return tokens;
    const current = fields.at(-1);
    // Only a comma right behind a word goes on with its field: "a, b" is one field, "a , b" are two.
    if (!isListOpen || current === undefined) fields.push([...tokens]);
    else for (const next of tokens) current.push(next);
    position = word.end;
    isListOpen = line[position] === ',';
  }
}

interface Word {
  readonly token: HbaToken;
  readonly end: number;
  readonly isUnterminated: boolean;
}

function readWord(line: string, start: number): Word {
  let text = '';
  let position = start;
  let isInQuote = false;
  let wasQuote = false;
  let isQuoted = false;
  for (; position < line.length; position += 1) {
    const char = line[position] ?? '';
    if (!isInQuote && (isBlank(char) || char === ',' || char === '#')) break;
    if (char !== '"' || wasQuote) text += char;
    wasQuote = isInQuote && char === '"' ? !wasQuote : false;
    if (char === '"') {
      isInQuote = !isInQuote;
      if (text === '') isQuoted = true;
    }
  }
  return { token: { text, isQuoted }, end: position, isUnterminated: isInQuote };
}

/** (pg_isblank) */
function isBlank(char: string | undefined): boolean {
  return char === ' ' || char === '\t' || char === '\r';
}
