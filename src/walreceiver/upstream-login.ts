// How a session at the upstream begins: startup packet, authentication, parameters, up to the first ReadyForQuery.
// A pure machine: decoded messages in, what to do next out. (fe-connect.c:PQconnectPoll, fe-auth.c:pg_fe_sendauth)
import { OperationalError, ProtocolViolation } from '../base/errors.ts';
import {
  encodePassword,
  encodeSaslInitial,
  encodeSaslResponse,
} from '../wire/frontend-messages.ts';
import { md5Password, SCRAM_MECHANISM, ScramClient } from '../wire/scram-client.ts';
import { encodeStartupMessage } from '../wire/startup.ts';
import type { ReceivedError, UpstreamMessage } from '../wire/upstream-messages.ts';
import type { AuthMethod } from './auth-methods.ts';
import { ParameterSet } from './parameter-set.ts';
import { upstreamError } from './upstream-errors.ts';

/** As whom to log in. */
export interface LoginOptions {
  readonly user: string;
  readonly password: string | null;
  readonly allowedMethods: ReadonlySet<AuthMethod>;
  /** Every startup parameter in order, `user` among them. */
  readonly parameters: Iterable<readonly [name: string, value: string]>;
  /** The client's part of the SCRAM nonce: at least 18 random bytes as printable text, fresh for each login. */
  readonly nonce: string;
}

/** What the server said about the session. */
export interface LoggedIn {
  readonly parameters: ParameterSet;
  /** 0 when the server sent no key. */
  readonly backendPid: number;
}

/**
 * What to do next. `send`: these bytes. `compute`: wait for the bytes and send them, nothing is expected from the server
 * meanwhile. `done`: ready for commands. `failed`: close the connection.
 */
export type LoginStep =
  | { readonly kind: 'wait' }
  | { readonly kind: 'send'; readonly bytes: Uint8Array }
  | { readonly kind: 'compute'; readonly bytes: Promise<Uint8Array> }
  | { readonly kind: 'done'; readonly session: LoggedIn }
  | { readonly kind: 'failed'; readonly error: OperationalError };

type LoginState =
  | 'startup'
  | 'password-sent'
  | 'sasl-first'
  | 'sasl-final'
  | 'sasl-verified'
  | 'in';

const WAIT: LoginStep = { kind: 'wait' };

/** One login. */
export class UpstreamLogin {
  readonly #options: LoginOptions;
  readonly #parameters: ParameterSet = new ParameterSet();
  #state: LoginState = 'startup';
  #scram: ScramClient | null = null;
  #backendPid = 0;

  constructor(options: LoginOptions) {
    this.#options = options;
  }

