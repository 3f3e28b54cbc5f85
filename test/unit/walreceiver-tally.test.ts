// Does the upstream's status say of the stream what pg_stat_wal_receiver would say of it?
import { expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { UpstreamStreamStatus } from '../../src/status/status.ts';
import { UpstreamTally } from '../../src/walreceiver/upstream-tally.ts';
import { WalStream } from '../../src/walreceiver/wal-stream.ts';
import { MemorySink } from '../support/receiver-rig.ts';
import { i64, message } from '../support/naive-writer.ts';

const START = toLsn(0x5000000n);
/** 2000-01-01 as milliseconds since the Unix epoch. */
const PG_EPOCH_MS = 946_684_800_000;

function rig(): { stream: WalStream; status: () => UpstreamStreamStatus | null } {
  const nothing = (): void => {};
  const owner = {
    onRejected: nothing,
    onReplyRequested: nothing,
    onFull: nothing,
    onProgress: nothing,
    onCaughtUp: nothing,
  };
  const stream = new WalStream(new MemorySink(START), owner, null);
  const tally = new UpstreamTally();
  return {
    stream,
    status: () =>
      tally.status({
        view: {
          phase: 'streaming',
          hostIndex: 0,
          heldState: null,
          detail: null,
          nextAttemptAtMs: null,
        },
        host: undefined,
        slot: null,
        stream,
        asked: { timeline: toTimelineId(3), startLsn: START },
        isStoreFull: false,
        reported: { writeLsn: START, flushLsn: START, applyLsn: INVALID_LSN },
        transport: null,
      }).stream,
  };
}

function payload(...parts: readonly (Uint8Array | number | string)[]): Uint8Array {
  return message('d', ...parts).subarray(5);
}

function wal(walEnd: bigint, sentMicros: number, bytes: number): Uint8Array {
  return payload('w', i64(START), i64(walEnd), i64(BigInt(sentMicros)), new Uint8Array(bytes));
}

function keepalive(walEnd: bigint, sentMicros: number): Uint8Array {
  return payload('k', i64(walEnd), i64(BigInt(sentMicros)), 0);
}

it('knows nothing of the server before its first message, whatever it was identified with', () => {
  const { stream, status } = rig();
  stream.begin(toLsn(START + 100n));
  expect(status()).toEqual({
    startLsn: START,
    startTimeline: 3,
    lastSendAtMs: null,
    latestEndLsn: INVALID_LSN,
    latestEndAtMs: null,
  });
});

it('keeps the time of the message that named a higher end, and that of the last one', () => {
  const { stream, status } = rig();
  stream.begin(toLsn(START + 100n));
  stream.onCopyData(keepalive(START + 100n, 1_000_000));
  expect(status()).toMatchObject({
    lastSendAtMs: PG_EPOCH_MS + 1_000,
    latestEndLsn: START + 100n,
    latestEndAtMs: PG_EPOCH_MS + 1_000,
  });
  stream.onCopyData(keepalive(START + 100n, 2_000_500));
  expect(status()).toMatchObject({
    lastSendAtMs: PG_EPOCH_MS + 2_000.5,
    latestEndAtMs: PG_EPOCH_MS + 1_000,
  });
  stream.onCopyData(wal(START + 108n, 3_000_000, 8));
  expect(status()).toMatchObject({
    lastSendAtMs: PG_EPOCH_MS + 3_000,
    latestEndLsn: START + 108n,
    latestEndAtMs: PG_EPOCH_MS + 3_000,
  });
});

it('is nothing while no WAL streams in', () => {
  const parts = {
    view: { phase: 'backoff', hostIndex: 0, heldState: null, detail: null, nextAttemptAtMs: null },
    host: undefined,
    slot: null,
    stream: null,
    asked: { timeline: toTimelineId(3), startLsn: START },
    isStoreFull: false,
    reported: { writeLsn: START, flushLsn: START, applyLsn: INVALID_LSN },
    transport: null,
  } as const;
  expect(new UpstreamTally().status(parts).stream).toBeNull();
});
