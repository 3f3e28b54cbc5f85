// Is this the kind of server that target_session_attrs wants? libpq's rules and words, decided on a replication session.
// (fe-connect.c:PQconnectPoll, CONNECTION_CHECK_TARGET)
import { OperationalError } from '../base/errors.ts';
import type { TargetSessionAttrs } from '../pg/conninfo.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { CommandRunner } from './upstream-command.ts';

/** Code of the error for a server that works and is of another kind than wanted. */
export const OTHER_SESSION_KIND: string = 'OTHER_SESSION_KIND';

const TIMELINE_MAX = 2 ** 31 - 1;

/** What the choice depends on. */
export interface SessionKind {
  /** A transaction begun now may not write: in recovery, or by default_transaction_read_only. */
  readonly isReadOnly: boolean;
  readonly isInRecovery: boolean;
}

/**
 * The kind of a session, from what the server reported and answered to SHOW. To be asked before IDENTIFY_SYSTEM; of a
 * session that was asked before, `wasInRecovery` is what came out then. Majors
 * from 14 on report both parameters at login and whenever they change. Of older ones `transaction_read_only` tells the
 * first; and the second, unless that is also the default of the session.
 */
export async function askSessionKind(
  runner: CommandRunner,
  settings: ReadonlyMap<string, string>,
  wasInRecovery?: boolean,
): Promise<SessionKind> {
  const current = (name: string): string | undefined =>
    runner.parameters.get(name) ?? settings.get(name);
  const inHotStandby = current('in_hot_standby');
  const isReadOnlyByDefault = current('default_transaction_read_only') === 'on';
  if (inHotStandby !== undefined) {
    const isInRecovery = inHotStandby === 'on';
    return { isReadOnly: isInRecovery || isReadOnlyByDefault, isInRecovery };
  }
  const isReadOnly = current('transaction_read_only') === 'on';
  const isUnclear = isReadOnly && isReadOnlyByDefault;
  if (!isUnclear) return { isReadOnly, isInRecovery: isReadOnly };
  return { isReadOnly, isInRecovery: wasInRecovery ?? (await refusesEarlyStart(runner)) };
}

/**
 * Up to 14 a server in recovery, and no other, refuses START_REPLICATION before IDENTIFY_SYSTEM, and before it looks at
 * the timeline, which none has. (walsender.c:StartReplication) What answers otherwise is taken for a standby: that only
 * makes us wait.
 */
async function refusesEarlyStart(runner: CommandRunner): Promise<boolean> {
  const { error } = await runner.run(`START_REPLICATION 0/0 TIMELINE ${TIMELINE_MAX}`);
  return error?.sqlstate !== SQLSTATE.internalError;
}

/** libpq's words for a session that is not as `wanted`; null when it is. */
export function sessionMismatch(wanted: TargetSessionAttrs, kind: SessionKind): string | null {
  switch (wanted) {
    case 'any':
      return null;
    case 'read-write':
      return kind.isReadOnly ? 'session is read-only' : null;
    case 'read-only':
      return kind.isReadOnly ? null : 'session is not read-only';
    case 'primary':
      return kind.isInRecovery ? 'server is in hot standby mode' : null;
    case 'standby':
    case 'prefer-standby':
      return kind.isInRecovery ? null : 'server is not in hot standby mode';
  }
}

/** Throws a retryable {@link OperationalError} with the code {@link OTHER_SESSION_KIND} for a session of another kind. */
export function requireSessionKind(wanted: TargetSessionAttrs, kind: SessionKind): void {
  const mismatch = sessionMismatch(wanted, kind);
  if (mismatch === null) return;
  throw new OperationalError(OTHER_SESSION_KIND, `${mismatch} (target_session_attrs=${wanted})`, {
    isRetryable: true,
  });
}
