// Which requests leave a line in the log although nothing was changed? Those that had a wrong token, and those that took WAL
// away: a line now and then for each client, with a count of those left out.
import type { FastifyRequest } from 'fastify';
import type { Clock } from '../base/clock.ts';
import { KeyedLogBudget } from '../base/keyed-log-budget.ts';
import type { Log } from '../base/log.ts';
import { HTTP_LOG_LINES } from '../config/limits.ts';
import { clientNetwork } from '../pg/client-network.ts';
import { addressOf } from './route.ts';

/** What is written, and when. */
export class HttpAudit {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #wrongTokens = new KeyedLogBudget(HTTP_LOG_LINES);
  readonly #walFiles = new KeyedLogBudget(HTTP_LOG_LINES);

  constructor({ log, clock }: { readonly log: Log; readonly clock: Clock }) {
    this.#log = log;
    this.#clock = clock;
  }

  /** A token was wrong; it is not repeated. */
  wrongToken(request: FastifyRequest): void {
    const address = addressOf(request);
    const before = this.#wrongTokens.take(clientNetwork(address), this.#clock.nowMs());
    if (before === null) return;
    this.#log.warn('HTTP request with a wrong token was refused', {
      client_addr: address,
      route: request.routeOptions.url,
      ...leftOut(before),
    });
  }

  /** A file of WAL is given away. */
  walFile(request: FastifyRequest, name: string): void {
    const address = addressOf(request);
    const before = this.#walFiles.take(clientNetwork(address), this.#clock.nowMs());
    if (before === null) return;
    this.#log.info('HTTP request: WAL is given', {
      file: name,
      client_addr: address,
      ...leftOut(before),
    });
  }
}

/** Lines of all clients: what somebody else did is not said of this one. */
function leftOut(lines: number): { readonly left_out?: number } {
  return lines > 0 ? { left_out: lines } : {};
}
