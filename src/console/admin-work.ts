// What does a command do, and how is what came of it told? The same actions as those of the HTTP API, in the same words.
import { CONFIG_ERRORS_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import {
  noStandbyWith,
  RELOAD_MISTAKEN,
  RELOAD_WHILE_ENDING,
  RELOAD_WHILE_STARTING,
} from '../status/action-words.ts';
import type { ActionRefusal, RelayActions, ReloadReport } from '../status/actions.ts';
import type { RelayStatus } from '../status/status.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import type { CommandError } from '../wire/replication-command.ts';
import type { AdminStatement } from './admin-syntax.ts';

/** How the process is to end, once the answer was written: served to the end, or at once. */
export type EndOfProcess = 'drain' | 'shutdown';

/** What became of a command. `refused`: nothing was tried. `failed`: it was, in vain. */
export type AdminOutcome =
  | {
      readonly kind: 'done';
      readonly notices: readonly ErrorFields[];
      readonly end: EndOfProcess | null;
    }
  | { readonly kind: 'refused' | 'failed'; readonly error: CommandError };

/** What commands work on. */
export interface AdminWork {
  readonly actions: Pick<
    RelayActions,
    | 'reload'
    | 'pause'
    | 'resume'
    | 'reconnect'
    | 'createSlot'
    | 'dropSlot'
    | 'disconnectStandby'
    | 'setLogLevel'
  >;
  readonly source: StandingSource;
}

/** How walcast stands, asked for at each command: the picture of everything would cost too much where standbys are many. */
export interface StandingSource {
  status(): Pick<RelayStatus, 'isPaused' | 'isDraining'>;
}

const DONE: AdminOutcome = { kind: 'done', notices: [], end: null };

/** True for what waits for disk or files: {@link carryOut} may give a promise for it, and for nothing else. */
export function hasToWait({ command }: AdminStatement): boolean {
  return command === 'reload' || command === 'create_slot' || command === 'drop_slot';
}

/** Carries it out. A promise where disk or files have to be waited for; rejects for a bug only. */
export function carryOut(
  statement: AdminStatement,
  work: AdminWork,
): AdminOutcome | Promise<AdminOutcome> {
  const { actions } = work;
  switch (statement.command) {
    case 'reload':
      return reload(work);
    case 'pause':
      return pause(work, true);
    case 'resume':
      return pause(work, false);
    case 'reconnect':
      return outcomeOf(actions.reconnect());
    case 'kill':
      return actions.disconnectStandby(statement.pid) ? DONE : noStandby(statement.pid);
    case 'drain':
      return { kind: 'done', notices: [], end: 'drain' };
    case 'shutdown':
      return { kind: 'done', notices: [], end: statement.waitsForClients ? 'drain' : 'shutdown' };
    case 'create_slot': {
      const { slot, reservesWal } = statement;
      return actions.createSlot(slot, { reserveWal: reservesWal }).then(outcomeOf);
    }
    case 'drop_slot':
      return actions.dropSlot(statement.slot).then(outcomeOf);
    case 'log_level':
      return outcomeOf(actions.setLogLevel(statement.component, statement.level));
    default:
      return statement satisfies never;
  }
}

function reload({ actions, source }: AdminWork): AdminOutcome | Promise<AdminOutcome> {
  if (source.status().isDraining) return { kind: 'refused', error: TOO_LATE };
  return actions.reload().then((report) => reloaded(report, source));
}

function reloaded(
  { problems, changed, pendingRestart, isNotNow = false }: ReloadReport,
  source: StandingSource,
): AdminOutcome {
  if (problems.length > 0) {
    // What was begun in time may have come too late all the same.
    const refused = isNotNow ? TOO_EARLY : MISTAKEN;
    const error = source.status().isDraining ? TOO_LATE : refused;
    const detail = problems.slice(0, CONFIG_ERRORS_MAX).join('\n').slice(0, DETAIL_LENGTH_MAX);
    return { kind: 'failed', error: { ...error, detail } };
  }
  const notices = [
    ...(changed.length === 0 ? [] : [notice(`changed: ${changed.join(', ')}`)]),
    ...pendingRestart.map((key) => warning(`"${key}" cannot be changed without a restart`)),
  ];
  return { kind: 'done', notices, end: null };
}

function pause({ actions, source }: AdminWork, isToPause: boolean): AdminOutcome {
  const isPaused = source.status().isPaused;
  actions[isToPause ? 'pause' : 'resume']();
  if (isPaused !== isToPause) return DONE;
  const text = isToPause ? 'walcast is paused already' : 'walcast is not paused';
  return { kind: 'done', notices: [notice(text)], end: null };
}

function noStandby(pid: number): AdminOutcome {
  return {
    kind: 'refused',
    error: {
      sqlstate: SQLSTATE.undefinedObject,
      message: noStandbyWith(String(pid)),
      hint: 'SHOW STANDBYS shows those that are connected.',
    },
  };
}

function outcomeOf(refusal: ActionRefusal | null): AdminOutcome {
  if (refusal === null) return DONE;
  return { kind: isTrouble(refusal.sqlstate) ? 'failed' : 'refused', error: refusal };
}

/** Classes 58, system error, and XX, internal error. */
function isTrouble(sqlstate: string): boolean {
  return sqlstate.startsWith('58') || sqlstate.startsWith('XX');
}

const TOO_LATE: CommandError = {
  sqlstate: SQLSTATE.objectNotInPrerequisiteState,
  ...RELOAD_WHILE_ENDING,
};

const TOO_EARLY: CommandError = {
  sqlstate: SQLSTATE.objectNotInPrerequisiteState,
  ...RELOAD_WHILE_STARTING,
};

const MISTAKEN: CommandError = { sqlstate: SQLSTATE.configFileError, ...RELOAD_MISTAKEN };

/** What mistakes of a configuration may take of an answer. */
const DETAIL_LENGTH_MAX = 16_384;

function notice(message: string): ErrorFields {
  return { severity: 'NOTICE', sqlstate: SQLSTATE.successfulCompletion, message };
}

function warning(message: string): ErrorFields {
  return { severity: 'WARNING', sqlstate: SQLSTATE.cannotChangeRuntimeParameter, message };
}
