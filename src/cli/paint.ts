// Which words of a picture of the status have a colour on a terminal? Colours only repeat what the words say.
const [RED, YELLOW, GREEN, DIM, PLAIN] = [
  '\x1b[1;31m',
  '\x1b[33m',
  '\x1b[32m',
  '\x1b[2m',
  '\x1b[0m',
] as const;

/** Words at the beginning of a line, and the state at the end of the first one. */
const PAINTS: readonly (readonly [RegExp, string])[] = [
  [/^(?:CRITICAL|NO ANSWER)\b/, RED],
  [/^WARNING\b/, YELLOW],
  [/^INFO\b/, DIM],
  [/(?<=^walcast \S+: )(?:streaming|catchup)\b/, GREEN],
  [/(?<=^walcast \S+: )(?:full|gap|diverged|corrupt|failed)\b/, RED],
  [/(?<=^walcast \S+: )\w+/, YELLOW],
  [/(?<=^sync {6}.*)NOT satisfied/, RED],
  [/\(stalled(?:, shared name)?\)/, YELLOW],
];

/** `text` with the sequences of ECMA-48 that nearly every terminal knows; no line gets longer for who reads it. */
export function inColours(text: string): string {
  return text.split('\n').map(painted).join('\n');
}

function painted(line: string): string {
  const found = PAINTS.find(([words]) => words.test(line));
  if (found === undefined) return line;
  const [words, colour] = found;
  return line.replace(words, (word) => `${colour}${word}${PLAIN}`);
}
