// How do the nodes of a topology reach each other, and what can be done to the way between two of them? On one host the way
// is loopback, with or without a proxy on it; namespaces.ts has the other kind.
import type { SegmentSize } from '../../src/pg/segment.ts';
import { openFaultProxy } from './fault-proxy.ts';
import type { FaultProxy } from './fault-proxy.ts';
import type { LinkRecord } from './ledger-audit.ts';
import { ledgerObserver } from './recorder.ts';
import type { Direction } from './wire-proxy.ts';

/** The way from one node to another: `to` connects, `from` sends the WAL. */
export interface Link {
  readonly from: string;
  readonly to: string;
  /** Where `to` finds `from`. */
  readonly host: string;
  readonly port: number;
  /** What interferes with messages; null where no proxy is on the way. */
  readonly proxy: FaultProxy | null;
  /** As a cable that was pulled: nothing passes, neither end hears of it. */
  cut(): Promise<void>;
  /** As {@link cut}, for what travels in one direction only. */
  cutOneWay(direction: Direction): Promise<void>;
  /** Both directions carry at most so many bits a second. */
  rate(bitsPerSecond: number): Promise<void>;
  /** Forgets every connection on the way, as a router that dropped them: what comes next is answered by a reset. */
  reset(): Promise<void>;
  /** Ends `cut`, `cutOneWay` and `rate`. */
  heal(): Promise<void>;
}

/** A node that others connect to. */
export interface LinkServer {
  readonly name: string;
  /** Its port, asked anew for each connection. */
  readonly port: () => number;
}

/** A PostgreSQL server or a walcast. */
export type NodeKind = 'server' | 'relay';

/** Where a node runs. */
export interface NodePlace {
  /** A program with its arguments that runs others in that place; null: here. */
  readonly wrapper: readonly string[] | null;
  /** Where this process reaches it; null: by its Unix socket only. */
  readonly host: string | null;
  /** What it listens on for the others. */
  readonly listenHost: string;
  /** Lines of pg_hba.conf that let the others in. */
  readonly hba: string;
  /** For a relay: arguments of node, and environment. */
  readonly nodeArguments: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** Makes places and the ways between them. Close it after everything that runs there. */
export interface Network extends AsyncDisposable {
  place(node: string, kind: NodeKind): Promise<NodePlace>;
  link(from: LinkServer, to: string): Promise<Link>;
  /** What has passed until now on all links. */
  records(): Promise<readonly LinkRecord[]>;
}

const LOOPBACK = '127.0.0.1';

/** Everything on loopback. With `proxies` each link passes a fault proxy, whose ledger says what came in before any fault. */
export class HostNetwork implements Network {
  readonly #options: { readonly proxies: boolean; readonly segmentSize: SegmentSize };
  readonly #proxies: FaultProxy[] = [];
  readonly #records: LinkRecord[] = [];

  constructor(options: { readonly proxies: boolean; readonly segmentSize: SegmentSize }) {
    this.#options = options;
  }

  async place(): Promise<NodePlace> {
    return {
      wrapper: null,
      host: LOOPBACK,
      listenHost: LOOPBACK,
      hba: `host replication all ${LOOPBACK}/32 trust\n`,
      nodeArguments: [],
      environment: {},
    };
  }

  async link(from: LinkServer, to: string): Promise<Link> {
    const ledger = { name: `${from.name} → ${to}`, connections: [] };
    if (!this.#options.proxies) return new DirectLink(from, to);
    const proxy = await openFaultProxy({
      target: () => ({ host: LOOPBACK, port: from.port() }),
      segmentSize: this.#options.segmentSize,
      observer: ledgerObserver(ledger),
    });
    this.#proxies.push(proxy);
    const record = { from: from.name, to, ledger };
    this.#records.push(record);
    return new ProxiedLink(record, proxy);
  }

  async records(): Promise<readonly LinkRecord[]> {
    return this.#records;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#proxies.map((proxy) => proxy.close()));
  }
}

/** Nothing is on the way. */
class DirectLink implements Link {
  readonly from: string;
  readonly to: string;
  readonly host = LOOPBACK;
  readonly proxy = null;
  readonly #port: () => number;

  constructor(from: LinkServer, to: string) {
    this.from = from.name;
    this.to = to;
    this.#port = from.port;
  }

  get port(): number {
    return this.#port();
  }

  cut(): Promise<void> {
    return this.#refuse();
  }

  cutOneWay(): Promise<void> {
    return this.#refuse();
  }

  rate(): Promise<void> {
    return this.#refuse();
  }

  reset(): Promise<void> {
    return this.#refuse();
  }

  heal(): Promise<void> {
    return this.#refuse();
  }

  #refuse(): Promise<never> {
    return Promise.reject(
      new Error(`nothing can be done to the link from ${this.from} to ${this.to}: no proxies`),
    );
  }
}

class ProxiedLink implements Link {
  readonly from: string;
  readonly to: string;
  readonly proxy: FaultProxy;

  constructor(record: LinkRecord, proxy: FaultProxy) {
    this.from = record.from;
    this.to = record.to;
    this.proxy = proxy;
  }

  get host(): string {
    return this.proxy.host;
  }

  get port(): number {
    return this.proxy.port;
  }

  async cut(): Promise<void> {
    this.proxy.halfOpen();
  }

  async cutOneWay(direction: Direction): Promise<void> {
    this.proxy.halfOpen(direction);
  }

  async rate(): Promise<void> {
    throw new Error('a proxy limits no rate; use the namespaces');
  }

  async reset(): Promise<void> {
    this.proxy.cut('reset');
  }

  async heal(): Promise<void> {
    this.proxy.resume();
  }
}
