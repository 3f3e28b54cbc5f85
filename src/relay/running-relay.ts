// What is a running relay to those who run it, and what do they hand in?
import type { Clock } from '../base/clock.ts';
import type { LogLevelControl } from '../base/log-levels.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import type { LoadedConfig } from '../config/load.ts';
import type { RelayActions, ReloadReport } from '../status/actions.ts';
import type { StatusSource } from '../status/status.ts';

/** A running relay. */
export interface Relay {
  readonly statusSource: StatusSource;
  /** Resolves when the relay can no longer keep a promise and must end; nothing is reported upstream any more then. */
  readonly failed: Promise<Error>;
  readonly actions: RelayActions;
  /** Reads the configuration again and applies what can be applied; what came of it is logged. */
  reload(): Promise<ReloadReport>;
  /**
   * Serves every standby to the present end, has it confirmed within `drain_timeout` from now, closes everything in order.
   * No step waits for ever, whatever peers and disk do. Once only; {@link stop} cuts it short.
   */
  drain(): Promise<void>;
  /** Closes at once, without waiting for anybody but, a second, the disk. Any number of times. */
  stop(): Promise<void>;
  /** After a crash: nothing is reported upstream or sent to anybody from here on. Nothing is closed in order. */
  halt(): void;
}

/** What surrounds a relay. */
export interface RelaySurroundings {
  readonly clock: Clock;
  readonly log: Log;
  /** Reads the configuration again, from where the one at the start came from. */
  readonly readConfig: () => LoadedConfig;
  /** Of that log. */
  readonly logLevels: LogLevelControl;
  /** The log settings of a new configuration are in effect from now on. */
  readonly onLogSettings: (settings: Config['log']) => void;
  /** Somebody asked for a drain from outside, perhaps again; whoever runs the relay carries it out. */
  readonly onDrainRequested: () => void;
  /** The same for its end at once. */
  readonly onShutdownRequested: () => void;
  /** Ends a start between two of its steps; afterwards it is looked at no more. */
  readonly startSignal: AbortSignal;
}
