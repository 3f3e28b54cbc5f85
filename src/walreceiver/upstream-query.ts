// What came back for one command of the simple protocol: its result sets or its error, with bounds on both.
// A pure collector: decoded messages in, an outcome after ReadyForQuery.
import { ProtocolViolation } from '../base/errors.ts';
import {
  UPSTREAM_ANSWER_BYTES_MAX,
  UPSTREAM_ANSWER_ROWS_MAX,
  UPSTREAM_RESULT_SETS_MAX,
} from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { ReceivedError, UpstreamMessage } from '../wire/upstream-messages.ts';

/** How much of an answer is kept; more ends the session. */
export interface QueryLimits {
  readonly rowsMax: number;
  readonly bytesMax: number;
}

/** Bounds for replication commands: a history file is the largest thing they answer. */
export const REPLICATION_QUERY_LIMITS: QueryLimits = {
  rowsMax: UPSTREAM_ANSWER_ROWS_MAX,
  bytesMax: UPSTREAM_ANSWER_BYTES_MAX,
};

/** One result set. The values are copies; null is SQL's NULL. */
export interface ResultSet {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (Uint8Array | null)[])[];
  /** The CommandComplete tag; null while rows are still coming. */
  readonly tag: string | null;
}

/** Everything up to ReadyForQuery. With an `error` the results before it are kept too. */
export interface QueryOutcome {
  readonly results: readonly ResultSet[];
  readonly error: ReceivedError | null;
}

/** The text of a value of a result set: UTF-8, null for NULL or a missing column. */
export function valueText(value: Uint8Array | null | undefined): string | null {
  if (value === null || value === undefined) return null;
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8');
}

interface OpenResultSet {
  columns: readonly string[];
  rows: (Uint8Array | null)[][];
  tag: string | null;
}

/** Collects the answer to one command. */
export class ResultCollector {
  readonly #limits: QueryLimits;
  readonly #isBound: boolean;
  readonly #results: OpenResultSet[] = [];
  #open: OpenResultSet | null = null;
  #error: ReceivedError | null = null;
  #rows = 0;
  #bytes = 0;

  /** `isBound`: the command was sent with the extended protocol, which says more about how far it got. */
  constructor(limits: QueryLimits, isBound = false) {
    this.#limits = limits;
    this.#isBound = isBound;
  }

  /** Takes one message; the outcome comes with ReadyForQuery. Throws {@link ProtocolViolation} beyond the limits. */
  receive(message: UpstreamMessage): QueryOutcome | null {
    switch (message.type) {
      case 'RowDescription':
        this.#begin(message.columns.map((column) => column.name));
        return null;
      case 'DataRow':
        this.#addRow(message.values);
        return null;
      case 'CommandComplete':
        if (this.#open === null) this.#begin([]);
        this.#end(message.tag);
        return null;
      case 'EmptyQuery':
        return null;
      case 'ErrorResponse':
        // The first error is the cause; an aborted command has no further one.
        this.#error ??= message.fields;
        return null;
      case 'ReadyForQuery':
        return { results: this.#results, error: this.#error };
      case 'ParseComplete':
      case 'BindComplete':
      case 'NoData':
      case 'PortalSuspended':
        if (this.#isBound) return null;
        throw outOfPlace(message);
      default:
        throw outOfPlace(message);
    }
  }

  #begin(columns: readonly string[]): void {
    if (this.#results.length >= UPSTREAM_RESULT_SETS_MAX)
      throw tooLarge(`${UPSTREAM_RESULT_SETS_MAX} result sets`);
    this.#open = { columns, rows: [], tag: null };
    this.#results.push(this.#open);
  }

  #addRow(values: readonly (Uint8Array | null)[]): void {
    if (this.#open === null) {
      throw new ProtocolViolation(
        SQLSTATE.protocolViolation,
        'the upstream sent a data row without a row description',
      );
    }
    if (++this.#rows > this.#limits.rowsMax) throw tooLarge(`${this.#limits.rowsMax} rows`);
    for (const value of values) this.#bytes += (value?.byteLength ?? 0) + 16;
    if (this.#bytes > this.#limits.bytesMax) throw tooLarge(`${this.#limits.bytesMax} bytes`);
    this.#open.rows.push(values.map((value) => (value === null ? null : new Uint8Array(value))));
  }

  #end(tag: string): void {
    if (this.#open !== null) this.#open.tag = tag;
    this.#open = null;
  }
}

function outOfPlace(message: UpstreamMessage): ProtocolViolation {
  return new ProtocolViolation(
    SQLSTATE.protocolViolation,
    `the upstream sent ${message.type} inside the answer to a command`,
  );
}

function tooLarge(limit: string): ProtocolViolation {
  return new ProtocolViolation(
    SQLSTATE.protocolViolation,
    `the upstream's answer to a command is larger than ${limit}`,
  );
}
