// Is everything as promised while nobody writes? Bytes on all links and in all files, rows, logs, and what the relays hold on to.
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { INVALID_LSN, maxLsn, parseLsn, toLsn } from '../../../src/pg/lsn.ts';
import type { Lsn } from '../../../src/pg/lsn.ts';
import { segmentNumber, segmentOffset, walFileName } from '../../../src/pg/segment.ts';
import { toTimelineId } from '../../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../../src/pg/timeline.ts';
import type { PageTruth } from '../../harness/ledger-checks.ts';
import { LedgerAudit } from '../../harness/ledger-audit.ts';
import { tableDigest } from '../../harness/table-digest.ts';
import { historyOf, timelineOf, timelineWalViolations } from '../../harness/timeline-wal.ts';
import type { WalcastRelay } from '../../harness/walcast-process.ts';
import type { Fleet } from './fleet.ts';

const MIB = 2 ** 20;
/** Behind the last place that was compared, this much is compared once more. */
const OVERLAP_BYTES = 2n << 20n;
/** Time for everybody to have everything once nobody writes. */
const SETTLE_MS = 60_000;
/** Descriptors besides those of standbys and the upstream that a relay may open over its life, beyond those it had at first. */
const DESCRIPTORS_MORE_MAX = 8;
/** limits.ts and test/fault/stopped-standby say where it comes from. */
const RSS_BYTES_MAX = 320 * MIB;
const SEGMENTS_CACHED_MAX = 32;

/**
 * Lines in a server's log that mean that it was given something wrong. The end of what it had itself before (a length of
 * zero, an old page) is found by reading on, and is no fault of anybody.
 */
const SERVER_ALARMS =
  /PANIC|(?<!data_)checksum|out-of-sequence|TRAP:|has already been removed|incorrect resource manager|incorrect prev-link|invalid record(?! length at \S+(?: wanted|: wanted|: expected at least) \d+, got 0)/;

/** What the checks measured on their way. */
export interface FleetFigures {
  rssMax: number;
  descriptorsMax: number;
  /** Bytes of WAL files compared. */
  comparedBytes: number;
}

