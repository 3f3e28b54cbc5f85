// How do the files of a store get from one timeline to the next? In steps of which each can be done again: the switch is
// noted in the control file before the first one, and a start that finds the note does them all. The next timeline's file
// comes first, as a copy of what is before the switch point, because it is the only step that needs space; then what lies
// behind the switch point is moved aside. (xlog.c:XLogInitNewTimeline, CleanupAfterArchiveRecovery)
import { access, open, readdir, rename, rm, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import {
  createDirectory,
  newFileMode,
  readFully,
  syncDirectory,
  writeFully,
} from '../base/durable-fs.ts';
import { OperationalError } from '../base/errors.ts';
import { SWITCH_OVERLAP_BYTES_MAX } from '../config/limits.ts';
import {
  advanceLsn,
  formatLsn,
  INVALID_LSN,
  lsnDistance,
  maxLsn,
  minLsn,
  pageStart,
} from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import {
  parseWalFileName,
  segmentNumber,
  segmentNumberBefore,
  segmentOffset,
  segmentStart,
  walFileName,
} from '../pg/segment.ts';
import type { SegmentNumber, SegmentSize } from '../pg/segment.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { ControlState, PendingSwitch } from './control-file.ts';
import { deadDirectory, walDirectory } from './data-directory.ts';
import { moveToDead } from './dead-wal.ts';
import { Lineage } from './lineage.ts';
import { pageSumsDirectory, removePageSums } from './page-sums.ts';
import { chainStart } from './records/record-chain.ts';
import type { ChainPosition } from './records/record-chain.ts';
import { RecordWalk } from './records/record-walk.ts';
import { TEMPORARY_SEGMENT_PREFIX } from './segment-writer.ts';
import type { StoredIdentity, SwitchStep } from './store-options.ts';

/** What is to be done to the files. The switch is noted in the control file, and nothing else writes there. */
export interface SwitchPlan {
  readonly dataDirectory: string;
  readonly segmentSize: SegmentSize;
  /** The timeline that is left. */
  readonly timeline: TimelineId;
  readonly pending: PendingSwitch;
  /** Told before each step. */
  readonly onStep?: ((step: SwitchStep) => Promise<void> | void) | undefined;
}

const CHUNK_BYTES = 1 << 20;

/** (access/transam.h) */
const FIRST_NORMAL_XID = 3n;
/** Ids further apart cannot be told apart without their epoch. */
const XID_WINDOW = 1n << 31n;

/** Moves the files; durable when it resolves. Rejects with the system's error, and can be done again then. */
export async function moveToNextTimeline(plan: SwitchPlan): Promise<void> {
  await new FileMove(plan).run();
}

/** What the control file says when the files are moved. */
export function switchedState(state: ControlState, pending: PendingSwitch): ControlState {
  const { acknowledgedBeyond: before } = state;
  const switchLsn = pending.chain.lsn;
  // Rather a commit too many in the alarm than one that nobody is told of.
  const reportedFlushLsn = maxLsn(state.reportedFlushLsn, state.maybeReportedLsn);
  const bytes = lsnDistance(switchLsn, reportedFlushLsn);
  const beyond = { timeline: state.timeline, reportedFlushLsn, switchLsn, bytes };
  // Of two that nobody has let go of, the larger one says more.
  const isNoted = bytes > (before?.bytes ?? 0);
  return {
    ...state,
    timeline: pending.timeline,
    durableMark: pending.chain,
    reportedFlushLsn: minLsn(state.reportedFlushLsn, switchLsn),
    maybeReportedLsn: INVALID_LSN,
    wasCleanStop: false,
    pendingSwitch: null,
    acknowledgedBeyond: isNoted ? beyond : before,
  };
}

/**
 * Moves what files of `timeline` there are into `dead/`: a timeline that was never followed has none that mean anything.
 */
export async function setStrayFilesAside(
  dataDirectory: string,
  timeline: TimelineId,
  size: SegmentSize,
): Promise<string[]> {
  const directory = walDirectory(dataDirectory);
  const names = (await readdir(directory)).filter(
    (name) => parseWalFileName(name, size)?.timeline === timeline,
  );
  if (names.length === 0) return [];
  await createDirectory(deadDirectory(dataDirectory));
  for (const name of names) {
    // The file that gets the name next has other bytes.
    await removePageSums(directory, name);
    await moveToDead(dataDirectory, join(directory, name), name);
  }
  await syncDirectory(pageSumsDirectory(directory));
  await syncDirectory(deadDirectory(dataDirectory));
  await syncDirectory(directory);
  return names;
}

/**
 * The chain of records at `lsn`, as stored, when it is followed from `from` on; where that is behind `lsn`, from the segment
 * that holds the last byte before it. Where no record ends at `lsn`, a new chain begins there. Rejects with the system's
 * error.
 */
export async function chainAt(
  dataDirectory: string,
  identity: StoredIdentity,
  { from, lsn, oldestLsn }: { from: ChainPosition; lsn: Lsn; oldestLsn: Lsn },
): Promise<ChainPosition> {
  const size = identity.segmentSize;
  const before = segmentStart(segmentNumberBefore(lsn, size), size);
  const floorXid = xidFloor(from);
  const isBack = from.lsn > lsn;
  const start = isBack ? startOver(maxLsn(oldestLsn, before), floorXid) : from;
  const walk = new RecordWalk({ ...identity, checksums: true }, start);
  const lineage = new Lineage(identity.history, size);
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  while (walk.nextLsn() < lsn) {
    const at = walk.nextLsn();
    const segment = segmentNumber(at, size);
    const file = walFileName(lineage.fileTimeline(segment), segment, size);
    const rest = Math.min(size - segmentOffset(at, size), lsnDistance(at, lsn), CHUNK_BYTES);
    const bytes = buffer.subarray(0, rest);
    await readAt(join(walDirectory(dataDirectory), file), bytes, segmentOffset(at, size));
    if (walk.scan(bytes) !== null) break;
  }
  const position = walk.position();
  const isUntold = isBack && position.facts.nextFullXid === floorXid;
  const facts = isUntold ? { ...position.facts, nextFullXid: null } : position.facts;
  const chain = { ...position, facts };
  return chain.lsn === lsn ? chain : { ...chainStart(lsn), redoLsn: chain.redoLsn, facts };
}

/**
 * Nothing is known there but the epoch of transaction ids: a walk over records with any id tells the next one, which would
 * else not be known until the next timeline's first checkpoint is over.
 */
function startOver(lsn: Lsn, floorXid: bigint | null): ChainPosition {
  const chain = chainStart(lsn);
  return { ...chain, facts: { ...chain.facts, nextFullXid: floorXid } };
}

/** As far back as an id without epoch can be told, seen from the next one at `chain`; null where that is not known. */
function xidFloor({ facts: { nextFullXid } }: ChainPosition): bigint | null {
  if (nextFullXid === null) return null;
  const floor = nextFullXid - XID_WINDOW + 1n;
  return floor > FIRST_NORMAL_XID ? floor : FIRST_NORMAL_XID;
}

/** The WAL before `lsn` in its segment, from a page start on, as far as it is compared with the upstream's. */
export async function readOverlap(
  dataDirectory: string,
  file: { readonly timeline: TimelineId; readonly segmentSize: SegmentSize },
  lsn: Lsn,
): Promise<Uint8Array> {
  const { timeline, segmentSize } = file;
  const offset = segmentOffset(lsn, segmentSize);
  if (offset === 0) return new Uint8Array(0);
  const least = pageStart(advanceLsn(lsn, -Math.min(offset, SWITCH_OVERLAP_BYTES_MAX)));
  const bytes = Buffer.allocUnsafe(lsnDistance(least, lsn));
  const name = walFileName(timeline, segmentNumber(lsn, segmentSize), segmentSize);
  const path = join(walDirectory(dataDirectory), name);
  await readAt(path, bytes, segmentOffset(least, segmentSize));
  return bytes;
}

class FileMove {
  readonly #plan: SwitchPlan;
  readonly #directory: string;
  readonly #switchLsn: Lsn;
  readonly #segment: SegmentNumber;
  readonly #offset: number;

  constructor(plan: SwitchPlan) {
    const switchLsn = plan.pending.chain.lsn;
    this.#plan = plan;
    this.#directory = walDirectory(plan.dataDirectory);
    this.#switchLsn = switchLsn;
    this.#segment = segmentNumber(switchLsn, plan.segmentSize);
    this.#offset = segmentOffset(switchLsn, plan.segmentSize);
  }

  async run(): Promise<void> {
    const dead = deadDirectory(this.#plan.dataDirectory);
    await this.#step('temporary files');
    await this.#removeTemporary();
    await this.#step('directory');
    await createDirectory(dead);
    await this.#step('copy');
    if (this.#offset > 0) await this.#copyCutSegment();
    await this.#moveWholeSegments();
    await this.#step('cut segment');
    await this.#moveCutSegment();
    await this.#step('names');
    await syncDirectory(dead);
    await syncDirectory(this.#directory);
    await this.#step('control file');
  }

  async #step(step: SwitchStep): Promise<void> {
    await this.#plan.onStep?.(step);
  }

  /** The writer that made them is gone. */
  async #removeTemporary(): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      if (!name.startsWith(TEMPORARY_SEGMENT_PREFIX)) continue;
      // A segment that is being removed meanwhile may be one of them.
      await rm(join(this.#directory, name), { force: true });
    }
  }

  /** The next timeline's file of the segment: the same up to the switch point, zeros behind it. */
  async #copyCutSegment(): Promise<void> {
    const { timeline, pending } = this.#plan;
    const name = this.#name(pending.timeline, this.#segment);
    const target = join(this.#directory, name);
    if (await exists(target)) return;
    const source = join(this.#directory, this.#name(timeline, this.#segment));
    if (!(await exists(source))) throw missing(source, this.#switchLsn);
    const temporary = join(this.#directory, TEMPORARY_SEGMENT_PREFIX + name);
    try {
      await this.#writeCopy(source, temporary);
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw error;
    }
    await this.#step('copy renamed');
    await rename(temporary, target);
    await syncDirectory(this.#directory);
  }

  async #writeCopy(source: string, temporary: string): Promise<void> {
    const { segmentSize } = this.#plan;
    const from = await open(source, 'r');
    try {
      const to = await open(temporary, 'w', newFileMode());
      try {
        await this.#step('copy written');
        const buffer = Buffer.alloc(Math.min(CHUNK_BYTES, segmentSize));
        for (let at = 0; at < segmentSize; at += buffer.length) {
          const valid = Math.max(0, Math.min(buffer.length, this.#offset - at));
          await readWhole(from, source, { bytes: buffer.subarray(0, valid), offset: at });
          await writeFully(to, buffer.fill(0, valid), at);
        }
        await to.sync();
      } finally {
        await to.close();
      }
    } finally {
      await from.close();
    }
  }

  /** Those that begin behind the switch point; one that was made ahead and never written to is simply removed. */
  async #moveWholeSegments(): Promise<void> {
    const { dataDirectory, timeline, segmentSize, pending } = this.#plan;
    const first = this.#offset === 0 ? this.#segment : this.#segment + 1n;
    for (const name of (await readdir(this.#directory)).toSorted()) {
      const parsed = parseWalFileName(name, segmentSize);
      if (parsed?.timeline !== timeline || parsed.segment < first) continue;
      await this.#step('dead segment');
      const path = join(this.#directory, name);
      if (segmentStart(parsed.segment, segmentSize) >= pending.endLsn) await unlink(path);
      else await moveToDead(dataDirectory, path, name);
    }
  }

  /** Without WAL behind the switch point the file stays where it is: it is a part of the next timeline's. */
  async #moveCutSegment(): Promise<void> {
    const { dataDirectory, timeline, pending } = this.#plan;
    if (this.#offset === 0 || pending.endLsn === this.#switchLsn) return;
    const name = this.#name(timeline, this.#segment);
    const path = join(this.#directory, name);
    if (await exists(path)) await moveToDead(dataDirectory, path, `${name}.partial`);
  }

  #name(timeline: TimelineId, segment: SegmentNumber): string {
    return walFileName(timeline, segment, this.#plan.segmentSize);
  }
}

async function readAt(path: string, bytes: Uint8Array, offset: number): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await readWhole(handle, path, { bytes, offset });
  } finally {
    await handle.close();
  }
}

async function readWhole(
  handle: FileHandle,
  path: string,
  { bytes, offset }: { readonly bytes: Uint8Array; readonly offset: number },
): Promise<void> {
  if ((await readFully(handle, bytes, offset)) === bytes.length) return;
  throw new OperationalError('SEGMENT_SIZE', `the WAL segment "${path}" is too short`, {
    hint: 'Something else than walcast changed it.',
  });
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

function missing(path: string, lsn: Lsn): OperationalError {
  return new OperationalError(
    'WAL_MISSING',
    `the WAL segment "${path}" is missing, though WAL up to ${formatLsn(lsn)} was durable`,
    { hint: 'Something removed it. Put it back, or begin anew with "walcast store reset".' },
  );
}