  /** The startup packet: protocol 3.0, the version every server speaks. */
  startupPacket(): Uint8Array {
    return encodeStartupMessage(this.#options.parameters);
  }

  /**
   * Takes one message of the server. Throws {@link ProtocolViolation} for one that does not belong here.
   */
  receive(message: UpstreamMessage): LoginStep {
    switch (message.type) {
      case 'ErrorResponse':
        return { kind: 'failed', error: loginRefused(message.fields) };
      case 'NoticeResponse':
        return WAIT;
      case 'ParameterStatus':
        this.#parameters.set(message.name, message.value);
        return WAIT;
      case 'BackendKeyData':
        this.#requireState('in', message.type);
        this.#backendPid = message.pid;
        return WAIT;
      case 'ReadyForQuery':
        this.#requireState('in', message.type);
        return {
          kind: 'done',
          session: { parameters: this.#parameters, backendPid: this.#backendPid },
        };
      default:
        return this.#authenticate(message);
    }
  }

  #authenticate(message: UpstreamMessage): LoginStep {
    switch (message.type) {
      case 'AuthenticationOk':
        return this.#authenticated();
      case 'AuthenticationCleartextPassword':
        return this.#answerPassword('password', (password) => password);
      case 'AuthenticationMD5Password':
        return this.#answerPassword('md5', (password) =>
          md5Password(this.#options.user, password, message.salt),
        );
      case 'AuthenticationSASL':
        return this.#startScram(message.mechanisms);
      case 'AuthenticationSASLContinue':
        return this.#answerServerFirst(message.data);
      case 'AuthenticationSASLFinal':
        return this.#verifyServerFinal(message.data);
      case 'AuthenticationUnsupported':
        return failed(
          'AUTH_METHOD_UNSUPPORTED',
          `the upstream asks for authentication method ${message.code}, which walcast does not speak`,
          'Let a pg_hba.conf line of the upstream ask for scram-sha-256 from this host.',
        );
      default:
        throw unexpected(message.type);
    }
  }

  /** Also ends a trust login; after a SASL exchange it counts only when the server proved that it knows the secret. */
  #authenticated(): LoginStep {
    if (this.#state === 'startup') {
      if (!this.#options.allowedMethods.has('none')) return methodRefused('none');
    } else if (this.#state !== 'password-sent' && this.#state !== 'sasl-verified') {
      throw unexpected('AuthenticationOk');
    }
    this.#state = 'in';
    return WAIT;
  }

  #answerPassword(method: 'password' | 'md5', answer: (password: string) => string): LoginStep {
    this.#requireState('startup', 'AuthenticationRequest');
    if (!this.#options.allowedMethods.has(method)) return methodRefused(method);
    if (this.#options.password === null) return passwordMissing();
    this.#state = 'password-sent';
    return { kind: 'send', bytes: encodePassword(answer(this.#options.password)) };
  }

  #startScram(mechanisms: readonly string[]): LoginStep {
    this.#requireState('startup', 'AuthenticationSASL');
    if (!mechanisms.includes(SCRAM_MECHANISM)) {
      const offered = mechanisms.map((name) => name.slice(0, 40)).slice(0, 5);
      return failed(
        'AUTH_METHOD_UNSUPPORTED',
        `the upstream offers none of walcast's SASL mechanisms, only ${offered.join(', ')}`,
        'Let a pg_hba.conf line of the upstream ask for scram-sha-256 from this host.',
      );
    }
    if (!this.#options.allowedMethods.has('scram-sha-256')) return methodRefused('scram-sha-256');
    if (this.#options.password === null) return passwordMissing();
    this.#scram = new ScramClient(this.#options.password, this.#options.nonce);
    this.#state = 'sasl-first';
    return { kind: 'send', bytes: encodeSaslInitial(SCRAM_MECHANISM, this.#scram.clientFirst) };
  }

  #answerServerFirst(data: Uint8Array): LoginStep {
    this.#requireState('sasl-first', 'AuthenticationSASLContinue');
    if (this.#scram === null) throw unexpected('AuthenticationSASLContinue');
    this.#state = 'sasl-final';
    // The view is gone once the server's next bytes arrive, and the key is derived off the event loop.
    const final = this.#scram.serverFirst(new Uint8Array(data));
    return { kind: 'compute', bytes: final.then(encodeSaslResponse) };
  }

  #verifyServerFinal(data: Uint8Array): LoginStep {
    this.#requireState('sasl-final', 'AuthenticationSASLFinal');
    if (this.#scram === null) throw unexpected('AuthenticationSASLFinal');
    try {
      this.#scram.serverFinal(data);
    } catch (error) {
      // What is refused now may be allowed there later, so the login is tried again.
      if (!(error instanceof OperationalError)) throw error;
      return failed(error.code, error.message, error.hint ?? '');
    }
    this.#state = 'sasl-verified';
    return WAIT;
  }

  #requireState(state: LoginState, messageType: string): void {
    if (this.#state !== state) throw unexpected(messageType);
  }
}

function unexpected(messageType: string): ProtocolViolation {
  return new ProtocolViolation(
    '08P01',
    `the upstream sent ${messageType} at a point of the login where it does not belong`,
  );
}

function failed(code: string, message: string, hint: string): LoginStep {
  return {
    kind: 'failed',
    error: new OperationalError(code, message, { isRetryable: true, hint }),
  };
}

function passwordMissing(): LoginStep {
  return failed(
    'PASSWORD_MISSING',
    'the upstream asks for a password and none is configured',
    'Set password or passfile in upstream.conninfo, or PGPASSWORD.',
  );
}

function methodRefused(method: AuthMethod): LoginStep {
  const risk: Readonly<Record<AuthMethod, string>> = {
    none: 'the upstream asks for no authentication, and require_auth demands one',
    password:
      'the upstream asks for the password in clear text, which anybody who plays the server could do',
    md5: 'the upstream asks for the password as MD5, which gives it away to whoever listens',
    'scram-sha-256': 'the upstream asks for SCRAM-SHA-256, which require_auth leaves out',
  };
  return failed(
    'AUTH_METHOD_REFUSED',
    risk[method],
    method === 'password' || method === 'md5'
      ? `Set password_encryption=scram-sha-256 on the upstream, set the role's password anew and use scram-sha-256 in pg_hba.conf; or accept the risk with require_auth=${method} in upstream.conninfo.`
      : `Add ${method} to require_auth in upstream.conninfo, or change the method in the upstream's pg_hba.conf.`,
  );
}

function loginRefused(fields: ReceivedError): OperationalError {
  return upstreamError('the upstream refused the login', fields);
}
