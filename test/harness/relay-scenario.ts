// primary → recorder → walcast → recorder → standbys, under load, and one list of everything that went wrong.
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { minLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import { rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import { alarmLines } from './alarm-lines.ts';
import { compareWal, missingSegments, walDirectoryTruth } from './compare-wal.ts';
import { LedgerAudit } from './ledger-audit.ts';
import { streamsOf } from './ledger.ts';
import { createPhysicalSlot } from './physical-slot.ts';
import { openRecorder } from './recorder.ts';
import type { Recorder } from './recorder.ts';
import { tableDigest } from './table-digest.ts';
import { createRelay } from './walcast-process.ts';
import type { WalcastRelay, WalcastSettings } from './walcast-process.ts';
import { startWriteLoad } from './write-load.ts';
import type { WriteLoad } from './write-load.ts';

export { createPhysicalSlot } from './physical-slot.ts';

/** One standby of a scenario. */
export interface ScenarioStandby {
  readonly name: string;
  /** With a slot of its own on walcast. */
  readonly hasSlot?: boolean;
  readonly settings?: ServerSettings;
}

/** What to set up. */
export interface ScenarioOptions {
  readonly major: number;
  readonly standbys: readonly ScenarioStandby[];
  readonly relaySettings?: WalcastSettings;
  readonly primarySettings?: ServerSettings;
  /** WAL segment size in MB; default 16. */
  readonly segmentSizeMb?: number;
  /** Where standbys are seeded from; default the primary, so that a broken tunnel does not hide everything else. */
  readonly backupFrom?: 'primary' | 'relay';
  /** Makes the place of walcast's store and gives its path; default a directory of the workspace. */
  readonly makeStore?: (workspace: Workspace) => Promise<string>;
}

/**
 * Lines in a standby's log that mean it was given something wrong. `magic number 0000` is none of them: a standby whose
 * stream was cut at a page boundary looks at the next page of its own, new segment, whoever it streamed from.
 */
const STANDBY_ALARMS =
  /PANIC|(?<!data_)checksum|invalid magic number (?!0000)|unexpected pageaddr|out-of-sequence|contrecord is requested|has already been removed|TRAP:/;

/** Everything of one scenario. */
export class RelayScenario implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  /** Between walcast and the primary. */
  readonly upstream: Recorder;
  readonly relay: WalcastRelay;
  /** Between the standbys and walcast. */
  readonly downstream: Recorder;
  readonly standbys: PostgresCluster[] = [];
  readonly segmentSize: SegmentSize;
  readonly #options: ScenarioOptions;
  #load: WriteLoad | null = null;

  /** Use {@link openScenario}. */
  constructor(parts: ScenarioParts, options: ScenarioOptions) {
    this.workspace = parts.workspace;
    this.primary = parts.primary;
    this.upstream = parts.upstream;
    this.relay = parts.relay;
    this.downstream = parts.downstream;
    this.segmentSize = toSegmentSize((options.segmentSizeMb ?? 16) << 20);
    this.#options = options;
  }

  /** Seeds a standby, points it at walcast and starts it. */
  async addStandby(options: ScenarioStandby): Promise<PostgresCluster> {
    const viaRelay = this.relay.target({ port: this.downstream.port });
    if (options.hasSlot === true)
      await createPhysicalSlot(viaRelay, options.name, this.#options.major);
    const standby = await createStandby(this.workspace, {
      major: this.#options.major,
      name: options.name,
      backupFrom: this.#options.backupFrom === 'relay' ? viaRelay : this.primary.target(),
      upstream: viaRelay,
      ...(options.hasSlot === true ? { slot: options.name } : {}),
      settings: { wal_keep_size: '2GB', ...options.settings },
    });
    await standby.start();
    this.standbys.push(standby);
    return standby;
  }

  /** Starts writing on the primary. */
  async startLoad(writers = 2, pauseMs = 0): Promise<WriteLoad> {
    this.#load = await startWriteLoad(this.primary, writers, pauseMs);
    return this.#load;
  }

  /** Ends the load and waits until every standby has replayed all there is. Gives the primary's position. */
  async settle(timeoutMs = 60_000): Promise<Lsn> {
    await this.#load?.stop();
    const endLsn = await this.primary.walPosition();
    await Promise.all(
      this.standbys.map(async (standby) => {
        await standby.waitForReplay(endLsn, timeoutMs).catch((error: unknown) => {
          const log = `${standby.log.tail(15)}\n--- walcast:\n${this.relay.log.slice(-15).join('\n')}`;
          throw new Error(`${String(error)}\n--- ${standby.name}:\n${log}`, { cause: error });
        });
      }),
    );
    return endLsn;
  }

  /**
   * Everything that is not as promised, after {@link settle}, as sentences: both ledgers, the bytes on the wire, the WAL
   * files of primary, store and standbys, the rows, the logs.
   */
  async violations(endLsn: Lsn): Promise<string[]> {
    return [
      ...(await this.#ledgerViolations()),
      ...(await this.#fileViolations(endLsn)),
      ...(await this.#rowViolations()),
      ...this.#logViolations(),
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async close(): Promise<void> {
    await this.#load?.stop();
    await this.workspace.close();
    await this.downstream.close();
    await this.upstream.close();
  }

  async #ledgerViolations(): Promise<string[]> {
    if (streamsOf(this.downstream.ledger).length === 0) return ['nothing was streamed'];
    const links = [
      { from: 'primary', to: 'walcast', ledger: this.upstream.ledger },
      { from: 'walcast', to: 'standbys', ledger: this.downstream.ledger },
    ];
    const { segmentSize } = this;
    return await new LedgerAudit(['walcast']).violations(links, {
      walDirectory: this.primary.walDirectory,
      history: rootHistory(toTimelineId(1)),
      segmentSize,
      endLsn: () => this.primary.walPosition(),
      pages: walDirectoryTruth(this.primary.walDirectory, segmentSize),
    });
  }

  async #fileViolations(endLsn: Lsn): Promise<string[]> {
    const { segmentSize } = this;
    const fromLsn = streamsOf(this.upstream.ledger)[0]?.startLsn ?? endLsn;
    const flushedLsn = this.relay.isRunning
      ? minLsn(await this.relay.flushedLsn(), endLsn)
      : endLsn;
    const places = [
      { name: 'walcast', directory: this.relay.walDirectory, untilLsn: flushedLsn, fromLsn },
      ...this.standbys.map((standby) => ({
        name: standby.name,
        directory: standby.walDirectory,
        untilLsn: endLsn,
        fromLsn: firstStreamed(this.downstream, standby.name) ?? endLsn,
      })),
    ];
    const results = await Promise.all(
      places.map(async ({ name, directory, untilLsn, fromLsn: from }) => {
        const comparison = await compareWal({
          expected: this.primary.walDirectory,
          actual: directory,
          segmentSize,
          fromLsn: from,
          untilLsn,
        });
        const missing = await missingSegments({
          directory,
          timeline: 1,
          segmentSize,
          fromLsn: from,
          untilLsn,
        });
        return [
          ...comparison.differences.map((text) => `${name}: ${text}`),
          ...missing.map((file) => `${name} lacks ${file}`),
          ...(comparison.comparedBytes === 0 ? [`${name}: no WAL could be compared`] : []),
        ];
      }),
    );
    return results.flat();
  }

  async #rowViolations(): Promise<string[]> {
    const expected = await tableDigest(this.primary);
    const results = await Promise.all(
      this.standbys.map(async (standby) => {
        const actual = await tableDigest(standby);
        const lost = (await this.#load?.lostOn(standby)) ?? [];
        return actual.digest === expected.digest
          ? lost
          : [
              ...lost,
              `${standby.name} has ${actual.rows} rows that digest otherwise than the primary's ${expected.rows}`,
            ];
      }),
    );
    return results.flat();
  }

  #logViolations(): string[] {
    return [
      ...this.standbys.flatMap((standby) => alarmLines(standby, STANDBY_ALARMS)),
      ...this.relay.problems().map((line) => `walcast says: ${line}`),
    ];
  }
}

interface ScenarioParts {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  readonly upstream: Recorder;
  readonly relay: WalcastRelay;
  readonly downstream: Recorder;
}

/** Sets a scenario up and starts it: everything runs and streams when this resolves. */
export async function openScenario(options: ScenarioOptions): Promise<RelayScenario> {
  const workspace = await openWorkspace(await serverUser());
  try {
    const primary = await createPrimary(workspace, {
      major: options.major,
      name: 'primary',
      settings: { wal_keep_size: '2GB', ...options.primarySettings },
      ...(options.segmentSizeMb === undefined ? {} : { segmentSizeMb: options.segmentSizeMb }),
    });
    await primary.start();
    const upstream = await openRecorder({ name: 'upstream', target: () => primary.target() });
    const directory = await options.makeStore?.(workspace);
    const relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => upstream,
      ...(directory === undefined ? {} : { directory }),
      ...(options.relaySettings === undefined ? {} : { settings: options.relaySettings }),
    });
    const downstream = await openRecorder({ name: 'downstream', target: () => relay });
    const parts = { workspace, primary, upstream, relay, downstream };
    const scenario = new RelayScenario(parts, options);
    await relay.start();
    for (const standby of options.standbys) await scenario.addStandby(standby);
    return scenario;
  } catch (error) {
    await workspace.close();
    throw error;
  }
}

function firstStreamed(recorder: Recorder, applicationName: string): Lsn | null {
  return streamsOf(recorder.ledger, applicationName)[0]?.startLsn ?? null;
}
