// Was what walcast reported as flushed really on the disk at that moment? Read from the system calls of the process, as
// strace wrote them down: writes, flushes and renames of segments on one side, status updates to the upstream on the
// other. One file has them all in the order they happened, so no clock is needed.
import { basename } from 'node:path';
import { advanceLsn, formatLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { parseWalFileName, segmentStart } from '../../src/pg/segment.ts';
import type { SegmentNumber, SegmentSize } from '../../src/pg/segment.ts';

/** Arguments of strace that make a trace this module reads, written to `file`. */
export function straceCommand(file: string): string[] {
  const calls =
    'pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,fdatasync,fsync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,ftruncate';
  return [
    'strace',
    '-f',
    '-y',
    '-xx',
    '-s',
    '600',
    '--seccomp-bpf',
    '-e',
    `trace=${calls}`,
    '-o',
    file,
  ];
}

/** One system call. It took effect somewhere between `start` and `end`, which are numbers of lines. */
interface Call {
  readonly name: string;
  /** As printed, between the brackets. */
  readonly args: string;
  readonly result: number;
  readonly start: number;
  readonly end: number;
}

/** A status update that left the process. */
export interface Report {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  /** Everything before it was on the disk, names of files included, when the update was handed to the kernel. */
  readonly durableLsn: Lsn;
  /** Everything before it had been handed to the kernel. */
  readonly writtenLsn: Lsn;
}

/** What a trace tells. */
export interface TraceFindings {
  readonly reports: readonly Report[];
  readonly flushes: number;
  readonly segmentsNamed: number;
}

/** Names of calls to leave out of a trace, to see that their lack is noticed. */
export type LeaveOut = (call: { readonly name: string; readonly path: string }) => boolean;

/** What is traced: the processes that worked on one store, one after the other. */
export interface TracedStore {
  readonly traces: readonly string[];
  readonly segmentSize: SegmentSize;
  /** Where the store begins: what lies before was never asked for. */
  readonly beginLsn: Lsn;
}

/** Goes through the traces. */
export function readTraces(
  { traces, segmentSize, beginLsn }: TracedStore,
  leaveOut: LeaveOut = () => false,
): TraceFindings {
  const disk = new DiskModel(segmentSize, beginLsn);
  const reports: Report[] = [];
  for (const trace of traces) {
    for (const { call, isStart } of inOrder(callsOf(trace))) {
      const path = pathOf(call.args);
      // Sums lie beside the segments, under the same names; nothing that is promised depends on them.
      if (path.includes('/page_sums/') || leaveOut({ name: call.name, path })) continue;
      if (isStart) {
        disk.begin(call, path);
        for (const report of reportsOf(call, disk)) {
          reports.push(report);
          disk.reported(report.flushLsn);
        }
      } else {
        disk.end(call, path);
      }
    }
    disk.processEnded();
  }
  return { reports, flushes: disk.flushes, segmentsNamed: disk.segmentsNamed };
}

/** Reports of more than what was there, as sentences. */
export function prematureReports(findings: TraceFindings): string[] {
  return findings.reports.flatMap(({ flushLsn, durableLsn, writeLsn, writtenLsn }) => [
    ...(flushLsn > durableLsn
      ? [`${formatLsn(flushLsn)} reported as flushed, durable was ${formatLsn(durableLsn)}`]
      : []),
    ...(writeLsn > writtenLsn
      ? [`${formatLsn(writeLsn)} reported as written, written was ${formatLsn(writtenLsn)}`]
      : []),
  ]);
}

const WHOLE = /^(\d+) +(\w+)\((.*)\) += (-?\d+)/;
const UNFINISHED = /^(\d+) +(\w+)\((.*?),? *<unfinished \.\.\.>$/;
const RESUMED = /^(\d+) +<\.\.\. (\w+) resumed>,? *(.*)\) += (-?\d+)/;

function callsOf(trace: string): Call[] {
  const calls: Call[] = [];
  const open = new Map<string, { name: string; args: string; start: number }>();
  for (const [index, line] of trace.split('\n').entries()) {
    const unfinished = UNFINISHED.exec(line);
    if (unfinished !== null) {
      const [, pid = '', name = '', args = ''] = unfinished;
      open.set(pid, { name, args, start: index });
      continue;
    }
    const resumed = RESUMED.exec(line);
    const begun = resumed === null ? undefined : open.get(resumed[1] ?? '');
    if (resumed !== null && begun !== undefined) {
      open.delete(resumed[1] ?? '');
      const [, , , rest = '', result = ''] = resumed;
      const args = rest === '' ? begun.args : `${begun.args}, ${rest}`;
      calls.push({
        name: begun.name,
        args,
        result: Number(result),
        start: begun.start,
        end: index,
      });
      continue;
    }
    const whole = WHOLE.exec(line);
    if (whole === null) continue;
    const [, , name = '', args = '', result = ''] = whole;
    calls.push({ name, args, result: Number(result), start: index, end: index });
  }
  // A killed process leaves calls without an end; what they had begun to do they may have done.
  for (const begun of open.values()) calls.push({ ...begun, result: -1, end: trace.length });
  return calls;
}

/** Beginnings and ends of calls, in the order of the lines. */
function inOrder(calls: readonly Call[]): { call: Call; isStart: boolean }[] {
  return calls
    .flatMap((call) => [
      { call, isStart: true, at: call.start },
      { call, isStart: false, at: call.end + 0.5 },
    ])
    .toSorted((a, b) => a.at - b.at);
}

/** `\x2f\x74…` as bytes. */
function unescape(text: string): Buffer {
  return Buffer.from(text.replaceAll('\\x', ''), 'hex');
}

/** What the first file descriptor leads to, or the first name. */
function pathOf(args: string): string {
  const match = /^\d+<([^>]*)>/.exec(args) ?? /^(?:AT_FDCWD<[^>]*>, )?"([^"]*)"/.exec(args);
  return match === null ? '' : unescape(match[1] ?? '').toString();
}

