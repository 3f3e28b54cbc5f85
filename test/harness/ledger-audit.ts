// Did everything that passed on the links of some relays keep the promises? Judges the ledgers of all links together: what a
// relay sends is compared with what it was sent, whoever is at the other ends.
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import {
  checkLedger,
  checkNeverBeyondUpstream,
  checkRepliesWithinSent,
  checkSameBytes,
  messageEnds,
} from './ledger-checks.ts';
import type { PageTruth } from './ledger-checks.ts';
import { copyLedger, streamsOf } from './ledger.ts';
import type { ConnectionLedger, Ledger, StreamLedger } from './ledger.ts';
import { recordEnds } from './record-ends.ts';

/** What passed between two nodes. `from` sends the WAL. */
export interface LinkRecord {
  readonly from: string;
  readonly to: string;
  readonly ledger: Ledger;
  /** The relay in whose order the entries are; absent: they are in everybody's. */
  readonly seenBy?: string;
}

/** Whose WAL is right. */
export interface AuditTruth {
  /** Directory with the WAL of every timeline of `history` that the links carried. */
  readonly walDirectory: string;
  readonly history: TimelineHistory;
  readonly segmentSize: SegmentSize;
  /** End of what that directory holds for certain. Asked once the ledgers are copied: servers go on writing. */
  readonly endLsn: () => Promise<Lsn>;
  readonly pages: PageTruth;
}

/** The book of all links; what was judged and forgotten is not judged again. */
export class LedgerAudit {
  readonly #relays: ReadonlySet<string>;
  /** Where messages ended that a relay received. */
  readonly #ends = new Map<string, Set<Lsn>>();
  /** The highest end that a relay received. */
  readonly #had = new Map<string, Lsn>();
  /** What was judged of a ledger and not forgotten yet. */
  readonly #judged = new Map<Ledger, Ledger>();
  /** The highest position that a relay was told of. */
  readonly #stated = new Map<string, Lsn>();

  /** `relays` are the nodes that forward; all others are servers. */
  constructor(relays: Iterable<string>) {
    this.#relays = new Set(relays);
  }

