// What happens to a store at a timeline switch, and in which order? First what can be given up without a trace: nothing is
// taken in, everything up to the switch point is flushed, the chain of records there is found. Then the note in the
// control file; from there on the switch is only ever completed, by this process or by the next start.
import { isOutOfSpace } from '../base/durable-fs.ts';
import { errorText, invariant, OperationalError, systemErrorCode } from '../base/errors.ts';
import { formatLsn, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { formatPosition, historyFileName } from '../pg/timeline.ts';
import type { TimelineHistory } from '../pg/timeline.ts';
import { saveControl } from './control-file.ts';
import type { ControlState, PendingSwitch } from './control-file.ts';
import type { ControlKeeper } from './control-keeper.ts';
import { walDirectory } from './data-directory.ts';
import type { LiveWal } from './live-wal.ts';
import { preparePageSums } from './page-sums.ts';
import type { ChainPosition } from './records/record-chain.ts';
import type { SegmentRemoval } from './segment-removal.ts';
import type { NextTimeline, StoredIdentity, WalStoreOptions } from './store-options.ts';
import { loadHistory, readHistoryFile } from './stored-history.ts';
import {
  chainAt,
  moveToNextTimeline,
  readOverlap,
  setStrayFilesAside,
  switchedState,
} from './timeline-switch.ts';

/** The parts of a store that is on the timeline to be left. */
export interface SwitchingStore {
  readonly options: WalStoreOptions;
  readonly identity: StoredIdentity;
  readonly live: LiveWal;
  readonly control: ControlKeeper;
  readonly removal: SegmentRemoval;
}

/** Where the next timeline begins. */
export interface SwitchedWal {
  readonly history: TimelineHistory;
  readonly end: ChainPosition;
  readonly overlap: Uint8Array;
}

/** True when a store of this history has followed `next` already, however far it has come since. */
export function hasFollowed(
  history: TimelineHistory,
  { history: next, switchLsn }: NextTimeline,
): boolean {
  const entries = [...history.ancestors, { timeline: history.timeline, endLsn: null }];
  const index = entries.findIndex(({ timeline }) => timeline === next.timeline);
  return index > 0 && entries[index - 1]?.endLsn === switchLsn;
}

/**
 * Notes the switch; durable when it resolves. Throws OperationalError when it is none that the store can make
 * (SWITCH_OUTSIDE, SWITCH_HISTORY), or has failed; an error of code ENOSPC for lack of space. Then nothing was changed.
 */
export async function noteSwitch(store: SwitchingStore, next: NextTimeline): Promise<void> {
  const { options, identity, live, control, removal } = store;
  const { timeline } = next.history;
  const { switchLsn } = next;
  await checkSwitch(store, next);
  const durableLsn = await live.stop();
  try {
    if (live.hasFailed) throw failed();
    if (durableLsn < switchLsn) throw noSpace(switchLsn);
    const endLsn = live.appendedLsn;
    const [from, { oldestLsn }] = [live.flushedChain, removal];
    const chain =
      live.chain.lsn === switchLsn
        ? live.chain
        : await chainAt(options.directory, identity, { from, lsn: switchLsn, oldestLsn }).catch(
            (error: unknown) => {
              throw systemErrorCode(error) === 'ENOENT' ? inHole(switchLsn, error) : error;
            },
          );
    await guard(live, async () => {
      const { directory, log } = options;
      const strays = await setStrayFilesAside(directory, timeline, identity.segmentSize);
      if (strays.length > 0) {
        log.warn('segments of a timeline that was not followed were set aside', {
          files: strays.join(' '),
        });
      }
      await options.onSwitchStep?.('note');
      const pendingSwitch: PendingSwitch = { timeline, chain, endLsn };
      await control.commit((state) => ({ ...state, pendingSwitch }));
    });
  } catch (error) {
    live.goOn();
    throw error;
  }
}

/**
 * Does what was noted; the files and the control file are those of the next timeline when it resolves. Rejects with an
 * error of code ENOSPC for lack of space: it can be done again. Any other error is the end of `live`.
 */
export async function completeSwitch(store: SwitchingStore): Promise<SwitchedWal> {
  const { options, live, control, removal } = store;
  const before = control.state;
  const { pendingSwitch: pending, timeline, segmentSize } = before;
  invariant(pending !== null, 'a switch was noted');
  const { directory, onSwitchStep: onStep } = options;
  const end = pending.chain;
  const history = await loadHistory(directory, pending.timeline);
  await live.cut(end);
  await removal.settle();
  if (live.hasFailed) throw failed();
  return await guard(live, async () => {
    const file = { timeline: pending.timeline, segmentSize };
    await moveToNextTimeline({ dataDirectory: directory, segmentSize, timeline, pending, onStep });
    await preparePageSums(walDirectory(directory), { ...file, endLsn: end.lsn });
    const overlap = await readOverlap(directory, file, end.lsn);
    await control.commit((state) => switchedState(state, pending));
    tell(options, before, pending);
    return { history, end, overlap };
  });
}

/**
 * Completes a switch that a stop interrupted, before anything else looks at the files. Returns what the control file says
 * then. Rejects with the system's error.
 */
export async function switchAtStart(
  options: WalStoreOptions,
  control: ControlState,
): Promise<ControlState> {
  const { pendingSwitch: pending, timeline, segmentSize } = control;
  if (pending === null) return control;
  const { directory: dataDirectory, onSwitchStep: onStep } = options;
  await loadHistory(dataDirectory, pending.timeline);
  await moveToNextTimeline({ dataDirectory, segmentSize, timeline, pending, onStep });
  const state = switchedState(control, pending);
  await saveControl(dataDirectory, state);
  tell(options, control, pending);
  return state;
}

async function checkSwitch(store: SwitchingStore, next: NextTimeline): Promise<void> {
  const { options, identity, live, removal } = store;
  const { history, switchLsn } = next;
  const last = history.ancestors.at(-1);
  const where = formatPosition(identity.timeline, switchLsn);
  if (last?.timeline !== identity.timeline || last.endLsn !== switchLsn) {
    const message = `timeline ${history.timeline} does not begin at ${where} by its history`;
    throw new OperationalError('SWITCH_HISTORY', message);
  }
  if (switchLsn > live.appendedLsn || switchLsn < removal.oldestLsn) {
    throw new OperationalError(
      'SWITCH_OUTSIDE',
      `timeline ${history.timeline} begins at ${where}, which is outside the stored WAL ` +
        `(${formatLsn(removal.oldestLsn)} to ${formatLsn(live.appendedLsn)})`,
    );
  }
  if ((await readHistoryFile(options.directory, history.timeline)) !== null) return;
  const name = historyFileName(history.timeline);
  throw new OperationalError('SWITCH_HISTORY', `the history file "${name}" is not stored yet`);
}

/** Lack of space goes by; after any other error of the disk nothing counts as durable. */
async function guard<T>(live: LiveWal, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isOutOfSpace(error)) throw error;
    const message = `the store could not be brought to the next timeline: ${errorText(error)}`;
    const hint = 'Look at the disk and the kernel log, then start walcast again: it goes on there.';
    const failure =
      error instanceof OperationalError
        ? error
        : new OperationalError('SWITCH_FAILED', message, { hint, cause: error });
    live.fail('fsync', failure);
    throw failure;
  }
}

