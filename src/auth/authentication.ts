// Is this client who it says it is? The exchange between a rule that matched and AuthenticationOk. Pure: messages in, frames
// and an outcome out. (src/backend/libpq/auth.c:ClientAuthentication, CheckSASLAuth, CheckMD5Auth, CheckCertAuth)
import { createHash, timingSafeEqual } from 'node:crypto';
import { invariant, ProtocolViolation } from '../base/errors.ts';
import type { HbaRule } from '../pg/hba.ts';
import { findMapProblem } from '../pg/ident.ts';
import type { IdentMaps } from '../pg/ident.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { PASSWORD_LENGTH_MAX, SASL_LENGTH_MAX } from '../wire/authentication-decoder.ts';
import type { AuthenticationInput } from '../wire/authentication-decoder.ts';
import {
  encodeAuthenticationMd5,
  encodeAuthenticationSasl,
  encodeAuthenticationSaslContinue,
  encodeAuthenticationSaslFinal,
} from '../wire/backend-messages.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import { decodePassword, decodeSaslInitial } from '../wire/frontend-messages.ts';
import { SCRAM_MECHANISM, SCRAM_PLUS_MECHANISM } from '../wire/scram-client.ts';
import { ScramServer } from '../wire/scram-server.ts';
import { ScramViolation } from '../wire/scram-text.ts';
import type { TlsFacts } from '../wire/tls-facts.ts';
import type { Credential } from './credential.ts';

/** A method that lets somebody in. */
export type AuthenticationMethod = Exclude<HbaRule['method'], 'reject'>;

/** What one exchange is about. */
export interface AuthenticationOptions {
  readonly method: AuthenticationMethod;
  /** The rule that matched. */
  readonly rule: HbaRule;
  /** As the client names itself in its startup packet. */
  readonly user: string;
  /** Null without TLS. */
  readonly tls: TlsFacts | null;
  readonly identMaps: IdentMaps;
  /** Null for the methods without a password. */
  readonly credential: Credential | null;
  /** Bytes nobody can foretell. */
  readonly randomBytes: (count: number) => Uint8Array;
}

/** What happens next. `frames` go to the client first. */
export type AuthenticationStep =
  | { readonly kind: 'more'; readonly frames: readonly Uint8Array[] }
  /** The client is who it says. `identity`: as what it proved to be; null where nothing was proved. */
  | {
      readonly kind: 'passed';
      readonly frames: readonly Uint8Array[];
      readonly identity: string | null;
    }
  /** The connection ends without a word; `text` is for our log. */
  | { readonly kind: 'closed'; readonly frames: readonly Uint8Array[]; readonly text: string }
  | AuthenticationFailure;

/** The connection ends. */
export interface AuthenticationFailure {
  readonly kind: 'failed';
  readonly frames: readonly Uint8Array[];
  readonly error: ErrorFields;
  /** For our log alone. */
  readonly logDetail: string | null;
  /** `password`: it was wrong, or could not be right. `protocol`: no such message is part of an exchange. */
  readonly cause: 'password' | 'certificate' | 'protocol';
}

type Md5Credential = Extract<Credential, { readonly hash: string }>;
type ScramCredential = Exclude<Credential, Md5Credential>;

const NONCE_BYTES = 18;
const MD5_SALT_BYTES = 4;
const EMPTY = new Uint8Array(0);

/** Order: `begin`, then `onInput` for every message until something else than `more` comes out. */
export class Authentication {
  readonly #options: AuthenticationOptions;
  readonly #endPoint: Uint8Array | null;
  #md5Salt: Uint8Array = EMPTY;
  #scram: ScramServer | null = null;
  #hasChallenged = false;

  constructor(options: AuthenticationOptions) {
    this.#options = options;
    this.#endPoint = options.tls?.endPoint() ?? null;
  }

  /** The longest length word that the next message may have. */
  get lengthMax(): number {
    const { credential } = this.#options;
    return credential !== null && isMd5(credential) ? PASSWORD_LENGTH_MAX : SASL_LENGTH_MAX;
  }

