// Which options does a connection string name? The keyword form and the URI form of libpq, with its own complaints.
// (src/interfaces/libpq/fe-connect.c: conninfo_parse)
import {
  CONNINFO_OPTIONS,
  ConninfoSyntaxFailure,
  MASK,
  SECRET_OPTIONS,
  storeOption,
} from './conninfo-options.ts';
import type { ConninfoError, ConninfoOptions } from './conninfo-options.ts';
import { isConninfoUri, maskConninfoUri, parseConninfoUri } from './conninfo-uri.ts';

const SPACE = /[ \t\n\v\f\r]/;

/** Reads either form; the last value of an option wins. The error is libpq's, without any secret in it. */
export function parseConninfoOptions(text: string): ConninfoOptions | ConninfoError {
  const options = new Map<string, string>();
  try {
    if (isConninfoUri(text)) parseConninfoUri(text, options);
    else parseKeywordForm(text, options);
    return options;
  } catch (error) {
    if (!(error instanceof ConninfoSyntaxFailure)) throw error;
    return { error: error.message };
  }
}

/** `text` for people and logs: secrets replaced by `***`. What cannot be read is left out rather than shown. */
export function maskConninfo(text: string): string {
  if (!isConninfoUri(text)) return maskKeywordForm(text);
  return maskConninfoUri(text, !('error' in parseConninfoOptions(text)));
}

interface KeywordPair {
  readonly name: string;
  readonly value: string;
  /** Where the value, with its quotes, lies in the text. */
  readonly start: number;
  readonly end: number;
}

function parseKeywordForm(text: string, options: Map<string, string>): void {
  let previous = '';
  for (const { name, value } of keywordPairs(text)) {
    if (!storeOption(options, name, value)) {
      throw new ConninfoSyntaxFailure(
        SECRET_OPTIONS.has(previous)
          ? `invalid connection option behind "${previous}" (a value with blanks needs quotes)`
          : `invalid connection option "${shownName(name, previous)}"`,
      );
    }
    previous = name;
  }
}

/** Behind a password without quotes a name is the part after its first blank; a word like a URI may hold one. */
function shownName(name: string, previous: string): string {
  return SECRET_OPTIONS.has(previous) || name.includes('@') ? MASK : name;
}

function* keywordPairs(text: string): Generator<KeywordPair> {
  let offset = skipSpace(text, 0);
  let previous = '';
  while (offset < text.length) {
    const nameStart = offset;
    while (offset < text.length && text.charAt(offset) !== '=' && !isSpace(text, offset)) {
      offset += 1;
    }
    const name = text.slice(nameStart, offset);
    offset = skipSpace(text, offset);
    if (text.charAt(offset) !== '=') {
      // A file that holds a password, and no connection string at all, begins with one.
      const isAlone = previous === '' && !isOptionName(name);
      const shown = isAlone ? MASK : shownName(name, previous);
      throw new ConninfoSyntaxFailure(`missing "=" after "${shown}" in connection info string`);
    }
    const start = skipSpace(text, offset + 1);
    const { value, end } =
      text.charAt(start) === "'" ? quotedValue(text, start + 1) : plainValue(text, start);
    yield { name, value, start, end };
    previous = name;
    offset = skipSpace(text, end);
  }
}

/** Up to white space; a backslash takes the next character as it is. */
function plainValue(text: string, start: number): { value: string; end: number } {
  let value = '';
  let offset = start;
  while (offset < text.length && !isSpace(text, offset)) {
    if (text.charAt(offset) === '\\') offset += 1;
    value += text.charAt(offset);
    offset += 1;
  }
  return { value, end: Math.min(offset, text.length) };
}

/** From behind one quote to the next; a backslash takes the next character as it is. */
function quotedValue(text: string, start: number): { value: string; end: number } {
  let value = '';
  for (let offset = start; offset < text.length; offset += 1) {
    const char = text.charAt(offset);
    if (char === "'") return { value, end: offset + 1 };
    if (char === '\\') offset += 1;
    value += text.charAt(offset);
  }
  throw new ConninfoSyntaxFailure('unterminated quoted string in connection info string');
}

function isSpace(text: string, offset: number): boolean {
  return SPACE.test(text.charAt(offset));
}

function skipSpace(text: string, start: number): number {
  let offset = start;
  while (offset < text.length && isSpace(text, offset)) offset += 1;
  return offset;
}

/** A value under a name that is no option may be a password whose keyword was mistyped. */
function maskKeywordForm(text: string): string {
  let masked = '';
  let offset = 0;
  try {
    for (const { name, start, end } of keywordPairs(text)) {
      const isShown = !SECRET_OPTIONS.has(name) && isOptionName(name);
      masked += isShown ? text.slice(offset, end) : text.slice(offset, start) + MASK;
      offset = end;
    }
    return masked + text.slice(offset);
  } catch (error) {
    if (!(error instanceof ConninfoSyntaxFailure)) throw error;
    return `${masked} ${MASK}`.trimStart();
  }
}

function isOptionName(name: string): boolean {
  return CONNINFO_OPTIONS.has(name) || name === 'requiressl';
}