function tell(options: WalStoreOptions, before: ControlState, pending: PendingSwitch): void {
  const { log } = options;
  const switchLsn = pending.chain.lsn;
  log.info('the store goes on on the next timeline', {
    timeline: pending.timeline,
    previous_timeline: before.timeline,
    switch_lsn: formatLsn(switchLsn),
    dead_bytes: Number(pending.endLsn - switchLsn),
  });
  const isSure = before.reportedFlushLsn > switchLsn;
  const reportedFlushLsn = maxLsn(before.reportedFlushLsn, before.maybeReportedLsn);
  if (reportedFlushLsn <= switchLsn) return;
  const what = isSure
    ? 'WAL that was acknowledged is not on the next timeline: its commits are lost there'
    : 'WAL that was stored before a crash, and may have been acknowledged, is not on the next timeline: its commits are lost there';
  log.error(what, {
    timeline: before.timeline,
    reported_flush_lsn: formatLsn(reportedFlushLsn),
    switch_lsn: formatLsn(switchLsn),
    bytes: Number(reportedFlushLsn - switchLsn),
    next: 'the WAL is kept in dead/ of storage.directory until "walcast store release"',
  });
}

/** Nothing was noted yet: the store stays on its timeline. */
function inHole(lsn: Lsn, cause: unknown): OperationalError {
  return new OperationalError(
    'SWITCH_OUTSIDE',
    `the WAL segment before the switch point ${formatLsn(lsn)} is missing: ${errorText(cause)}`,
    { hint: 'Put an archived copy in its place, or begin anew with "walcast store reset".', cause },
  );
}

function failed(): OperationalError {
  return new OperationalError('STORE_FAILED', 'the WAL store has failed');
}

/** As the system says it, so that it is waited out like any other lack of space. */
function noSpace(lsn: Lsn): OperationalError {
  return new OperationalError('ENOSPC', `there was no space to write WAL up to ${formatLsn(lsn)}`, {
    isRetryable: true,
    hint: 'Free space in storage.directory; walcast goes on by itself.',
  });
}
