// The only door to pino. One line per change of state, none per message; an LSN is logged as text.
import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';
import { CONTROLS } from './controls.ts';
import { BoundedOutput, standardError } from './standard-error.ts';

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

/** What may change while the process runs. */
export interface LogSettings {
  readonly level: LogLevel;
  readonly format: LogFormat;
}

/** The log of a process. */
export interface ProcessLog extends Log {
  /** From the next line on, also for the logs that were made of it before. */
  adjust(settings: LogSettings): void;
}

/**
 * Opens the process log on `destination`. Default: standard error, which never holds the process up; whoever ends the
 * process flushes it.
 */
export function openLog(options: {
  level: LogLevel;
  format: LogFormat;
  destination?: DestinationStream;
}): ProcessLog {
  const target = options.destination ?? standardError();
  const shared: SharedSettings = { threshold: thresholdOf(options.level), format: options.format };
  const logger = pino(
    {
      level: LOG_LEVELS[0],
      base: null,
      timestamp: () => `,"ts":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    {
      write: (line) => target.write(shared.format === 'text' ? `${textLine(line)}\n` : line),
    },
  );
  const log = new PinoLog(logger, shared);
  if (target instanceof BoundedOutput) target.onLost((lines) => sayLost(log, lines));
  return log;
}

function sayLost(log: Log, lines: number): void {
  log.warn('lines of the log were dropped: nobody read them, or they could not be written', {
    lines,
  });
}

/** A log that drops everything, for tools and tests that look elsewhere. */
export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLog,
};

/** What all logs of one process look at: a child of pino would keep the level it was born with. */
interface SharedSettings {
  /** Index in {@link LOG_LEVELS} of the lowest level that is written. */
  threshold: number;
  format: LogFormat;
}

function thresholdOf(level: LogLevel): number {
  return LOG_LEVELS.indexOf(level);
}

class PinoLog implements ProcessLog {
  readonly #logger: Logger;
  readonly #shared: SharedSettings;

  constructor(logger: Logger, shared: SharedSettings) {
    this.#logger = logger;
    this.#shared = shared;
  }

  debug(message: string, fields: LogFields = {}): void {
    if (this.#isWritten('debug')) this.#logger.debug(fields, message);
  }

  info(message: string, fields: LogFields = {}): void {
    if (this.#isWritten('info')) this.#logger.info(fields, message);
  }

  warn(message: string, fields: LogFields = {}): void {
    if (this.#isWritten('warn')) this.#logger.warn(fields, message);
  }

  error(message: string, fields: LogFields = {}): void {
    if (this.#isWritten('error')) this.#logger.error(fields, message);
  }

  child(fields: LogFields): Log {
    return new PinoLog(this.#logger.child(fields), this.#shared);
  }

  adjust({ level, format }: LogSettings): void {
    this.#shared.threshold = thresholdOf(level);
    this.#shared.format = format;
  }

  #isWritten(level: LogLevel): boolean {
    return thresholdOf(level) >= this.#shared.threshold;
  }
}

function textLine(json: string): string {
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
