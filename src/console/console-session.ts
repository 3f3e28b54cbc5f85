// One console session: runs the simple and the extended protocol over statements. A message in, its answers out; only what
// changes something may have to be waited for. (src/backend/tcop/postgres.c: PostgresMain, exec_simple_query)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import {
  encodeCommandComplete,
  encodeEmptyQueryResponse,
  encodeErrorResponse,
  encodeNoticeResponse,
  encodeReadyForQuery,
  encodeRowDescription,
} from '../wire/backend-messages.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import { decodeExtendedMessage } from '../wire/extended-query.ts';
import {
  decodeFrontendMessage,
  FatalProtocolViolation,
  invalidFrontendType,
  malformedSync,
} from '../wire/frontend-messages.ts';
import type { FrontendMessage } from '../wire/frontend-messages.ts';
import type { CommandError } from '../wire/replication-command.ts';
import { AdminAccess } from './admin-access.ts';
import type { AdminDesk } from './admin-desk.ts';
import { AnswerBudget } from './answer-budget.ts';
import type { ConsoleClient } from './client.ts';
import { describeColumn } from './columns.ts';
import { ConsoleError } from './console-error.ts';
import { encodeRows, ExtendedQueries } from './extended-queries.ts';
import type { ParameterValues } from './parameters.ts';
import { planOf } from './plan.ts';
import type { Plan, PlanContext, PlanResult, TransactionStatus } from './plan.ts';
import { ConsoleSettings } from './settings.ts';
import type { ConsoleSource } from './source.ts';
import { andThen } from './soon.ts';
import { parseStatements } from './statement.ts';
import type { Statement } from './statement.ts';

/** How a session goes on behind a message: it stays, the client said goodbye, or it ends with a FATAL error. */
export type ConsoleOutcome = 'open' | 'terminated' | CommandError;

/** One client of the console. */
export class ConsoleSession {
  readonly #client: ConsoleClient;
  readonly #context: PlanContext;
  readonly #extended: ExtendedQueries;
  readonly #admin: AdminAccess;
  readonly #budget = new AnswerBudget();
  #transaction: TransactionStatus = 'I';
  /** After an error in the extended protocol nothing is answered before Sync. */
  #isSkippingToSync = false;

