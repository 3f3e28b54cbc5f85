// A primary, relays and standbys behind several of them, on one host or each in a network of its own; under load, and with one
// list of everything that went wrong.
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { INVALID_LSN, minLsn, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { alarmLines } from './alarm-lines.ts';
import { walDirectoryTruth } from './compare-wal.ts';
import { LedgerAudit } from './ledger-audit.ts';
import type { LinkRecord } from './ledger-audit.ts';
import { streamsOf } from './ledger.ts';
import type { StreamLedger } from './ledger.ts';
import { tableDigest } from './table-digest.ts';
import { historyOf, timelineOf, timelineWalViolations } from './timeline-wal.ts';
import { buildTopology, openNetwork } from './topology-builder.ts';
import type { TopologyOptions, TopologyParts } from './topology-builder.ts';
import type { Link, Network } from './topology-links.ts';
import type { WalcastRelay } from './walcast-process.ts';
import { startWriteLoad } from './write-load.ts';
import type { WriteLoad } from './write-load.ts';

export type { TopologyOptions, TopologyRelay, TopologyStandby } from './topology-builder.ts';

/**
 * Lines in a server's log that mean it was given something wrong. `magic number 0000` is none of them: a standby whose
 * stream was cut at a page boundary looks at the next page of its own, new segment, whoever it streamed from.
 */
const SERVER_ALARMS =
  /PANIC|(?<!data_)checksum|invalid magic number (?!0000)|unexpected pageaddr|out-of-sequence|contrecord is requested|has already been removed|incorrect resource manager|TRAP:/;

const START_TIMEOUT_MS = 60_000;

/** Everything of one topology. */
export class Topology implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly segmentSize: SegmentSize;
  readonly relays: readonly WalcastRelay[];
  readonly standbys: readonly PostgresCluster[];
  readonly links: readonly Link[];
  /** Who takes writes; set it after a promotion. */
  primary: PostgresCluster;
  readonly #network: Network;
  readonly #audit: LedgerAudit;
  readonly #logMarks = new Map<PostgresCluster, number>();
  readonly #problemMarks = new Map<WalcastRelay, number>();
  #load: WriteLoad | null = null;
  /** Up to where the files of a node were compared. */
  readonly #compared = new Map<string, Lsn>();

  /** Use {@link openTopology}. */
  constructor(parts: TopologyParts) {
    this.workspace = parts.workspace;
    this.segmentSize = parts.segmentSize;
    this.relays = parts.relays;
    this.standbys = parts.standbys;
    this.links = parts.links;
    this.primary = parts.primary;
    this.#network = parts.network;
    this.#audit = new LedgerAudit(parts.relays.map(({ name }) => name));
  }

  relay(name: string): WalcastRelay {
    return named(this.relays, name);
  }

  standby(name: string): PostgresCluster {
    return named(this.standbys, name);
  }

  /** The way on which `to` streams from `from`. */
  link(from: string, to: string): Link {
    const found = this.links.find((link) => link.from === from && link.to === to);
    if (found === undefined) throw new Error(`no link from ${from} to ${to}`);
    return found;
  }

  /** The way on which `standby` streams at this moment; waits until it does. */
  async linkOf(standby: PostgresCluster): Promise<Link> {
    const sql = `SELECT sender_host, sender_port FROM pg_stat_wal_receiver WHERE status = 'streaming'`;
    return await pollUntil(
      `${standby.name} streaming`,
      async () => {
        const [[host, port] = []] = await standby.query(sql);
        const isIt = (link: Link): boolean => link.host === host && String(link.port) === port;
        return this.links.find((link) => link.to === standby.name && isIt(link)) ?? null;
      },
      { timeoutMs: START_TIMEOUT_MS },
    );
  }

  /** Starts writing on whoever is the primary. After {@link settle} it goes on as it was begun. */
  async startLoad(writers = 2, pauseMs = 0): Promise<WriteLoad> {
    if (this.#load === null)
      this.#load = await startWriteLoad(() => this.primary, writers, pauseMs);
    else this.#load.start();
    return this.#load;
  }

  /** Waits until every running standby streams and every running relay does. */
  async streaming(timeoutMs: number = START_TIMEOUT_MS): Promise<void> {
    const relays = this.relays.filter((relay) => relay.isRunning);
    await Promise.all([
      ...relays.map((relay) =>
        relay.waitForStatus(
          `${relay.name} streaming`,
          ({ state }) => state === 'streaming',
          timeoutMs,
        ),
      ),
      ...this.#runningStandbys().map((standby) => this.#standbyStreaming(standby, timeoutMs)),
    ]);
  }

  /** Ends the load and waits until every running relay and standby has all there is. Gives the primary's position. */
  async settle(timeoutMs = 60_000): Promise<Lsn> {
    await this.#load?.stop();
    const endLsn = await this.primary.walPosition();
    await this.reached(endLsn, timeoutMs);
    return endLsn;
  }

  /** Waits until every running relay has flushed, and every running standby replayed, everything before `endLsn`. */
  async reached(endLsn: Lsn, timeoutMs = 60_000): Promise<void> {
    const relays = this.relays.filter((relay) => relay.isRunning);
    await Promise.all([
      ...relays.map((relay) =>
        relay.waitForStatus(
          `${relay.name} having flushed up to ${endLsn.toString(16)}`,
          ({ store }) => (parseLsn(store.flushed_lsn ?? '0/0') ?? INVALID_LSN) >= endLsn,
          timeoutMs,
        ),
      ),
      ...this.#runningStandbys().map((standby) =>
        standby
          .waitForReplay(endLsn, timeoutMs)
          .catch((error: unknown) => this.#explain(error, standby)),
      ),
    ]);
  }

  /** What logs said so far is not looked at by {@link violations}: it was meant to go wrong. */
  forgive(): void {
    for (const server of [this.primary, ...this.standbys])
      this.#logMarks.set(server, server.log.mark());
    for (const relay of this.relays) this.#problemMarks.set(relay, relay.problems().length);
  }

  /**
   * Everything that is not as promised since the last call, after {@link settle} or {@link reached}, as sentences: the ledger
   * of every link, the WAL files of stores and standbys against the primary's, the rows, the logs.
   */
  async violations(endLsn: Lsn): Promise<string[]> {
    const history = await historyOf(this.primary, await timelineOf(this.primary));
    const { segmentSize } = this;
    const walDirectory = this.primary.walDirectory;
    const records = await this.#network.records();
    const ledgers = await this.#audit.violations(records, {
      walDirectory,
      history,
      segmentSize,
      endLsn: () => this.primary.walPosition(),
      pages: walDirectoryTruth(walDirectory, segmentSize),
    });
    const files = await Promise.all([
      ...this.relays
        .filter((relay) => relay.isRunning)
        .map(async (relay) => {
          const { store } = await relay.status();
          const flushedLsn = parseLsn(store.flushed_lsn ?? '0/0') ?? INVALID_LSN;
          const mustHave = parseLsn(store.oldest_lsn ?? '0/0');
          const until = minLsn(flushedLsn, endLsn);
          return await this.#fileViolations(relay, { history, endLsn: until, mustHave });
        }),
      ...this.#runningStandbys().map((standby) =>
        this.#fileViolations(standby, { history, endLsn, mustHave: null }),
      ),
    ]);
    const found = [
      ...this.#unseen(records),
      ...ledgers,
      ...files.flat(),
      ...(await this.#rowViolations()),
      ...this.#logViolations(),
    ];
    this.#audit.forget(records);
    this.forgive();
    return found;
  }

  /**
   * What `relay`, which does not run, reported as flushed since the last look at everything and does not have in its files, as
   * sentences. (I1)
   */
  async lostBy(relay: WalcastRelay): Promise<string[]> {
    const streams = this.#received(relay, await this.#network.records());
    let endLsn = INVALID_LSN;
    for (const { replies } of streams)
      for (const { flushLsn } of replies) if (flushLsn > endLsn) endLsn = flushLsn;
    const history = await historyOf(this.primary, await timelineOf(this.primary));
    return await timelineWalViolations({
      expected: this.primary.walDirectory,
      actual: relay.walDirectory,
      history,
      segmentSize: this.segmentSize,
      fromLsn: this.#compared.get(relay.name) ?? INVALID_LSN,
      endLsn,
      mustHave: this.#compared.get(relay.name) ?? null,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#load?.stop();
    try {
      await this.workspace.close();
    } finally {
      await this.#network[Symbol.asyncDispose]();
    }
  }

  #runningStandbys(): PostgresCluster[] {
    return this.standbys.filter((standby) => standby !== this.primary && standby.isRunning);
  }

  async #standbyStreaming(standby: PostgresCluster, timeoutMs: number): Promise<void> {
    const sql = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    await standby
      .waitForValue(sql, '1', timeoutMs)
      .catch((error: unknown) => this.#explain(error, standby));
  }

  /** Relays that run and whose stream no ledger has: nothing could be judged. */
  #unseen(records: readonly LinkRecord[]): string[] {
    if (records.length === 0) return [];
    return this.relays
      .filter((relay) => relay.isRunning && this.#received(relay, records).length === 0)
      .map(({ name }) => `${name}: no ledger has its stream`);
  }

  /** Streams that `relay` received, of those that were not forgotten. */
  #received({ name }: WalcastRelay, records: readonly LinkRecord[]): StreamLedger[] {
    return records
      .filter(({ to, seenBy = name }) => to === name && seenBy === name)
      .flatMap(({ ledger }) => streamsOf(ledger));
  }

  /** Files are compared once: what was compared before is not looked at again. */
  async #fileViolations(
    node: { readonly name: string; readonly walDirectory: string },
    options: { history: TimelineHistory; endLsn: Lsn; mustHave: Lsn | null },
  ): Promise<string[]> {
    const { name, walDirectory: actual } = node;
    const { segmentSize } = this;
    const fromLsn = this.#compared.get(name) ?? INVALID_LSN;
    const expected = this.primary.walDirectory;
    this.#compared.set(name, options.endLsn);
    const found = await timelineWalViolations({
      ...options,
      expected,
      actual,
      segmentSize,
      fromLsn,
    });
    return found.map((text) => `${name}: ${text}`);
  }

  async #rowViolations(): Promise<string[]> {
    const expected = await tableDigest(this.primary);
    const results = await Promise.all(
      this.#runningStandbys().map(async (standby) => {
        const { digest } = await tableDigest(standby);
        const lost = (await this.#load?.lostOn(standby)) ?? [];
        return digest === expected.digest ? lost : [...lost, `${standby.name} has other rows`];
      }),
    );
    return results.flat();
  }

  #logViolations(): string[] {
    const servers = this.standbys.flatMap((standby) =>
      alarmLines(standby, SERVER_ALARMS, this.#logMarks.get(standby)),
    );
    const relays = this.relays.flatMap((relay) =>
      relay
        .problems()
        .slice(this.#problemMarks.get(relay) ?? 0)
        .map((line) => `${relay.name} says: ${line}`),
    );
    return [...servers, ...relays];
  }

  #explain(error: unknown, server: PostgresCluster): never {
    const relays = this.relays.map(
      (relay) => `--- ${relay.name}:\n${relay.log.slice(-12).join('\n')}`,
    );
    const text = `${server.log.tail(15)}\n${relays.join('\n')}`;
    throw new Error(`${String(error)}\n--- ${server.name}:\n${text}`, { cause: error });
  }
}

/** Sets a topology up and starts it: every relay and every standby streams when this resolves. */
export async function openTopology(options: TopologyOptions): Promise<Topology> {
  const workspace = await openWorkspace(await serverUser());
  const network = await openNetwork(workspace, options);
  try {
    const topology = new Topology(await buildTopology(workspace, network, options));
    await topology.streaming();
    return topology;
  } catch (error) {
    await workspace.close();
    await network[Symbol.asyncDispose]();
    throw error;
  }
}

function named<T extends { readonly name: string }>(nodes: readonly T[], name: string): T {
  const found = nodes.find((node) => node.name === name);
  if (found === undefined) throw new Error(`no node ${name}`);
  return found;
}
