// In which order are TLS and plain text tried, and after which failure the other one? libpq's answer for each sslmode.
// Pure. (src/interfaces/libpq/fe-connect.c:init_allowed_encryption_methods, select_next_encryption_method)
import { OperationalError } from '../base/errors.ts';
import { TlsFailure } from '../net/tls-errors.ts';
import type { SslMode } from '../pg/conninfo.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { LoginRefusal } from './upstream-login.ts';

/** How an attempt to connect talks to the server. */
export type Encryption = 'plain' | 'tls';

interface Failure {
  readonly encryption: Encryption;
  readonly error: OperationalError;
}

/** The attempts at one host. */
export class ConnectAttempts {
  readonly #remaining: Encryption[];
  readonly #failures: Failure[] = [];
  #current: Encryption;

  /** Over a Unix socket there is no TLS, whatever `mode` says. */
  constructor(mode: SslMode, isUnixSocket: boolean) {
    const [first, ...others] = isUnixSocket ? PLAIN_ONLY : ORDER[mode];
    this.#current = first;
    this.#remaining = others;
  }

  /** What to try now. */
  get current(): Encryption {
    return this.#current;
  }

  /** A server that does no TLS may be taken without, on the same connection: {@link plainTaken} tells that it was. */
  get mayDoWithout(): boolean {
    return this.#current === 'tls' && this.#remaining.includes('plain');
  }

  /** The server does no TLS and the attempt went on without. */
  plainTaken(): void {
    this.#current = 'plain';
    this.#remaining.length = 0;
  }

  /** The attempt failed. True: try again, as {@link current} now says. False: {@link failure} tells what to report. */
  failed(error: unknown): boolean {
    if (!(error instanceof OperationalError)) return false;
    this.#failures.push({ encryption: this.#current, error });
    const next = mayHelp(error) ? this.#remaining.shift() : undefined;
    if (next === undefined) return false;
    this.#current = next;
    return true;
  }

  /** The error of all attempts: the one that tells most about what to change, and what became of the other. */
  failure(last: unknown): unknown {
    const [first, second] = this.#failures;
    if (first === undefined || second === undefined || second.error !== last) return last;
    const [main, other] =
      rank(second.error) > rank(first.error) ? [second, first] : [first, second];
    const how = other.encryption === 'tls' ? 'with' : 'without';
    return new OperationalError(
      main.error.code,
      `${main.error.message}; tried ${how} TLS, too: ${other.error.message}`,
      {
        isRetryable: main.error.isRetryable,
        cause: main.error,
        ...(main.error.hint === undefined ? {} : { hint: main.error.hint }),
      },
    );
  }
}

const PLAIN_ONLY: readonly [Encryption, ...Encryption[]] = ['plain'];

const ORDER: Readonly<Record<SslMode, readonly [Encryption, ...Encryption[]]>> = {
  disable: PLAIN_ONLY,
  allow: ['plain', 'tls'],
  prefer: ['tls', 'plain'],
  require: ['tls'],
  'verify-ca': ['tls'],
  'verify-full': ['tls'],
};

/**
 * Only what may have to do with encryption is tried again: TLS that failed, and a server that refused before it let us
 * in (its access rules tell hostssl from hostnossl). A server that starts or stops refuses either way.
 */
function mayHelp(error: OperationalError): boolean {
  if (error instanceof TlsFailure) return true;
  return (
    error instanceof LoginRefusal &&
    !error.isAuthenticated &&
    error.code !== SQLSTATE.cannotConnectNow
  );
}

/** An access rule that does not fit, or TLS that there is none of, says less than what failed the other way. */
function rank(error: OperationalError): number {
  const { code } = error;
  if (code === SQLSTATE.invalidAuthorizationSpecification || code === 'TLS_NOT_OFFERED') return 0;
  return error instanceof LoginRefusal ? 2 : 1;
}
