// Whose ledger does a connection belong to that a relay itself wrote down? For networks without proxies on the way: each relay
// has its own view of each of its links, because only entries of one process are in order.
import type { LinkRecord } from './ledger-audit.ts';
import type { ConnectionLedger } from './ledger.ts';
import { TAP_ARGUMENTS, TapLedger } from './tap-ledger.ts';
import type { TappedPeer } from './tap-ledger.ts';

/** A link as far as a relay can tell it by a peer's address. */
export interface TappedLink {
  readonly from: string;
  readonly to: string;
  /** Where `to` finds `from`. */
  readonly host: string;
  readonly port: number;
}

/** The taps of all relays of a topology. */
export class RelayTaps {
  readonly #directory: string;
  readonly #taps = new Map<string, TapLedger>();
  readonly #links: TappedLink[] = [];
  readonly #records: (LinkRecord & { readonly seenBy: string })[] = [];

  /** The relays write into `directory`. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** How to start the processes of `relay`, so that they write down what passes. */
  add(relay: string): {
    readonly nodeArguments: readonly string[];
    readonly environment: Readonly<Record<string, string>>;
  } {
    const base = `${this.#directory}/tap-${relay}`;
    this.#taps.set(
      relay,
      new TapLedger(base, (peer, connection) => this.#assign(relay, peer, connection)),
    );
    return { nodeArguments: TAP_ARGUMENTS, environment: { WALCAST_TEST_TAP: base } };
  }

  addLink(link: TappedLink): void {
    this.#links.push(link);
    for (const seenBy of [link.from, link.to]) {
      if (!this.#taps.has(seenBy)) continue;
      const { from, to } = link;
      const ledger = { name: `${from} → ${to}, seen by ${seenBy}`, connections: [] };
      this.#records.push({ from, to, seenBy, ledger });
    }
  }

  /** What has passed until now, on every link, as each relay at its ends saw it. */
  async read(): Promise<readonly LinkRecord[]> {
    for (const tap of this.#taps.values()) await tap.read();
    return this.#records;
  }

  /** Sessions of nobody's (the harness's own) belong to no link. */
  #assign(relay: string, peer: TappedPeer, connection: ConnectionLedger): void {
    const link = this.#links.find(({ from, to, host, port }) =>
      peer.role === 'client'
        ? to === relay && host === peer.host && port === peer.port
        : from === relay && to === peer.applicationName,
    );
    if (link === undefined) return;
    this.#records
      .find(({ from, to, seenBy }) => from === link.from && to === link.to && seenBy === relay)
      ?.ledger.connections.push(connection);
  }
}
