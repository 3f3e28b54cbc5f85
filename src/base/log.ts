// The only door to pino. One line per change of state, none per message; an LSN is logged as text.
import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';

/** Fields of a log line. LSNs as text, never a secret, never payload. */
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** What the rooms log through. `error` means a person must look. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose lines carry `fields` as well. */
  child(fields: LogFields): Log;
}

/** Level names as the configuration takes them. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** How a line looks: one JSON object, or text for people. */
export const LOG_FORMATS = ['json', 'text'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** Opens the process log on `destination` (default: standard error, written synchronously so that no line is lost at exit). */
export function openLog(options: {
  level: LogLevel;
  format: LogFormat;
  destination?: DestinationStream;
}): Log {
  const target = options.destination ?? pino.destination({ fd: 2, sync: true });
  const destination = options.format === 'text' ? textDestination(target) : target;
  const logger = pino(
    {
      level: options.level,
      base: null,
      timestamp: () => `,"ts":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
  return new PinoLog(logger);
}

/** A log that drops everything, for tools and tests that look elsewhere. */
export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLog,
};

class PinoLog implements Log {
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  debug(message: string, fields: LogFields = {}): void {
    this.#logger.debug(fields, message);
  }

  info(message: string, fields: LogFields = {}): void {
    this.#logger.info(fields, message);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.#logger.warn(fields, message);
  }

  error(message: string, fields: LogFields = {}): void {
    this.#logger.error(fields, message);
  }

  child(fields: LogFields): Log {
    return new PinoLog(this.#logger.child(fields));
  }
}

function textDestination(target: DestinationStream): DestinationStream {
  return { write: (line) => target.write(`${textLine(line)}\n`) };
}

function textLine(json: string): string {
  const { ts, level, msg, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const pairs = Object.entries(fields).map(([key, value]) => `${key}=${textValue(value)}`);
  const message = withoutControls(String(msg));
  return [`${String(ts)} ${String(level).toUpperCase().padEnd(5)} ${message}`, ...pairs].join(' ');
}

function textValue(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const isPlain = /^[^\s"=]+$/.test(text) && withoutControls(text) === text;
  return isPlain ? text : withoutControls(JSON.stringify(text));
}

/** Characters that end a line, steer a terminal or turn the direction of the text; a peer may have chosen them. */
const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** One call is one line: what is no visible character is written as JSON would escape it. */
function withoutControls(text: string): string {
  return text.replaceAll(CONTROLS, (character) => {
    const escaped = JSON.stringify(character).slice(1, -1);
    if (escaped !== character) return escaped;
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
