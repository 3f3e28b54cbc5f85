// How a session at the upstream begins: startup packet, authentication, parameters, up to the first ReadyForQuery.
// A pure machine: decoded messages in, what to do next out. (fe-connect.c:PQconnectPoll, fe-auth.c:pg_fe_sendauth)
import { OperationalError, ProtocolViolation } from '../base/errors.ts';
import type { TlsSession } from '../net/tls-session.ts';
import type { ChannelBinding, ConninfoTls } from '../pg/conninfo.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import {
  encodePassword,
  encodeSaslInitial,
  encodeSaslResponse,
} from '../wire/frontend-messages.ts';
import {
  md5Password,
  SCRAM_MECHANISM,
  SCRAM_PLUS_MECHANISM,
  ScramClient,
} from '../wire/scram-client.ts';
import type { ScramBinding } from '../wire/scram-client.ts';
import { serverEndPointBinding } from '../wire/server-certificate.ts';
import { encodeStartupMessage } from '../wire/startup.ts';
import type { ReceivedError, UpstreamMessage } from '../wire/upstream-messages.ts';
import type { AuthMethod } from './auth-methods.ts';
import { ParameterSet } from './parameter-set.ts';
import { printable, upstreamError } from './upstream-errors.ts';

/** As whom to log in. */
export interface LoginOptions {
  readonly user: string;
  readonly password: string | null;
  readonly allowedMethods: ReadonlySet<AuthMethod>;
  /** require_auth as it was given, for messages; null = not given. */
  readonly requireAuth: string | null;
  readonly channelBinding: ChannelBinding;
  /** sslcertmode. */
  readonly certMode: ConninfoTls['certMode'];
  /** The TLS session that the login runs in; null without TLS. */
  readonly tls: TlsSession | null;
  /** Every startup parameter in order, `user` among them. */
  readonly parameters: Iterable<readonly [name: string, value: string]>;
  /** The client's part of the SCRAM nonce: at least 18 random bytes as printable text, fresh for each login. */
  readonly nonce: string;
}

/** An ErrorResponse during the login. Always retryable. */
export class LoginRefusal extends OperationalError {
  /** The server had let us in before: it refuses the session, not who asks for it or how. */
  readonly isAuthenticated: boolean;
  /** What the server sent. */
  readonly fields: ReceivedError;

