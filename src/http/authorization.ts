// Who may use a route, and what is said to who may not?
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Clock } from '../base/clock.ts';
import { HTTP_TOKEN_FORGIVE_MS, HTTP_TOKEN_LENGTH_GOOD } from '../config/limits.ts';
import type { HttpAudit } from './audit.ts';
import { sendProblem } from './problems.ts';
import type { ProblemFacts } from './problems.ts';
import { addressOf } from './route.ts';
import type { Access } from './route.ts';
import { TokenGuard } from './token-guard.ts';

/** What it is decided by. */
export interface AuthorizationOptions {
  /** Opens everything; asked at each request, null when none is configured. */
  readonly token: () => string | null;
  /** Opens WAL files and nothing else; the same. */
  readonly walToken: () => string | null;
  /** Whoever asks for more than what is open to everybody has to have shown a certificate that the port trusts. */
  readonly needsCertificate: boolean;
  /** The port can be reached from this machine only. */
  readonly isLoopback: boolean;
  readonly clock: Clock;
  readonly audit: HttpAudit;
  /** Told of each request that has shown a token that is right. */
  readonly onGoodToken: (request: FastifyRequest) => void;
}

const NO_CERTIFICATE: ProblemFacts = {
  detail: 'this needs a client certificate',
  hint: 'Show one that an authority of http.tls.ca has signed.',
};

const NO_TOKEN: ProblemFacts = {
  detail: 'requests that change something are refused, because no token is configured',
  hint: 'Set http.token_file to a file that holds one, reload, and send it as "Authorization: Bearer TOKEN".',
};

const NO_WAL_TOKEN: ProblemFacts = {
  detail: 'WAL files are refused, because no token is configured',
  hint: 'WAL is the whole database. Set http.wal_token_file (or http.token_file) to a file that holds a token, reload, and send it as "Authorization: Bearer TOKEN".',
};

/** Whether there are two tokens, and which of them was shown, is nobody's business. */
const HOW_TO_SEND: Readonly<Record<Access, string>> = {
  open: '',
  read: 'Send the one of http.token_file as "Authorization: Bearer TOKEN".',
  write: 'Send the one of http.token_file as "Authorization: Bearer TOKEN".',
  wal: 'Send the one of http.wal_token_file or of http.token_file as "Authorization: Bearer TOKEN".',
};

const LOCKED: ProblemFacts = {
  detail: 'too many wrong tokens came from this address',
  hint: `Send the right one; one of less than ${HTTP_TOKEN_LENGTH_GOOD} characters is looked at again when Retry-After is over.`,
};

/** Decides for one port. */
export class Authorization {
  readonly #options: AuthorizationOptions;
  readonly #guard: TokenGuard;

  constructor(options: AuthorizationOptions) {
    this.#options = options;
    this.#guard = new TokenGuard(options);
  }

  /** Answers what must not go on; the answer is out when it resolves. */
  async check(access: Access, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (access === 'open') return;
    if (this.#options.needsCertificate && !hasCertificate(request)) {
      await sendProblem(reply, 'certificate-missing', NO_CERTIFICATE);
      return;
    }
    if (!this.#needsToken(access)) return;
    const { authorization } = request.headers;
    const hint = HOW_TO_SEND[access];
    switch (this.#guard.check(authorization, addressOf(request), this.#tokensFor(access))) {
      case 'good':
        this.#options.onGoodToken(request);
        return;
      case 'unset':
        await sendProblem(
          reply,
          'token-not-configured',
          access === 'wal' ? NO_WAL_TOKEN : NO_TOKEN,
        );
        return;
      case 'missing':
        void reply.header('www-authenticate', 'Bearer realm="walcast"');
        await sendProblem(reply, 'token-missing', { detail: 'this needs a token', hint });
        return;
      case 'wrong':
        this.#options.audit.wrongToken(request);
        void reply.header('www-authenticate', 'Bearer realm="walcast", error="invalid_token"');
        await sendProblem(reply, 'token-wrong', { detail: 'the token is wrong', hint });
        return;
      case 'locked':
        void reply.header('retry-after', String(HTTP_TOKEN_FORGIVE_MS / 1000));
        await sendProblem(reply, 'too-many-wrong-tokens', LOCKED);
    }
  }

  /** Whether a request that was let in would be let in now: for answers that go on for hours while the token is changed. */
  isStillAllowed(access: Access, request: FastifyRequest): boolean {
    if (access === 'open' || !this.#needsToken(access)) return true;
    return this.#guard.isRight(request.headers.authorization, this.#tokensFor(access));
  }

  /** WAL is the whole database: being on the same machine is no permission to read it. */
  #needsToken(access: Access): boolean {
    if (access !== 'read') return true;
    return !this.#options.isLoopback && this.#options.token() !== null;
  }

  #tokensFor(access: Access): readonly string[] {
    const { token, walToken } = this.#options;
    const tokens = access === 'wal' ? [token(), walToken()] : [token()];
    return tokens.filter((text) => text !== null);
  }
}

/** True when the chain of the client's certificate was found good in the handshake. */
function hasCertificate({ socket }: FastifyRequest): boolean {
  return 'authorized' in socket && socket.authorized === true;
}
