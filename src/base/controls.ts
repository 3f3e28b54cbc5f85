// Which characters of a text that somebody else wrote must not reach a log or a terminal as they are?

/** Those that end a line, steer a terminal or turn the direction of the text. Global: for `replaceAll`. */
export const CONTROLS: RegExp =
  /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** `text` with one blank for each run of {@link CONTROLS}. */
export function withoutControls(text: string): string {
  return text.replaceAll(CONTROLS, '\0').replaceAll(/\0+/g, ' ');
}
