// How are slot commands refused? PostgreSQL's words and SQLSTATEs. (src/backend/replication/slot.c)
import { errorText } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { InvalidationCause } from './slot.ts';
import type { SlotError } from './slot-name.ts';

/** (src/backend/tcop/postgres.c:ProcessInterrupts) */
export const CANCELED: SlotError = {
  sqlstate: SQLSTATE.queryCanceled,
  message: 'canceling statement due to user request',
};

/** There is no such slot. */
export function missing(name: string): SlotError {
  return {
    sqlstate: SQLSTATE.undefinedObject,
    message: `replication slot "${name}" does not exist`,
  };
}

/** There is one already. */
export function duplicate(name: string): SlotError {
  return {
    sqlstate: SQLSTATE.duplicateObject,
    message: `replication slot "${name}" already exists`,
  };
}

/** Another session uses it. */
export function inUse(name: string, pid: number): SlotError {
  return {
    sqlstate: SQLSTATE.objectInUse,
    message: `replication slot "${name}" is active for PID ${pid}`,
  };
}

/** There are as many slots as there may be. */
export function noRoom(quotesSettingNames: boolean): SlotError {
  const quote = quotesSettingNames ? '"' : '';
  return {
    sqlstate: SQLSTATE.configurationLimitExceeded,
    message: 'all replication slots are in use',
    hint: `Free one or increase ${quote}max_replication_slots${quote}.`,
  };
}

/** It was lost; only majors that say so at once. (slot.c:ReplicationSlotAcquire, since 18) */
export function invalidated(name: string, cause: InvalidationCause): SlotError {
  return {
    sqlstate: SQLSTATE.objectNotInPrerequisiteState,
    message: `can no longer access replication slot "${name}"`,
    detail: `This replication slot has been invalidated due to "${cause}".`,
  };
}

/** The disk refused. */
export function diskRefusal(what: string, error: unknown): SlotError {
  return { sqlstate: SQLSTATE.ioError, message: `${what}: ${errorText(error)}` };
}
