// Who may use a route, and what is said to who may not?
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { HTTP_TOKEN_FORGIVE_MS, HTTP_TOKEN_LENGTH_GOOD } from '../config/limits.ts';
import type { ErrorJson } from './api-types.ts';
import { addressOf } from './route.ts';
import type { Access } from './route.ts';
import { TokenGuard } from './token-guard.ts';

/** What it is decided by. */
export interface AuthorizationOptions {
  readonly token: () => string | null;
  /** The port can be reached from this machine only. */
  readonly isLoopback: boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** How often wrong tokens are logged at most. */
const LOG_INTERVAL_MS = 10_000;

const NO_TOKEN: ErrorJson = {
  error: 'requests that change something are refused, because no token is configured',
  hint: 'Set http.token_file to a file that holds one, reload, and send it as "Authorization: Bearer TOKEN".',
};

const MISSING: ErrorJson = {
  error: 'this needs a token',
  hint: 'Send the one of http.token_file as "Authorization: Bearer TOKEN".',
};

const WRONG: ErrorJson = {
  error: 'the token is wrong',
  hint: 'Send the one of http.token_file as "Authorization: Bearer TOKEN".',
};

const LOCKED: ErrorJson = {
  error: 'too many wrong tokens came from this address',
  hint: `Send the one of http.token_file; one of less than ${HTTP_TOKEN_LENGTH_GOOD} characters is looked at again when Retry-After is over.`,
};

/** Decides for one port. */
export class Authorization {
  readonly #options: AuthorizationOptions;
  readonly #guard: TokenGuard;
  #unlogged = 0;
  #loggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: AuthorizationOptions) {
    this.#options = options;
    this.#guard = new TokenGuard(options);
  }

  /** Answers what must not go on; the answer is out when it resolves. */
  async check(access: Access, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (!this.#needsToken(access)) return;
    const verdict = this.#guard.check(request.headers.authorization, addressOf(request));
    switch (verdict) {
      case 'good':
        return;
      case 'unset':
        await reply.code(403).send(NO_TOKEN);
        return;
      case 'missing':
        await reply.code(401).header('www-authenticate', 'Bearer realm="walcast"').send(MISSING);
        return;
      case 'wrong':
        this.#logWrong(request);
        await reply.code(401).header('www-authenticate', CHALLENGE).send(WRONG);
        return;
      case 'locked':
        await reply
          .code(429)
          .header('retry-after', String(HTTP_TOKEN_FORGIVE_MS / 1000))
          .send(LOCKED);
    }
  }

  #needsToken(access: Access): boolean {
    if (access === 'write') return true;
    return access === 'read' && !this.#options.isLoopback && this.#guard.hasToken;
  }

  #logWrong(request: FastifyRequest): void {
    const { clock, log } = this.#options;
    this.#unlogged += 1;
    const nowMs = clock.nowMs();
    if (nowMs - this.#loggedAtMs < LOG_INTERVAL_MS) return;
    this.#loggedAtMs = nowMs;
    log.warn('HTTP requests with a wrong token were refused', {
      requests: this.#unlogged,
      client_addr: addressOf(request),
      route: request.routeOptions.url,
    });
    this.#unlogged = 0;
  }
}

const CHALLENGE = 'Bearer realm="walcast", error="invalid_token"';
