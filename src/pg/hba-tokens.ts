// How does a line of pg_hba.conf fall into fields, and a field into words? (hba.c:next_token, next_field_expand)

/** One word. A quoted word is never a keyword. */
export interface HbaToken {
  readonly text: string;
  readonly isQuoted: boolean;
}

/** Words of one field: those joined by commas. Never empty. */
export type HbaField = readonly HbaToken[];

/** One line that says something. `number` counts from 1 and is that of the first line when lines are continued. */
export interface HbaLine {
  readonly number: number;
  readonly text: string;
  readonly fields: readonly HbaField[];
  /** True when a quote was opened and not closed before the end of the line. */
  readonly isUnterminated: boolean;
}

/** Cuts a file into lines of fields; comments and empty lines are left out, a backslash at the end continues a line. */
export function tokenizeHba(text: string): HbaLine[] {
  const lines: HbaLine[] = [];
  const physical = text.split('\n').map((line) => line.replace(/\r+$/, ''));
  for (let index = 0; index < physical.length; index += 1) {
    const number = index + 1;
    let line = physical[index] ?? '';
    while (line.endsWith('\\') && index + 1 < physical.length) {
      index += 1;
      line = line.slice(0, -1) + (physical[index] ?? '');
    }
    const { fields, isUnterminated } = splitFields(line);
    if (fields.length > 0) lines.push({ number, text: line.trim(), fields, isUnterminated });
  }
  return lines;
}

function splitFields(line: string): { fields: HbaField[]; isUnterminated: boolean } {
  const fields: HbaToken[][] = [];
  let position = 0;
  let isListOpen = false;
  for (;;) {
    while (isSpace(line[position]) || line[position] === ',') position += 1;
    if (position >= line.length || line[position] === '#') return { fields, isUnterminated: false };
    const word = readWord(line, position);
    if (word.isUnterminated) return { fields, isUnterminated: true };
    const current = fields.at(-1);
    // Only a comma right behind a word goes on with its field: "a, b" is one field, "a , b" are two.
    if (isListOpen && current !== undefined) current.push(word.token);
    else fields.push([word.token]);
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
  const isQuoted = line[start] === '"';
  for (; position < line.length; position += 1) {
    const char = line[position] ?? '';
    if (char === '"') {
      if (isInQuote && line[position + 1] === '"') {
        text += '"';
        position += 1;
      } else {
        isInQuote = !isInQuote;
      }
    } else if (!isInQuote && (isSpace(char) || char === ',' || char === '#')) {
      break;
    } else {
      text += char;
    }
  }
  return { token: { text, isQuoted }, end: position, isUnterminated: isInQuote };
}

function isSpace(char: string | undefined): boolean {
  return char === ' ' || char === '\t' || char === '\r' || char === '\n';
}
