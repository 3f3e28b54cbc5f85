// Is an honest standby believed to be honest while it replays a segment that was ended before it was full?
import { describe, expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import { toPgTimestamp } from '../../src/pg/timestamp.ts';
import { StandbyPositions } from '../../src/walsender/standby-positions.ts';
import { TestWalAges } from '../support/wal-ages.ts';

describe('a standby that has replayed the end of a segment', () => {
  // As seen: behind XLOG_SWITCH replay stands at the segment's end, and the zeros up to there are still being sent.
  const claim = (applyLsn: bigint) => ({
    writeLsn: toLsn(0x3998000n),
    flushLsn: toLsn(0x3998000n),
    applyLsn: toLsn(applyLsn),
    sendTime: toPgTimestamp(0n),
    replyRequested: false,
  });

  it('claims nothing that was not sent, and its claim is cut all the same', () => {
    const positions = new StandbyPositions(toLsn(0x3000000n), new TestWalAges());
    positions.onSend(toLsn(0x3eb8000n), toLsn(0x4000000n), 0);
    expect(positions.onReply(claim(0x4000000n), 0)).toEqual({
      hasMoved: true,
      isClamped: false,
      confirmedLsn: 0x3998000n,
    });
    expect(positions.applyLsn).toBe(0x3eb8000n);
  });

  it('is not to be believed when it names a place inside a segment', () => {
    const positions = new StandbyPositions(toLsn(0x3000000n), new TestWalAges());
    positions.onSend(toLsn(0x3eb8000n), toLsn(0x4000000n), 0);
    expect(positions.onReply(claim(0x3eb8001n), 0).isClamped).toBe(true);
  });
});
