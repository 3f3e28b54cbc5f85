// How do bytes get from one host to another? As with TCP: in order, in pieces of any size, with a window; late, not at all
// while a link is cut, or never more when a connection breaks. Nothing is lost on a connection that lives.
import { OperationalError } from '../../../src/base/errors.ts';
import { formatTarget } from '../../../src/net/dial.ts';
import type { DialedConnection, DialOptions, DialTarget } from '../../../src/net/dial.ts';
import type { ConnectionEvents } from '../../../src/net/connection.ts';
import { SimConnection } from './connection.ts';
import type { SimProcess } from './sim-process.ts';
import type { World } from './world.ts';
import { MACHINE } from './world.ts';

/** Opens an accepted connection, as `Listener` hands it out. */
export type Opener = (events: ConnectionEvents) => SimConnection;

/** Who listens at a host. */
interface Port {
  readonly process: SimProcess;
  readonly accept: (open: Opener) => void;
}

/** One direction between two hosts. */
export interface Link {
  isCut: boolean;
  latencyMs: number;
}

/** Who wants to see every byte of a connection. `isToServer`: written by the side that dialled. */
export type Tap = (bytes: Uint8Array, isToServer: boolean) => void;

const SYN_RETRY_MS = 1_000;

/** After a cut everything has arrived by then. */
const HEAL_MS = 1_500;

/** All hosts, links and connections of one simulation. */
export class Network {
  readonly world: World;
  readonly connections = new Set<SimConnection>();
  /** Asked for each new connection; sees what is written to it, when it is written. */
  onConnection: (client: SimConnection) => Tap | null = () => null;
  readonly #ports = new Map<string, Port>();
  readonly #down = new Set<string>();
  readonly #healed = new Map<string, number>();
  readonly #links = new Map<string, Link>();
  #ids = 0;

  constructor(world: World) {
    this.world = world;
  }

  link(from: string, to: string): Link {
    const key = `${from}>${to}`;
    let link = this.#links.get(key);
    if (link === undefined) {
      link = { isCut: false, latencyMs: this.world.random.real(0.05, 2) };
      this.#links.set(key, link);
    }
    return link;
  }

  /** Cuts or heals one direction. What waited is sent again, after a while. */
  setCut(from: string, to: string, isCut: boolean): void {
    this.link(from, to).isCut = isCut;
    this.#healed.set(`${from}>${to}`, this.world.nowMs);
    if (isCut) return;
    for (const connection of this.connections) connection.linkHealed(from, to);
  }

