// What do the replication slots of a relay go by? They are loaded with everything that they ask for while it runs.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { SlotStore } from '../slot/slot-store.ts';
import type { WalStore } from '../wal/wal-store.ts';
import { walBounds } from './retention.ts';
import { serverIdentity } from './store-adapters.ts';

/** What a slot command is answered before any server was known. */
const UNKNOWN_SERVER = { quotesSettingNames: true, refusesInvalidatedPhysicalSlot: true };

/** What they are joined to. */
export interface SlotsParts {
  readonly store: WalStore;
  /** What is in effect at the moment it is asked for. */
  readonly config: () => Config;
  /** Ends the session that holds a slot whose WAL has to go. */
  readonly terminate: (pid: number) => void;
  /** What slots keep may have changed. */
  readonly onChange: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Loads the slots. Rejects with OperationalError when they cannot be read. */
export function openSlots({ store, config, ...parts }: SlotsParts): Promise<SlotStore> {
  return SlotStore.open({
    directory: config().storage.directory,
    wal: store,
    bounds: () => walBounds(store, config().storage),
    // Asked for when they are needed: a reload may have changed them.
    get slotsMax() {
      return config().storage.maxReplicationSlots;
    },
    get autoCreate() {
      return config().autoCreateSlots;
    },
    get idleTimeoutMs() {
      return config().idleReplicationSlotTimeoutMs;
    },
    facts: () => serverIdentity(store)?.facts ?? UNKNOWN_SERVER,
    ...parts,
  });
}
