// What does a statement do, and what does it answer? One plan for each, whichever protocol it came by.
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import type { AdminDone } from './admin-access.ts';
import { adminTag } from './admin-syntax.ts';
import type { AdminStatement } from './admin-syntax.ts';
import type { ResultColumn, Row } from './columns.ts';
import type { ParameterValues } from './parameters.ts';
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
  readonly notices?: readonly ErrorFields[];
  /** Messages that go out before CommandComplete. */
  readonly frames?: readonly Uint8Array[];
  readonly transaction?: TransactionStatus;
}

/** A statement that can be run. */
export interface Plan {
  /** Null: it gives no rows. */
  readonly columns: readonly ResultColumn[] | null;
  /** OIDs of the types of its parameters, from `$1` on; 0 where one is not used, absent where there are none. */
  readonly parameterTypes?: readonly number[];
  /** It ends a transaction, also one that failed. */
  readonly endsTransaction: boolean;
  /** A promise where what it changes has to be waited for. Throws ConsoleError, or rejects with it. */
  run(transaction: TransactionStatus, values?: ParameterValues): PlanResult | Promise<PlanResult>;
}

/** What plans work with. */
export interface PlanContext {
  readonly settings: ConsoleSettings;
  readonly select: SelectContext;
  /** Carries out what changes something. Throws ConsoleError, or rejects with it, where that is refused or fails. */
  change(statement: AdminStatement, isInTransaction: boolean): AdminDone | Promise<AdminDone>;
  /** Drops one prepared statement, or all (null). Throws ConsoleError for one that does not exist. */
  deallocate(name: string | null): void;
}

/** Throws ConsoleError for what there is not. */
export function planOf(statement: Statement, context: PlanContext): Plan {
  switch (statement.kind) {
    case 'select': {
      const select = prepareSelect(statement, context.select);
      return {
        ...rowsPlan(select.columns, () => [], 'SELECT'),
        parameterTypes: select.parameterTypes,
        run: (_status, values = []) => ({ rows: select.run(values), tag: 'SELECT' }),
      };
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
    case 'admin':
      return adminPlan(statement, context);
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

function adminPlan(statement: AdminStatement, context: PlanContext): Plan {
  const resultOf = ({ notices }: AdminDone): PlanResult => ({
    rows: [],
    tag: adminTag(statement),
    notices,
  });
  return {
    columns: null,
    endsTransaction: false,
    run: (status) => {
      const done = context.change(statement, status !== 'I');
      return done instanceof Promise ? done.then(resultOf) : resultOf(done);
    },
  };
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
    notices: [warning(SQLSTATE.activeSqlTransaction, 'there is already a transaction in progress')],
  };
}

function end(status: TransactionStatus, tag: string): PlanResult {
  // What failed is rolled back, whatever was asked for.
  const result: PlanResult = { rows: [], tag: status === 'E' ? 'ROLLBACK' : tag, transaction: 'I' };
  if (status !== 'I') return result;
  return {
    ...result,
    notices: [warning(SQLSTATE.noActiveSqlTransaction, 'there is no transaction in progress')],
  };
}

function warning(sqlstate: string, message: string): ErrorFields {
  return { severity: 'WARNING', sqlstate, message };
}
