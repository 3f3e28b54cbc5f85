// When is what was received on the disk, so that the last status upstream can say so?
import type { Clock } from '../base/clock.ts';
import { within } from '../base/within.ts';
import { DRAIN_FLUSH_MS_MAX } from '../config/limits.ts';
import type { WalStore } from '../wal/wal-store.ts';

/**
 * Waits, not for long, until what was received is on the disk, so that no commit waits for it until the next start. Nothing
 * is taken in any more. R may lie inside a record, F never does: one flush behind the last write is enough.
 */
export async function flushReceived(store: WalStore | null, clock: Clock): Promise<void> {
  if (store === null) return;
  const { receivedLsn: endLsn, flushedLsn: before } = store.positions();
  const flushed = new Promise<void>((resolve) => {
    const check = (): void => {
      const { writtenLsn, flushedLsn } = store.positions();
      if (flushedLsn < endLsn && (writtenLsn < endLsn || flushedLsn === before)) return;
      resolve();
    };
    store.onFlush(check);
    check();
  });
  await within(clock, DRAIN_FLUSH_MS_MAX, flushed);
}
