// Who asked over HTTP for a change, and what came of it? A line for each, as the console writes one for each command.
import type { FastifyRequest } from 'fastify';
import { errorText } from '../base/errors.ts';
import type { Log, LogFields } from '../base/log.ts';
import { REFUSAL_TEXT_MAX } from '../config/limits.ts';
import { PROBLEMS } from './problems.ts';
import type { Refusal } from './refusals.ts';
import { addressOf } from './route.ts';

/** What was asked for. */
export interface Change {
  /** In a word or three: `create slot`. */
  readonly action: string;
  /** What it is about; shortened for the log. */
  readonly subject?: Readonly<Record<string, string | number>>;
}

/** Writes it down. */
export class ChangeLog {
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  /** After it was done, or with why it was not, whether the client waited for the answer or not. */
  tell(request: FastifyRequest, change: Change, refusal: Refusal | null): void {
    this.#write(change.action, fieldsOf(request, change), refusal);
  }

  /** Awaits the change and tells what came of it. `refusalOf`: why nothing was changed; null when it was. Rejects as it does. */
  async follow<Result>(
    request: FastifyRequest,
    change: Change,
    { done, refusalOf }: Following<Result>,
  ): Promise<{ readonly result: Result; readonly refusal: Refusal | null }> {
    // A client that does not wait for the answer has no address any more by then.
    const fields = fieldsOf(request, change);
    try {
      const result = await done;
      const refusal = refusalOf(result);
      this.#write(change.action, fields, refusal);
      return { result, refusal };
    } catch (error) {
      this.#log.error(`HTTP request failed: ${change.action}`, {
        ...fields,
        status: 500,
        problem: 'internal-error',
        reason: errorText(error).slice(0, REFUSAL_TEXT_MAX),
      });
      throw error;
    }
  }

  #write(action: string, fields: LogFields, refusal: Refusal | null): void {
    if (refusal === null) {
      this.#log.info(`HTTP request done: ${action}`, fields);
      return;
    }
    const { code, facts } = refusal;
    this.#log.warn(`HTTP request ${isTrouble(refusal) ? 'failed' : 'refused'}: ${action}`, {
      ...fields,
      status: PROBLEMS[code].status,
      problem: code,
      sqlstate: facts.sqlstate,
      reason: facts.detail.slice(0, REFUSAL_TEXT_MAX),
    });
  }
}

/** A change that is under way, and how its result is read. */
export interface Following<Result> {
  readonly done: Promise<Result>;
  readonly refusalOf: (result: Result) => Refusal | null;
}

/** It was tried, in vain. */
function isTrouble({ code }: Refusal): boolean {
  return code === 'failed' || code === 'configuration-refused';
}

/** Names from a client are shortened: a line must not grow with what is sent. A change needs the token of that key, no other. */
function fieldsOf(request: FastifyRequest, { subject = {} }: Change): LogFields {
  const shown = Object.entries(subject).map(([key, value]) => [key, String(value).slice(0, 63)]);
  return {
    ...Object.fromEntries(shown),
    client_addr: addressOf(request),
    client_port: request.socket.remotePort,
    token: 'http.token_file',
  };
}
