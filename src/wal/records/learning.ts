// What does a record tell whose beginning was kept while it passed by? Where the newest checkpoint begins to be replayed, and
// what LearnedFacts are about.
import type { VersionFacts } from '../../pg/server-version.ts';
import { formatHalves } from './address.ts';
import type { RecordChain } from './record-chain.ts';
import type { RecordInProgress } from './record-in-progress.ts';
import { learnFrom } from './xact-records.ts';
import { OPERATION_MASK, RMGR_XLOG, shortMainDataOffset, XLOG_OPERATION } from './xlog-records.ts';

/**
 * Notes in `chain` what a whole record tells. Returns the LSN that it says was overwritten, as `X/X`, when it is one of
 * XLOG_OVERWRITE_CONTRECORD.
 */
export function learnRecord(
  record: RecordInProgress,
  facts: VersionFacts,
  chain: RecordChain,
): string | null {
  if (record.rmgrId !== RMGR_XLOG) {
    const readable = { view: record.view, at: 0, length: record.kept };
    if (learnFrom(readable, chain.learned)) {
      chain.learned.noteApplyFeedback(record.high, record.low);
    }
    chain.learned.placeCommit(record.high, record.low);
    return null;
  }
  const { view, total, info } = record;
  const main = shortMainDataOffset(view, total, 8);
  if (main < 0) return null;
  const operation = info & OPERATION_MASK;
  const isShutdown = operation === XLOG_OPERATION.checkpointShutdown;
  const [low, high] = [view.getInt32(main, true), view.getInt32(main + 4, true)];
  if (operation === XLOG_OPERATION.overwriteContrecord) return formatHalves(high, low);
  if (!isShutdown && operation !== XLOG_OPERATION.checkpointOnline) return null;
  chain.redoHigh = high;
  chain.redoLow = low;
  const nextXid = main + facts.checkpointNextXidOffset;
  if (nextXid + 8 <= total) {
    const epoch = view.getInt32(nextXid + 4, true);
    chain.learned.noteCheckpoint(epoch, view.getInt32(nextXid, true), isShutdown);
  }
  return null;
}
