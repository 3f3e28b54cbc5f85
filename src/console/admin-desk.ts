// Who may change something, what became of it, and how often was it asked for? One desk for all sessions of the console.
import type { Clock } from '../base/clock.ts';
import { KeyedLogBudget } from '../base/keyed-log-budget.ts';
import type { Log } from '../base/log.ts';
import { ADMITTED_LOG_LINES, CONSOLE_COMMANDS_MAX, REFUSAL_TEXT_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { RelayActions } from '../status/actions.ts';
import { NO_ADMIN_COMMANDS } from '../status/status.ts';
import type { AdminCommand, AdminCommandCounts } from '../status/status.ts';
import type { CommandError } from '../wire/replication-command.ts';
import { adminTag, adminText } from './admin-syntax.ts';
import type { AdminStatement } from './admin-syntax.ts';
import { carryOut, hasToWait } from './admin-work.ts';
import type { AdminOutcome, AdminWork, EndOfProcess, StandingSource } from './admin-work.ts';
import type { ConsoleClient } from './client.ts';

/** What a desk needs. */
export interface AdminParts {
  readonly actions: AdminWork['actions'] & Pick<RelayActions, 'drain' | 'shutdown'>;
  readonly source: StandingSource;
  /** Asked at each command: a reload may have changed it. */
  readonly isAdmin: (user: string) => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** Who asks. */
export type AdminClient = Pick<ConsoleClient, 'pid' | 'user' | 'peer'>;

/** The desk of one relay. */
export class AdminDesk {
  readonly clock: Clock;
  readonly #parts: AdminParts;
  readonly #counts = new Map<AdminCommand, number>(NO_ADMIN_COMMANDS);
  /** Only for those who may not: who may is written down each time. */
  readonly #strangers = new KeyedLogBudget(ADMITTED_LOG_LINES);
  #underWay = 0;
  /** To come in the next turn. */
  #end: EndOfProcess | null = null;

  constructor(parts: AdminParts) {
    this.clock = parts.clock;
    this.#parts = parts;
  }

  /** How often each command was given, refused ones too. */
  counts(): AdminCommandCounts {
    return this.#counts;
  }

  /**
   * Carries a command out if the client may give it. A promise where it has to be waited for: it goes on, and is written
   * down, whether somebody waits or not. `isInTransaction`: what is done cannot be rolled back.
   */
  run(
    statement: AdminStatement,
    client: AdminClient,
    isInTransaction: boolean,
  ): AdminOutcome | Promise<AdminOutcome> {
    const { command } = statement;
    this.#counts.set(command, (this.#counts.get(command) ?? 0) + 1);
    const isAdmin = this.#parts.isAdmin(client.user);
    const refusal = isAdmin ? this.#refusal(statement, isInTransaction) : NO_ADMIN;
    if (refusal !== null) {
      const outcome: AdminOutcome = { kind: 'refused', error: refusal };
      if (isAdmin) this.#tell(statement, client, outcome);
      else this.#tellOfStranger(statement, client, outcome);
      return outcome;
    }
    const outcome = carryOut(statement, this.#parts);
    if (!(outcome instanceof Promise)) {
      this.#tell(statement, client, outcome);
      return outcome;
    }
    this.#underWay += 1;
    return outcome.then((settled) => {
      this.#underWay -= 1;
      this.#tell(statement, client, settled);
      return settled;
    });
  }

  /** Ends the process as a command said, in the next turn: what was written by then is on its way. */
  end(how: EndOfProcess): void {
    const { actions, clock } = this.#parts;
    const isPending = this.#end !== null;
    // The end at once overtakes the other.
    if (this.#end !== 'shutdown') this.#end = how;
    if (isPending) return;
    clock.setTimer(0, () => {
      const end = this.#end ?? how;
      this.#end = null;
      actions[end]();
    });
  }

  #refusal(statement: AdminStatement, isInTransaction: boolean): CommandError | null {
    if (isInTransaction) {
      return {
        sqlstate: SQLSTATE.activeSqlTransaction,
        message: `${adminTag(statement)} cannot run inside a transaction block`,
        hint: 'It takes effect at once and cannot be rolled back: send it outside of one (autocommit).',
      };
    }
    // What waits for nothing is taken always: a disk that hangs is why somebody wants to shut down.
    if (this.#underWay < CONSOLE_COMMANDS_MAX || !hasToWait(statement)) return null;
    return {
      sqlstate: SQLSTATE.configurationLimitExceeded,
      message: 'too many commands of the console are under way',
      hint: 'They wait for the disk or for files; the log says what is wrong with these.',
    };
  }

  #tellOfStranger(statement: AdminStatement, client: AdminClient, outcome: AdminOutcome): void {
    const key = `${client.peer.address ?? ''} ${client.user}`;
    const leftOut = this.#strangers.take(key, this.#parts.clock.nowMs());
    if (leftOut !== null) this.#tell(statement, client, outcome, leftOut);
  }

  #tell(
    statement: AdminStatement,
    { pid, user, peer }: AdminClient,
    outcome: AdminOutcome,
    leftOut = 0,
  ): void {
    const { log } = this.#parts;
    const text = `console command ${outcome.kind}: ${adminText(statement)}`;
    const fields = {
      user,
      client_addr: peer.address,
      client_port: peer.port,
      pid,
      ...(leftOut > 0 ? { left_out: leftOut } : {}),
    };
    if (outcome.kind === 'done') log.info(text, fields);
    else {
      const { sqlstate, message, detail = null } = outcome.error;
      log.warn(text, {
        ...fields,
        sqlstate,
        reason: shortened(message),
        detail: shortened(detail),
      });
    }
  }
}

/** For the log: it may name what the client sent. */
function shortened(text: string | null): string | null {
  return text?.slice(0, REFUSAL_TEXT_MAX) ?? null;
}

/** PgBouncer's words. (pgbouncer: src/admin.c, admin_cmd_pause) */
export const NO_ADMIN: CommandError = {
  sqlstate: SQLSTATE.insufficientPrivilege,
  message: 'admin access needed',
  hint: 'Those who have it are named in auth.admin_users.',
};
