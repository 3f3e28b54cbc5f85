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

/** The parts that act. */
export interface ActionParts {
  /** Reads the configuration again; calls that come while one runs are served by one more run. */
  readonly reload: () => Promise<ReloadReport>;
  /** Every key, in the order of the documentation. */
  readonly configuration: () => readonly ConfigEntry[];
  /** Asks the process for a drain; may be called more than once. */
  readonly drain: () => void;
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

  configuration(): readonly ConfigEntry[] {
    return this.#parts.configuration();
  }

  createSlot(
    _name: string,
    _options: { readonly reserveWal: boolean },
  ): Promise<ActionRefusal | null> {
    return Promise.resolve(NOT_SUPPORTED);
  }

  dropSlot(_name: string): Promise<ActionRefusal | null> {
    return Promise.resolve(NOT_SUPPORTED);
  }

  disconnectStandby(_pid: number): boolean {
    return false;
  }

  openWalFile(_name: string): Promise<WalFile | WalFileRefusal> {
    return Promise.resolve({ kind: 'absent' });
  }
}

const NOT_SUPPORTED: ActionRefusal = {
  sqlstate: SQLSTATE.featureNotSupported,
  message: 'this version does not support it',
};
