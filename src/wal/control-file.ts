// Who do we stand for, and up to where is the WAL surely on the disk? What must survive a restart besides the WAL itself,
// in one small checksummed text file that is replaced as a whole.
import { OperationalError } from '../base/errors.ts';
import { loadStateFile, saveStateFile } from '../base/state-file.ts';
import type { StateFileKind } from '../base/state-file.ts';
import { formatLsn, INVALID_LSN, lsnDistance, parseLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { toSegmentSize } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import { toPgTimestamp } from '../pg/timestamp.ts';
import { toTimelineId } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { AcknowledgedBeyond } from '../status/status.ts';
import { controlFile } from './data-directory.ts';
import type { ChainPosition } from './records/record-chain.ts';
import type { WalFacts } from './records/wal-facts.ts';

/** The server that the WAL is of, as far as it can change while the WAL stays the same. */
export interface StoredServer {
  readonly serverVersion: string;
  /** ParameterStatus values to repeat to clients. */
  readonly parameters: ReadonlyMap<string, string>;
  /** Answers for SHOW. */
  readonly settings: ReadonlyMap<string, string>;
}

/** The content of `walcast.control`. */
export interface ControlState {
  /** Decimal text of the unsigned 64-bit system identifier. */
  readonly systemIdentifier: string;
  readonly major: number;
  readonly segmentSize: SegmentSize;
  readonly timeline: TimelineId;
  readonly server: StoredServer;
  /** Where the store once began: a segment start. */
  readonly firstLsn: Lsn;
  /** A record end with everything before it on the disk, directory entries too. The search for the end starts here. */
  readonly durableMark: ChainPosition;
  /** P: last non-zero flush position reported upstream, as far as it was saved. */
  readonly reportedFlushLsn: Lsn;
  /**
   * Where the WAL ended when a stop out of order had been: P is saved lazily, so a flush may have been reported up to there
   * that P does not know of. INVALID_LSN when P is all that was reported.
   */
  readonly maybeReportedLsn: Lsn;
  /** Everything received had been flushed when this was written. */
  readonly wasCleanStop: boolean;
  /** A timeline switch that was begun: whatever happens, it is completed before anything else. */
  readonly pendingSwitch: PendingSwitch | null;
  /** What had been reported as flushed and lies behind a switch point, until a person lets go of it. */
  readonly acknowledgedBeyond: AcknowledgedBeyond | null;
}

/** A switch from {@link ControlState.timeline} to `timeline`, whose history file is stored. */
export interface PendingSwitch {
  readonly timeline: TimelineId;
  /** The chain of records at the switch point, the first byte of the next timeline. Everything before it is on the disk. */
  readonly chain: ChainPosition;
  /** End (exclusive) of the WAL of the old timeline: from the switch point up to there it is dead. */
  readonly endLsn: Lsn;
}

/** Version 1 knew no timeline switch. */
const KIND: StateFileKind = { magic: 'walcast-control', version: 2, oldestVersion: 1 };

/** Replaces the file; durable when it resolves. Two calls must not overlap. */
export function saveControl(dataDirectory: string, state: ControlState): Promise<void> {
  return saveStateFile(controlFile(dataDirectory), KIND, encode(state));
}

/** Null when there is no file: the store is empty. Throws OperationalError when it is damaged. */
export async function loadControl(dataDirectory: string): Promise<ControlState | null> {
  const path = controlFile(dataDirectory);
  const loaded = await loadStateFile(path, KIND);
  if (loaded === null) return null;
  try {
    return decode(loaded.body);
  } catch (error) {
    throw new OperationalError('CONTROL_FILE_DAMAGED', `the file "${path}" makes no sense`, {
      hint: 'Its checksum is right, so walcast wrote it: report this. Nothing was changed.',
      cause: error,
    });
  }
}

function encode(state: ControlState): Record<string, unknown> {
  return {
    system_identifier: state.systemIdentifier,
    major: state.major,
    wal_segment_size: state.segmentSize,
    timeline: state.timeline,
    server_version: state.server.serverVersion,
    parameters: Object.fromEntries(state.server.parameters),
    settings: Object.fromEntries(state.server.settings),
    first_lsn: formatLsn(state.firstLsn),
    ...encodeChain(state.durableMark),
    reported_flush_lsn: formatLsn(state.reportedFlushLsn),
    maybe_reported_lsn: formatLsn(state.maybeReportedLsn),
    was_clean_stop: state.wasCleanStop,
    pending_switch: encodePending(state.pendingSwitch),
    acknowledged_beyond: encodeBeyond(state.acknowledgedBeyond),
  };
}

function encodeChain(chain: ChainPosition): Record<string, unknown> {
  return {
    durable_lsn: formatLsn(chain.lsn),
    last_record_lsn: chain.lastRecordLsn === null ? null : formatLsn(chain.lastRecordLsn),
    last_record_is_shutdown_checkpoint: chain.isShutdownCheckpoint,
    redo_lsn: formatLsn(chain.redoLsn),
    next_full_xid: chain.facts.nextFullXid?.toString() ?? null,
    newest_commit_at: chain.facts.newestCommitAt?.toString() ?? null,
  };
}

function encodePending(pending: PendingSwitch | null): unknown {
  if (pending === null) return null;
  const { timeline, endLsn, chain } = pending;
  return { timeline, end_lsn: formatLsn(endLsn), ...encodeChain(chain) };
}

function encodeBeyond(beyond: AcknowledgedBeyond | null): unknown {
  if (beyond === null) return null;
  return {
    timeline: beyond.timeline,
    reported_flush_lsn: formatLsn(beyond.reportedFlushLsn),
    switch_lsn: formatLsn(beyond.switchLsn),
  };
}

function decode(body: unknown): ControlState {
  const fields = new Map(Object.entries(asObject(body)));
  return {
    systemIdentifier: BigInt.asUintN(
      64,
      BigInt(asText(fields.get('system_identifier'))),
    ).toString(),
    major: asNumber(fields.get('major')),
    segmentSize: toSegmentSize(asNumber(fields.get('wal_segment_size'))),
    timeline: toTimelineId(asNumber(fields.get('timeline'))),
    server: {
      serverVersion: asText(fields.get('server_version')),
      parameters: asMap(fields.get('parameters')),
      settings: asMap(fields.get('settings')),
    },
    firstLsn: asLsn(fields.get('first_lsn')),
    durableMark: decodeChain(fields),
    reportedFlushLsn: asLsn(fields.get('reported_flush_lsn')),
    maybeReportedLsn: decodeMaybe(fields.get('maybe_reported_lsn')),
    wasCleanStop: fields.get('was_clean_stop') === true,
    pendingSwitch: decodePending(fields.get('pending_switch')),
    acknowledgedBeyond: decodeBeyond(fields.get('acknowledged_beyond')),
  };
}

/** Absent in version 1. */
function decodeMaybe(value: unknown): Lsn {
  return value === undefined ? INVALID_LSN : asLsn(value);
}

function decodeChain(fields: ReadonlyMap<string, unknown>): ChainPosition {
  const lastRecord = fields.get('last_record_lsn');
  return {
    lsn: asLsn(fields.get('durable_lsn')),
    lastRecordLsn: lastRecord === null ? null : asLsn(lastRecord),
    isShutdownCheckpoint: fields.get('last_record_is_shutdown_checkpoint') === true,
    redoLsn: asLsn(fields.get('redo_lsn')),
    facts: decodeFacts(fields),
  };
}

/** Absent in version 1. */
function decodePending(value: unknown): PendingSwitch | null {
  if (value === undefined || value === null) return null;
  const fields = new Map(Object.entries(asObject(value)));
  return {
    timeline: toTimelineId(asNumber(fields.get('timeline'))),
    chain: decodeChain(fields),
    endLsn: asLsn(fields.get('end_lsn')),
  };
}

/** Absent in version 1. */
function decodeBeyond(value: unknown): AcknowledgedBeyond | null {
  if (value === undefined || value === null) return null;
  const fields = new Map(Object.entries(asObject(value)));
  const reportedFlushLsn = asLsn(fields.get('reported_flush_lsn'));
  const switchLsn = asLsn(fields.get('switch_lsn'));
  return {
    timeline: toTimelineId(asNumber(fields.get('timeline'))),
    reportedFlushLsn,
    switchLsn,
    bytes: lsnDistance(switchLsn, reportedFlushLsn),
  };
}

/** Files from before these were known have none of them. Which commit waits for apply feedback is asked anew by each process. */
function decodeFacts(fields: ReadonlyMap<string, unknown>): WalFacts {
  const nextFullXid = fields.get('next_full_xid') ?? null;
  const commitAt = fields.get('newest_commit_at') ?? null;
  return {
    nextFullXid: nextFullXid === null ? null : BigInt.asUintN(64, BigInt(asText(nextFullXid))),
    newestCommitAt: commitAt === null ? null : toPgTimestamp(BigInt(asText(commitAt))),
    applyFeedbackLsn: null,
  };
}

function asObject(value: unknown): object {
  if (typeof value !== 'object' || value === null) throw new TypeError('expected an object');
  return value;
}

function asText(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError('expected a text');
  return value;
}

function asNumber(value: unknown): number {
  if (typeof value !== 'number') throw new TypeError('expected a number');
  return value;
}

function asLsn(value: unknown): Lsn {
  const lsn = parseLsn(asText(value));
  if (lsn === null) throw new TypeError('expected an LSN');
  return lsn;
}

function asMap(value: unknown): ReadonlyMap<string, string> {
  return new Map(Object.entries(asObject(value)).map(([name, text]) => [name, asText(text)]));
}
