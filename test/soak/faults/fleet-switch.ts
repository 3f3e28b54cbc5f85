// How the primary of a fleet changes: in order, or because it was killed; and how the old one comes back.
import type { PostgresCluster } from '../../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../../src/demo/postgres-process.ts';
import { INVALID_LSN } from '../../../src/pg/lsn.ts';
import type { Lsn } from '../../../src/pg/lsn.ts';
import { toLsn } from '../../../src/pg/lsn.ts';
import { runTool } from '../../harness/pg-tools.ts';
import { recordEnds } from '../../harness/record-ends.ts';
import { timelineOf } from '../../harness/timeline-wal.ts';
import { clientMajor } from '../../support/requirements.ts';
import { pause } from '../mixed-load.ts';
import type { Fleet } from './fleet.ts';

const CATCH_UP_MS = 30_000;
/** Time for what is on its way to arrive, once its sender is gone. */
const STEADY_MS = 200;
/** A primary writes no more than this between a look at its position and its end. */
const AHEAD_BYTES = 64n << 20n;

/**
 * Stops the primary and promotes `next`, which has to have everything up to the shutdown checkpoint: the old primary comes
 * back as it is. (F26)
 */
export async function switchOver(fleet: Fleet, next: PostgresCluster): Promise<void> {
  const old = fleet.primary;
  const timeline = await timelineOf(old);
  const beforeLsn = await old.walPosition();
  await fleet.stopPrimary('fast');
  const endLsn = await endOfStopped(fleet, { timeline, beforeLsn });
  await next.waitForReplay(endLsn, CATCH_UP_MS);
  await next.promote();
  fleet.primary = next;
}

/**
 * Kills the primary and promotes `next` once it has everything that a relay has on its disk: each acknowledged commit is on
 * one of them. (F26)
 */
export async function failOver(fleet: Fleet, next: PostgresCluster): Promise<void> {
  await fleet.primary.kill();
  const best = await steadyFlush(fleet);
  await fleet.followRelays(next, [best.relay]);
  await next.reload();
  await next.waitForReplay(best.lsn, CATCH_UP_MS);
  await next.promote();
  fleet.primary = next;
}

/** The old primary after a failover, which may have WAL that nobody else has: rewound where the tool fits, else made anew. */
export async function takeBack(fleet: Fleet, old: PostgresCluster): Promise<void> {
  if (clientMajor('pg_rewind') !== fleet.major) {
    await fleet.copyAnew(old);
    return;
  }
  // Before its first checkpoint pg_rewind takes a promoted server for one of the old timeline.
  await fleet.primary.query('CHECKPOINT');
  const result = await runTool(fleet.workspace, 'pg_rewind', [
    `--target-pgdata=${old.dataDirectory}`,
    `--source-server=host=127.0.0.1 port=${fleet.primary.port} user=postgres dbname=postgres`,
    '--no-sync',
  ]);
  if (result.exitCode !== 0) throw new Error(`pg_rewind of ${old.name}: ${result.stderr}`);
  await fleet.rejoin(old);
}

/** End of the last record of a stopped primary. */
async function endOfStopped(
  fleet: Fleet,
  { timeline, beforeLsn }: { timeline: number; beforeLsn: Lsn },
): Promise<Lsn> {
  const ends = await recordEnds({
    directory: fleet.primary.walDirectory,
    timeline,
    segmentSize: fleet.segmentSize,
    fromLsn: beforeLsn,
    untilLsn: toLsn(beforeLsn + AHEAD_BYTES),
  });
  return [...ends].reduce((highest, lsn) => (lsn > highest ? lsn : highest), INVALID_LSN);
}

/** The relay with the highest flush position, once that stands still. */
async function steadyFlush(fleet: Fleet): Promise<{ readonly relay: string; readonly lsn: Lsn }> {
  let last = await fleet.highestFlush();
  return await pollUntil(
    'positions that stand still',
    async () => {
      await pause(STEADY_MS);
      const now = await fleet.highestFlush();
      const isSteady = now.lsn === last.lsn;
      last = now;
      return isSteady ? now : null;
    },
    { timeoutMs: CATCH_UP_MS },
  );
}