function namesOf(args: string): string[] {
  return [...args.matchAll(/"([^"]*)"/g)].map((match) => unescape(match[1] ?? '').toString());
}

const SENDING: ReadonlySet<string> = new Set(['write', 'writev', 'sendto', 'sendmsg']);
const COPY_DATA = 0x64;
const STATUS_UPDATE = 0x72;

/** Status updates in the bytes that a call hands to a socket. */
function reportsOf(call: Call, disk: DiskModel): Report[] {
  if (!SENDING.has(call.name) || !pathOf(call.args).startsWith('socket:')) return [];
  const bytes = Buffer.concat(
    [...call.args.matchAll(/"([^"]*)"/g)].map((m) => unescape(m[1] ?? '')),
  );
  const reports: Report[] = [];
  for (let at = 0; at + 6 <= bytes.length && bytes[at] === COPY_DATA;) {
    const end = at + 1 + bytes.readInt32BE(at + 1);
    if (bytes[at + 5] === STATUS_UPDATE && end <= bytes.length) {
      reports.push({
        writeLsn: toLsn(bytes.readBigUInt64BE(at + 6)),
        flushLsn: toLsn(bytes.readBigUInt64BE(at + 14)),
        durableLsn: disk.endLsn('durable'),
        writtenLsn: disk.endLsn('written'),
      });
    }
    at = end;
  }
  return reports;
}

/** Byte ranges [from, to), sorted and apart from each other. */
class Ranges {
  #ranges: (readonly [from: number, to: number])[] = [];

  add(from: number, to: number): void {
    const apart = this.#ranges.filter(([a, b]) => b < from || a > to);
    const touching = this.#ranges.filter(([a, b]) => b >= from && a <= to);
    const merged = [
      Math.min(from, ...touching.map(([a]) => a)),
      Math.max(to, ...touching.map(([, b]) => b)),
    ] as const;
    this.#ranges = [...apart, merged].toSorted(([a], [b]) => a - b);
  }

  remove(from: number, to: number): void {
    this.#ranges = this.#ranges.flatMap(([a, b]) => [
      ...(a < from ? [[a, Math.min(b, from)] as const] : []),
      ...(b > to ? [[Math.max(a, to), b] as const] : []),
    ]);
  }

  addAll(other: Ranges): void {
    for (const [from, to] of other.#ranges) this.add(from, to);
  }

  copy(): Ranges {
    const copy = new Ranges();
    copy.addAll(this);
    return copy;
  }

  /** End of the range that begins with the first byte. */
  get wholeUntil(): number {
    const [first] = this.#ranges;
    return first !== undefined && first[0] === 0 ? first[1] : 0;
  }
}

interface SegmentOnDisk {
  readonly written: Ranges;
  /** Of that, what is on the disk as it was written last. */
  readonly durable: Ranges;
  /** The directory was flushed since the segment got its name. */
  isNameDurable: boolean;
}

/** What the calls so far have done to the directory of segments. */
class DiskModel {
  flushes = 0;
  segmentsNamed = 0;
  readonly #size: SegmentSize;
  readonly #beginLsn: Lsn;
  readonly #segments = new Map<string, SegmentOnDisk>();
  /** What a flush that is under way will have made durable. */
  readonly #flushing = new Map<Call, { name: string; ranges: Ranges }>();
  readonly #flushingDirectory = new Map<Call, readonly SegmentOnDisk[]>();
  #hasReported = false;
  #isLaterProcess = false;

