// How does a line of the log look? As JSON, or as text for people; on one line, and nothing to a terminal, whatever a peer put into it.
import { CONTROLS } from './controls.ts';

/** The JSON form of a line, without its line end: the same value. JSON itself lets C1, DEL and marks of direction through. */
export function jsonLine(json: string): string {
  return escapeControls(json);
}

/** The text form of a line, without its line end. `json`: one object with `ts`, `level`, `msg` and fields. */
export function textLine(json: string): string {
  const { ts, level, msg, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const pairs = Object.entries(fields).map(([key, value]) => `${key}=${textValue(value)}`);
  const message = escapeControls(String(msg));
  return [`${String(ts)} ${String(level).toUpperCase().padEnd(5)} ${message}`, ...pairs].join(' ');
}

function textValue(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const isPlain = /^[^\s"=]+$/.test(text) && escapeControls(text) === text;
  return isPlain ? text : escapeControls(JSON.stringify(text));
}

/** One call is one line: what is no visible character is written as JSON would escape it; a peer may have chosen it. */
function escapeControls(text: string): string {
  return text.replaceAll(CONTROLS, (character) => {
    const escaped = JSON.stringify(character).slice(1, -1);
    if (escaped !== character) return escaped;
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
