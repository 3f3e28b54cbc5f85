// The only door to pino. One line per change of state, none per message; an LSN is logged as text.
import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';
import { jsonLine, textLine } from './log-line.ts';
import { LOG_LEVELS, LogLevels } from './log-levels.ts';
import type { LogLevel, LogLevelControl } from './log-levels.ts';
import { BoundedOutput, standardError } from './standard-error.ts';

/** Fields of a log line. LSNs as text, never a secret, never payload. `component` is the part that speaks. */
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** What the rooms log through. `error` means a person must look. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose lines carry `fields` as well; of a field that both have, the newer counts. */
  child(fields: LogFields): Log;
}

/** How a line looks: one JSON object, or text for people. */
export const LOG_FORMATS = ['json', 'text'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** What may change while the process runs. */
export interface LogSettings {
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** By component. */
  readonly levels?: ReadonlyMap<string, LogLevel>;
}

/** The log of a process. */
export interface ProcessLog extends Log {
  /** From the next line on, also for the logs that were made of it before. */
  adjust(settings: LogSettings): void;
  /** What each component writes. */
  readonly levels: LogLevelControl;
  /** For what somebody has just asked for: its lines are written whatever the levels are. */
  unfiltered(): Log;
}

/** What a log is opened with. */
export interface LogOptions extends LogSettings {
  /** Of every line that says no other. */
  readonly component?: string;
  /** Those that can have a level of their own. */
  readonly components?: readonly string[];
  readonly destination?: DestinationStream;
}

/**
 * Opens the process log on `destination`. Default: standard error, which never holds the process up; whoever ends the
 * process flushes it.
 */
export function openLog(options: LogOptions): ProcessLog {
  const target = options.destination ?? standardError();
  const { level, format, levels = NO_LEVELS, components = [] } = options;
  const logger = pino(
    {
      level: LOG_LEVELS[0],
      base: null,
      timestamp: () => `,"ts":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    {
      write: (line) => {
        const json = line.trimEnd();
        target.write(`${shared.format === 'text' ? textLine(json) : jsonLine(json)}\n`);
      },
    },
  );
  const shared: SharedSettings = {
    levels: new LogLevels({ level, levels }, components),
    logger,
    format,
  };
  const fields = options.component === undefined ? {} : { component: options.component };
  const log = new PinoLog(shared, fields);
  if (target instanceof BoundedOutput) target.onLost((lines) => sayLost(log, lines));
  return log;
}

const NO_LEVELS: ReadonlyMap<string, LogLevel> = new Map();

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
  readonly levels: LogLevels;
  readonly logger: Logger;
  format: LogFormat;
}

class PinoLog implements ProcessLog {
  readonly #shared: SharedSettings;
  readonly #fields: LogFields;
  readonly #component: string | null;
  readonly #isFiltered: boolean;

  constructor(shared: SharedSettings, fields: LogFields, isFiltered = true) {
    this.#shared = shared;
    this.#fields = fields;
    this.#isFiltered = isFiltered;
    const { component } = fields;
    this.#component = typeof component === 'string' ? component : null;
  }

  get levels(): LogLevelControl {
    return this.#shared.levels;
  }

  debug(message: string, fields?: LogFields): void {
    this.#write('debug', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#write('info', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#write('warn', message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#write('error', message, fields);
  }

  child(fields: LogFields): Log {
    return new PinoLog(this.#shared, { ...this.#fields, ...fields }, this.#isFiltered);
  }

  unfiltered(): Log {
    return new PinoLog(this.#shared, this.#fields, false);
  }

  adjust({ level, format, levels = NO_LEVELS }: LogSettings): void {
    this.#shared.levels.adjust({ level, levels });
    this.#shared.format = format;
  }

  /** Fields are put together here and not by a child of pino, which would write one of two logs twice. */
  #write(level: LogLevel, message: string, fields: LogFields = {}): void {
    const { levels, logger } = this.#shared;
    if (this.#isFiltered && !levels.isWritten(this.#component, level)) return;
    logger[level]({ ...this.#fields, ...fields }, message);
  }
}
