// For how long was a standby without its stream? Measured by what reached it, while something is written all the time.
import { systemClock } from '../../src/base/clock.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';

const LOOK_MS = 20;
const SQL = "SELECT coalesce(pg_last_wal_receive_lsn()::text, '0/0')";

/** One standby, watched. */
export interface StreamWatch {
  /** The longest time without new WAL until now, in milliseconds, give or take {@link LOOK_MS}; begins anew. */
  takeLongestGap(): number;
  stop(): Promise<void>;
}

/** Begins to watch. */
export async function watchStream(standby: PostgresCluster): Promise<StreamWatch> {
  const session = await standby.session({ applicationName: 'stream_watch' });
  let [isOver, longestMs, changedAtMs, lsn] = [false, 0, systemClock.nowMs(), ''];
  const look = async (): Promise<void> => {
    while (!isOver) {
      const now = await session.value(SQL);
      const nowMs = systemClock.nowMs();
      longestMs = Math.max(longestMs, nowMs - changedAtMs);
      if (now !== lsn) [lsn, changedAtMs] = [now, nowMs];
      await new Promise<void>((resolve) => systemClock.setTimer(LOOK_MS, resolve));
    }
    session.close();
  };
  const looking = look();
  looking.catch(() => {});
  return {
    takeLongestGap: () => {
      const taken = Math.max(longestMs, systemClock.nowMs() - changedAtMs);
      [longestMs, changedAtMs] = [0, systemClock.nowMs()];
      return taken;
    },
    stop: async () => {
      isOver = true;
      await looking;
    },
  };
}
