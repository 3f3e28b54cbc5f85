// Which characters are letters, digits, blanks to a regular expression, and which does an escape stand for? In the C
// locale, as access rules are matched. (src/backend/regex/regc_locale.c, regc_lex.c:lexescape)

/** Whether a code point is one of those meant. */
export type CharacterTest = (code: number) => boolean;

function matching(pattern: RegExp): CharacterTest {
  return (code) => code < 0x80 && pattern.test(String.fromCharCode(code));
}

/** Classes by the name between `[:` and `:]`. */
export const CLASSES: ReadonlyMap<string, CharacterTest> = new Map([
  ['alnum', matching(/[A-Za-z0-9]/)],
  ['alpha', matching(/[A-Za-z]/)],
  ['ascii', (code: number) => code < 0x80],
  ['blank', matching(/[ \t]/)],
  ['cntrl', (code: number) => code < 0x20 || code === 0x7f],
  ['digit', matching(/[0-9]/)],
  ['graph', matching(/[\x21-\x7e]/)],
  ['lower', matching(/[a-z]/)],
  ['print', matching(/[\x20-\x7e]/)],
  ['punct', matching(/[!-/:-@[-`{-~]/)],
  ['space', matching(/[\t-\r ]/)],
  ['upper', matching(/[A-Z]/)],
  ['word', matching(/\w/)],
  ['xdigit', matching(/[0-9A-Fa-f]/)],
]);

/** `\s` */
export const isSpace: CharacterTest = matching(/[\t-\r ]/);

/** `\w` */
export const isWord: CharacterTest = matching(/\w/);

const CONTROLS: ReadonlyMap<string, number> = new Map([
  ['a', 0x07],
  ['b', 0x08],
  ['B', 0x5c],
  ['e', 0x1b],
  ['f', 0x0c],
  ['n', 0x0a],
  ['r', 0x0d],
  ['t', 0x09],
  ['v', 0x0b],
]);

const CODE_POINT_MAX = 0x10ffff;

/**
 * The character that the text behind a backslash stands for, and how many characters of the text say so; null when it is no
 * escape.
 */
export function readCharacterEscape(text: string): { code: number; length: number } | null {
  const [first = ''] = text;
  const control = CONTROLS.get(first);
  if (control !== undefined) return { code: control, length: 1 };
  const numbers = /^(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{1,255}))/.exec(text);
  if (numbers !== null) {
    const code = Number.parseInt(numbers[1] ?? numbers[2] ?? numbers[3] ?? '', 16);
    return code <= CODE_POINT_MAX ? { code, length: numbers[0].length } : null;
  }
  const controlled = /^c([A-Za-z@[\\\]^_])/.exec(text)?.[1];
  if (controlled !== undefined) return { code: controlled.charCodeAt(0) & 0x1f, length: 2 };
  const octal = /^(?:0|[1-7][0-7])[0-7]{0,2}/.exec(text)?.[0].slice(0, 3);
  if (octal !== undefined) return { code: Number.parseInt(octal, 8), length: octal.length };
  if (first === '' || /[A-Za-z0-9]/.test(first)) return null;
  return { code: first.codePointAt(0) ?? 0, length: 1 };
}
