// What does a statement do, and what does it answer? One plan for each, whichever protocol it came by.
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import type { ResultColumn, Row } from './columns.ts';
import { prepareSelect } from './select.ts';
import type { SelectContext } from './select.ts';
import type { ConsoleSettings } from './settings.ts';
import { prepareShow } from './show-plan.ts';
import type { Statement } from './statement.ts';

/** Where a session stands with its transaction, which is for the client's peace of mind alone. */
export type TransactionStatus = 'I' | 'T' | 'E';

/** What a run gives besides rows. */
export interface PlanResult {
  readonly rows: readonly Row[];
  /** Of CommandComplete; one that counts rows has its number put behind it. */
  readonly tag: string;
  readonly notice?: ErrorFields;
  /** Messages that go out before CommandComplete. */
  readonly frames?: readonly Uint8Array[];
  readonly transaction?: TransactionStatus;
}

/** A statement that can be run. */
export interface Plan {
  /** Null: it gives no rows. */
  readonly columns: readonly ResultColumn[] | null;
  /** It ends a transaction, also one that failed. */
  readonly endsTransaction: boolean;
  run(transaction: TransactionStatus): PlanResult;
}

/** What plans work with. */
export interface PlanContext {
  readonly settings: ConsoleSettings;
  readonly select: SelectContext;
  /** Drops one prepared statement, or all (null). Throws ConsoleError for one that does not exist. */
  deallocate(name: string | null): void;
}

/** Throws ConsoleError for what there is not. */
export function planOf(statement: Statement, context: PlanContext): Plan {
  switch (statement.kind) {
    case 'select': {
      const select = prepareSelect(statement, context.select);
      return rowsPlan(select.columns, () => select.run(), 'SELECT');
    }
    case 'show': {
      const show = prepareShow(statement.name, context);
      return rowsPlan(show.columns, () => show.rows(), 'SHOW');
    }
    case 'set':
      return command(statement.tag, () => context.settings.set(statement.name, statement.value));
    case 'reset-all':
      return command('RESET', () => context.settings.resetAll());
    case 'nothing':
      return command(statement.tag, () => []);
    case 'discard-all':
      return command('DISCARD ALL', () => {
        context.deallocate(null);
        return context.settings.resetAll();
      });
    case 'deallocate':
      return command(statement.name === null ? 'DEALLOCATE ALL' : 'DEALLOCATE', () => {
        context.deallocate(statement.name);
        return [];
      });
    case 'begin':
      return {
        columns: null,
        endsTransaction: false,
        run: (status) => begin(status, statement.tag),
      };
    case 'commit':
    case 'rollback':
      return { columns: null, endsTransaction: true, run: (status) => end(status, statement.tag) };
  }
}

function rowsPlan(columns: readonly ResultColumn[], rows: () => Row[], tag: string): Plan {
  return { columns, endsTransaction: false, run: () => ({ rows: rows(), tag }) };
}

function command(tag: string, run: () => readonly Uint8Array[]): Plan {
  return {
    columns: null,
    endsTransaction: false,
    run: () => ({ rows: [], tag, frames: run() }),
  };
}

function begin(status: TransactionStatus, tag: string): PlanResult {
  const result: PlanResult = { rows: [], tag, transaction: 'T' };
  if (status !== 'T') return result;
  return {
    ...result,
    notice: warning(SQLSTATE.activeSqlTransaction, 'there is already a transaction in progress'),
  };
}

function end(status: TransactionStatus, tag: string): PlanResult {
  // What failed is rolled back, whatever was asked for.
  const result: PlanResult = { rows: [], tag: status === 'E' ? 'ROLLBACK' : tag, transaction: 'I' };
  if (status !== 'I') return result;
  return {
    ...result,
    notice: warning(SQLSTATE.noActiveSqlTransaction, 'there is no transaction in progress'),
  };
}

function warning(sqlstate: string, message: string): ErrorFields {
  return { severity: 'WARNING', sqlstate, message };
}
