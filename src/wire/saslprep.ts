// How is a password prepared before it is hashed? SASLprep (RFC 4013), as both ends of SCRAM do it in PostgreSQL:
// a password that cannot be prepared is used as it is. (src/common/saslprep.c)

type CodeRange = readonly [first: number, last: number];

/** RFC 3454 table C.1.2. */
const NON_ASCII_SPACES: readonly CodeRange[] = [
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200b],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
];

/** RFC 3454 table B.1. */
const MAPPED_TO_NOTHING: readonly CodeRange[] = [
  [0xad, 0xad],
  [0x34f, 0x34f],
  [0x1806, 0x1806],
  [0x180b, 0x180d],
  [0x200b, 0x200d],
  [0x2060, 0x2060],
  [0xfe00, 0xfe0f],
  [0xfeff, 0xfeff],
];

/** RFC 3454 tables C.2.2 and C.5 to C.9; the general categories are asked for in {@link UNUSABLE}. */
const PROHIBITED: readonly CodeRange[] = [
  [0x340, 0x341],
  [0x6dd, 0x6dd],
  [0x70f, 0x70f],
  [0x180e, 0x180e],
  [0x200e, 0x200f],
  [0x2028, 0x202e],
  [0x2060, 0x2063],
  [0x206a, 0x206f],
  [0x2ff0, 0x2ffb],
  [0xfff9, 0xfffd],
  [0x1d173, 0x1d17a],
  [0xe0001, 0xe0001],
  [0xe0020, 0xe007f],
];

/**
 * Control characters, private use, surrogates, and what Unicode has not assigned; the RFC means Unicode 3.2, this
 * runtime knows a later one, so a compatibility character younger than 2002 is prepared here and left alone there.
 */
const UNUSABLE = /[\p{Cc}\p{Co}\p{Cs}\p{Cn}]/u;
const RIGHT_TO_LEFT = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}]/u;
const LETTER = /\p{L}/u;

/** `password` as it goes into the hash. */
export function saslprep(password: string): string {
  if (/^[\x20-\x7e]*$/.test(password)) return password;
  const prepared = Array.from(password, mapCharacter).join('').normalize('NFKC');
  const chars = Array.from(prepared);
  const isUsable = chars.length > 0 && !chars.some(isProhibited) && isBidiConsistent(chars);
  return isUsable ? prepared : password;
}

function mapCharacter(char: string): string {
  if (isIn(NON_ASCII_SPACES, char)) return ' ';
  return isIn(MAPPED_TO_NOTHING, char) ? '' : char;
}

function isProhibited(char: string): boolean {
  return UNUSABLE.test(char) || isIn(PROHIBITED, char);
}

/** RFC 3454 section 6: right-to-left text begins and ends so, and holds no left-to-right letter. */
function isBidiConsistent(chars: readonly string[]): boolean {
  if (!chars.some(isRightToLeft)) return true;
  if (chars.some((char) => LETTER.test(char) && !isRightToLeft(char))) return false;
  return isRightToLeft(chars[0]) && isRightToLeft(chars.at(-1));
}

function isRightToLeft(char: string | undefined): boolean {
  return char !== undefined && RIGHT_TO_LEFT.test(char);
}

function isIn(ranges: readonly CodeRange[], char: string): boolean {
  const code = char.codePointAt(0) ?? 0;
  return ranges.some(([first, last]) => code >= first && code <= last);
}