/** Looks at a fleet again and again; what was looked at is forgotten. */
export class FleetChecks {
  readonly figures: FleetFigures = { rssMax: 0, descriptorsMax: 0, comparedBytes: 0 };
  readonly #fleet: Fleet;
  readonly #audit: LedgerAudit;
  /** Descriptors of a process at its first look, without those of its peers. */
  readonly #descriptors = new Map<number, number>();
  readonly #serverMarks = new Map<string, number>();
  readonly #relayMarks = new Map<string, number>();
  /** Everything before it was compared. */
  #checkedLsn: Lsn = INVALID_LSN;

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
    this.#audit = new LedgerAudit(fleet.relays.map(({ relay }) => relay.name));
  }

  /** Nobody writes while this looks. `expected`: lines of the relays' logs that the faults of the round explain. */
  async look(expected: readonly RegExp[], isThorough: boolean): Promise<string[]> {
    const { load, primary } = this.#fleet;
    await load.pause();
    const endLsn = await primary.walPosition();
    await Promise.all([
      ...this.#fleet.standbys.map((standby) => standby.waitForReplay(endLsn, SETTLE_MS)),
      ...this.#fleet.relays.map(({ relay }) =>
        relay.waitForStatus(
          'everything on its disk',
          ({ store }) => lsnOf(store.flushed_lsn) >= endLsn,
          SETTLE_MS,
        ),
      ),
    ]);
    const history = await historyOf(primary, await timelineOf(primary));
    const violations = [
      ...(await this.#rowViolations(isThorough)),
      ...(await this.#fileViolations(history, endLsn)),
      ...(await this.#linkViolations(history)),
      ...this.#logViolations(expected),
      ...(await this.#resourceViolations()),
    ];
    load.allFound();
    this.#checkedLsn = endLsn;
    load.resume();
    return violations;
  }

  async #rowViolations(isThorough: boolean): Promise<string[]> {
    const { load, primary, servers, standbys } = this.#fleet;
    const lost = await Promise.all(servers.map((server) => load.lostOn(server)));
    const digestOf = isThorough
      ? async (server: typeof primary) => (await tableDigest(server)).digest
      : (server: typeof primary) => load.newRows(server);
    const expected = await digestOf(primary);
    const others = await Promise.all(
      standbys.map(async (standby) =>
        (await digestOf(standby)) === expected ? [] : [`${standby.name} has other rows`],
      ),
    );
    return [...lost.flat(), ...others.flat()];
  }

  async #fileViolations(history: TimelineHistory, endLsn: Lsn): Promise<string[]> {
    const { primary, standbys, relays, segmentSize } = this.#fleet;
    const from = this.#checkedLsn;
    const fromLsn = from > OVERLAP_BYTES ? toLsn(from - OVERLAP_BYTES) : INVALID_LSN;
    const common = { expected: primary.walDirectory, history, segmentSize, fromLsn, endLsn };
    const places = [
      ...standbys.map((standby) => ({
        name: standby.name,
        actual: standby.walDirectory,
        mustHave: null,
      })),
      ...(await Promise.all(
        relays.map(async ({ relay }) => ({
          name: relay.name,
          actual: relay.walDirectory,
          mustHave: lsnOf((await relay.status()).store.oldest_lsn),
        })),
      )),
    ];
    this.figures.comparedBytes += Number(endLsn - maxLsn(fromLsn, from)) * places.length;
    const results = await Promise.all(
      places.map(async ({ name, actual, mustHave }) => {
        const found = await timelineWalViolations({ ...common, actual, mustHave });
        return found.map((text) => `${name}: ${text}`);
      }),
    );
    return results.flat();
  }

  async #linkViolations(history: TimelineHistory): Promise<string[]> {
    const { links, primary, segmentSize } = this.#fleet;
    this.#forgetDead(history);
    const violations = await this.#audit.violations(links, {
      walDirectory: primary.walDirectory,
      history,
      segmentSize,
      endLsn: () => primary.walPosition(),
      pages: cachedTruth(primary.walDirectory, segmentSize),
    });
    this.#audit.forget(links);
    return violations;
  }

  /** What passed beyond the end of a timeline that was left is on no server any more. */
  #forgetDead(history: TimelineHistory): void {
    for (const { ledger } of this.#fleet.links)
      for (const { streams } of ledger.connections)
        for (const { timeline, pages } of streams) {
          const left = history.ancestors.find((ancestor) => ancestor.timeline === timeline);
          if (left === undefined) continue;
          pages.splice(0, pages.length, ...pages.filter((piece) => piece.endLsn <= left.endLsn));
        }
  }

  #logViolations(expected: readonly RegExp[]): string[] {
    const violations: string[] = [];
    for (const server of this.#fleet.servers) {
      const text = server.log.textFrom(this.#serverMarks.get(server.name) ?? 0);
      this.#serverMarks.set(server.name, server.log.mark());
      const alarms = text.split('\n').filter((line) => SERVER_ALARMS.test(line));
      violations.push(...alarms.map((line) => `${server.name} says: ${line}`));
    }
    for (const { relay } of this.#fleet.relays) {
      const problems = relay.problems();
      const fresh = problems.slice(this.#relayMarks.get(relay.name) ?? 0);
      this.#relayMarks.set(relay.name, problems.length);
      const unexpected = fresh.filter((line) => !expected.some((pattern) => pattern.test(line)));
      violations.push(...unexpected.map((line) => `${relay.name} says: ${line}`));
    }
    return violations;
  }

  async #resourceViolations(): Promise<string[]> {
    const results = await Promise.all(
      this.#fleet.relays.map(({ relay }) => this.#resourcesOf(relay)),
    );
    return results.flat();
  }

  async #resourcesOf(relay: WalcastRelay): Promise<string[]> {
    const { pid } = relay.process;
    const [{ rss }, descriptors, { standbys }] = await Promise.all([
      relay.memory(),
      readdir(`/proc/${pid}/fd`),
      relay.status(),
    ]);
    this.figures.rssMax = Math.max(this.figures.rssMax, rss);
    this.figures.descriptorsMax = Math.max(this.figures.descriptorsMax, descriptors.length);
    const own = descriptors.length - standbys.length;
    const first = this.#descriptors.get(pid) ?? own;
    this.#descriptors.set(pid, first);
    return [
      ...(own > first + DESCRIPTORS_MORE_MAX
        ? [`${relay.name} has ${own} descriptors of its own; there were ${first}`]
        : []),
      ...(rss > RSS_BYTES_MAX ? [`${relay.name} takes ${Math.round(rss / MIB)} MiB`] : []),
    ];
  }
}

/** As walDirectoryTruth, with each segment read once: a campaign asks for every page of every link. */
function cachedTruth(directory: string, segmentSize: Fleet['segmentSize']): PageTruth {
  const segments = new Map<string, Buffer | null>();
  return async (timeline, startLsn, endLsn) => {
    const segment = segmentNumber(startLsn, segmentSize);
    const name = walFileName(toTimelineId(timeline), segment, segmentSize);
    let bytes = segments.get(name);
    if (bytes === undefined) {
      bytes = await readFile(join(directory, name)).catch(() => null);
      if (segments.size >= SEGMENTS_CACHED_MAX) segments.clear();
      segments.set(name, bytes);
    }
    if (bytes === null) return null;
    const offset = segmentOffset(startLsn, segmentSize);
    const piece = bytes.subarray(offset, offset + Number(endLsn - startLsn));
    return createHash('sha1').update(piece).digest('hex');
  };
}

function lsnOf(text: string | null | undefined): Lsn {
  return parseLsn(text ?? '') ?? INVALID_LSN;
}
