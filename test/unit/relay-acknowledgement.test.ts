// What does a relay that ends offer to its upstream, and what does it go on saying?
import { beforeEach, describe, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { Acknowledgement } from '../../src/relay/acknowledgement.ts';
import { ManualClock } from '../support/manual-clock.ts';

const E = toLsn(5000n);

describe('an acknowledgement that is withdrawn', () => {
  const own = { writtenLsn: E, flushedLsn: E, isShutdown: false };
  const confirmed: Lsn[] = [];
  let noted: Lsn[];
  let moves: number;
  let acknowledgement: Acknowledgement;

  beforeEach(() => {
    Object.assign(own, { writtenLsn: E, flushedLsn: E, isShutdown: false });
    noted = [];
    confirmed.splice(0);
    moves = 0;
    acknowledgement = new Acknowledgement(
      {
        positions: () => own,
        lastRecordIsShutdownCheckpoint: () => own.isShutdown,
        noteReportedFlush: (lsn) => void noted.push(lsn),
      },
      {
        clock: new ManualClock(),
        confirmedLsns: () => confirmed,
        onMoved: () => {
          moves += 1;
        },
      },
    );
    acknowledgement.startStream(toTimelineId(1), INVALID_LSN);
  });

  it('offers no flush position any more, once the last one has been said', () => {
    expect(acknowledgement.positions().flushLsn).toBe(E);
    acknowledgement.withdraw();
    expect(moves).toBe(1);
    expect(acknowledgement.positions()).toEqual({
      writeLsn: E,
      flushLsn: INVALID_LSN,
      applyLsn: INVALID_LSN,
    });
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    expect(moves).toBe(1);
  });

  it('says the last one first when it comes so early', () => {
    acknowledgement.withdraw();
    expect(acknowledgement.positions().flushLsn).toBe(E);
    // Somebody has to ask again.
    expect(moves).toBe(2);
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    Object.assign(own, { writtenLsn: toLsn(6000n), flushedLsn: toLsn(6000n) });
    expect(acknowledgement.positions().flushLsn).toBe(toLsn(6000n));
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    expect(noted.filter((lsn) => lsn !== INVALID_LSN)).toEqual([E, toLsn(6000n)]);
  });

  it('goes on acknowledging a shutdown checkpoint, for which nobody waits but the server, without asking for ever', () => {
    own.isShutdown = true;
    acknowledgement.withdraw();
    expect(acknowledgement.positions().flushLsn).toBe(E);
    expect(acknowledgement.positions().flushLsn).toBe(E);
    expect(moves).toBe(2);
  });

  it('says the last one again on a new connection: what was on its way on the old one may be lost', () => {
    expect(acknowledgement.positions().flushLsn).toBe(E);
    acknowledgement.withdraw();
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    moves = 0;
    acknowledgement.startStream(toTimelineId(1), E);
    expect(acknowledgement.positions().flushLsn).toBe(E);
    expect(moves).toBe(1);
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    expect(moves).toBe(1);
  });

  it('withholds a shutdown checkpoint that becomes durable only then', () => {
    expect(acknowledgement.positions().flushLsn).toBe(E);
    acknowledgement.withdraw();
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    const later = toLsn(6000n);
    Object.assign(own, { writtenLsn: later, flushedLsn: later, isShutdown: true });
    confirmed.push(E);
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    confirmed.splice(0, 1, later);
    expect(acknowledgement.positions().flushLsn).toBe(later);
    expect(acknowledgement.positions().flushLsn).toBe(later);
  });

  it('offers nothing below what was promised, whatever the disk lost', () => {
    acknowledgement.startStream(toTimelineId(1), toLsn(9000n));
    acknowledgement.withdraw();
    moves = 0;
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    expect(moves).toBe(0);
  });
});
