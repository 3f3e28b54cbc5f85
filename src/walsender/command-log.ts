// Which replication commands did clients send, and which streams came of them? A line each where that is wanted, in PostgreSQL's
// words, and bounded: a client may send them as fast as it can. (walsender.c:exec_replication_command, log_replication_commands)
import type { Clock } from '../base/clock.ts';
import { KeyedLogBudget } from '../base/keyed-log-budget.ts';
import type { Log, LogFields } from '../base/log.ts';
import { ADMITTED_LOG_LINES, REFUSAL_TEXT_MAX } from '../config/limits.ts';

/** Asked for each command: a reload may have changed it. */
export interface CommandLogSettings {
  /** Else they are lines of the level `debug`. */
  readonly logReplicationCommands: boolean;
}

/** The lines of all sessions. */
export class CommandLog {
  readonly #clock: Clock;
  readonly #settings: () => CommandLogSettings;
  readonly #budget = new KeyedLogBudget(ADMITTED_LOG_LINES);
  readonly #streamLines = new KeyedLogBudget(ADMITTED_LOG_LINES);
  /** Lines of troubles count by themselves: beginnings and ends do not hide them. */
  readonly #streamTroubles = new KeyedLogBudget(ADMITTED_LOG_LINES);

  constructor(clock: Clock, settings: () => CommandLogSettings) {
    this.#clock = clock;
    this.#settings = settings;
  }

  /** A command of somebody who was let in; `log` names the session, `key` a user at a network. */
  received(log: Log, key: string, command: string): void {
    const leftOut = this.#budget.take(key, this.#clock.nowMs());
    if (leftOut === null) return;
    const text = `received replication command: ${command.slice(0, REFUSAL_TEXT_MAX)}`;
    const fields = leftOut > 0 ? { left_out: leftOut } : {};
    if (this.#settings().logReplicationCommands) log.info(text, fields);
    else log.debug(text, fields);
  }

  /** What the streams of a session say: to `log`, as far as the lines of that `key` go. */
  ofStreams(log: Log, key: string): Log {
    const bounded =
      (budget: KeyedLogBudget, level: 'info' | 'warn') =>
      (message: string, fields?: LogFields): void => {
        const leftOut = budget.take(key, this.#clock.nowMs());
        if (leftOut === null) return;
        log[level](message, leftOut > 0 ? { ...fields, left_out: leftOut } : fields);
      };
    return {
      debug: (message, fields) => log.debug(message, fields),
      info: bounded(this.#streamLines, 'info'),
      warn: bounded(this.#streamTroubles, 'warn'),
      error: (message, fields) => log.error(message, fields),
      child: (fields) => this.ofStreams(log.child(fields), key),
    };
  }
}
