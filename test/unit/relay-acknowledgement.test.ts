// What does a relay say upstream, from moment to moment, of itself and of its standbys?
import { beforeEach, describe, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { Acknowledgement } from '../../src/relay/acknowledgement.ts';
import { parseSynchronousStandbyNames } from '../../src/syncrep/standby-names.ts';
import type { SyncPolicy } from '../../src/syncrep/standby-names.ts';
import type { SyncStandby } from '../../src/syncrep/sync-standbys.ts';
import { ManualClock } from '../support/manual-clock.ts';

const E = toLsn(5000n);
const LATER = toLsn(6000n);

const own = { writtenLsn: E, flushedLsn: E, shutdownLsn: INVALID_LSN };
const standbys: SyncStandby[] = [];
let policy: SyncPolicy | null;
let noted: Lsn[];
let moves: number;
let clock: ManualClock;
let acknowledgement: Acknowledgement;

function standby(applicationName: string, lsn: Lsn, others: Partial<SyncStandby> = {}): void {
  const place = standbys.length;
  const timeline = toTimelineId(1);
  const positions = { writeLsn: lsn, flushLsn: lsn, applyLsn: lsn };
  const session = { pid: 100 + place, place, applicationName, timeline };
  standbys.push({ ...session, state: 'streaming', ...positions, ...others });
}

function startStream(timeline = 1, promisedLsn = INVALID_LSN, beganAtLsn = toLsn(4000n)): void {
  acknowledgement.startStream(toTimelineId(timeline), { beganAtLsn, promisedLsn });
}

beforeEach(() => {
  Object.assign(own, { writtenLsn: E, flushedLsn: E, shutdownLsn: INVALID_LSN });
  standbys.splice(0);
  policy = null;
  noted = [];
  moves = 0;
  clock = new ManualClock();
  acknowledgement = new Acknowledgement(
    {
      positions: () => own,
      shutdownCheckpointLsn: () => own.shutdownLsn,
      noteReportedFlush: (lsn) => void noted.push(lsn),
    },
    {
      clock,
      policy: () => policy,
      standbys: () => standbys,
      onMoved: () => {
        moves += 1;
      },
    },
  );
  startStream();
});

describe('under a policy', () => {
  beforeEach(() => {
    policy = parseSynchronousStandbyNames('ANY 1 (a, b)');
  });

  it('offers nothing while too few standbys stream, and what they have flushed as soon as they do', () => {
    const none = { writeLsn: E, flushLsn: INVALID_LSN, applyLsn: INVALID_LSN };
    expect(acknowledgement.positions()).toEqual(none);
    standby('c', E);
    standby('a', E, { state: 'catchup' });
    standby('b', E, { flushLsn: INVALID_LSN });
    expect(acknowledgement.positions()).toEqual(none);
    standby('b', toLsn(4900n));
    const lsn = toLsn(4900n);
    expect(acknowledgement.positions()).toEqual({ writeLsn: lsn, flushLsn: lsn, applyLsn: lsn });
    standbys.pop();
    expect(acknowledgement.positions()).toEqual(none);
    expect(noted.at(-2)).toBe(lsn);
  });

  it('does not count a standby that is still on the timeline that was left', () => {
    standby('a', E);
    expect(acknowledgement.positions().flushLsn).toBe(E);
    startStream(2, toLsn(4500n));
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    standby('b', toLsn(4600n), { timeline: toTimelineId(2) });
    expect(acknowledgement.positions().flushLsn).toBe(toLsn(4600n));
  });

  it('follows another policy with the next report', () => {
    standby('a', toLsn(4800n));
    standby('b', toLsn(4900n));
    expect(acknowledgement.positions().flushLsn).toBe(toLsn(4900n));
    policy = parseSynchronousStandbyNames('ANY 2 (a, b, c)');
    // What was said stays said.
    expect(acknowledgement.positions().flushLsn).toBe(toLsn(4900n));
    policy = parseSynchronousStandbyNames('ANY 3 (a, b, c)');
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    policy = null;
    expect(acknowledgement.positions().flushLsn).toBe(E);
  });

  it('asks for itself again a second after the shutdown checkpoint, whoever is silent', () => {
    standby('a', toLsn(4900n));
    expect(acknowledgement.positions().flushLsn).toBe(toLsn(4900n));
    own.shutdownLsn = E;
    expect(acknowledgement.positions().flushLsn).toBe(toLsn(4900n));
    clock.advance(999);
    expect(moves).toBe(0);
    clock.advance(1);
    expect(moves).toBe(1);
    expect(acknowledgement.positions().flushLsn).toBe(E);
  });

  it('waits for every standby with the shutdown checkpoint, not for the chosen ones only', () => {
    standby('a', E);
    standby('z', toLsn(4900n));
    own.shutdownLsn = E;
    const heldLsn = acknowledgement.positions().flushLsn;
    expect(heldLsn).not.toBe(E);
    standbys.splice(1);
    expect(acknowledgement.positions().flushLsn).toBe(E);
  });
});

describe('an acknowledgement that is withdrawn', () => {
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
    Object.assign(own, { writtenLsn: LATER, flushedLsn: LATER });
    expect(acknowledgement.positions().flushLsn).toBe(LATER);
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    expect(noted.filter((lsn) => lsn !== INVALID_LSN)).toEqual([E, LATER]);
  });

  it('says what its standbys confirm until they have confirmed all of it', () => {
    policy = parseSynchronousStandbyNames('a');
    standby('a', toLsn(4900n));
    expect(acknowledgement.positions().flushLsn).toBe(toLsn(4900n));
    acknowledgement.withdraw();
    expect(acknowledgement.positions().flushLsn).toBe(toLsn(4900n));
    standbys.splice(0);
    standby('a', E, { state: 'stopping' });
    expect(acknowledgement.positions().flushLsn).toBe(E);
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
  });

  it('goes on acknowledging a shutdown checkpoint, for which nobody waits but the server, without asking for ever', () => {
    own.shutdownLsn = E;
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
    startStream(1, E);
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
    Object.assign(own, { writtenLsn: LATER, flushedLsn: LATER, shutdownLsn: LATER });
    standby('a', E);
    expect(acknowledgement.positions()).toMatchObject({ writeLsn: E, flushLsn: INVALID_LSN });
    standbys.splice(0);
    standby('a', LATER);
    expect(acknowledgement.positions().flushLsn).toBe(LATER);
    expect(acknowledgement.positions().flushLsn).toBe(LATER);
  });

  it('offers nothing below what was promised, whatever the disk lost', () => {
    startStream(1, toLsn(9000n));
    acknowledgement.withdraw();
    moves = 0;
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    expect(acknowledgement.positions().flushLsn).toBe(INVALID_LSN);
    expect(moves).toBe(0);
  });
});
