// One replication command at the upstream and what can be wrong with its answer.
import { OperationalError } from '../base/errors.ts';
import type { ParameterSet } from './parameter-set.ts';
import { printable, upstreamError } from './upstream-errors.ts';
import type { QueryOutcome, ResultSet } from './upstream-query.ts';

/** Runs one command of the replication grammar; an ERROR of the server is part of the outcome. */
export interface CommandRunner {
  readonly parameters: ParameterSet;
  run(command: string): Promise<QueryOutcome>;
}

/** The last result set of a command. Rejects with {@link OperationalError} when the server answered with an ERROR. */
export async function answerOf(runner: CommandRunner, command: string): Promise<ResultSet | null> {
  const outcome = await runner.run(command);
  if (outcome.error !== null) {
    throw upstreamError(`the upstream refused ${printable(command)}`, outcome.error);
  }
  return outcome.results.at(-1) ?? null;
}

/** An {@link OperationalError} for an answer that no PostgreSQL gives. */
export function invalidAnswer(command: string, why: string): OperationalError {
  return new OperationalError(
    'INVALID_UPSTREAM_ANSWER',
    `invalid answer of the upstream to ${command}: ${printable(why)}`,
    { isRetryable: true, hint: 'Is upstream.conninfo pointing at a PostgreSQL server?' },
  );
}