  constructor(fields: ReceivedError, isAuthenticated: boolean) {
    const error = upstreamError('the upstream refused the login', fields, refusalHint(fields));
    super(error.code, error.message, {
      isRetryable: true,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
    this.isAuthenticated = isAuthenticated;
    this.fields = fields;
  }
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
  /** The SCRAM exchange is bound to the TLS channel. */
  #isBound = false;
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
        return { kind: 'failed', error: new LoginRefusal(message.fields, this.#state === 'in') };
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

  /** (fe-auth.c:check_expected_areq, pg_fe_sendauth) */
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
    const problem = this.#certificateProblem();
    if (problem !== null) return problem;
    if (this.#state === 'startup') {
      if (!this.#options.allowedMethods.has('none')) return this.#methodRefused('none');
    } else if (this.#state !== 'password-sent' && this.#state !== 'sasl-verified') {
      throw unexpected('AuthenticationOk');
    }
    if (this.#options.channelBinding === 'require' && !this.#isBound) {
      return bindingMissing(
        'channel binding required, but server authenticated client without channel binding',
      );
    }
    this.#state = 'in';
    return WAIT;
  }

  /** sslcertmode=require: the server has to have asked for our certificate, and to have got one. */
  #certificateProblem(): LoginStep | null {
    const { certMode, tls } = this.#options;
    if (certMode !== 'require') return null;
    if (tls?.isCertificateRequested !== true) {
      return failed(
        'TLS_CERTIFICATE_NOT_REQUESTED',
        'server did not request an SSL certificate',
        'Set ssl_ca_file on the upstream and clientcert=verify-full (or method cert) in its pg_hba.conf, or leave sslcertmode=require out of upstream.conninfo.',
      );
    }
    if (tls.clientCertificateExpiresAtMs !== null) return null;
    return failed(
      'TLS_CERTIFICATE_NOT_SENT',
      'server accepted connection without a valid SSL certificate',
      'Name our certificate and its key in sslcert and sslkey, or leave sslcertmode=require out of upstream.conninfo.',
    );
  }

  #answerPassword(method: 'password' | 'md5', answer: (password: string) => string): LoginStep {
    this.#requireState('startup', 'AuthenticationRequest');
    if (!this.#options.allowedMethods.has(method)) return this.#methodRefused(method);
    if (this.#options.channelBinding === 'require') {
      return bindingMissing(
        "channel binding required but not supported by server's authentication request",
      );
    }
    const { password } = this.#options;
    if (password === null || password === '') return passwordMissing();
    this.#state = 'password-sent';
    return { kind: 'send', bytes: encodePassword(answer(password)) };
  }

  /** (fe-auth.c:pg_SASL_init) */
  #startScram(mechanisms: readonly string[]): LoginStep {
    this.#requireState('startup', 'AuthenticationSASL');
    const { password, nonce, allowedMethods, channelBinding } = this.#options;
    if (!allowedMethods.has('scram-sha-256')) return this.#methodRefused('scram-sha-256');
    const binding = this.#chooseBinding(mechanisms);
    if ('error' in binding) return { kind: 'failed', error: binding.error };
    const isBound = binding.kind === 'bound';
    if (!isBound && !mechanisms.includes(SCRAM_MECHANISM)) return unsupported(mechanisms);
    if (channelBinding === 'require' && !isBound) {
      return bindingMissing(
        'channel binding is required, but server did not offer an authentication method that supports channel binding',
      );
    }
    if (password === null || password === '') return passwordMissing();
    this.#scram = new ScramClient(password, nonce, { binding });
    this.#isBound = isBound;
    this.#state = 'sasl-first';
    const mechanism = isBound ? SCRAM_PLUS_MECHANISM : SCRAM_MECHANISM;
    return { kind: 'send', bytes: encodeSaslInitial(mechanism, this.#scram.clientFirst) };
  }

  #chooseBinding(
    mechanisms: readonly string[],
  ): ScramBinding | { readonly error: OperationalError } {
    const { channelBinding, tls } = this.#options;
    const isOffered = mechanisms.includes(SCRAM_PLUS_MECHANISM);
    if (tls === null) {
      if (channelBinding === 'require') {
        return bindingMissing('channel binding required, but SSL not in use');
      }
      // The other end speaks TLS with somebody, and it is not us.
      return isOffered ? strippedTls() : { kind: 'none' };
    }
    if (channelBinding === 'disable') return { kind: 'none' };
    if (!isOffered) return { kind: 'not-offered' };
    try {
      return { kind: 'bound', data: serverEndPointBinding(tls.serverCertificate) };
    } catch (error) {
      if (!(error instanceof OperationalError)) throw error;
      return { error };
    }
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

  /** (fe-auth.c:auth_method_description) */
  #methodRefused(method: AuthMethod): LoginStep {
    const { requireAuth } = this.#options;
    const what: Readonly<Record<AuthMethod, string>> = {
      none: 'server did not complete authentication',
      password: 'server requested a cleartext password',
      md5: 'server requested a hashed password',
      'scram-sha-256': 'server requested SASL authentication',
    };
    const isGivenAway = method === 'password' || method === 'md5';
    const text =
      requireAuth === null
        ? `${what[method]}, which gives it away to whoever ${method === 'md5' ? 'listens' : 'plays the server'}`
        : `authentication method requirement "${requireAuth}" failed: ${what[method]}`;
    return failed(
      'AUTH_METHOD_REFUSED',
      text,
      isGivenAway
        ? `Set password_encryption=scram-sha-256 on the upstream, set the role's password anew and use scram-sha-256 in pg_hba.conf; or accept the risk with require_auth=${method} in upstream.conninfo.`
        : `Add ${method} to require_auth in upstream.conninfo, or change the method in the upstream's pg_hba.conf.`,
    );
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

type Failed = Extract<LoginStep, { readonly kind: 'failed' }>;

function failed(code: string, message: string, hint: string): Failed {
  return {
    kind: 'failed',
    error: new OperationalError(code, message, { isRetryable: true, hint }),
  };
}

function unsupported(mechanisms: readonly string[]): Failed {
  const offered = mechanisms.slice(0, 5).map((name) => printable(name.slice(0, 40)));
  return failed(
    'AUTH_METHOD_UNSUPPORTED',
    `none of the server's SASL authentication mechanisms are supported: it offers ${offered.join(', ')}`,
    'Let a pg_hba.conf line of the upstream ask for scram-sha-256 from this host.',
  );
}

function bindingMissing(message: string): Failed {
  return failed(
    'CHANNEL_BINDING_MISSING',
    message,
    'channel_binding=require needs TLS up to the server itself (sslmode=require or stronger, no proxy that ends it) and scram-sha-256 in its pg_hba.conf; or take channel_binding=prefer.',
  );
}

function strippedTls(): Failed {
  return failed(
    'TLS_STRIPPED',
    'server offered SCRAM-SHA-256-PLUS authentication over a non-SSL connection',
    'Something between here and the server ends TLS: connect to the server itself, or check who listens in between.',
  );
}

function passwordMissing(): Failed {
  return failed(
    'PASSWORD_MISSING',
    'fe_sendauth: no password supplied: the upstream asks for a password and none is configured',
    'Set password or passfile in upstream.conninfo, or PGPASSWORD.',
  );
}

/** What to change in our own settings, where the refusal is about those; undefined where the general hint will do. */
function refusalHint(fields: ReceivedError): string | undefined {
  if (fields.sqlstate !== SQLSTATE.invalidAuthorizationSpecification) return undefined;
  const { message } = fields;
  if (/client certificate/.test(message)) {
    return 'Name our certificate and its key in sslcert and sslkey of upstream.conninfo; the upstream checks them against its ssl_ca_file and the user name.';
  }
  if (/, (no encryption|SSL off)$/.test(message)) {
    return "The upstream's pg_hba.conf lets nobody in from here without TLS: set sslmode=verify-full (or require) in upstream.conninfo, or add a line there such as: host replication <user> <this host>/32 scram-sha-256";
  }
  return undefined;
}
