// Servers that become each other's primary, with several walcasts between them: side by side, or one behind the other. And
// one list of everything that is not as it should be afterwards.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { renderConninfo } from '../../src/demo/postgres-settings.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { SlotJson } from '../../src/http/api-types.ts';
import { formatLsn, INVALID_LSN, maxLsn, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import { historyFileName } from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { alarmLines } from './alarm-lines.ts';
import { openFaultProxy } from './fault-proxy.ts';
import type { FaultProxy } from './fault-proxy.ts';
import { conninfoOf } from './promotion-rig.ts';
import { tableDigest } from './table-digest.ts';
import { historyOf, timelineOf, timelineWalViolations } from './timeline-wal.ts';
import { createRelay } from './walcast-process.ts';
import type { WalcastRelay, WalcastSettings } from './walcast-process.ts';

/** One walcast. Its application_name and its slot upstream are its own name. */
export interface RigRelay {
  readonly name: string;
  /** Another relay that it follows; default: whichever server takes writes. */
  readonly upstream?: string;
  /** With proxies in front of its upstream, to cut it off. */
  readonly isProxied?: boolean;
}

/** One server. */
export interface RigServer {
  readonly name: string;
  /** Relays that it follows as a standby, in the order of its primary_conninfo. */
  readonly relays: readonly string[];
}

/** What to set up. */
export interface RelaysRigOptions {
  readonly major: number;
  readonly relays: readonly RigRelay[];
  /** The first one is the primary at first. */
  readonly servers: readonly RigServer[];
  readonly segmentSizeMb?: number;
  readonly settings?: ServerSettings;
  /** Of every relay. */
  readonly relaySettings?: WalcastSettings;
}

interface RigParts {
  readonly workspace: Workspace;
  readonly relays: readonly WalcastRelay[];
  readonly proxies: ReadonlyMap<string, readonly FaultProxy[]>;
  readonly servers: readonly PostgresCluster[];
  readonly primary: PostgresCluster;
}

/**
 * Lines in a server's log that mean that it was given something wrong. What it finds behind its own end (zeros, old WAL of a
 * recycled file, which is an `invalid record` of any kind) is no fault of anybody; the bytes are compared in any case.
 */
const ALARMS =
  /PANIC|(?<!data_)checksum|contrecord is requested|out-of-sequence|TRAP:|has already been removed|can no longer|incorrect resource manager/;

const WAIT_MS = 30_000;

/** The servers and their relays. */
export class RelaysRig implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly relays: readonly WalcastRelay[];
  readonly servers: readonly PostgresCluster[];
  readonly segmentSize: SegmentSize;
  /** Who takes writes. */
  primary: PostgresCluster;
  readonly #proxies: ReadonlyMap<string, readonly FaultProxy[]>;
  readonly #options: RelaysRigOptions;
  /** Log of servers up to where they were left in peace. */
  readonly #logMarks = new Map<PostgresCluster, number>();
  /** How many problems of a relay were told already. */
  readonly #problemMarks = new Map<WalcastRelay, number>();

  /** Use {@link openRelaysRig}. */
  constructor(parts: RigParts, options: RelaysRigOptions) {
    this.workspace = parts.workspace;
    this.relays = parts.relays;
    this.servers = parts.servers;
    this.primary = parts.primary;
    this.segmentSize = toSegmentSize((options.segmentSizeMb ?? 16) << 20);
    this.#proxies = parts.proxies;
    this.#options = options;
  }

  /** Running servers that are not the primary. */
  get standbys(): PostgresCluster[] {
    return this.servers.filter((server) => server !== this.primary && server.isRunning);
  }

  server(name: string): PostgresCluster {
    return named(this.servers, name);
  }

  relay(name: string): WalcastRelay {
    return named(this.relays, name);
  }

  /** The proxies between a relay and its upstream. */
  proxies(relay: string): readonly FaultProxy[] {
    return this.#proxies.get(relay) ?? [];
  }

  /** The process id of the server's walreceiver, once it streams; from that relay, where one is given. */
  async receiverPid(server: PostgresCluster, relay?: WalcastRelay): Promise<string> {
    const where = relay === undefined ? '' : ` AND sender_port = ${relay.port}`;
    const sql = `SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'${where}`;
    return await pollUntil(
      `${server.name} receiving${relay === undefined ? '' : ` from ${relay.name}`}`,
      async () => (await server.query(sql))[0]?.[0] ?? null,
      { timeoutMs: WAIT_MS },
    ).catch((error: unknown) => this.#explain(error, server));
  }

  /** What a relay says about a slot. */
  async slot(relay: WalcastRelay, name: string): Promise<SlotJson | null> {
    const slots = (await relay.get('/api/v1/slots')) as SlotJson[];
    return slots.find(({ slot_name: slot }) => slot === name) ?? null;
  }

  /** Waits until a relay says that of a slot. */
  async slotIs(relay: WalcastRelay, name: string, status: string): Promise<SlotJson> {
    let last: SlotJson | null = null;
    return await pollUntil(
      `slot ${name} of ${relay.name} being ${status}`,
      async () => {
        last = await this.slot(relay, name);
        return last?.wal_status === status ? last : null;
      },
      { timeoutMs: WAIT_MS },
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}; it is ${JSON.stringify(last)}`, { cause: error });
    });
  }

  /** Waits until `server` has all that running relays have, and makes it the primary. */
  async promote(server: PostgresCluster): Promise<void> {
    await this.caughtUp(server);
    await server.promote();
    this.primary = server;
  }

  /** Waits until `server` has replayed everything that is whole and durable in any running relay. */
  async caughtUp(server: PostgresCluster): Promise<void> {
    const running = this.relays.filter((relay) => relay.isRunning);
    const ends = await Promise.all(running.map((relay) => relay.flushedLsn()));
    await server
      .waitForReplay(ends.reduce(maxLsn, INVALID_LSN), WAIT_MS)
      .catch((error: unknown) => this.#explain(error, server));
  }

  /** Waits until every running relay, or those given, stream `timeline`. */
  async followed(
    timeline: number,
    relays: readonly WalcastRelay[] = this.relays.filter((relay) => relay.isRunning),
  ): Promise<void> {
    for (const relay of relays) {
      await relay.waitForStatus(
        `timeline ${timeline} being followed by ${relay.name}`,
        (status) => status.timeline === timeline && status.state === 'streaming',
      );
    }
  }

  /** A stopped server that has nothing the new primary lacks: it follows its relays from its next start on. */
  async rejoin(server: PostgresCluster): Promise<void> {
    await server.becomeStandby(server.target(), server.name);
    await this.#point(server);
    await server.start();
  }

  /** Waits until everybody has everything. Gives the primary's position. */
  async settle(): Promise<Lsn> {
    const endLsn = await this.primary.walPosition();
    for (const standby of this.standbys) {
      await standby
        .waitForReplay(endLsn, WAIT_MS)
        .catch((error: unknown) => this.#explain(error, standby));
    }
    for (const relay of this.relays) {
      await relay.waitForStatus(
        `everything before ${formatLsn(endLsn)} on the disk of ${relay.name}`,
        ({ store }) => (parseLsn(store.flushed_lsn ?? '0/0') ?? INVALID_LSN) >= endLsn,
      );
    }
    return endLsn;
  }

  /** What a server logged so far is not looked at: it was meant to go wrong. */
  forgive(server: PostgresCluster): void {
    this.#logMarks.set(server, server.log.mark());
  }

  /** The ancestry of the primary's timeline. */
  async history(): Promise<TimelineHistory> {
    return await historyOf(this.primary, await timelineOf(this.primary));
  }

  /**
   * After {@link settle}: WAL of all timelines byte for byte, history files, rows, logs; as sentences. A problem of a relay is
   * told once.
   */
  async violations(endLsn: Lsn): Promise<string[]> {
    const history = await this.history();
    const rows = await tableDigest(this.primary);
    const { segmentSize } = this;
    const common = { expected: this.primary.walDirectory, history, segmentSize, endLsn };
    const violations: string[] = [];
    for (const standby of this.standbys) {
      const actual = standby.walDirectory;
      const wal = await timelineWalViolations({ ...common, actual, mustHave: null });
      violations.push(...wal.map((text) => `${standby.name}: ${text}`));
      const { digest } = await tableDigest(standby);
      if (digest !== rows.digest) violations.push(`${standby.name} has other rows`);
    }
    for (const relay of this.relays) {
      const oldest = parseLsn((await relay.status()).store.oldest_lsn ?? '0/0') ?? INVALID_LSN;
      const actual = relay.walDirectory;
      const wal = await timelineWalViolations({
        ...common,
        actual,
        fromLsn: oldest,
        mustHave: oldest,
      });
      violations.push(...wal.map((text) => `${relay.name}: ${text}`));
      violations.push(...(await this.#historyViolations(relay, history)));
      violations.push(...this.#newProblems(relay).map((line) => `${relay.name} says: ${line}`));
    }
    return [...violations, ...this.#logViolations()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.workspace.close();
    for (const proxies of this.#proxies.values())
      for (const proxy of proxies) await proxy[Symbol.asyncDispose]();
  }

  /** Each standby follows the relays of its list. */
  async pointAll(): Promise<void> {
    for (const standby of this.standbys) {
      await this.#point(standby);
      await standby.reload();
    }
    for (const standby of this.standbys) await this.receiverPid(standby);
  }

  async #point(server: PostgresCluster): Promise<void> {
    const { relays } = named(this.#options.servers, server.name);
    await server.configure({
      primary_conninfo: standbyConninfoOf(
        relays.map((name) => this.relay(name)),
        server.name,
      ),
      primary_slot_name: server.name,
    });
  }

  #newProblems(relay: WalcastRelay): string[] {
    const problems = relay.problems();
    const told = this.#problemMarks.get(relay) ?? 0;
    this.#problemMarks.set(relay, problems.length);
    return problems.slice(told);
  }

  /** A relay has the file of every timeline that it serves WAL of. */
  async #historyViolations(relay: WalcastRelay, history: TimelineHistory): Promise<string[]> {
    const violations: string[] = [];
    const ids = [...history.ancestors.map(({ timeline }) => timeline), history.timeline];
    for (const name of ids.filter((id) => id > 1).map(historyFileName)) {
      const theirs = await readFile(join(this.primary.walDirectory, name));
      const ours = await readFile(join(relay.walDirectory, name)).catch(() => null);
      if (ours?.equals(theirs) !== true) violations.push(`${name} of ${relay.name} is not right`);
    }
    return violations;
  }

  #logViolations(): string[] {
    return this.servers.flatMap((server) => alarmLines(server, ALARMS, this.#logMarks.get(server)));
  }

  #explain(error: unknown, server: PostgresCluster): never {
    const relays = this.relays.map(({ name, log }) => `--- ${name}:\n${log.slice(-12).join('\n')}`);
    throw new Error(
      `${String(error)}\n--- ${server.name}:\n${server.log.tail(20)}\n${relays.join('\n')}`,
      { cause: error },
    );
  }
}

/** Sets it up and starts it: every standby streams through its first relay, with a slot of its own on each, when this resolves. */
export async function openRelaysRig(options: RelaysRigOptions): Promise<RelaysRig> {
  const workspace = await openWorkspace(await serverUser());
  try {
    const servers = await createServers(workspace, options);
    const [primary] = servers;
    if (primary === undefined) throw new Error('no servers');
    const proxies = new Map<string, readonly FaultProxy[]>();
    const relays: WalcastRelay[] = [];
    for (const spec of options.relays) {
      const origins = spec.upstream === undefined ? servers : [named(relays, spec.upstream)];
      const passed =
        spec.isProxied === true
          ? await Promise.all(
              origins.map((origin) => openFaultProxy({ target: () => proxyTarget(origin) })),
            )
          : [];
      proxies.set(spec.name, passed);
      const upstreams = spec.isProxied === true ? passed : origins;
      relays.push(await startRelay(workspace, { options, spec, upstreams }));
    }
    const rig = new RelaysRig({ workspace, servers, primary, relays, proxies }, options);
    await rig.pointAll();
    return rig;
  } catch (error) {
    await workspace.close();
    throw error;
  }
}

/** Every relay in this order, as libpq takes a list of hosts. */
export function standbyConninfoOf(
  relays: readonly { readonly port: number }[],
  applicationName: string,
): string {
  return renderConninfo({
    host: relays.map(() => '127.0.0.1').join(','),
    port: relays.map(({ port }) => port).join(','),
    user: 'postgres',
    sslmode: 'disable',
    connect_timeout: '2',
    application_name: applicationName,
  });
}

async function startRelay(
  workspace: Workspace,
  {
    options,
    spec,
    upstreams,
  }: {
    readonly options: RelaysRigOptions;
    readonly spec: RigRelay;
    readonly upstreams: readonly { readonly port: number }[];
  },
): Promise<WalcastRelay> {
  const relay = await createRelay(workspace, {
    name: spec.name,
    slot: spec.name,
    upstream: () => proxyTarget(upstreams[0] ?? { port: 1 }),
    ...(options.relaySettings === undefined ? {} : { settings: options.relaySettings }),
  });
  relay.configure({
    // The slots of all servers are there from the beginning, whoever is a standby at the moment.
    slots: options.servers.map(({ name }) => name),
    upstream: {
      application_name: spec.name,
      ...(spec.upstream === undefined ? { conninfo: conninfoOf(upstreams) } : {}),
    },
  });
  await relay.start();
  return relay;
}

/** Started, so that their ports are settled; standbys have nobody to follow yet. */
async function createServers(
  workspace: Workspace,
  options: RelaysRigOptions,
): Promise<PostgresCluster[]> {
  const { major, segmentSizeMb } = options;
  const [first, ...others] = options.servers.map(({ name }) => name);
  if (first === undefined) return [];
  const settings = { wal_keep_size: '2GB', wal_log_hints: 'on', ...options.settings };
  const primary = await createPrimary(workspace, {
    major,
    name: first,
    settings,
    ...(segmentSizeMb === undefined ? {} : { segmentSizeMb }),
  });
  await primary.start();
  const standbys = await Promise.all(
    others.map(async (name) => {
      const standby = await createStandby(workspace, {
        major,
        name,
        settings,
        backupFrom: primary.target(),
        upstream: { ...primary.target(), port: 1 },
      });
      await standby.start();
      return standby;
    }),
  );
  return [primary, ...standbys];
}

function proxyTarget({ port }: { readonly port: number }): { host: string; port: number } {
  return { host: '127.0.0.1', port };
}

function named<T extends { readonly name: string }>(all: readonly T[], name: string): T {
  const found = all.find((each) => each.name === name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
}
