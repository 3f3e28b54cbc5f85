// Prepared statements and portals of one console session. (postgres.c: exec_parse_message, exec_bind_message,
// exec_execute_message; portalmem.c)
import { CONSOLE_PORTALS_MAX, CONSOLE_STATEMENTS_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import {
  encodeCommandComplete,
  encodeDataRow,
  encodeEmptyQueryResponse,
  encodeRowDescription,
} from '../wire/backend-messages.ts';
import {
  encodeBindComplete,
  encodeCloseComplete,
  encodeNoData,
  encodeParameterDescription,
  encodeParseComplete,
  encodePortalSuspended,
} from '../wire/extended-query.ts';
import type { ExtendedMessage, FormatCode } from '../wire/extended-query.ts';
import type { AnswerBudget } from './answer-budget.ts';
import { describeColumn } from './columns.ts';
import type { ResultColumn, Row } from './columns.ts';
import { ConsoleError } from './console-error.ts';
import { parameterTypes, readParameters } from './parameters.ts';
import type { ParameterValues } from './parameters.ts';
import type { Plan, PlanResult } from './plan.ts';
import { andThen } from './soon.ts';

/** What the extended protocol needs from its session. Everything may throw ConsoleError. */
export interface ExtendedHost {
  write(frames: readonly Uint8Array[]): void;
  /** Null for a statement of blanks. */
  plan(sql: string): Plan | null;
  run(plan: Plan, values: ParameterValues): PlanResult | Promise<PlanResult>;
  /** The transaction failed: only its end is taken. */
  isFailed(): boolean;
  readonly budget: AnswerBudget;
}

interface PreparedStatement {
  readonly plan: Plan | null;
  readonly parameterTypes: readonly number[];
}

interface Portal {
  readonly plan: Plan | null;
  readonly values: ParameterValues;
  readonly formats: readonly FormatCode[];
  /** Rows that its run gave and that were not taken yet, as messages; null until it has run. */
  rest: { readonly rows: readonly Uint8Array[]; readonly tag: string } | null;
}

/**
 * A message for each row; `formats` as in a Bind message: none for all in text, one for all columns, or one a column. Throws
 * ConsoleError when they are too long together.
 */
export function encodeRows(
  rows: readonly Row[],
  formats: readonly FormatCode[],
  budget: AnswerBudget,
): Uint8Array[] {
  return rows.map((row) => {
    const values = row.map((cell, index) => {
      if (cell === null) return null;
      return isBinary(formats, index) ? cell.binary() : cell.text;
    });
    const frame = encodeDataRow(values);
    budget.answer(frame.length);
    return frame;
  });
}

/** Statements and portals by name; the empty name is the unnamed one. */
export class ExtendedQueries {
  readonly #host: ExtendedHost;
  readonly #statements = new Map<string, PreparedStatement>();
  readonly #portals = new Map<string, Portal>();

  constructor(host: ExtendedHost) {
    this.#host = host;
  }

  /** Runs one message and writes its answers; a promise where it has to wait. Throws ConsoleError, or rejects with it. */
  onMessage(message: ExtendedMessage): void | Promise<void> {
    switch (message.type) {
      case 'Parse':
        this.#parse(message);
        break;
      case 'Bind':
        this.#bind(message);
        break;
      case 'Describe':
        if (message.what === 'statement') this.#describeStatement(message.name);
        else this.#describePortal(message.name);
        break;
      case 'Execute':
        return this.#execute(message.portal, message.rowsMax);
      case 'Close':
        if (message.what === 'statement') this.#statements.delete(message.name);
        else this.#portals.delete(message.name);
        this.#host.write([encodeCloseComplete()]);
        break;
      default:
        message satisfies never;
    }
    return undefined;
  }

  /** DEALLOCATE; null for all. */
  deallocate(name: string | null): void {
    if (name === null) this.#statements.clear();
    else if (!this.#statements.delete(name)) throw noStatement(name);
  }

  /** A Query drops the unnamed statement and portal. */
  dropUnnamed(): void {
    this.#statements.delete('');
    this.#portals.delete('');
  }

  /** A transaction is over. */
  dropPortals(): void {
    this.#portals.clear();
  }

  #parse({
    statement,
    sql,
    parameterTypes: given,
  }: Extract<ExtendedMessage, { type: 'Parse' }>): void {
    if (statement === '') this.#statements.delete('');
    if (this.#statements.has(statement)) {
      throw refusal(
        SQLSTATE.duplicatePreparedStatement,
        `prepared statement "${statement}" already exists`,
      );
    }
    if (this.#statements.size >= CONSOLE_STATEMENTS_MAX) {
      throw refusal(SQLSTATE.programLimitExceeded, 'too many prepared statements in this session');
    }
    const plan = this.#host.plan(sql);
    const types = parameterTypes(given, plan?.parameterTypes ?? []);
    this.#statements.set(statement, { plan, parameterTypes: types });
    this.#host.write([encodeParseComplete()]);
  }

  #bind(message: Extract<ExtendedMessage, { type: 'Bind' }>): void {
    const { portal, statement, parameters, parameterFormats, resultFormats } = message;
    const { plan, parameterTypes: types } = this.#statement(statement);
    const given = parameters.length;
    if (parameterFormats.length > 1 && parameterFormats.length !== given) {
      throw refusal(
        SQLSTATE.protocolViolation,
        `bind message has ${parameterFormats.length} parameter formats but ${given} parameters`,
      );
    }
    if (given !== types.length) {
      throw refusal(
        SQLSTATE.protocolViolation,
        `bind message supplies ${given} parameters, but prepared statement "${statement}" requires ${types.length}`,
      );
    }
    checkResultFormats(resultFormats, plan?.columns?.length ?? null);
    if (portal === '') this.#portals.delete('');
    if (this.#portals.has(portal)) {
      throw refusal(SQLSTATE.duplicateCursor, `cursor "${portal}" already exists`);
    }
    if (this.#portals.size >= CONSOLE_PORTALS_MAX) {
      throw refusal(SQLSTATE.programLimitExceeded, 'too many portals in this session');
    }
    const values = readParameters(parameters, types, parameterFormats);
    this.#portals.set(portal, { plan, values, formats: resultFormats, rest: null });
    this.#host.write([encodeBindComplete()]);
  }

  #describeStatement(name: string): void {
    const { plan, parameterTypes: types } = this.#statement(name);
    this.#host.write([encodeParameterDescription(types), describeRows(plan?.columns ?? null, [])]);
  }

  #describePortal(name: string): void {
    const { plan, formats } = this.#portal(name);
    this.#host.write([describeRows(plan?.columns ?? null, formats)]);
  }

  #execute(name: string, rowsMax: number): void | Promise<void> {
    const portal = this.#portal(name);
    const { plan } = portal;
    if (plan === null) {
      return this.#host.write([encodeEmptyQueryResponse()]);
    }
    if (portal.rest !== null && plan.columns === null) {
      throw refusal(SQLSTATE.objectNotInPrerequisiteState, `portal "${name}" cannot be run`);
    }
    return andThen(portal.rest ?? this.#runEncoded(plan, portal), (rest) =>
      this.#give(portal, rest, rowsMax),
    );
  }

  #give(portal: Portal, { rows, tag }: NonNullable<Portal['rest']>, rowsMax: number): void {
    const taken = rows.slice(0, rowsMax === 0 ? rows.length : rowsMax);
    portal.rest = { rows: rows.slice(taken.length), tag };
    const frames = [...taken];
    // As in a server, whose portal learns that there is nothing more only when it is asked for it.
    if (rowsMax > 0 && taken.length === rowsMax) frames.push(encodePortalSuspended());
    else frames.push(encodeCommandComplete(tag === 'SELECT' ? `SELECT ${taken.length}` : tag));
    this.#host.write(frames);
  }

  /** What a portal keeps is small as messages, and large as values. */
  #runEncoded(
    plan: Plan,
    { values, formats }: Pick<Portal, 'values' | 'formats'>,
  ): NonNullable<Portal['rest']> | Promise<NonNullable<Portal['rest']>> {
    return andThen(this.#host.run(plan, values), ({ rows, tag }) => ({
      rows: encodeRows(rows, formats, this.#host.budget),
      tag,
    }));
  }

  #statement(name: string): PreparedStatement {
    const statement = this.#statements.get(name);
    if (statement === undefined) throw noStatement(name);
    const isAborted = this.#host.isFailed() && statement.plan?.endsTransaction !== true;
    if (isAborted && statement.plan !== null) {
      throw refusal(
        SQLSTATE.inFailedSqlTransaction,
        'current transaction is aborted, commands ignored until end of transaction block',
      );
    }
    return statement;
  }

  #portal(name: string): Portal {
    const portal = this.#portals.get(name);
    if (portal !== undefined) return portal;
    throw refusal(SQLSTATE.invalidCursorName, `portal "${name}" does not exist`);
  }
}

function describeRows(
  columns: readonly ResultColumn[] | null,
  formats: readonly FormatCode[],
): Uint8Array {
  if (columns === null) return encodeNoData();
  return encodeRowDescription(
    columns.map((column, index) => describeColumn(column, isBinary(formats, index))),
  );
}

function isBinary(formats: readonly FormatCode[], index: number): boolean {
  return formats[formats.length === 1 ? 0 : index] === 'binary';
}

function checkResultFormats(formats: readonly FormatCode[], columns: number | null): void {
  if (formats.length <= 1 || columns === null || formats.length === columns) return;
  throw refusal(
    SQLSTATE.protocolViolation,
    `bind message has ${formats.length} result formats but query has ${columns} columns`,
  );
}

function noStatement(name: string): ConsoleError {
  return refusal(
    SQLSTATE.invalidSqlStatementName,
    name === ''
      ? 'unnamed prepared statement does not exist'
      : `prepared statement "${name}" does not exist`,
  );
}

function refusal(sqlstate: string, message: string): ConsoleError {
  return new ConsoleError({ sqlstate, message });
}