  constructor(client: ConsoleClient, source: ConsoleSource, desk: AdminDesk | null) {
    this.#client = client;
    this.#admin = new AdminAccess(desk, client);
    const settings = new ConsoleSettings(client);
    const { user, pid, facts } = client;
    this.#context = {
      settings,
      deallocate: (name) => this.#extended.deallocate(name),
      change: (statement, isInTransaction) => this.#admin.run(statement, isInTransaction),
      select: {
        user,
        pid,
        versionText: `PostgreSQL ${client.serverVersion} behind walcast ${client.walcastVersion}`,
        setting: (name) => settings.show(name),
        settings: () => settings.all(),
        budget: this.#budget,
        source: () => ({ inside: source, facts }),
      },
    };
    this.#extended = new ExtendedQueries({
      write: (frames) => client.write(frames),
      plan: (sql) => this.#planOne(sql),
      run: (plan, values) => this.#run(plan, values),
      isFailed: () => this.#transaction === 'E',
      budget: this.#budget,
    });
  }

  /**
   * Takes a whole message; `body` is not kept. Everything it calls for has been written when this returns, or, where it has
   * to wait, when the promise resolves: no other message may be handed over before. The promise rejects for a bug only.
   */
  onMessage(type: number, body: Uint8Array): ConsoleOutcome | Promise<ConsoleOutcome> {
    this.#budget.begin();
    try {
      const outcome = this.#onDecoded(decodeFrontendMessage(type, body), body);
      if (!(outcome instanceof Promise)) return outcome;
      return outcome.catch((error: unknown) => this.#onError(error, type));
    } catch (error) {
      return this.#onError(error, type);
    }
  }

  /** A CancelRequest: what is waited for goes on without this session. */
  cancel(): void {
    this.#admin.cancel();
  }

  /** The session is over. */
  close(): void {
    this.#admin.close();
  }

  #onError(error: unknown, type: number): ConsoleOutcome {
    if (error instanceof ConsoleError) this.#fail(error.fields);
    else if (error instanceof FatalProtocolViolation) return errorOf(error);
    // What is skipped is not read either.
    else if (error instanceof ProtocolViolation && this.#isSkippingToSync) return 'open';
    else if (error instanceof ProtocolViolation) this.#fail(errorOf(error));
    else throw error;
    if (isExtended(type)) this.#isSkippingToSync = true;
    else this.#ready();
    return 'open';
  }

  #onDecoded(message: FrontendMessage, body: Uint8Array): ConsoleOutcome | Promise<ConsoleOutcome> {
    if (message.type === 'Terminate') return 'terminated';
    if (message.type === 'Sync') {
      this.#isSkippingToSync = false;
      if (!message.isWellFormed) throw malformedSync();
      this.#ready();
      return 'open';
    }
    if (this.#isSkippingToSync) return 'open';
    switch (message.type) {
      case 'Query':
        return andThen(this.#query(message.sql), (): ConsoleOutcome => 'open');
      case 'ExtendedQuery':
        return andThen(
          this.#extended.onMessage(decodeExtendedMessage(message.letter, body)),
          (): ConsoleOutcome => 'open',
        );
      case 'FunctionCall':
        throw new ConsoleError({
          sqlstate: SQLSTATE.featureNotSupported,
          message: "fastpath function calls are not supported by walcast's console",
        });
      case 'PasswordOrSasl':
        throw new FatalProtocolViolation(
          SQLSTATE.protocolViolation,
          invalidFrontendType('p'.charCodeAt(0)),
        );
      // What is left of a COPY means nothing here, and nothing is ever held back that could be flushed.
      case 'CopyData':
      case 'CopyDone':
      case 'CopyFail':
      case 'Flush':
        return 'open';
      default:
        return message satisfies never;
    }
  }

  #query(sql: string): void | Promise<void> {
    this.#extended.dropUnnamed();
    const statements = parseStatements(sql);
    if (statements.length === 0) this.#client.write([encodeEmptyQueryResponse()]);
    return this.#answerFrom(statements, 0);
  }

  /** Each is planned when those before it have been carried out. */
  #answerFrom(statements: readonly Statement[], index: number): void | Promise<void> {
    const statement = statements[index];
    if (statement === undefined) return this.#ready();
    const plan = this.#plan(statement);
    return andThen(this.#run(plan), (result) => {
      this.#answer(plan, result);
      return this.#answerFrom(statements, index + 1);
    });
  }

  #answer({ columns }: Plan, { rows, tag }: PlanResult): void {
    const frames: Uint8Array[] = [];
    if (columns !== null) {
      frames.push(encodeRowDescription(columns.map((column) => describeColumn(column, false))));
      for (const frame of encodeRows(rows, [], this.#budget)) frames.push(frame);
    }
    frames.push(encodeCommandComplete(tag === 'SELECT' ? `SELECT ${rows.length}` : tag));
    this.#client.write(frames);
  }

  #planOne(sql: string): Plan | null {
    const statements = parseStatements(sql);
    if (statements.length > 1) {
      throw new ConsoleError({
        sqlstate: SQLSTATE.syntaxError,
        message: 'cannot insert multiple commands into a prepared statement',
      });
    }
    const [statement] = statements;
    return statement === undefined ? null : this.#plan(statement);
  }

  #plan(statement: Statement): Plan {
    const plan = planOf(statement, this.#context);
    this.#mayRun(plan);
    return plan;
  }

  #mayRun(plan: Plan): void {
    if (this.#transaction !== 'E' || plan.endsTransaction) return;
    throw new ConsoleError({
      sqlstate: SQLSTATE.inFailedSqlTransaction,
      message: 'current transaction is aborted, commands ignored until end of transaction block',
    });
  }

  #run(plan: Plan, values?: ParameterValues): PlanResult | Promise<PlanResult> {
    this.#mayRun(plan);
    return andThen(plan.run(this.#transaction, values), (result) => this.#take(result));
  }

  /** Notices and changes of parameters go out at once. */
  #take(result: PlanResult): PlanResult {
    if (result.transaction !== undefined) this.#transaction = result.transaction;
    for (const notice of result.notices ?? []) this.#client.write([encodeNoticeResponse(notice)]);
    if (result.frames !== undefined && result.frames.length > 0) this.#client.write(result.frames);
    return result;
  }

  #fail(error: CommandError): void {
    const fields: ErrorFields = { severity: 'ERROR', ...error };
    this.#client.write([encodeErrorResponse(fields)]);
    if (this.#transaction === 'T') this.#transaction = 'E';
  }

  #ready(): void {
    // Portals live no longer than their transaction; each Query and Sync outside of one ends one.
    if (this.#transaction !== 'T') this.#extended.dropPortals();
    this.#client.write([encodeReadyForQuery(this.#transaction)]);
    this.#admin.answered();
  }
}

function errorOf(violation: ProtocolViolation): CommandError {
  return { sqlstate: violation.code, message: violation.message };
}

const EXTENDED_LETTERS: ReadonlySet<string> = new Set(['P', 'B', 'D', 'E', 'C', 'H']);

function isExtended(type: number): boolean {
  return EXTENDED_LETTERS.has(String.fromCharCode(type));
}
