// How a topology comes to be: who runs where, who streams from whom, in which order they start.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { SUPERUSER } from '../../src/demo/postgres-server.ts';
import type { ClusterOptions } from '../../src/demo/postgres-server.ts';
import { TRUST_HBA, renderConninfo } from '../../src/demo/postgres-settings.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import { openNamespaces } from './namespaces.ts';
import { createPhysicalSlot } from './physical-slot.ts';
import { HostNetwork } from './topology-links.ts';
import type { Link, Network } from './topology-links.ts';
import { createRelay } from './walcast-process.ts';
import type { WalcastRelay, WalcastSettings } from './walcast-process.ts';

/** One relay. Its name is its application_name, and its slot upstream. */
export interface TopologyRelay {
  readonly name: string;
  /** Nodes it may stream from, in the order of its conninfo; default the primary. */
  readonly upstream?: string | readonly string[];
  readonly settings?: WalcastSettings;
  /** Parameters of its upstream.conninfo besides host, port, user and sslmode. */
  readonly conninfo?: Readonly<Record<string, string>>;
}

/** One standby. */
export interface TopologyStandby {
  readonly name: string;
  /** Relays (or the primary) in the order of its primary_conninfo. */
  readonly upstreams: readonly string[];
  /** With a slot of its own on each of them. */
  readonly hasSlot?: boolean;
  readonly settings?: ServerSettings;
}

/** What to set up. */
export interface TopologyOptions {
  readonly major: number;
  /** `host`: loopback. `namespaces`: a network namespace a node; root. */
  readonly network: 'host' | 'namespaces';
  readonly relays: readonly TopologyRelay[];
  readonly standbys: readonly TopologyStandby[];
  readonly primarySettings?: ServerSettings;
  /** WAL segment size in MB; default 16. */
  readonly segmentSizeMb?: number;
  /** On one host: each link passes a fault proxy that also keeps its ledger. Without there are no ledgers. */
  readonly proxies?: boolean;
}

/** What a topology consists of. */
export interface TopologyParts {
  readonly workspace: Workspace;
  readonly network: Network;
  readonly segmentSize: SegmentSize;
  readonly primary: PostgresCluster;
  readonly relays: readonly WalcastRelay[];
  readonly standbys: readonly PostgresCluster[];
  readonly links: readonly Link[];
}

const PRIMARY = 'primary';

/** Opens the network of a topology; nothing runs there yet. */
export async function openNetwork(
  workspace: Workspace,
  options: TopologyOptions,
): Promise<Network> {
  if (options.network === 'namespaces') return await openNamespaces(workspace);
  const segmentSize = segmentSizeOf(options);
  return new HostNetwork({ proxies: options.proxies === true, segmentSize });
}

/** Makes all nodes and starts them; a standby that is ready may not stream yet. */
export async function buildTopology(
  workspace: Workspace,
  network: Network,
  options: TopologyOptions,
): Promise<TopologyParts> {
  const builder = new Builder(workspace, network, options);
  await builder.makePrimary();
  await builder.makeStandbys();
  await builder.makeRelays();
  await builder.start();
  return builder.parts(segmentSizeOf(options));
}

class Builder {
  readonly #workspace: Workspace;
  readonly #network: Network;
  readonly #options: TopologyOptions;
  readonly #servers = new Map<string, PostgresCluster>();
  readonly #relays = new Map<string, WalcastRelay>();
  readonly #links: Link[] = [];

  constructor(workspace: Workspace, network: Network, options: TopologyOptions) {
    this.#workspace = workspace;
    this.#network = network;
    this.#options = options;
  }

  parts(segmentSize: SegmentSize): TopologyParts {
    return {
      workspace: this.#workspace,
      network: this.#network,
      segmentSize,
      primary: this.#server(PRIMARY),
      relays: [...this.#relays.values()],
      standbys: [...this.#servers.values()].filter(({ name }) => name !== PRIMARY),
      links: this.#links,
    };
  }

  async makePrimary(): Promise<void> {
    const { segmentSizeMb, primarySettings } = this.#options;
    const primary = await createPrimary(this.#workspace, {
      ...(await this.#serverOptions(PRIMARY, primarySettings)),
      ...(segmentSizeMb === undefined ? {} : { segmentSizeMb }),
    });
    this.#servers.set(PRIMARY, primary);
    await primary.start();
    // Made before the backups: the stores begin where standbys may ask, and nobody has to read through.
    for (const { name, upstream = PRIMARY } of this.#options.relays) {
      if (!namesOf(upstream).includes(PRIMARY)) continue;
      await primary.query(`SELECT pg_create_physical_replication_slot('${name}', true)`);
    }
  }

  /** From backups of the primary; they do not run yet. */
  async makeStandbys(): Promise<void> {
    const primary = this.#server(PRIMARY).target();
    const standbys = this.#options.standbys.map(async (options) => {
      const { name, hasSlot } = options;
      const standby = await createStandby(this.#workspace, {
        ...(await this.#serverOptions(name, options.settings)),
        backupFrom: primary,
        upstream: primary,
        ...(hasSlot === true ? { slot: name } : {}),
      });
      this.#servers.set(name, standby);
    });
    await Promise.all(standbys);
  }

