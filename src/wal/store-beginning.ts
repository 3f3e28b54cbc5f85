// How does an empty store begin, and is what somebody asks for the same beginning?
import { OperationalError } from '../base/errors.ts';
import { formatLsn, INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { ControlState, StoredServer } from './control-file.ts';
import { chainStart } from './records/record-chain.ts';
import type { StoredIdentity } from './store-options.ts';

/** The first control state of a store that begins at `startLsn`, a segment start. */
export function firstState(identity: StoredIdentity, startLsn: Lsn): ControlState {
  return {
    systemIdentifier: identity.systemIdentifier,
    major: identity.facts.major,
    segmentSize: identity.segmentSize,
    timeline: identity.timeline,
    server: serverOf(identity),
    firstLsn: startLsn,
    durableMark: chainStart(startLsn),
    reportedFlushLsn: INVALID_LSN,
    maybeReportedLsn: INVALID_LSN,
    wasCleanStop: false,
    pendingSwitch: null,
    acknowledgedBeyond: null,
  };
}

/** True for the same WAL from the same byte on, whatever the server says about itself otherwise. */
export function isSameBeginning(a: ControlState, b: ControlState): boolean {
  return (
    a.systemIdentifier === b.systemIdentifier &&
    a.major === b.major &&
    a.segmentSize === b.segmentSize &&
    a.timeline === b.timeline &&
    a.firstLsn === b.firstLsn
  );
}

/** A store was to be begun that was begun before, in another way. */
export function notEmpty(directory: string, state: ControlState): OperationalError {
  return new OperationalError(
    'STORE_NOT_EMPTY',
    `the WAL store "${directory}" holds WAL of system ${state.systemIdentifier}, timeline ${state.timeline}, ` +
      `since ${formatLsn(state.firstLsn)}`,
    { hint: 'Nothing was changed. Set storage.directory to an empty directory to begin anew.' },
  );
}

/** Only the fields that the control file keeps, however much more a server says about itself. */
export function serverOf(server: StoredServer): StoredServer {
  const { serverVersion, parameters, settings } = server;
  return { serverVersion, parameters, settings };
}

/** Only the fields of an identity, however much more an upstream says about itself. */
export function identityOf(identity: StoredIdentity): StoredIdentity {
  const { systemIdentifier, facts, segmentSize, timeline, history } = identity;
  return { systemIdentifier, facts, segmentSize, timeline, history, ...serverOf(identity) };
}
