// WAL of one timeline after the other, and a store that follows.
import { formatLsn, INVALID_LSN } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../../src/pg/timeline.ts';
import type { StoredIdentity, WalStore } from '../../src/wal/wal-store.ts';
import type { WalFixture } from './wal-fixture.ts';

/** The same WAL up to the record end `switchLsn`, and other WAL of the next timeline behind it. */
export function branch(
  from: WalFixture,
  switchLsn: Lsn,
  timeline: TimelineId = toTimelineId(2),
): WalFixture {
  const next = from.branch(switchLsn, timeline);
  next.fill(1_400_000, 90 + timeline);
  return next;
}

/** Its history file. */
export function historyText({ ancestors }: TimelineHistory): Uint8Array {
  const lines = ancestors.map(({ timeline, endLsn }) => `${timeline}\t${formatLsn(endLsn)}\twhy\n`);
  return Buffer.from(lines.join('\n'));
}

/** The server that wrote it. */
export function identityOf(wal: WalFixture): StoredIdentity {
  return {
    ...wal.origin,
    serverVersion: '15.18',
    parameters: new Map(),
    settings: new Map(),
    timeline: wal.history.timeline,
  };
}

/** Lets `store` follow: the history file first. */
export async function switchTo(store: WalStore, next: WalFixture): Promise<void> {
  const { history } = next;
  const switchLsn = history.ancestors.at(-1)?.endLsn ?? INVALID_LSN;
  await store.storeHistoryFile(history.timeline, historyText(history));
  await store.switchTimeline({ history, switchLsn });
}

/** The first record end at or behind so many bytes. */
export function endAt(wal: WalFixture, bytes: number): Lsn {
  const record = wal.records.find(({ endLsn }) => endLsn >= wal.startLsn + BigInt(bytes));
  return record?.endLsn ?? wal.endLsn;
}
