// What does the console show, and where does it come from? Read-only: nothing that is asked here changes anything.
import type { ComponentLevel } from '../base/log-levels.ts';
import type { HbaRule } from '../pg/hba.ts';
import type { TimelineHistory } from '../pg/timeline.ts';
import type { ConfigEntry } from '../status/actions.ts';
import type { StatusSource } from '../status/status.ts';

/** Which walcast this is. */
export interface ConsoleBuild {
  readonly version: string;
  /** Abbreviated commit; null when it is not known. */
  readonly revision: string | null;
  readonly nodeVersion: string;
  /** Majors that are run against, lowest first. */
  readonly postgresqlMajors: readonly number[];
}

/** Bytes of the process's memory, as the operating system and the engine count them. */
export interface ConsoleMemory {
  readonly rss: number;
  readonly heapTotal: number;
  readonly heapUsed: number;
  readonly external: number;
  readonly arrayBuffers: number;
}

/** Everything that the console reads. Each call is that of its moment; none waits for anything. */
export interface ConsoleSource extends StatusSource {
  readonly build: ConsoleBuild;
  /** Process id of walcast itself. */
  readonly pid: number;
  /** Milliseconds since the Unix epoch. */
  nowMs(): number;
  /** Every key of the configuration in effect, secrets masked, in the order of the documentation. */
  configuration(): readonly ConfigEntry[];
  /** What each component of the log writes. */
  logLevels(): readonly ComponentLevel[];
  /** The access rules in effect, in their order. */
  hbaRules(): readonly HbaRule[];
  /** The stored timeline and where its ancestors were left; null while nothing is stored. */
  history(): TimelineHistory | null;
  memory(): ConsoleMemory;
}