  /**
   * Everything that is not as promised, as sentences: contiguous streams, message ends, positions that never go back, lie on
   * ends and within what was sent, nothing downstream before upstream stated it, and the bytes.
   */
  async violations(links: readonly LinkRecord[], truth: AuditTruth): Promise<string[]> {
    // The world goes on while this looks.
    const copies = links.map((link) => ({ ...link, ledger: copyLedger(link.ledger) }));
    for (const [index, { ledger }] of links.entries()) {
      const copy = copies[index]?.ledger;
      if (copy !== undefined) this.#judged.set(ledger, copy);
    }
    const isRecordEnd = await recordEndsOf(copies, truth);
    const pages = remembering(truth.pages);
    const violations: string[] = [];
    for (const link of copies) {
      const found = [
        ...this.#linkViolations(link, copies, isRecordEnd),
        ...(await byteViolations(link.ledger, pages)),
      ];
      violations.push(...found.map((text) => `${link.from} → ${link.to}: ${text}`));
    }
    for (const relay of this.#relays) violations.push(...this.#neverBeyond(relay, copies));
    return violations;
  }

  /** Lets go of what the last look judged, so that a long run costs the memory of a short one. Streams go on where they were. */
  forget(links: readonly LinkRecord[]): void {
    for (const { to, ledger, seenBy } of links) {
      const judged = this.#judged.get(ledger);
      if (judged === undefined) continue;
      if (this.#relays.has(to) && (seenBy ?? to) === to) this.#remember(to, judged);
      trimLedger(ledger, judged);
      this.#judged.delete(ledger);
    }
  }

  #linkViolations(
    link: LinkRecord,
    all: readonly LinkRecord[],
    isRecordEnd: (lsn: Lsn) => boolean,
  ): string[] {
    const { from, to, ledger } = link;
    const isToRelay = this.#relays.has(to);
    const reporter = isToRelay ? 'walcast' : 'standby';
    const upstreamEnds = this.#relays.has(from)
      ? this.#endsOf(from, all)
      : unionOf([messageEnds(ledger), this.#ends.get(to) ?? new Set<Lsn>()]);
    const violations = checkLedger(ledger, { reporter, upstreamEnds, isRecordEnd });
    if (!isToRelay) return violations;
    const received = receivedBy(to, all).map((each) => each.ledger);
    const streams = received.flatMap((each) => streamsOf(each));
    return [
      ...violations,
      ...streamsOf(ledger).flatMap((stream) =>
        checkRepliesWithinSent(stream, () => this.#hadBefore(to, stream, streams)),
      ),
    ];
  }

  /** What a relay may have had when `stream` began. */
  #hadBefore(relay: string, stream: StreamLedger, streams: readonly StreamLedger[]): Lsn {
    let highest = this.#had.get(relay) ?? INVALID_LSN;
    if (stream.startLsn > highest) highest = stream.startLsn;
    for (const { startedAt, wal } of streams) {
      if (startedAt.seq >= stream.startedAt.seq) continue;
      for (const { endLsn } of wal) if (endLsn > highest) highest = endLsn;
    }
    return highest;
  }

  #neverBeyond(relay: string, links: readonly LinkRecord[]): string[] {
    const connections = (of: readonly LinkRecord[]): ConnectionLedger[] =>
      of.flatMap(({ ledger }) => ledger.connections);
    const before = statedBefore(this.#stated.get(relay) ?? INVALID_LSN);
    const own = links.filter(({ seenBy }) => (seenBy ?? relay) === relay);
    const received = connections(own.filter(({ to }) => to === relay));
    const upstream = { name: 'upstream', connections: [...before.connections, ...received] };
    const sent = connections(own.filter(({ from }) => from === relay));
    return checkNeverBeyondUpstream({ name: 'downstream', connections: sent }, upstream).map(
      (text) => `${relay}: ${text}`,
    );
  }

  #endsOf(relay: string, all: readonly LinkRecord[]): Set<Lsn> {
    const received = receivedBy(relay, all);
    return unionOf([
      this.#ends.get(relay) ?? new Set(),
      ...received.map((each) => messageEnds(each.ledger)),
    ]);
  }

  #remember(relay: string, ledger: Ledger): void {
    const ends = this.#ends.get(relay) ?? new Set<Lsn>();
    this.#ends.set(relay, ends);
    for (const end of messageEnds(ledger)) {
      ends.add(end);
      if (end > (this.#had.get(relay) ?? INVALID_LSN)) this.#had.set(relay, end);
    }
    const stated = highestStatement(ledger);
    if (stated > (this.#stated.get(relay) ?? INVALID_LSN)) this.#stated.set(relay, stated);
  }
}

/** The links on which a relay received, as itself saw them where it did. */
function receivedBy(relay: string, links: readonly LinkRecord[]): LinkRecord[] {
  return links.filter(({ to, seenBy }) => to === relay && (seenBy ?? relay) === relay);
}

/** Every link carries the same pages. */
function remembering(truth: PageTruth): PageTruth {
  const known = new Map<string, ReturnType<PageTruth>>();
  return (timeline, startLsn, endLsn) => {
    const key = `${timeline}/${startLsn}/${endLsn}`;
    const found = known.get(key) ?? truth(timeline, startLsn, endLsn);
    known.set(key, found);
    return found;
  };
}

async function byteViolations(ledger: Ledger, truth: PageTruth): Promise<string[]> {
  const violations: string[] = [];
  for (const stream of streamsOf(ledger)) violations.push(...(await checkSameBytes(stream, truth)));
  return violations;
}

/** Ends of records on every timeline of the history, from where the oldest judged stream begins. */
async function recordEndsOf(
  links: readonly LinkRecord[],
  truth: AuditTruth,
): Promise<(lsn: Lsn) => boolean> {
  const starts = links.flatMap(({ ledger }) =>
    streamsOf(ledger).map((stream) => stream.wal[0]?.startLsn ?? stream.startLsn),
  );
  const endLsn = await truth.endLsn();
  let fromLsn = endLsn;
  for (const start of starts) if (start < fromLsn) fromLsn = start;
  const { walDirectory: directory, segmentSize, history } = truth;
  const spans = [...history.ancestors, { timeline: history.timeline, endLsn }];
  const found: Set<Lsn>[] = [];
  for (const { timeline, endLsn: untilLsn } of spans) {
    if (untilLsn <= fromLsn) continue;
    found.push(await recordEnds({ directory, timeline, segmentSize, fromLsn, untilLsn }));
    fromLsn = untilLsn;
  }
  return (lsn) => found.some((ends) => ends.has(lsn));
}

/**
 * Takes what is in `judged`, an earlier copy, out of `ledger`, except for what the next look needs: where streams are, and
 * their last reply. Both have their entries in the same order; `ledger` may have more behind.
 */
function trimLedger(ledger: Ledger, judged: Ledger): void {
  for (const [index, connection] of judged.connections.entries()) {
    const rest = ledger.connections[index];
    if (rest === undefined) continue;
    rest.identified.splice(0, connection.identified.length);
    rest.commands.splice(0, connection.commands.length - 1);
    rest.unreadable.splice(0, connection.unreadable.length);
    for (const [at, stream] of connection.streams.entries()) trimStream(rest.streams[at], stream);
    rest.streams.splice(0, connection.streams.length - 1);
  }
  const isOver = (index: number): boolean => (judged.connections[index]?.closedAt ?? null) !== null;
  const left = ledger.connections.filter((_, index) => !isOver(index));
  ledger.connections.splice(0, ledger.connections.length, ...left);
}

function trimStream(stream: StreamLedger | undefined, judged: StreamLedger): void {
  if (stream === undefined) return;
  stream.startLsn = judged.wal.at(-1)?.endLsn ?? judged.startLsn;
  stream.wal.splice(0, judged.wal.length);
  stream.pages.splice(0, judged.pages.length);
  stream.keepalives.splice(0, judged.keepalives.length);
  stream.feedback.splice(0, judged.feedback.length);
  stream.replies.splice(0, judged.replies.length - 1);
}

/** The highest position that the sender of `ledger` stated in any way. */
function highestStatement(ledger: Ledger): Lsn {
  let highest = INVALID_LSN;
  const take = (lsn: Lsn): void => {
    if (lsn > highest) highest = lsn;
  };
  for (const { identified } of ledger.connections)
    for (const each of identified) take(each.xlogPos);
  for (const { startLsn, wal, keepalives } of streamsOf(ledger)) {
    take(startLsn);
    for (const each of wal) {
      take(each.endLsn);
      take(each.walEnd);
    }
    for (const each of keepalives) take(each.walEnd);
  }
  return highest;
}

/** A ledger in which `lsn` was stated before anything else happened. */
function statedBefore(lsn: Lsn): Ledger {
  const before = { seq: -1, atMs: 0 };
  const connection: ConnectionLedger = {
    id: 0,
    openedAt: before,
    parameters: new Map(),
    commands: [],
    streams: [],
    identified: [{ ...before, timeline: 1, xlogPos: lsn }],
    unreadable: [],
    closedAt: before,
    closedBy: null,
  };
  return { name: 'stated before', connections: [connection] };
}

function unionOf(sets: readonly ReadonlySet<Lsn>[]): Set<Lsn> {
  const union = new Set<Lsn>();
  for (const set of sets) for (const lsn of set) union.add(lsn);
  return union;
}