  /** What the client is told first. */
  begin(): AuthenticationStep {
    const { credential, method, randomBytes } = this.#options;
    if (method === 'trust' || method === 'cert') return this.#onMethodPassed([]);
    invariant(credential !== null, 'a password method without a credential');
    if (isMd5(credential)) {
      this.#md5Salt = randomBytes(MD5_SALT_BYTES);
      return more(encodeAuthenticationMd5(this.#md5Salt));
    }
    const isPlusOffered = this.#endPoint !== null;
    const mechanisms = isPlusOffered ? [SCRAM_PLUS_MECHANISM, SCRAM_MECHANISM] : [SCRAM_MECHANISM];
    return more(encodeAuthenticationSasl(mechanisms));
  }

  /** What the client has sent. */
  onInput(input: Exclude<AuthenticationInput, { kind: 'more' }>): AuthenticationStep {
    const { credential } = this.#options;
    invariant(credential !== null, 'a message for a method without any');
    if (input.kind === 'other-type') return unexpectedType(isMd5(credential), input.type);
    if (input.kind === 'bad-length') return this.#onBadLength(isMd5(credential));
    try {
      return isMd5(credential)
        ? this.#onMd5(input.body, credential)
        : this.#onSasl(input.body, credential);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      return violated(error);
    }
  }

  /** PostgreSQL takes such a SASL message for a wrong password, and such a password for the end of the connection. */
  #onBadLength(isPassword: boolean): AuthenticationStep {
    const text = 'invalid message length';
    return isPassword ? { kind: 'closed', frames: [], text } : this.#failed(text);
  }

  #onMd5(body: Uint8Array, credential: Md5Credential): AuthenticationStep {
    const given = Buffer.from(decodePassword(body), 'latin1');
    const digest = createHash('md5').update(credential.hash).update(this.#md5Salt).digest('hex');
    const expected = Buffer.from(`md5${digest}`, 'latin1');
    const isRight = given.length === expected.length && timingSafeEqual(given, expected);
    return isRight && credential.kind === 'md5' ? this.#onMethodPassed([]) : this.#wrong();
  }

  #onSasl(body: Uint8Array, credential: ScramCredential): AuthenticationStep {
    const data = this.#scram === null ? this.#chooseMechanism(body, credential) : body;
    const scram = this.#scram;
    invariant(scram !== null, 'no mechanism was chosen');
    // A client may choose first and speak afterwards. (auth-scram.c:scram_exchange)
    if (data === null) return more(encodeAuthenticationSaslContinue(EMPTY));
    if (!this.#hasChallenged) {
      this.#hasChallenged = true;
      return more(encodeAuthenticationSaslContinue(scram.serverFirst(data)));
    }
    const final = scram.serverFinal(data);
    return final === null
      ? this.#wrong()
      : this.#onMethodPassed([encodeAuthenticationSaslFinal(final)]);
  }