  /** What was kept back by a cut between two hosts may still be on its way. */
  isHealing(a: string, b: string): boolean {
    const since = (key: string): number => this.world.nowMs - (this.#healed.get(key) ?? -HEAL_MS);
    return Math.min(since(`${a}>${b}`), since(`${b}>${a}`)) < HEAL_MS;
  }

  listen(process: SimProcess, accept: (open: Opener) => void): () => void {
    this.#ports.set(process.host, { process, accept });
    return () => {
      if (this.#ports.get(process.host)?.process === process) this.#ports.delete(process.host);
    };
  }

  /** A host without power answers nothing; when it is back it knows no connection any more. */
  setDown(host: string, isDown: boolean): void {
    if (isDown) this.#down.add(host);
    else this.#down.delete(host);
  }

  isDown(host: string): boolean {
    return this.#down.has(host);
  }

  /** A process is gone. Its kernel says so to its peers, unless the power went too. */
  processEnded(process: SimProcess, isSilent: boolean): void {
    if (this.#ports.get(process.host)?.process === process) this.#ports.delete(process.host);
    const owned = [...this.connections].filter((connection) => connection.process === process);
    for (const connection of owned) connection.ownerEnded(isSilent);
  }

  /** Connects on behalf of the process that runs now. (net/dial.ts:dial) */
  dial(
    target: DialTarget,
    options: DialOptions,
    events: ConnectionEvents,
  ): Promise<SimConnection & DialedConnection> {
    const { context } = this.world;
    const { process } = context;
    if (process === null) throw new Error('nobody dials');
    return new Promise((resolve, reject) => {
      const attempt = new DialAttempt(this, { process, target, options, events });
      attempt.begin(resolve, reject);
    });
  }

  /** Both ends of a new connection: the server's is handed to `port`. */
  connect(client: SimProcess, events: ConnectionEvents, port: Port): SimConnection {
    this.#ids += 1;
    const near = new SimConnection(this, { id: this.#ids, process: client, isClient: true });
    const far = new SimConnection(this, { id: this.#ids, process: port.process, isClient: false });
    near.join(far);
    const tap = this.onConnection(near);
    near.tap = tap;
    far.tap = tap;
    near.attach(events);
    this.connections.add(near);
    this.connections.add(far);
    this.world.schedule(port.process.context, 0, `accept ${near.label}`, () => {
      let isTaken = false;
      port.accept((farEvents) => {
        isTaken = true;
        far.attach(farEvents);
        return far;
      });
      if (!isTaken) far.destroy();
    });
    return near;
  }

  port(host: string): Port | null {
    return this.#ports.get(host) ?? null;
  }
}

interface Dialing {
  readonly process: SimProcess;
  readonly target: DialTarget;
  readonly options: DialOptions;
  readonly events: ConnectionEvents;
}

/** One attempt to connect: tried again while nobody answers, until its time is over. */
class DialAttempt {
  readonly #network: Network;
  readonly #dialing: Dialing;
  #isOver = false;

  constructor(network: Network, dialing: Dialing) {
    this.#network = network;
    this.#dialing = dialing;
  }

  begin(
    resolve: (connection: SimConnection & DialedConnection) => void,
    reject: (error: OperationalError) => void,
  ): void {
    const { options, target } = this.#dialing;
    const where = formatTarget(target);
    const timer =
      options.timeoutMs > 0
        ? options.clock.setTimer(options.timeoutMs, () => {
            const text = `could not connect to ${where} within ${options.timeoutMs} ms`;
            fail(new OperationalError('CONNECT_TIMEOUT', text, { isRetryable: true }));
          })
        : null;
    const finish = (): boolean => {
      if (this.#isOver) return false;
      this.#isOver = true;
      timer?.cancel();
      options.signal?.removeEventListener('abort', onAbort);
      return true;
    };
    const fail = (error: OperationalError): void => {
      if (finish()) reject(error);
    };
    const onAbort = (): void => {
      fail(new OperationalError('CONNECT_ABORTED', `connecting to ${where} was stopped`));
    };
    options.signal?.addEventListener('abort', onAbort, { once: true });
    if (options.signal?.aborted === true) onAbort();
    this.#try((connection) => {
      if (connection === null) {
        const text = `could not connect to ${where}: connection refused (ECONNREFUSED)`;
        fail(new OperationalError('CONNECT_FAILED', text, { isRetryable: true }));
      } else if (finish()) resolve(Object.assign(connection, { tls: null }));
      else connection.destroy();
    });
  }

  #try(answer: (connection: SimConnection | null) => void): void {
    if (this.#isOver) return;
    const network = this.#network;
    const { process, target, events } = this.#dialing;
    const [there, back] = [
      network.link(process.host, target.host),
      network.link(target.host, process.host),
    ];
    const label = `dial ${process.host}>${target.host}`;
    network.world.schedule(MACHINE, there.latencyMs + back.latencyMs, label, () => {
      if (!process.isAlive) return;
      if (there.isCut || back.isCut || network.isDown(target.host)) {
        network.world.schedule(process.context, SYN_RETRY_MS, label, () => this.#try(answer));
        return;
      }
      const port = network.port(target.host);
      network.world.schedule(process.context, 0, label, () => {
        answer(
          port === null || !port.process.isAlive ? null : network.connect(process, events, port),
        );
      });
    });
  }
}
