// What does the console read of the relay?
import type { ComponentLevel } from '../base/log-levels.ts';
import type { Clock } from '../base/clock.ts';
import { readBuildInfo } from '../config/build-info.ts';
import type { ConsoleSource } from '../console/source.ts';
import type { HbaRule } from '../pg/hba.ts';
import type { ConfigEntry } from '../status/actions.ts';
import type { StatusSource } from '../status/status.ts';
import type { WalStore } from '../wal/wal-store.ts';

/** The parts that know. */
export interface ConsoleParts {
  readonly board: () => StatusSource;
  readonly configuration: () => readonly ConfigEntry[];
  readonly hbaRules: () => readonly HbaRule[];
  readonly logLevels: () => readonly ComponentLevel[];
  /** Null before the store is open. */
  readonly store: () => WalStore | null;
  readonly clock: Clock;
}

/** What a console is opened on. */
export function consoleSource(parts: ConsoleParts): ConsoleSource {
  return {
    build: readBuildInfo(),
    pid: process.pid,
    nowMs: () => parts.clock.wallMs(),
    status: () => parts.board().status(),
    configuration: () => parts.configuration(),
    hbaRules: () => parts.hbaRules(),
    logLevels: () => parts.logLevels(),
    history: () => {
      const store = parts.store();
      // Before there is WAL a store has no timeline of its own.
      return store === null || store.status().timeline === null ? null : store.history();
    },
    memory: () => process.memoryUsage(),
  };
}