  /** (auth-scram.c:scram_init) */
  #chooseMechanism(body: Uint8Array, credential: ScramCredential): Uint8Array | null {
    const initial = decodeSaslInitial(body);
    const isBound = initial.mechanism === SCRAM_PLUS_MECHANISM && this.#endPoint !== null;
    if (!isBound && initial.mechanism !== SCRAM_MECHANISM) {
      throw new ProtocolViolation(
        SQLSTATE.protocolViolation,
        'client selected an invalid SASL authentication mechanism',
      );
    }
    this.#scram = new ScramServer({
      isBound,
      endPoint: this.#endPoint,
      keys: credential.keys,
      isDoomed: credential.kind === 'mock',
      nonce: Buffer.from(this.#options.randomBytes(NONCE_BYTES)).toString('base64'),
    });
    return initial.readData();
  }

  /** What the rule asks of a certificate comes last. */
  #onMethodPassed(frames: readonly Uint8Array[]): AuthenticationStep {
    const { method, rule, user, tls } = this.#options;
    const isNameAsked = method === 'cert' || rule.clientCert === 'verify-full';
    const problem = isNameAsked ? this.#nameProblem() : null;
    if (problem !== null) return failure({ method, user }, { frames, logDetail: problem });
    if (method === 'trust') return { kind: 'passed', frames, identity: null };
    const identity = method === 'cert' ? (tls?.peer?.distinguishedName ?? null) : user;
    return { kind: 'passed', frames, identity };
  }

  /** (auth.c:CheckCertAuth, hba.c:check_usermap) */
  #nameProblem(): string | null {
    const { rule, user, tls, identMaps } = this.#options;
    const peer = tls?.peer ?? null;
    const systemUser = rule.clientName === 'DN' ? peer?.distinguishedName : peer?.commonName;
    if (systemUser === undefined || systemUser === null || systemUser === '') {
      return 'client certificate contains no user name';
    }
    return findMapProblem(identMaps, { map: rule.map, systemUser, user });
  }

  #wrong(): AuthenticationFailure {
    const { credential, user } = this.#options;
    const isMock = credential?.kind === 'mock' || credential?.kind === 'mock-md5';
    return this.#failed(
      isMock ? credential.logDetail : `Password does not match for user "${user}".`,
    );
  }

  #failed(logDetail: string): AuthenticationFailure {
    const { method, user } = this.#options;
    return failure({ method, user }, { frames: [], logDetail });
  }
}

/**
 * What a rule asks of a client before anything else: `clientcert` needs a certificate, which was checked in the handshake.
 * Null where nothing is missing. (auth.c:ClientAuthentication)
 */
export function missingCertificate(
  rule: HbaRule,
  tls: TlsFacts | null,
): AuthenticationFailure | null {
  if (rule.clientCert === null || (tls !== null && tls.peer !== null)) return null;
  return {
    kind: 'failed',
    frames: [],
    error: {
      severity: 'FATAL',
      sqlstate: SQLSTATE.invalidAuthorizationSpecification,
      message: 'connection requires a valid client certificate',
    },
    logDetail: null,
    cause: 'certificate',
  };
}

function more(frame: Uint8Array): AuthenticationStep {
  return { kind: 'more', frames: [frame] };
}

function isMd5(credential: Credential): credential is Md5Credential {
  return credential.kind === 'md5' || credential.kind === 'mock-md5';
}

/** (auth.c:auth_failed) */
const FAILED: Readonly<Record<AuthenticationMethod, string>> = {
  trust: '"trust" authentication failed for user ',
  'scram-sha-256': 'password authentication failed for user ',
  md5: 'password authentication failed for user ',
  cert: 'certificate authentication failed for user ',
};

function failure(
  { method, user }: { method: AuthenticationMethod; user: string },
  { frames, logDetail }: { frames: readonly Uint8Array[]; logDetail: string },
): AuthenticationFailure {
  const isPassword = method === 'scram-sha-256' || method === 'md5';
  const sqlstate = isPassword
    ? SQLSTATE.invalidPassword
    : SQLSTATE.invalidAuthorizationSpecification;
  return {
    kind: 'failed',
    frames,
    error: { severity: 'FATAL', sqlstate, message: `${FAILED[method]}"${user}"` },
    logDetail,
    cause: isPassword && frames.length === 0 ? 'password' : 'certificate',
  };
}

function unexpectedType(isPassword: boolean, type: number): AuthenticationFailure {
  const what = isPassword ? 'password' : 'SASL';
  const message = `expected ${what} response, got message type ${type}`;
  return violated(new ProtocolViolation(SQLSTATE.protocolViolation, message));
}

function violated(error: ProtocolViolation): AuthenticationFailure {
  const detail = error instanceof ScramViolation ? error.detail : undefined;
  return {
    kind: 'failed',
    frames: [],
    error: {
      severity: 'FATAL',
      sqlstate: error.code,
      message: error.message,
      ...(detail === undefined ? {} : { detail }),
    },
    logDetail: null,
    cause: 'protocol',
  };
}