  /** With their ways upstream, as far as both ends are known; they do not run yet. */
  async makeRelays(): Promise<void> {
    for (const { name, settings = {} } of this.#options.relays) {
      const place = await this.#network.place(name, 'relay');
      const relay = await createRelay(this.#workspace, {
        name,
        slot: name,
        upstream: () => ({ host: '127.0.0.1', port: 1 }),
        settings: { upstream: { application_name: name } },
        nodeArguments: place.nodeArguments,
        environment: place.environment,
        place: {
          wrapper: place.wrapper ?? [],
          host: place.host ?? '127.0.0.1',
          listenHost: place.listenHost,
          hba: place.hba,
        },
      });
      relay.configure(settings);
      this.#relays.set(name, relay);
    }
    for (const { name, upstream = PRIMARY } of this.#options.relays)
      for (const from of namesOf(upstream)) await this.#makeLink(from, name);
    for (const { name, upstreams } of this.#options.standbys) {
      for (const from of upstreams) await this.#makeLink(from, name);
      await this.#server(name).configure({
        primary_conninfo: this.#conninfo(name, {
          user: SUPERUSER,
          application_name: name,
          sslmode: 'disable',
          connect_timeout: '2',
        }),
      });
    }
  }

  /** Each behind what it streams from; a relay that may follow a standby comes last. */
  async start(): Promise<void> {
    const { major, relays, standbys } = this.#options;
    const isLate = ({ upstream = PRIMARY }: TopologyRelay): boolean =>
      standbys.some(({ name }) => namesOf(upstream).includes(name));
    for (const relay of relays.filter((each) => !isLate(each))) await this.#startRelay(relay);
    await Promise.all(
      standbys.map(async ({ name, upstreams, hasSlot }) => {
        for (const upstream of hasSlot === true ? upstreams : []) {
          const target = this.#relays.get(upstream)?.target() ?? this.#server(upstream).target();
          await createPhysicalSlot(target, name, major);
        }
        await this.#server(name).start();
      }),
    );
    for (const relay of relays.filter(isLate)) await this.#startRelay(relay);
  }

  async #startRelay({ name, conninfo }: TopologyRelay): Promise<void> {
    const relay = this.#relay(name);
    const parameters = { user: SUPERUSER, sslmode: 'disable', ...conninfo };
    relay.configure({ upstream: { conninfo: this.#conninfo(name, parameters) } });
    await relay.start();
  }

  /** What a server needs in its place. Only its own host's programs come by the Unix socket. */
  async #serverOptions(name: string, settings: ServerSettings = {}): Promise<ClusterOptions> {
    const { major } = this.#options;
    const place = await this.#network.place(name, 'server');
    const common = { major, name, ...(place.wrapper === null ? {} : { wrapper: place.wrapper }) };
    const own = { wal_keep_size: '2GB', ...settings };
    if (place.host !== null) return { ...common, host: place.host, settings: own };
    const hba = join(this.#workspace.directory, `${name}.hba`);
    await writeFile(hba, `${TRUST_HBA}${place.hba}`);
    return {
      ...common,
      host: join(this.#workspace.directory, name),
      settings: { listen_addresses: place.listenHost, hba_file: hba, ...own },
    };
  }

  async #makeLink(from: string, to: string): Promise<void> {
    const port = (): number => this.#relays.get(from)?.port ?? this.#server(from).port;
    this.#links.push(await this.#network.link({ name: from, port }, to));
  }

  /** All ways of `node` upstream, in their order. */
  #conninfo(node: string, parameters: Readonly<Record<string, string>>): string {
    const links = this.#links.filter(({ to }) => to === node);
    return renderConninfo({
      host: links.map(({ host }) => host).join(','),
      port: links.map(({ port }) => port).join(','),
      ...parameters,
    });
  }

  #server(name: string): PostgresCluster {
    const found = this.#servers.get(name);
    if (found === undefined) throw new Error(`no server ${name}`);
    return found;
  }

  #relay(name: string): WalcastRelay {
    const found = this.#relays.get(name);
    if (found === undefined) throw new Error(`no relay ${name}`);
    return found;
  }
}

function namesOf(upstream: string | readonly string[]): readonly string[] {
  return typeof upstream === 'string' ? [upstream] : upstream;
}

function segmentSizeOf(options: TopologyOptions): SegmentSize {
  return toSegmentSize((options.segmentSizeMb ?? 16) << 20);
}