  constructor(size: SegmentSize, beginLsn: Lsn) {
    this.#size = size;
    this.#beginLsn = beginLsn;
  }

  begin(call: Call, path: string): void {
    const { name } = call;
    const segment = this.#segments.get(basename(path));
    if (name === 'pwrite64' || name === 'pwritev') this.#overwritten(call, path);
    else if (name === 'fdatasync' || name === 'fsync') {
      if (segment !== undefined) {
        this.#flushing.set(call, { name: basename(path), ranges: segment.written.copy() });
      } else if (basename(path) === 'pg_wal') {
        this.#flushingDirectory.set(call, [...this.#segments.values()]);
      }
    } else if (segment !== undefined && NOT_MODELLED.has(name)) {
      throw new Error(`${name} of ${path} is not modelled`);
    }
  }

  end(call: Call, path: string): void {
    const { name, result } = call;
    const segment = this.#segments.get(basename(path));
    if ((name === 'pwrite64' || name === 'pwritev') && segment !== undefined && result > 0) {
      segment.written.add(offsetOf(call), offsetOf(call) + result);
    } else if (name.startsWith('rename') && result === 0) {
      this.#renamed(namesOf(call.args));
    } else if (name.startsWith('unlink') && result === 0) {
      this.#segments.delete(basename(namesOf(call.args)[0] ?? ''));
    } else if (result === 0) {
      this.#flushed(call);
    }
  }

  /** What had no end yet never has one. */
  processEnded(): void {
    this.#flushing.clear();
    this.#flushingDirectory.clear();
    this.#isLaterProcess = true;
    this.#hasReported = false;
  }

  /** Recovery writes whole segments back; what lies behind its end, which a process reports first, is no WAL yet. */
  reported(flushLsn: Lsn): void {
    if (this.#isLaterProcess && !this.#hasReported) {
      for (const [name, { written, durable }] of this.#segments) {
        const keep = Math.max(0, Number(flushLsn - this.#startOf(name)));
        for (const ranges of [written, durable]) ranges.remove(keep, Number.MAX_SAFE_INTEGER);
      }
    }
    this.#hasReported = true;
  }

  /** Everything from the beginning of the store up to here is there. */
  endLsn(what: 'written' | 'durable'): Lsn {
    const names = [...this.#segments.keys()].toSorted();
    let endLsn = this.#beginLsn;
    for (const name of names) {
      const segment = this.#segments.get(name);
      if (segment === undefined) break;
      if (what === 'durable' && !segment.isNameDurable) break;
      const startLsn = this.#startOf(name);
      if (startLsn !== endLsn) break;
      endLsn = advanceLsn(startLsn, Math.min(segment[what].wholeUntil, this.#size));
      if (segment[what].wholeUntil < this.#size) break;
    }
    return endLsn;
  }

  #overwritten(call: Call, path: string): void {
    const segment = this.#segments.get(basename(path));
    if (segment === undefined) return;
    const from = offsetOf(call);
    const to = from + countOf(call);
    segment.durable.remove(from, to);
    for (const { name, ranges } of this.#flushing.values()) {
      if (name === basename(path)) ranges.remove(from, to);
    }
  }

  #flushed(call: Call): void {
    const flush = this.#flushing.get(call);
    if (flush !== undefined) {
      this.#segments.get(flush.name)?.durable.addAll(flush.ranges);
      this.flushes += 1;
    }
    for (const segment of this.#flushingDirectory.get(call) ?? []) segment.isNameDurable = true;
    this.#flushing.delete(call);
    this.#flushingDirectory.delete(call);
  }

  #renamed([from = '', to = '']: readonly string[]): void {
    this.#segments.delete(basename(from));
    if (parseWalFileName(basename(to), this.#size) === null) return;
    this.segmentsNamed += 1;
    const segment = { written: new Ranges(), durable: new Ranges(), isNameDurable: false };
    this.#segments.set(basename(to), segment);
  }

  #startOf(name: string): Lsn {
    const segment: SegmentNumber | undefined = parseWalFileName(name, this.#size)?.segment;
    if (segment === undefined) throw new Error(`${name} is no segment`);
    return segmentStart(segment, this.#size);
  }
}

const NOT_MODELLED: ReadonlySet<string> = new Set(['write', 'writev', 'pwritev2', 'ftruncate']);

/** Last argument of pwrite64 and pwritev. */
function offsetOf({ args }: Call): number {
  return Number(/(\d+)$/.exec(args)?.[1]);
}

function countOf(call: Call): number {
  if (call.result >= 0) return call.result;
  const counted = call.name === 'pwrite64' ? /(\d+), \d+$/.exec(call.args)?.[1] : undefined;
  return Number(counted ?? 0);
}
