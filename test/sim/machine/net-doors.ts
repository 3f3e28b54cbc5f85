// The doors of `net/` as the program sees them in a simulation: dialling, listening, the lock of a data directory.
import { OperationalError } from '../../../src/base/errors.ts';
import type { Dial } from '../../../src/net/dial.ts';
import type { ListenerOptions } from '../../../src/net/listener.ts';
import type { Network } from './network.ts';
import type { SimProcess } from './sim-process.ts';
import { world } from './world.ts';

let network: Network | null = null;
const owners = new Map<string, SimProcess>();

/** The network that relays see; null after the simulation. */
export function plugIn(next: Network | null): void {
  network = next;
  owners.clear();
}

function plugged(): Network {
  if (network === null) throw new Error('no network');
  return network;
}

/** Stands for net/dial.ts:dial. */
export const simulatedDial: Dial = (target, options, events) =>
  plugged().dial(target, options, events);

/** Stands for net/listener.ts:Listener. */
export class SimListener {
  readonly port = 5432;
  readonly dropped = 0;
  readonly #stop: () => void;

  private constructor(stop: () => void) {
    this.#stop = stop;
  }

  static async open(options: ListenerOptions): Promise<SimListener> {
    const { process } = world().context;
    if (process === null) throw new Error('nobody listens');
    return new SimListener(plugged().listen(process, options.onConnection));
  }

  setConnectionsMax(): void {}

  close(): void {
    this.#stop();
  }
}

/** Stands for net/directory-lock.ts:DirectoryLock: one living owner. */
export class SimLock {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async acquire(directory: string): Promise<SimLock> {
    const { process } = world().context;
    const owner = owners.get(directory);
    if (process === null || owner?.isAlive === true) {
      throw new OperationalError('DIRECTORY_IN_USE', `"${directory}" is in use`);
    }
    owners.set(directory, process);
    return new SimLock(directory);
  }

  async isHeld(): Promise<boolean> {
    return true;
  }

  async release(): Promise<void> {
    owners.delete(this.#directory);
  }
}
