// Servers that become each other's primary, with one walcast between the primary of the moment and all the others; and one
// list of everything that is not as it should be afterwards.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { renderConninfo } from '../../src/demo/postgres-settings.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import { historyFileName } from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { alarmLines } from './alarm-lines.ts';
import { createPhysicalSlot } from './physical-slot.ts';
import { tableDigest } from './table-digest.ts';
import { historyOf, timelineWalViolations } from './timeline-wal.ts';
import { createRelay } from './walcast-process.ts';
import type { WalcastRelay, WalcastSettings } from './walcast-process.ts';

/** What to set up. */
export interface PromotionRigOptions {
  readonly major: number;
  /** Names of the servers; the first one is the primary at first. */
  readonly servers?: readonly string[];
  readonly segmentSizeMb?: number;
  readonly settings?: ServerSettings;
  readonly relaySettings?: WalcastSettings;
  readonly initdbArguments?: readonly string[];
}

const SERVERS = ['alpha', 'beta', 'gamma'] as const;
const TOKEN = 'let-go';

/**
 * Lines in a server's log that mean that it was given something wrong. The end of what it had itself before (a length of
 * zero, an old page of a recycled file) is found by reading on, and is no fault of anybody.
 */
const ALARMS =
  /PANIC|(?<!data_)checksum|contrecord is requested|out-of-sequence|TRAP:|has already been removed|incorrect resource manager|invalid record(?! length at \S+ (?:wanted|expected at least) \d+, got 0)/;

