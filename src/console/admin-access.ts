// How long does a session wait for a command that changes something? Until its outcome is there; or until it is cancelled, or
// takes too long: then the command goes on, and only the wait is over.
import type { Timer } from '../base/clock.ts';
import { CONSOLE_COMMAND_MS_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { NO_ADMIN } from './admin-desk.ts';
import type { AdminClient, AdminDesk } from './admin-desk.ts';
import { adminTag } from './admin-syntax.ts';
import type { AdminStatement } from './admin-syntax.ts';
import type { AdminOutcome, EndOfProcess } from './admin-work.ts';
import { ConsoleError } from './console-error.ts';

/** What a command gives where it did not go wrong. */
export type AdminDone = Extract<AdminOutcome, { kind: 'done' }>;

interface Wait {
  readonly statement: AdminStatement;
  readonly timer: Timer;
  readonly reject: (error: Error) => void;
}

/** The commands of one session, one at a time. */
export class AdminAccess {
  readonly #desk: AdminDesk | null;
  readonly #client: AdminClient;
  #wait: Wait | null = null;
  #end: EndOfProcess | null = null;
  /** Runs while there is one: a client that never asks for the end of the answer does not hold it up for ever. */
  #endTimer: Timer | null = null;

  /** `desk`: null where nobody may change anything. */
  constructor(desk: AdminDesk | null, client: AdminClient) {
    this.#desk = desk;
    this.#client = client;
  }

  /** Throws ConsoleError, or rejects with it, where the command is refused or fails. Never settles once {@link close} was called. */
  run(statement: AdminStatement, isInTransaction: boolean): AdminDone | Promise<AdminDone> {
    if (this.#desk === null) throw new ConsoleError(NO_ADMIN);
    const outcome = this.#desk.run(statement, this.#client, isInTransaction);
    if (!(outcome instanceof Promise)) return this.#take(outcome, this.#desk);
    return this.#waitFor(statement, this.#desk, outcome);
  }

  /** The client does not want to wait any longer. */
  cancel(): void {
    this.#giveUp('canceling statement due to user request');
  }

  /** Everything was answered. */
  answered(): void {
    const end = this.#end;
    this.#end = null;
    this.#endTimer?.cancel();
    this.#endTimer = null;
    if (end !== null) this.#desk?.end(end);
  }

  /** The session is over: nobody waits any more. */
  close(): void {
    this.#wait?.timer.cancel();
    this.#wait = null;
    this.answered();
  }

  #waitFor(
    statement: AdminStatement,
    desk: AdminDesk,
    outcome: Promise<AdminOutcome>,
  ): Promise<AdminDone> {
    return new Promise((resolve, reject) => {
      const timer = desk.clock.setTimer(CONSOLE_COMMAND_MS_MAX, () =>
        this.#giveUp('canceling statement due to statement timeout'),
      );
      const wait: Wait = { statement, timer, reject };
      this.#wait = wait;
      // What rejects here is a bug of ours, whether somebody still waits or not.
      void outcome.then((settled) => {
        if (this.#wait !== wait) return;
        this.#wait = null;
        timer.cancel();
        try {
          resolve(this.#take(settled, desk));
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  #giveUp(message: string): void {
    const wait = this.#wait;
    if (wait === null) return;
    this.#wait = null;
    wait.timer.cancel();
    const detail = `${adminTag(wait.statement)} has begun and goes on. The log says what becomes of it.`;
    wait.reject(new ConsoleError({ sqlstate: SQLSTATE.queryCanceled, message, detail }));
  }

  #take(outcome: AdminOutcome, { clock }: AdminDesk): AdminDone {
    if (outcome.kind !== 'done') throw new ConsoleError(outcome.error);
    if (outcome.end === null) return outcome;
    // The end at once overtakes the other.
    if (this.#end !== 'shutdown') this.#end = outcome.end;
    this.#endTimer ??= clock.setTimer(CONSOLE_COMMAND_MS_MAX, () => this.answered());
    return outcome;
  }
}
