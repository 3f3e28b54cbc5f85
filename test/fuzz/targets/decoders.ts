// Bytes that other programs, or a disk, made: WAL, history files, state files, certificates, answers of Patroni, messages.
import { existsSync, mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CRC32C_INITIAL, crc32c, finishCrc32c, updateCrc32c } from '../../../src/base/crc32c.ts';
import { OperationalError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import { PAGE_SIZE, toLsn } from '../../../src/pg/lsn.ts';
import { parseTimelineHistory, toTimelineId } from '../../../src/pg/timeline.ts';
import { FeedbackNote } from '../../../src/relay/feedback-note.ts';
import { SlotFiles } from '../../../src/slot/slot-files.ts';
import { loadControl } from '../../../src/wal/control-file.ts';
import { loadPageSums, pageSumsDirectory, pageSumsFile } from '../../../src/wal/page-sums.ts';
import { chainStart } from '../../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../../src/wal/records/record-walk.ts';
import { ResynchronisingWalk } from '../../../src/wal/records/resynchronising-walk.ts';
import { readCheckpoint } from '../../../src/wal/server-control.ts';
import { toSegmentSize } from '../../../src/pg/segment.ts';
import { parsePatroniCluster } from '../../../src/walreceiver/patroni-cluster.ts';
import { decodeClientCertificate } from '../../../src/wire/client-certificate.ts';
import { ClientHello } from '../../../src/wire/client-hello.ts';
import { FrameDecoder } from '../../../src/wire/frame-decoder.ts';
import { decodeFrontendMessage, frontendLengthMax } from '../../../src/wire/frontend-messages.ts';
import {
  decodeHotStandbyFeedback,
  decodePrimaryKeepalive,
  decodeStandbyStatusUpdate,
  decodeWalDataHeader,
} from '../../../src/wire/replication-messages.ts';
import {
  decodeServerCertificate,
  serverEndPointBinding,
} from '../../../src/wire/server-certificate.ts';
import { decodeUpstreamMessage, upstreamLengthMax } from '../../../src/wire/upstream-messages.ts';
import { bodyOf, PATRONI_2, PATRONI_4_0, PATRONI_4_1 } from '../../support/patroni-samples.ts';
import { cstr, i16, i32, i64, message, raw } from '../../support/naive-writer.ts';
import { WalFixture } from '../../support/wal-fixture.ts';
import { say, sessionOf } from '../engine/session.ts';
import type { FuzzSession } from '../engine/session.ts';
import { requireThat } from '../engine/target.ts';
import type { FuzzTarget, TargetRun } from '../engine/target.ts';
import { textRun } from '../rig/text-run.ts';
import { texts } from './texts.ts';

const MAJORS = [13, 15, 18];

function walOf(major: number): WalFixture {
  const wal = new WalFixture({ major });
  wal.fill(3_000, major);
  wal.checkpoint();
  wal.fill(2_000);
  wal.crashInside(9_000);
  wal.fill(1_000);
  wal.checkpoint({ shutdown: true });
  wal.record({ body: Buffer.alloc(9_000, 3) });
  return wal;
}

const WALS = MAJORS.map(walOf);

/** Gives the records of the first page a checksum that fits, so that what they say is believed. */
function repair(bytes: Buffer): void {
  for (let at = 40; at + 24 <= Math.min(bytes.length, PAGE_SIZE);) {
    const length = bytes.readUInt32LE(at);
    if (length < 24 || at + length > Math.min(bytes.length, PAGE_SIZE)) return;
    const body = updateCrc32c(CRC32C_INITIAL, bytes, at + 24, at + length);
    bytes.writeUInt32LE(finishCrc32c(updateCrc32c(body, bytes, at, at + 20)), at + 20);
    at += (length + 7) & ~7;
  }
}

/** `variant`: which major, and what is done besides. */
function feedWal(bytes: Buffer, variant: number, chunk: number): void {
  const wal = WALS[variant % WALS.length];
  if (wal === undefined) return;
  if ((variant & 0x40) !== 0) repair(bytes);
  const start = chainStart(wal.startLsn);
  const options = { ...wal.origin, checksums: (variant & 0x80) !== 0 };
  const walk =
    (variant & 0x20) !== 0
      ? new RecordWalk(options, start)
      : new ResynchronisingWalk({ ...options, onLost: () => {}, onFound: () => {} }, start);
  const size = chunk === 0 ? bytes.length : Math.max(chunk, Math.ceil(bytes.length / 200));
  let end = walk.recordEnd();
  for (let at = 0; at < bytes.length; at += size) {
    const failure = walk.push(bytes.subarray(at, at + size));
    requireThat(walk.recordEnd() >= end || failure !== null, 'the last record end went back');
    end = walk.recordEnd();
    requireThat(end <= wal.startLsn + BigInt(at + size), 'a record ends behind what was seen');
    if (failure === null) continue;
    requireThat(failure.reason !== '', 'a failure without a reason');
    break;
  }
  walk.facts();
}

/** WAL with damage. */
export const WAL_RECORDS: FuzzTarget = {
  name: 'wal-records',
  about: 'the walk over WAL pages and records, with damage',
  weight: 2,
  seeds: (recorded) => [
    ...WALS.flatMap((wal, index) =>
      [0, 0x20, 0xa0, 0x60, 0xc0].map((bits) => {
        const variant = bits + ((index - (bits % 3) + 3) % 3);
        return sessionOf(
          [say(wal.slice(wal.startLsn, toLsn(wal.startLsn + (bits === 0x20 ? 24_576n : 9_000n))))],
          variant,
        );
      }),
    ),
    ...recorded,
  ],
  words: [
    raw(0, 0, 0, 0, 0, 0, 0, 0),
    raw(24, 0, 0, 0),
    raw(0xd0),
    raw(0x40),
    raw(255, 96),
    raw(0xff, 0xff, 0xff, 0xff),
    raw(0x10, 0xd1),
    raw(0xfc),
  ],
  events: [],
  open: () => textRun(feedWal),
};

const STATUS_LIKE = [
  message('R', i32(0)),
  message('S', cstr('server_version'), cstr('18.1')),
  message('K', i32(1), i32(2)),
  message('Z', 'I'),
  message('T', i16(1), cstr('a'), i32(0), i16(0), i32(25), i16(-1), i32(-1), i16(0)),
  message('D', i16(2), i32(1), 'x', i32(-1)),
  message('C', cstr('SELECT 1')),
  message('E', 'S', cstr('FATAL'), 'C', cstr('57P01'), 'M', cstr('bye'), 0),
  message('d', 'w', i64(1n), i64(2n), i64(3n), 'wal'),
  message('d', 'k', i64(1n), i64(2n), 1),
  message('d', 'r', i64(1n), i64(2n), i64(3n), i64(4n), 0),
  message('d', 'h', i64(1n), i32(2), i32(3), i32(4), i32(5)),
  message('Q', cstr('IDENTIFY_SYSTEM')),
  message('p', cstr('x')),
  message('v', i32(0x30002), i32(1), cstr('_pq_.x')),
];

function feedMessages(bytes: Buffer, variant: number, chunk: number): void {
  const isUpstream = variant % 2 === 0;
  const seen = decodeAll(bytes, isUpstream, bytes.length);
  // However it is cut, the same messages come out.
  if (chunk > 0)
    requireThat(
      decodeAll(bytes, isUpstream, chunk) === seen,
      'other messages come out of other chunks',
    );
}

function decodeAll(bytes: Buffer, isUpstream: boolean, chunk: number): string {
  const decoder = new FrameDecoder(isUpstream ? upstreamLengthMax : frontendLengthMax);
  let seen = '';
  const onFrame = (type: number, body: Uint8Array): void => {
    seen += `${type}:${body.length}:${crc32c(body)} `;
    try {
      if (type === 0x64) decodeCopyData(body);
      else if (isUpstream) decodeUpstreamMessage(type, body);
      else decodeFrontendMessage(type, body);
    } catch (error) {
      seen += `${error instanceof Error ? error.message : ''} `;
      if (
        !(error instanceof Error) ||
        error.name.includes('TypeError') ||
        error.name.includes('RangeError')
      )
        throw error;
    }
  };
  const step = Math.max(1, chunk);
  for (let at = 0; at < bytes.length && decoder.failure === null; at += step) {
    const part = Buffer.from(bytes.subarray(at, at + step));
    decoder.push(part, onFrame);
    part.fill(0xa5);
  }
  return `${seen}${decoder.failure?.kind ?? ''}`;
}

function decodeCopyData(body: Uint8Array): void {
  if (body[0] === 0x77) decodeWalDataHeader(body);
  else if (body[0] === 0x6b) decodePrimaryKeepalive(body);
  else if (body[0] === 0x72) decodeStandbyStatusUpdate(body);
  else if (body[0] === 0x68) decodeHotStandbyFeedback(body);
}

/** Frames and messages of both sides. */
export const MESSAGES: FuzzTarget = {
  name: 'messages',
  about: 'frames and messages of both sides, in chunks of every size',
  weight: 4,
  seeds: (recorded) => [
    ...STATUS_LIKE.map((bytes, index) => ({
      ...sessionOf([bytes, ...STATUS_LIKE.slice(0, index)].map(say), index),
      chunk: 1 + index,
    })),
    { ...sessionOf([say(raw(...STATUS_LIKE))]), chunk: 7 },
    { ...sessionOf([say(raw(...STATUS_LIKE))], 1), chunk: 3 },
    ...recorded,
  ],
  words: [...STATUS_LIKE, i32(-1), i32(0), i32(4), i32(5), i16(-1), i32(0x7fffffff)],
  events: [],
  open: () => textRun(feedMessages),
};

const HISTORY =
  '1\t0/3000000\tno recovery target specified\n2\t0/5000060\tbefore 2000-01-01\n\n# comment\n3\t1/0\n';

function feedDocuments(bytes: Buffer, variant: number): void {
  const cluster = parsePatroniCluster(bytes);
  requireThat(typeof cluster === 'object' || cluster !== '', 'a refusal without a text');
  const text = bytes.toString(variant % 2 === 0 ? 'latin1' : 'utf8');
  const history = parseTimelineHistory(toTimelineId(1 + (variant % 8)), text);
  if (typeof history === 'object') {
    for (const { timeline } of history.ancestors)
      requireThat(timeline < history.timeline, 'an ancestor is no ancestor');
  }
}

/** Answers of Patroni, history files. */
export const DOCUMENTS: FuzzTarget = {
  name: 'documents',
  about: 'answers of Patroni, timeline history files',
  weight: 2,
  seeds: (recorded) => [
    ...[PATRONI_2, PATRONI_4_0, PATRONI_4_1].map((answer) => sessionOf([say(bodyOf(answer))])),
    ...texts(HISTORY, '', '5\tFFFFFFFF/FFFFFFFF\n'),
    ...recorded,
  ],
  words: [
    ...'members name role state host port timeline lag tags leader replica sync_standby running streaming null true 1e999 -1 { } [ ] " : , \\u0000 __proto__ constructor'.split(
      ' ',
    ),
    '\n',
    '\t0/',
    '"lag":"unknown"',
  ],
  events: [],
  open: () => textRun(feedDocuments),
};

/** The first bytes of a client's handshake, as it sends them in one record. */
const CLIENT_HELLO = raw(22, 3, 1, i16(8), 1, 0, 0, 4, 3, 3, 0, 0);

function feedCertificate(bytes: Buffer, variant: number): void {
  new ClientHello().push(bytes);
  if (variant % 2 === 0) decodeClientCertificate(bytes);
  const certificate = decodeServerCertificate(bytes);
  serverEndPointBinding(certificate);
}

/** Certificates that a server shows. */
export const CERTIFICATE: FuzzTarget = {
  name: 'certificate',
  about: 'DER of certificates of servers and clients, the first bytes of a TLS handshake',
  weight: 1,
  seeds: async (recorded) => {
    const { CERTIFICATES } = await import('./certificate-samples.ts');
    return [
      ...CERTIFICATES.map((der) => sessionOf([say(der)])),
      sessionOf([say(CLIENT_HELLO)], 1),
      ...recorded,
    ];
  },
  words: [
    raw(0x30, 0x80),
    raw(0x30, 0x84, 0xff, 0xff, 0xff, 0xff),
    raw(0x06, 0x03, 0x55, 0x1d, 0x11),
    raw(0x82),
    raw(0x87, 4),
    raw(0x05, 0),
    raw(0x0c, 0),
  ],
  events: [],
  open: () => textRun(feedCertificate),
};

const STATES = [
  [
    'walcast-control',
    2,
    {
      system_identifier: '7300000000000000001',
      major: 18,
      wal_segment_size: 16_777_216,
      timeline: 1,
      server_version: '18.1',
      parameters: { a: 'b' },
      settings: {},
      first_lsn: '0/3000000',
      durable_lsn: '0/3000100',
      last_record_lsn: '0/3000050',
      last_record_is_shutdown_checkpoint: false,
      redo_lsn: '0/0',
      next_full_xid: '900',
      newest_commit_at: null,
      reported_flush_lsn: '0/3000100',
      maybe_reported_lsn: '0/3000100',
      was_clean_stop: true,
      pending_switch: null,
      acknowledged_beyond: null,
    },
  ],
  [
    'walcast-slot',
    3,
    { restart_lsn: '0/3000000', invalidated: null, xmin: '700', catalog_xmin: null },
  ],
  ['walcast-feedback', 1, { xmin: '700', catalog_xmin: null, standbys: ['a'] }],
] as const;

/** The text of a file whose checksum fits, or does not. */
function stateFile(bytes: Buffer, isWhole: boolean): Buffer {
  if (!isWhole) return bytes;
  return Buffer.concat([
    bytes,
    Buffer.from(`crc32c ${crc32c(bytes).toString(16).padStart(8, '0')}\n`),
  ]);
}

/** Directories are fsynced: in memory that takes no time. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** Reads every kind of file out of one directory. */
class FileRun implements TargetRun {
  readonly #directory = mkdtempSync(join(MEMORY, 'walcast-fuzz-files-'));
  readonly #summed = {
    timeline: toTimelineId(1),
    segment: 3n,
    segmentSize: toSegmentSize(1 << 20),
  };

  constructor() {
    mkdirSync(join(this.#directory, 'pg_replslot/s'), { recursive: true });
    mkdirSync(pageSumsDirectory(this.#directory), { recursive: true });
  }

  async run({ steps, variant }: FuzzSession): Promise<number> {
    for (const { bytes } of steps)
      await this.#read(stateFile(Buffer.from(bytes), variant % 8 !== 7));
    return steps.length;
  }

  check(): void {}

  close(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #read(bytes: Buffer): Promise<void> {
    const name = '000000010000000000000003';
    const paths = ['walcast.control', 'pg_replslot/s/state', 'walcast.feedback', 'pg_control'].map(
      (path) => join(this.#directory, path),
    );
    for (const path of [...paths, pageSumsFile(this.#directory, name)]) writeFileSync(path, bytes);
    await expected(loadControl(this.#directory));
    await expected(new SlotFiles(this.#directory).load());
    await expected(new FeedbackNote(this.#directory, silentLog).load());
    await expected(readCheckpoint(join(this.#directory, 'pg_control')));
    await expected(loadPageSums(this.#directory, name, this.#summed as never));
  }
}

async function expected(reading: Promise<unknown>): Promise<void> {
  try {
    await reading;
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
  }
}

/** Files of the data directory. */
export const FILES: FuzzTarget = {
  name: 'files',
  about:
    'files of the data directory: control file, slot states, note of feedback, page sums; pg_control of a server',
  weight: 0.5,
  seeds: (recorded) => [
    ...texts(
      ...STATES.map(
        ([magic, version, body]) => `${magic} ${version}\n${JSON.stringify(body, null, 2)}\n`,
      ),
    ),
    sessionOf([say(Buffer.alloc(256, 1))]),
    ...recorded,
  ],
  words: [
    'null',
    'true',
    '{}',
    '[]',
    '""',
    '0/0',
    '"xmin"',
    '"invalidated": "wal_removed"',
    'FFFFFFFF/FFFFFFFF',
    '__proto__',
    'walcast-slot 1\n',
    'walcast-control 1\n',
    '1e400',
  ],
  events: [],
  open: () => new FileRun(),
};