/** The servers and their relay. */
export class PromotionRig implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly relay: WalcastRelay;
  readonly servers: readonly PostgresCluster[];
  readonly segmentSize: SegmentSize;
  /** Who takes writes. */
  primary: PostgresCluster;
  /** Log of servers up to where they were left in peace. */
  readonly #logMarks = new Map<PostgresCluster, number>();

  /** Use {@link openPromotionRig}. */
  constructor(parts: {
    workspace: Workspace;
    relay: WalcastRelay;
    servers: readonly PostgresCluster[];
    primary: PostgresCluster;
    segmentSize: SegmentSize;
  }) {
    this.workspace = parts.workspace;
    this.relay = parts.relay;
    this.servers = parts.servers;
    this.primary = parts.primary;
    this.segmentSize = parts.segmentSize;
  }

  /** Running servers that are not the primary. */
  get standbys(): PostgresCluster[] {
    return this.servers.filter((server) => server !== this.primary && server.isRunning);
  }

  server(name: string): PostgresCluster {
    const found = this.servers.find((server) => server.name === name);
    if (found === undefined) throw new Error(`no server ${name}`);
    return found;
  }

  /** For requests that change something. */
  get authorization(): Record<string, string> {
    return { authorization: `Bearer ${TOKEN}` };
  }

  /** The process id of the server's walreceiver, once it streams. */
  async receiverPid(server: PostgresCluster): Promise<string> {
    return await pollUntil(
      `${server.name} receiving`,
      async () =>
        (
          await server.query(`SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'`)
        )[0]?.[0] ?? null,
      { timeoutMs: 30_000 },
    ).catch((error: unknown) => this.#explain(error, server));
  }

  /** Waits until `server` has all that walcast has, and makes it the primary. */
  async promote(server: PostgresCluster): Promise<void> {
    await this.caughtUp(server);
    await server.promote();
    this.primary = server;
  }

  /** Waits until `server` has replayed everything that is whole and durable in walcast. */
  async caughtUp(server: PostgresCluster): Promise<void> {
    const wanted = await this.relay.flushedLsn();
    await server
      .waitForReplay(wanted, 30_000)
      .catch((error: unknown) => this.#explain(error, server));
  }

  /** Waits until walcast streams `timeline` from the primary. */
  async followed(timeline: number): Promise<void> {
    await this.relay.waitForStatus(
      `timeline ${timeline} being followed`,
      (status) =>
        status.timeline === timeline &&
        status.state === 'streaming' &&
        status.upstream.port === this.primary.port,
    );
  }

  /** Waits until walcast and every standby have all that the primary has. Gives the primary's position. */
  async settle(): Promise<Lsn> {
    const endLsn = await this.primary.walPosition();
    await Promise.all(
      this.standbys.map((standby) =>
        standby
          .waitForReplay(endLsn, 45_000)
          .catch((error: unknown) => this.#explain(error, standby)),
      ),
    );
    await this.relay.waitForStatus(
      'everything on the disk of walcast',
      ({ store }) => (parseLsn(store.flushed_lsn ?? '0/0') ?? 0n) >= endLsn,
    );
    return endLsn;
  }

  /** A stopped server that has nothing the new primary lacks: it follows walcast from its next start on. */
  async rejoin(server: PostgresCluster): Promise<void> {
    await server.becomeStandby(this.relay.target(), server.name);
    await server.start();
  }

  /** What a server logged so far is not looked at: it was meant to go wrong. */
  forgive(server: PostgresCluster): void {
    this.#logMarks.set(server, server.log.mark());
  }

  /** The ancestry of the timeline that walcast is on, as the primary has it. */
  async history(): Promise<TimelineHistory> {
    return await historyOf(this.primary, (await this.relay.status()).timeline ?? 1);
  }

  /** After {@link settle}: WAL of all timelines byte for byte, history files, rows, logs; as sentences. */
  async violations(endLsn: Lsn): Promise<string[]> {
    const rows = await tableDigest(this.primary);
    const history = await this.history();
    const { segmentSize } = this;
    const common = { expected: this.primary.walDirectory, history, segmentSize, endLsn };
    const standbys = this.standbys.map(async (standby) => {
      const { digest } = await tableDigest(standby);
      const actual = standby.walDirectory;
      const wal = await timelineWalViolations({ ...common, actual, mustHave: null });
      return [
        ...wal.map((text) => `${standby.name}: ${text}`),
        ...(digest === rows.digest ? [] : [`${standby.name} has other rows`]),
      ];
    });
    const oldest = parseLsn((await this.relay.status()).store.oldest_lsn ?? '0/0') ?? INVALID_LSN;
    const actual = this.relay.walDirectory;
    const store = await timelineWalViolations({ ...common, actual, mustHave: oldest });
    return [
      ...store.map((text) => `walcast: ${text}`),
      ...(await Promise.all(standbys)).flat(),
      ...(await this.#historyViolations()),
      ...this.#logViolations(),
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.workspace.close();
  }

  async #historyViolations(): Promise<string[]> {
    const { timeline, ancestors } = await this.history();
    const timelines = [...ancestors.map((entry) => entry.timeline), timeline].filter(
      (id) => id > 1,
    );
    const violations: string[] = [];
    for (const name of timelines.map(historyFileName)) {
      const theirs = await readFile(join(this.primary.walDirectory, name));
      const ours = await readFile(join(this.relay.walDirectory, name)).catch(() => null);
      if (ours?.equals(theirs) !== true) violations.push(`${name} is not the primary's`);
    }
    return violations;
  }

  #logViolations(): string[] {
    return this.servers.flatMap((server) => alarmLines(server, ALARMS, this.#logMarks.get(server)));
  }

  #explain(error: unknown, server: PostgresCluster): never {
    const text = `${server.log.tail(20)}\n--- walcast:\n${this.relay.log.slice(-20).join('\n')}`;
    throw new Error(`${String(error)}\n--- ${server.name}:\n${text}`, { cause: error });
  }
}

/** Sets it up and starts it: every standby streams through walcast, with a slot of its own, when this resolves. */
export async function openPromotionRig(options: PromotionRigOptions): Promise<PromotionRig> {
  const workspace = await openWorkspace(await serverUser());
  try {
    const servers = await createServers(workspace, options);
    const [primary, ...standbys] = servers;
    if (primary === undefined) throw new Error('no servers');
    const relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => primary.target(),
      ...(options.relaySettings === undefined ? {} : { settings: options.relaySettings }),
    });
    const tokenFile = join(workspace.directory, 'token');
    await writeFile(tokenFile, TOKEN, { mode: 0o600 });
    relay.configure({
      upstream: { conninfo: conninfoOf(servers) },
      http: { token_file: tokenFile },
    });
    await relay.start();
    const segmentSize = toSegmentSize((options.segmentSizeMb ?? 16) << 20);
    const rig = new PromotionRig({ workspace, relay, servers, primary, segmentSize });
    for (const server of servers) {
      await createPhysicalSlot(relay.target(), server.name, options.major);
    }
    for (const standby of standbys) {
      await standby.followUpstream(relay.target(), standby.name);
      await standby.reload();
    }
    for (const standby of standbys) await rig.receiverPid(standby);
    return rig;
  } catch (error) {
    await workspace.close();
    throw error;
  }
}

/** Every server, in this order; the one that takes writes is followed. */
export function conninfoOf(servers: readonly { readonly port: number }[]): string {
  return renderConninfo({
    host: servers.map(() => '127.0.0.1').join(','),
    port: servers.map(({ port }) => port).join(','),
    user: 'postgres',
    sslmode: 'disable',
    connect_timeout: '2',
    target_session_attrs: 'read-write',
  });
}

/** Started, so that their ports are settled; standbys have nobody to follow yet. */
async function createServers(
  workspace: Workspace,
  options: PromotionRigOptions,
): Promise<PostgresCluster[]> {
  const { major, segmentSizeMb } = options;
  const [first = '', ...others] = options.servers ?? SERVERS;
  const settings = { wal_keep_size: '2GB', wal_log_hints: 'on', ...options.settings };
  const primary = await createPrimary(workspace, {
    major,
    name: first,
    settings,
    ...(segmentSizeMb === undefined ? {} : { segmentSizeMb }),
    ...(options.initdbArguments === undefined ? {} : { initdbArguments: options.initdbArguments }),
  });
  await primary.start();
  const standbys = await Promise.all(
    others.map(async (name) => {
      const nobody = { ...primary.target(), port: 1 };
      const standby = await createStandby(workspace, {
        major,
        name,
        settings,
        backupFrom: primary.target(),
        upstream: nobody,
      });
      await standby.start();
      return standby;
    }),
  );
  return [primary, ...standbys];
}

/** Makes a running primary one of the next timeline, with nobody's help. */
export async function becomeNextTimeline(primary: PostgresCluster): Promise<void> {
  await primary.stop('fast');
  // Nobody listens there: it has everything that there is.
  await primary.becomeStandby({ ...primary.target(), port: 1 });
  await primary.start();
  await primary.promote();
}
