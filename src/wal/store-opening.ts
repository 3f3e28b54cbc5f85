// What does a store find when it is opened over WAL of before? And how is the control file saved, when that matters at
// once: at the beginning, at the start, at the end?
import { isOutOfSpace, storageHint } from '../base/durable-fs.ts';
import { errorText, OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatLsn, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { versionFacts } from '../pg/server-version.ts';
import type { ControlState } from './control-file.ts';
import type { ControlKeeper } from './control-keeper.ts';
import { walDirectory } from './data-directory.ts';
import { recoverWal } from './recovery.ts';
import type { RecoveredWal } from './recovery.ts';
import type { StoredIdentity, TimelineSwitchInfo, WalStoreOptions } from './store-options.ts';
import { switchAtStart } from './store-switch.ts';
import { loadHistory } from './stored-history.ts';

/** A store whose end is known. */
export interface RecoveredStore extends RecoveredWal {
  /** As it is on the disk. */
  readonly control: ControlState;
  readonly identity: StoredIdentity;
  /** The switch that a stop had interrupted; null when there was none. */
  readonly switched: TimelineSwitchInfo | null;
}

/** What an error while the store in `directory` is opened says to a person. */
export function openFailure(directory: string, error: unknown): OperationalError {
  if (error instanceof OperationalError) return error;
  const message = `the WAL store "${directory}" could not be opened: ${errorText(error)}`;
  const hint = storageHint(error) ?? 'Look at the disk and the kernel log.';
  return new OperationalError('STORE_OPEN', message, { hint, cause: error });
}

/** Completes what a stop interrupted and finds the end of the WAL. Rejects with OperationalError or the system's error. */
export async function recoverStore(
  options: WalStoreOptions,
  loaded: ControlState,
): Promise<RecoveredStore> {
  const { directory, log } = options;
  const control = await switchAtStart(options, loaded);
  const { systemIdentifier, segmentSize, timeline, server, firstLsn, durableMark } = control;
  const history = await loadHistory(directory, timeline);
  const facts = versionFacts(control.major);
  const identity = { systemIdentifier, segmentSize, timeline, history, facts, ...server };
  const found = await recoverWal({
    directory: walDirectory(directory),
    origin: identity,
    firstLsn,
    durableMark,
    log,
  });
  if (found.end.lsn < control.reportedFlushLsn) {
    log.error('WAL that was reported as flushed is gone; it is fetched again', {
      lsn: formatLsn(found.end.lsn),
      reported_flush_lsn: formatLsn(control.reportedFlushLsn),
    });
  }
  const switched =
    loaded.pendingSwitch === null
      ? null
      : { from: loaded.timeline, to: timeline, switchLsn: durableMark.lsn };
  return { ...found, control, identity, switched };
}

/**
 * Up to where a flush may have been reported that P does not know of. A stop in order leaves the mark at the end, and P
 * as it was.
 */
function maybeReported(control: ControlState, { end }: RecoveredWal): Lsn {
  const wasInOrder = control.wasCleanStop && end.lsn <= control.durableMark.lsn;
  return wasInOrder ? control.maybeReportedLsn : maxLsn(control.maybeReportedLsn, end.lsn);
}

/** Notes the end that was found. Without space the file is the one just read, whole, and the keeper goes on trying. */
export async function saveFound(
  control: ControlKeeper,
  found: RecoveredWal,
  log: Log,
): Promise<void> {
  const { end } = found;
  const maybeReportedLsn = maybeReported(control.state, found);
  control.change({ durableMark: end, maybeReportedLsn, wasCleanStop: false });
  await control.save().catch((error: unknown) => {
    if (!isOutOfSpace(error)) throw error;
    log.warn('no space to note where the WAL ends; an older note stays valid', {
      lsn: formatLsn(end.lsn),
      error: errorText(error),
      next: 'free space in storage.directory; walcast goes on by itself',
    });
  });
}

/**
 * Saves what somebody waits for. Space may come back, and then the system's error comes out; any other failure of the disk
 * is told to `onFailed` first, as an OperationalError.
 */
export async function saveNow(
  control: ControlKeeper,
  directory: string,
  onFailed: (failure: OperationalError) => void,
): Promise<void> {
  try {
    await control.save();
  } catch (error) {
    if (isOutOfSpace(error)) throw error;
    const failure = saveFailure(directory, error);
    onFailed(failure);
    throw failure;
  }
}

/**
 * The file on the disk is an older one, whole: without space, the next start walks through more WAL, that is all. Any other
 * failure of the disk comes out as an OperationalError.
 */
export async function saveLast(
  control: ControlKeeper,
  last: Partial<ControlState>,
  { directory, log }: { readonly directory: string; readonly log: Log },
): Promise<void> {
  await control.close(last).catch((error: unknown) => {
    if (!isOutOfSpace(error)) throw saveFailure(directory, error);
    log.warn('no space to note where the WAL ends; the next start looks for it');
  });
}

function saveFailure(directory: string, error: unknown): OperationalError {
  const message = `the control file in "${directory}" could not be saved: ${errorText(error)}`;
  const hint = storageHint(error) ?? 'Look at the disk and the kernel log.';
  return new OperationalError('CONTROL_FILE_SAVE', message, { hint, cause: error });
}
