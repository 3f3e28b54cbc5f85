// primary → recorder → walcast → recorder → standby with 1 MB segments and every shape of WAL, and what must hold after each
// crash of walcast: nothing that was acknowledged is gone, no byte is another one, slots are what was answered.
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import { INVALID_LSN, formatLsn, maxLsn, parseLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { compareWal, missingSegments } from '../harness/compare-wal.ts';
import { streamsOf } from '../harness/ledger.ts';
import type { StreamLedger } from '../harness/ledger.ts';
import { createPhysicalSlot, openScenario } from '../harness/relay-scenario.ts';
import type { RelayScenario } from '../harness/relay-scenario.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { MixedLoad } from './mixed-load.ts';

const SEGMENT_MB = 1;
const STANDBY = 'standby';
/** Some hundred commits a second: what is hit is what walcast does, not a machine that can do no more. */
const COMMIT_PAUSE_MS = 3;
/** Behind the last place that was compared, this much is compared once more. */
const OVERLAP_BYTES = 4n << 20n;

/** What to set up. */
export interface CrashRigOptions {
  readonly major: number;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  /** Longest pause between two statements of the mixed load. */
  readonly pauseMs: number;
  readonly makeStore?: (workspace: Workspace) => Promise<string>;
}

/** Figures of all rounds so far. */
export interface CrashFigures {
  rounds: number;
  /** Bytes of acknowledged WAL compared in the store right after a crash, before walcast ran again. */
  comparedBytes: number;
  /** Bytes compared in the standby. */
  standbyBytes: number;
  /** Rounds in which the standby had more than walcast's store right after the crash. */
  standbyAhead: number;
  /** WAL that had arrived beyond what was acknowledged, at the crashes. */
  unacknowledgedBytes: number;
  slotMoves: number;
}

/** Before the first round. */
export function noFigures(): CrashFigures {
  return {
    rounds: 0,
    comparedBytes: 0,
    standbyBytes: 0,
    standbyAhead: 0,
    unacknowledgedBytes: 0,
    slotMoves: 0,
  };
}

/** Use {@link openCrashRig}. */
export class CrashRig {
  readonly scenario: RelayScenario;
  readonly load: WriteLoad;
  readonly mixed: MixedLoad;
  readonly figures: CrashFigures = noFigures();
  readonly #random: () => number;
  /** Everything before it was compared after an earlier crash. */
  #comparedLsn: Lsn = INVALID_LSN;
  readonly #floors: Floor[] = [];
  #lastSlot: SlotMove | null = null;
  #slots = 0;

  constructor(scenario: RelayScenario, load: WriteLoad, parts: RigParts) {
    this.scenario = scenario;
    this.load = load;
    this.mixed = parts.mixed;
    this.#random = parts.random;
  }

  /** Highest flush position that walcast has reported to the primary, as the recorder saw it. */
  acknowledged(): Lsn {
    return highestFlush(this.scenario.upstream.ledger);
  }

  /** Waits until the recorder has read everything that walcast had sent before its end. */
  async everythingWasRead(): Promise<void> {
    await pollUntil(
      'the connections of walcast to close',
      () =>
        this.scenario.upstream.ledger.connections.every(({ closedAt }) => closedAt !== null)
          ? true
          : null,
      { timeoutMs: 10_000 },
    );
  }

  /** Creates or drops a slot on walcast; the crash may come before the answer, and then both outcomes are right. */
  async moveSlot(): Promise<void> {
    const { relay } = this.scenario;
    const before = this.#lastSlot;
    const isDrop = before !== null && before.kind === 'create' && this.#random() < 0.5;
    const name = isDrop ? before.name : `soak_${(this.#slots += 1)}`;
    const move: SlotMove = { kind: isDrop ? 'drop' : 'create', name, isAnswered: false };
    this.#lastSlot = move;
    try {
      if (isDrop) {
        await using session = await openSqlSession({ ...relay.target(), replication: true });
        await session.query(`DROP_REPLICATION_SLOT "${name}"`);
      } else {
        await createPhysicalSlot(relay.target(), name, this.scenario.primary.major);
      }
      move.isAnswered = true;
      this.figures.slotMoves += 1;
    } catch {
      // It died meanwhile.
    }
  }

  /** After a crash, before walcast runs again: is everything that was acknowledged in the store? */
  async storeViolations(acknowledged: Lsn): Promise<string[]> {
    const { scenario } = this;
    const first = streamsOf(scenario.upstream.ledger)[0]?.startLsn ?? acknowledged;
    const fromLsn = maxLsn(first, back(this.#comparedLsn));
    const { segmentSize, primary, relay } = scenario;
    const span = { segmentSize, fromLsn, untilLsn: acknowledged };
    const [comparison, missing] = await Promise.all([
      compareWal({ expected: primary.walDirectory, actual: relay.walDirectory, ...span }),
      missingSegments({ directory: relay.walDirectory, timeline: 1, ...span }),
    ]);
    const expected = Number(acknowledged - fromLsn);
    this.figures.comparedBytes += comparison.comparedBytes;
    const arrived = highestReceived(scenario.upstream.ledger);
    this.figures.unacknowledgedBytes += Number(maxLsn(arrived, acknowledged) - acknowledged);
    return [
      ...comparison.differences.map((text) => `store: ${text}`),
      ...missing.map((file) => `the store lacks ${file}`),
      ...(comparison.comparedBytes === expected
        ? []
        : [
            `only ${comparison.comparedBytes} of ${expected} acknowledged bytes before ${formatLsn(acknowledged)} were there to compare`,
          ]),
    ];
  }

  /** Starts walcast after a crash. What it found, and went on with, is not less than what had been acknowledged. */
  async restart(acknowledged: Lsn): Promise<string[]> {
    const { relay, downstream } = this.scenario;
    const standbyHad = highestFlush(downstream.ledger, STANDBY);
    this.#floors.push({
      streams: streamsOf(this.scenario.upstream.ledger).length,
      acknowledged,
    });
    await relay.start();
    const line = await relay.process.waitForLog(/"msg":"stored WAL ends here"/);
    const end = parseLsn(/"lsn":"([^"]+)"/.exec(line)?.[1] ?? '') ?? INVALID_LSN;
    if (standbyHad > end) this.figures.standbyAhead += 1;
    await relay.waitForStatus('streaming', ({ state }) => state === 'streaming');
    this.figures.rounds += 1;
    return [
      ...(end < acknowledged
        ? [`recovery found ${formatLsn(end)}; ${formatLsn(acknowledged)} had been acknowledged`]
        : []),
      ...(await this.#slotViolations()),
      ...(await this.#standbyViolations(standbyHad, acknowledged)),
    ];
  }

  /** Waits until the standby streams from walcast again. */
  async standbyStreams(): Promise<void> {
    await this.scenario.relay.waitForStatus('the standby streaming', ({ standbys }) =>
      standbys.some(({ state }) => state === 'streaming'),
    );
  }

  /** Ends the load and looks at everything once more. */
  async finish(): Promise<string[]> {
    await this.mixed.stop();
    const endLsn = await this.scenario.settle();
    const streams = streamsOf(this.scenario.upstream.ledger);
    return [...brokenPromises(streams, this.#floors), ...(await this.scenario.violations(endLsn))];
  }

  async close(): Promise<void> {
    await this.mixed.stop();
    await this.scenario.close();
  }

  async #slotViolations(): Promise<string[]> {
    const move = this.#lastSlot;
    if (move === null) return [];
    const slots = (await this.scenario.relay.get('/api/v1/slots')) as { slot_name: string }[];
    const isThere = slots.some(({ slot_name: name }) => name === move.name);
    const isWrong = move.isAnswered && isThere !== (move.kind === 'create');
    if (!move.isAnswered) this.#lastSlot = isThere ? { ...move, kind: 'create' } : null;
    return [
      ...(slots.some(({ slot_name: name }) => name === STANDBY)
        ? []
        : [`the slot "${STANDBY}" is gone`]),
      ...(isWrong ? [`${move.kind} of slot "${move.name}" was answered and is undone`] : []),
    ];
  }

  async #standbyViolations(standbyHad: Lsn, acknowledged: Lsn): Promise<string[]> {
    const { scenario } = this;
    const { segmentSize, primary, downstream } = scenario;
    const first = streamsOf(downstream.ledger, STANDBY)[0]?.startLsn ?? standbyHad;
    const fromLsn = maxLsn(first, back(this.#comparedLsn));
    this.#comparedLsn = acknowledged;
    const directory = scenario.standbys[0]?.walDirectory;
    if (directory === undefined || standbyHad <= fromLsn) return [];
    const comparison = await compareWal({
      expected: primary.walDirectory,
      actual: directory,
      segmentSize,
      fromLsn,
      untilLsn: standbyHad,
    });
    this.figures.standbyBytes += comparison.comparedBytes;
    return comparison.differences.map((text) => `standby: ${text}`);
  }
}

/** How many streams there had been before a crash, and what had been acknowledged on them. */
export interface Floor {
  readonly streams: number;
  readonly acknowledged: Lsn;
}

interface SlotMove {
  readonly kind: 'create' | 'drop';
  readonly name: string;
  isAnswered: boolean;
}

interface RigParts {
  readonly mixed: MixedLoad;
  readonly random: () => number;
}

/** Sets everything up; load runs when this resolves. */
export async function openCrashRig(options: CrashRigOptions): Promise<CrashRig> {
  const everything = { wal_keep_size: '16GB', max_wal_size: '2GB' };
  const scenario = await openScenario({
    major: options.major,
    segmentSizeMb: SEGMENT_MB,
    standbys: [{ name: STANDBY, hasSlot: true, settings: everything }],
    primarySettings: everything,
    relaySettings: { storage: { wal_keep_size: '16GB' } },
    ...(options.makeStore === undefined ? {} : { makeStore: options.makeStore }),
  });
  try {
    const load = await scenario.startLoad(1, COMMIT_PAUSE_MS);
    const mixed = new MixedLoad(scenario.primary, {
      random: options.random,
      segmentBytes: scenario.segmentSize,
      pauseMs: options.pauseMs,
    });
    await mixed.start();
    await load.waitForCommits(20);
    return new CrashRig(scenario, load, { mixed, random: options.random });
  } catch (error) {
    await scenario.close();
    throw error;
  }
}

/** First reports after a crash that are lower than what had been reported before it, as sentences. (P3) */
export function brokenPromises(
  streams: readonly Pick<StreamLedger, 'replies'>[],
  floors: readonly Floor[],
): string[] {
  return floors.flatMap(({ streams: before, acknowledged }, round) => {
    const first = streams
      .slice(before, floors[round + 1]?.streams)
      .flatMap(({ replies }) => replies)
      .find(({ flushLsn }) => flushLsn !== INVALID_LSN)?.flushLsn;
    if (first === undefined || first >= acknowledged) return [];
    return [
      `after crash ${round} the first report was ${formatLsn(first)}; ${formatLsn(acknowledged)} had been reported before`,
    ];
  });
}

function highestFlush(ledger: Parameters<typeof streamsOf>[0], applicationName?: string): Lsn {
  let highest = INVALID_LSN;
  for (const { replies } of streamsOf(ledger, applicationName))
    for (const { flushLsn } of replies) highest = maxLsn(highest, flushLsn);
  return highest;
}

function highestReceived(ledger: Parameters<typeof streamsOf>[0]): Lsn {
  let highest = INVALID_LSN;
  for (const { wal } of streamsOf(ledger)) highest = maxLsn(highest, wal.at(-1)?.endLsn ?? highest);
  return highest;
}

function back(lsn: Lsn): Lsn {
  return lsn > OVERLAP_BYTES ? toLsn(lsn - OVERLAP_BYTES) : INVALID_LSN;
}
