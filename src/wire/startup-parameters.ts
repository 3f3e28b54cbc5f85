// What do the values of the startup parameters `replication` and `options` mean?
// (src/backend/tcop/backend_startup.c:ProcessStartupPacket, postgres.c:process_postgres_switches,
// src/backend/utils/init/postinit.c:pg_split_opts, src/backend/utils/adt/bool.c:parse_bool_with_len)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';

/** The HINT that goes with the refusal of {@link parseReplicationParameter}. */
export const REPLICATION_PARAMETER_HINT = 'Valid values are: "false", 0, "true", 1, "database".';

/** The kind of session `replication` asks for. Throws {@link ProtocolViolation} 22023. */
export function parseReplicationParameter(value: string): 'physical' | 'database' | 'off' {
  if (value === 'database') return 'database';
  const isOn = parseBoolean(value);
  if (isOn === null) {
    throw new ProtocolViolation(
      SQLSTATE.invalidParameterValue,
      `invalid value for parameter "replication": "${value}"`,
    );
  }
  return isOn ? 'physical' : 'off';
}

/** parse_bool: unique prefixes of true, false, yes, no, on, off, in any case, and 1, 0; null for anything else. */
export function parseBoolean(value: string): boolean | null {
  const text = value.toLowerCase();
  if (text === '') return null;
  if ('true'.startsWith(text) || 'yes'.startsWith(text) || text === 'on' || text === '1') {
    return true;
  }
  if ('false'.startsWith(text) || 'no'.startsWith(text)) return false;
  if (text === 'of' || text === 'off' || text === '0') return false;
  return null;
}

/** The HINT that goes with the refusal of a word of `options`. */
const OPTIONS_HINT = 'Try "postgres --help" for more information.';

const BAD_WORD = 'invalid command-line argument for server process: ';

/** The HINT of a refusal of {@link parseStartupOptions}; undefined where there is none. */
export function optionsHint(refusal: ProtocolViolation): string | undefined {
  return refusal.message.startsWith(BAD_WORD) ? OPTIONS_HINT : undefined;
}

/**
 * The settings in `options`, in order: `-c name=value`, `-cname=value`, `--name=value`; a backslash takes the next
 * character as it is; `-` in a name stands for `_`; `--` is the end. Throws {@link ProtocolViolation} 42601 for anything
 * else.
 */
export function parseStartupOptions(
  options: string,
): ReadonlyArray<readonly [name: string, value: string]> {
  const settings: Array<readonly [string, string]> = [];
  const words = splitOptions(options);
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? '';
    if (word === '-c') {
      index += 1;
      const setting = words[index];
      if (setting === undefined) throw badWord(word);
      settings.push(parseSetting('-c ', setting));
    } else if (word === '--') {
      const behind = words[index + 1];
      if (behind !== undefined) throw badWord(behind);
    } else if (word.startsWith('-c')) {
      settings.push(parseSetting('-c ', word.slice(2)));
    } else if (word.startsWith('--')) {
      settings.push(parseSetting('--', word.slice(2)));
    } else {
      throw badWord(word);
    }
  }
  return settings;
}

function badWord(word: string): ProtocolViolation {
  return new ProtocolViolation(SQLSTATE.syntaxError, `${BAD_WORD}${word}`);
}

function parseSetting(flag: string, text: string): readonly [string, string] {
  const equals = text.indexOf('=');
  if (equals < 0) {
    throw new ProtocolViolation(SQLSTATE.syntaxError, `${flag}${text} requires a value`);
  }
  return [text.slice(0, equals).replaceAll('-', '_'), text.slice(equals + 1)];
}

function splitOptions(options: string): string[] {
  const words: string[] = [];
  let word: string | null = null;
  for (let index = 0; index < options.length; index += 1) {
    let char = options.charAt(index);
    if (/[ \t\n\v\f\r]/.test(char)) {
      if (word !== null) words.push(word);
      word = null;
      continue;
    }
    if (char === '\\') {
      index += 1;
      char = options.charAt(index);
    }
    word = (word ?? '') + char;
  }
  if (word !== null) words.push(word);
  return words;
}
