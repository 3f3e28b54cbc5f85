// A walcast behind a walcast, and standbys behind one and behind both: do they all have the primary's bytes, whatever happens
// to a link of the chain, and does a primary that stops leave nobody without its last record?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { formatLsn, INVALID_LSN, parseLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentStartOf } from '../../src/pg/segment.ts';
import { recordEnds } from '../harness/record-ends.ts';
import { openRelaysRig } from '../harness/relays-rig.ts';
import type { RelaysRig } from '../harness/relays-rig.ts';
import { timelineOf } from '../harness/timeline-wal.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import {
  EDGE_MAJORS,
  FULL_FAULTS,
  installedMajors,
  NEWEST_MAJOR,
} from '../support/requirements.ts';

const COMMITS = 50;
/** A primary's fast stop with healthy receivers. (P39) */
const FAST_STOP_MS_MAX = 2_000;
const SEARCH_BYTES = 64n << 20n;

const MAJORS = installedMajors().filter((major) =>
  (FULL_FAULTS ? EDGE_MAJORS : [NEWEST_MAJOR]).includes(major),
);

describe.each(MAJORS)('a chain of two relays behind PostgreSQL %i', (major) => {
  let rig: RelaysRig;
  let load: WriteLoad;

  beforeAll(async () => {
    rig = await openRelaysRig({
      major,
      segmentSizeMb: 1,
      relays: [{ name: 'near' }, { name: 'far', upstream: 'near' }],
      servers: [
        { name: 'alpha', relays: ['far'] },
        { name: 'beta', relays: ['near'] },
        { name: 'gamma', relays: ['far'] },
      ],
    });
    load = await startWriteLoad(rig.primary);
    await load.waitForCommits(COMMITS);
  });

  afterAll(async () => {
    await load.stop();
    await rig[Symbol.asyncDispose]();
  });

  /** The load goes on, and arrives at the end of the chain. */
  async function goesOn(): Promise<void> {
    await load.waitForCommits(COMMITS);
    const endLsn = await rig.primary.walPosition();
    for (const standby of rig.standbys) await standby.waitForReplay(endLsn, 30_000);
  }

  /** The last record of a server that is stopped ends here. */
  async function endOfStopped(fromLsn: Lsn, timeline: number): Promise<Lsn> {
    const { segmentSize, primary } = rig;
    const untilLsn = toLsn(fromLsn + SEARCH_BYTES);
    const directory = primary.walDirectory;
    const start = segmentStartOf(fromLsn, segmentSize);
    const ends = await recordEnds({ directory, timeline, segmentSize, fromLsn: start, untilLsn });
    return [...ends].reduce((highest, lsn) => (lsn > highest ? lsn : highest), INVALID_LSN);
  }

  it('streams to the standby behind both', async () => {
    await goesOn();
    expect((await rig.relay('near').status()).standbys).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ application_name: 'far', slot_name: 'far', state: 'streaming' }),
      ]),
    );
  });

  it('goes on after either relay was stopped or killed', async () => {
    for (const name of ['near', 'far']) {
      const relay = rig.relay(name);
      expect(await relay.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
      await load.waitForCommits(COMMITS);
      await relay.start();
      await goesOn();
      await relay.kill();
      await load.waitForCommits(COMMITS);
      await relay.start();
      await goesOn();
    }
  });

  it('lets the primary stop fast, and everybody has its shutdown checkpoint', async () => {
    await goesOn();
    const before = await rig.primary.walPosition();
    const startedMs = systemClock.nowMs();
    await rig.primary.stop('fast');
    expect(systemClock.nowMs() - startedMs).toBeLessThan(FAST_STOP_MS_MAX);
    await load.stop();
    const endLsn = await endOfStopped(before, 1);
    // What they have now is all they will ever get of it.
    for (const relay of rig.relays) {
      await relay.waitForStatus(
        `everything before ${formatLsn(endLsn)} in ${relay.name}`,
        ({ store }) => parseLsn(store.flushed_lsn ?? '0/0') === endLsn,
        5_000,
      );
    }
    for (const standby of rig.standbys) await standby.waitForReplay(endLsn, 5_000);
  });

  it('follows a standby from behind both that is promoted, and the old primary comes back behind it as it is', async () => {
    const [alpha, gamma] = [rig.server('alpha'), rig.server('gamma')];
    await rig.promote(gamma);
    expect(await load.lostOn(gamma)).toEqual([]);
    await rig.followed(2);
    await rig.rejoin(alpha);
    load = await startWriteLoad(gamma);
    await goesOn();
    await load.stop();
    expect(await load.lostOn(alpha)).toEqual([]);
    expect(alpha.log.textFrom(0)).not.toContain('forked off');
    expect(await rig.violations(await rig.settle())).toEqual([]);
  });

  it('follows a promotion although the primary was killed and the middle of the chain was away', async () => {
    const [beta, gamma] = [rig.server('beta'), rig.server('gamma')];
    load = await startWriteLoad(gamma);
    await goesOn();
    await gamma.kill();
    await load.stop();
    // Behind both nobody has more than the first of the two.
    await rig.caughtUp(beta);
    await rig.relay('near').kill();
    await rig.promote(beta);
    await rig.relay('near').start();
    await rig.followed(3);
    expect(await timelineOf(beta)).toBe(3);
    load = await startWriteLoad(beta);
    await goesOn();
    await load.stop();
    expect(await rig.violations(await rig.settle())).toEqual([]);
  });
});
