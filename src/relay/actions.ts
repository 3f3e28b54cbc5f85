// What can be asked of a running relay, carried out: each action is handed to the part that owns what it changes.
import type {
  ActionRefusal,
  ConfigEntry,
  RelayActions,
  ReloadReport,
  WalFile,
  WalFileRefusal,
} from '../status/actions.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { DeadWalStatus } from '../status/status.ts';
import type { ComponentLevel, LogLevelControl } from '../base/log-levels.ts';
import type { SlotStore } from '../slot/slot-store.ts';
import { changeLogLevel } from './log-level-change.ts';
import type { WalFiles } from './wal-files.ts';

/** The parts that act. */
export interface ActionParts {
  /** Reads the configuration again; calls that come while one runs are served by one more run. */
  readonly reload: () => Promise<ReloadReport>;
  /** Every key, in the order of the documentation. */
  readonly configuration: () => readonly ConfigEntry[];
  /** Asks the process for a drain; may be called more than once. */
  readonly drain: () => void;
  /** Asks the process for its end at once; may be called more than once. */
  readonly shutdown: () => void;
  /** Begins the session with the upstream anew. False where there is none to be begun: before the start, and once walcast ends. */
  readonly reconnect: () => boolean;
  /** Begins or ends a pause; may be called more than once. */
  readonly pause: (isPaused: boolean) => void;
  /** Null before the slots are loaded. */
  readonly slots: () => SlotStore | null;
  /** True once the upstream was identified. */
  readonly hasWal: () => boolean;
  /** Ends the session of that pid; false when there is none. */
  readonly disconnect: (pid: number) => boolean;
  /** Null before the store is open. */
  readonly releaseDeadWal: () => Promise<DeadWalStatus> | null;
  readonly walFiles: WalFiles;
  readonly logLevels: LogLevelControl;
}

/** The actions of one relay. */
export class RelayActionsOf implements RelayActions {
  readonly #parts: ActionParts;

  constructor(parts: ActionParts) {
    this.#parts = parts;
  }

  reload(): Promise<ReloadReport> {
    return this.#parts.reload();
  }

  drain(): void {
    this.#parts.drain();
  }

  shutdown(): void {
    this.#parts.shutdown();
  }

  reconnect(): ActionRefusal | null {
    return this.#parts.reconnect() ? null : NOT_FOLLOWING;
  }

  pause(): void {
    this.#parts.pause(true);
  }

  resume(): void {
    this.#parts.pause(false);
  }

  configuration(): readonly ConfigEntry[] {
    return this.#parts.configuration();
  }

  async createSlot(
    name: string,
    options: { readonly reserveWal: boolean },
  ): Promise<ActionRefusal | null> {
    const slots = this.#parts.slots();
    if (slots === null) return STARTING;
    if (options.reserveWal && !this.#parts.hasWal()) return NO_WAL_YET;
    return await slots.create({ name, temporary: false, ...options, pid: process.pid });
  }

  async dropSlot(name: string): Promise<ActionRefusal | null> {
    const slots = this.#parts.slots();
    if (slots === null) return STARTING;
    return await slots.drop(name, { wait: false, pid: process.pid });
  }

  disconnectStandby(pid: number): boolean {
    return this.#parts.disconnect(pid);
  }

  async releaseDeadWal(): Promise<DeadWalStatus | ActionRefusal> {
    return (await this.#parts.releaseDeadWal()) ?? STARTING;
  }

  logLevels(): readonly ComponentLevel[] {
    return this.#parts.logLevels.list();
  }

  setLogLevel(component: string, level: string | null): ActionRefusal | null {
    return changeLogLevel(this.#parts.logLevels, component, level);
  }

  openWalFile(name: string): Promise<WalFile | WalFileRefusal> {
    return this.#parts.walFiles.open(name);
  }
}

/** (src/backend/postmaster/postmaster.c: BackendStartup's answer while the server starts) */
const STARTING: ActionRefusal = {
  sqlstate: SQLSTATE.cannotConnectNow,
  message: 'the database system is starting up',
};

const NOT_FOLLOWING: ActionRefusal = {
  sqlstate: SQLSTATE.objectNotInPrerequisiteState,
  message: 'walcast is starting or ending, and does not connect to the upstream anew',
  hint: 'SHOW STATE and GET /api/v1/status say what it is doing.',
};

const NO_WAL_YET: ActionRefusal = {
  sqlstate: SQLSTATE.objectNotInPrerequisiteState,
  message: 'there is no WAL yet that a replication slot could reserve',
  hint: 'Wait until the upstream was reached once, or create the slot without reserving WAL.',
};
