// Which replication commands did clients send? A line each where that is wanted, in PostgreSQL's words, and bounded: a client may
// send them as fast as it can. (walsender.c:exec_replication_command, log_replication_commands)
import type { Clock } from '../base/clock.ts';
import { KeyedLogBudget } from '../base/keyed-log-budget.ts';
import type { Log } from '../base/log.ts';
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
}
