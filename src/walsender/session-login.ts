// From a StartupMessage to a session or a refusal: takes the steps of admission.ts and of the authentication in PostgreSQL's
// order, and waits where somebody has to be asked. Until it is over nothing but authentication messages is read; what a client
// sends ahead is kept, and is not read on while others are waited for. (postinit.c:PerformAuthentication)
import { randomBytes } from 'node:crypto';
import { Authentication, missingCertificate } from '../auth/authentication.ts';
import type {
  AuthenticationFailure,
  AuthenticationMethod,
  AuthenticationStep,
} from '../auth/authentication.ts';
import { credentialOf } from '../auth/credential.ts';
import type { Credential } from '../auth/credential.ts';
import type { UserAnswer } from '../auth/user-directory.ts';
import type { AcceptedConnection } from '../net/connection.ts';
import { findHbaRule } from '../pg/hba.ts';
import type { HbaRule } from '../pg/hba.ts';
import { AuthenticationDecoder } from '../wire/authentication-decoder.ts';
import type { StartupMessage } from '../wire/startup.ts';
import { applyForAdmission, completeAdmission, hbaConnection, ruleRefusal } from './admission.ts';
import type {
  AdmissionContext,
  AdmissionRefusal,
  AdmittedSession,
  Applicant,
  ClientOrigin,
} from './admission.ts';
import type { AuthenticationReport } from './audit.ts';
import type { Visitor } from './door.ts';
import type { SessionHost } from './session-host.ts';

/** Who hears how a login ends. */
export interface LoginDoor {
  write(chunks: readonly Uint8Array[]): void;
  /** To be counted, logged and answered. `user`: who the client says it is; null when it has not said. */
  onRefused(refusal: AdmissionRefusal, user: string | null): void;
  /** To be counted and logged as no PostgreSQL client unless `text` is null, and closed without a word. */
  onClosed(text: string | null): void;
  /** Counted and logged already; to be answered, maybe a while later. */
  onAuthenticationFailed(failure: AuthenticationFailure): void;
  /** `rest`: bytes behind the last message of the login, not read yet. */
  onAdmitted(session: AdmittedSession, rest: Uint8Array): void;
}

/** What a login is about. */
export interface LoginParties {
  readonly door: LoginDoor;
  /** The client as the host knows it. */
  readonly visitor: Visitor;
  readonly connection: AcceptedConnection;
}

/** One login. */
export class SessionLogin {
  readonly #host: SessionHost;
  readonly #door: LoginDoor;
  readonly #visitor: Visitor;
  readonly #connection: AcceptedConnection;
  readonly #decoder = new AuthenticationDecoder();
  #exchange: Exchange | null = null;
  /** Who the client says it is. */
  #user: string | null = null;
  /** For somebody else, or for our turn. */
  #isWaiting = false;
  #isReadingPaused = false;
  /** The client sends no more. */
  #hasEnded = false;
  #isOver = false;

  constructor(host: SessionHost, { door, visitor, connection }: LoginParties) {
    this.#host = host;
    this.#door = door;
    this.#visitor = visitor;
    this.#connection = connection;
  }

  /** Begins; `rest` are the bytes behind the StartupMessage. A crowd is let in a few at a time. */
  begin(message: StartupMessage, rest: Uint8Array): void {
    this.#decoder.push(rest);
    this.#inTurn(() => this.#apply(message));
  }

  onBytes(chunk: Uint8Array): void {
    if (this.#isOver) return;
    this.#decoder.push(chunk);
    this.#advance();
  }

  /**
   * The client will send no more. False while something is under way: what it sent before is answered first, and who needs
   * more of it then closes.
   */
  onEnd(): boolean {
    this.#hasEnded = true;
    return !this.#isWaiting;
  }

  /** Nothing is called any more. */
  stop(): void {
    this.#isOver = true;
  }

  #apply(message: StartupMessage): void {
    const application = applyForAdmission(message, this.#context());
    if (application.frames.length > 0) this.#door.write(application.frames);
    if (application.kind === 'refused') {
      this.#refuse(application);
      return;
    }
    const { applicant } = application;
    this.#user = applicant.user;
    const connection = hbaConnection(applicant, this.#origin());
    const rule = findHbaRule(this.#host.hba(), connection, {
      localAddresses: this.#host.localAddresses(),
      names: this.#host.names,
    });
    this.#when(rule, (found) => this.#onRule(applicant, found));
  }

  #onRule(applicant: Applicant, rule: HbaRule | null): void {
    const method = rule?.method ?? 'reject';
    if (rule === null) {
      this.#refuse(ruleRefusal(rule, applicant, this.#origin()));
      return;
    }
    const missing = missingCertificate(rule, this.#connection.tls);
    if (missing !== null) {
      const refusal = missing.error.message;
      this.#fail(missing, { ...failureOf(applicant, rule, missing), refusal });
      return;
    }
    if (method === 'reject') {
      this.#refuse(ruleRefusal(rule, applicant, this.#origin()));
      return;
    }
    const login = { applicant, rule, method };
    this.#when(this.#answer(login), (answer) => {
      this.#when(this.#credential(login, answer), (credential) => {
        this.#authenticate(login, answer, credential);
      });
    });
  }

  /** Also without a password a role has to be one that may replicate. */
  #answer({ applicant, method }: Login): UserAnswer | Promise<UserAnswer> {
    const isAsked = isPasswordMethod(method) || applicant.mode === 'physical';
    return isAsked ? this.#host.users().lookup(applicant.user) : { kind: 'unknown' };
  }

  #credential(
    { applicant: { user }, method }: Login,
    answer: UserAnswer,
  ): Credential | null | Promise<Credential> {
    if (!isPasswordMethod(method)) return null;
    const { clock } = this.#host;
    const users = this.#host.users();
    return credentialOf(user, answer, { method, users, wallMs: clock.wallMs() });
  }

  #authenticate(login: Login, answer: UserAnswer, credential: Credential | null): void {
    const { applicant, rule, method } = login;
    const authentication = new Authentication({
      method,
      rule,
      user: applicant.user,
      tls: this.#connection.tls,
      identMaps: this.#host.identMaps(),
      credential,
      randomBytes,
    });
    const onStep = (step: AuthenticationStep): void => this.#onStep(login, answer, step);
    this.#exchange = { authentication, onStep };
    onStep(authentication.begin());
    this.#advance();
  }

  /** A message at a time, in turn with those of all others who log in. */
  #advance(): void {
    const exchange = this.#exchange;
    if (exchange === null || this.#isOver || this.#isWaiting) return;
    const { authentication, onStep } = exchange;
    const input = this.#decoder.take(authentication.lengthMax);
    if (input.kind === 'more') {
      if (this.#hasEnded) this.#door.onClosed(null);
      return;
    }
    this.#inTurn(() => {
      onStep(authentication.onInput(input));
      this.#advance();
    });
  }

  #onStep(login: Login, answer: UserAnswer, step: AuthenticationStep): void {
    const { applicant, rule } = login;
    if (step.frames.length > 0) this.#door.write(step.frames);
    if (step.kind === 'more') return;
    this.#exchange = null;
    if (step.kind === 'closed') {
      this.#end();
      this.#door.onClosed(step.text);
      return;
    }
    if (step.kind === 'failed') {
      if (step.cause === 'password') this.#host.users().onWrongPassword(applicant.user);
      this.#fail(step, failureOf(applicant, rule, step));
      return;
    }
    const report = reportOf(applicant, rule, null);
    this.#host.onAuthenticated(this.#visitor, { ...report, identity: step.identity });
    const admission = completeAdmission(applicant, answer, this.#context());
    this.#door.write(admission.frames);
    if (admission.kind === 'refused') {
      this.#refuse(admission);
      return;
    }
    this.#end();
    this.#door.onAdmitted(admission.session, this.#decoder.takeRest());
  }

  #refuse(refusal: AdmissionRefusal): void {
    this.#end();
    this.#door.onRefused(refusal, this.#user);
  }

  /** Whoever asks for what is no message of an exchange has guessed nothing, and does not count as if. */
  #fail(failure: AuthenticationFailure, report: AuthenticationReport): void {
    if (failure.cause === 'protocol') {
      this.#refuse({ kind: 'refused', reason: 'protocol', error: failure.error });
      return;
    }
    this.#isOver = true;
    this.#host.onRejected('auth');
    this.#wait();
    this.#host.onAuthenticationFailed(this.#visitor, report, () => {
      this.#resumeReading();
      this.#door.onAuthenticationFailed(failure);
    });
  }

  #origin(): ClientOrigin {
    const { peer, isEncrypted } = this.#connection;
    return { address: peer.address, isEncrypted };
  }

  #context(): AdmissionContext {
    const host = this.#host;
    return {
      identity: host.identity(),
      isShuttingDown: host.isDraining(),
      sessions: host.admittedSessions(),
      maxWalSenders: host.settings().maxWalSenders,
      placeFor: (name) => host.placeFor(name),
      consoles: host.consoles,
      consoleSessions: host.consoleSessions(),
    };
  }

  /** Goes on with a value that may have to be waited for; who waits is not read. */
  #when<T>(value: T | Promise<T>, next: (value: T) => void): void {
    if (!(value instanceof Promise)) {
      next(value);
      return;
    }
    this.#wait();
    void value.then((later) => this.#goOn(() => next(later)));
  }

  #inTurn(piece: () => void): void {
    let isNow = true;
    let isDone = false;
    this.#host.inTurn(this.#visitor, () => {
      isDone = true;
      if (isNow) piece();
      else this.#goOn(piece);
    });
    isNow = false;
    if (!isDone) this.#wait();
  }

  #wait(): void {
    this.#isWaiting = true;
    this.#isReadingPaused = true;
    this.#connection.pauseReading();
  }

  #goOn(piece: () => void): void {
    if (this.#isOver) return;
    this.#isWaiting = false;
    piece();
    if (!this.#isWaiting && !this.#isOver) this.#resumeReading();
  }

  #resumeReading(): void {
    if (!this.#isReadingPaused) return;
    this.#isReadingPaused = false;
    this.#connection.resumeReading();
  }

  /** From here on others say when the client is read. */
  #end(): void {
    this.#resumeReading();
    this.#isOver = true;
  }
}

interface Exchange {
  readonly authentication: Authentication;
  readonly onStep: (step: AuthenticationStep) => void;
}

interface Login {
  readonly applicant: Applicant;
  readonly rule: HbaRule;
  readonly method: AuthenticationMethod;
}

function isPasswordMethod(method: AuthenticationMethod): method is 'scram-sha-256' | 'md5' {
  return method === 'scram-sha-256' || method === 'md5';
}

/** (auth.c:set_authn_id) */
function reportOf(
  { user }: Applicant,
  { method, source, line }: HbaRule,
  detail: string | null,
): AuthenticationReport {
  const rule = source === '' ? `line ${line}` : `${source}:${line}`;
  return { method, user, identity: null, rule, detail };
}

/** (auth.c:auth_failed) */
function failureOf(
  applicant: Applicant,
  rule: HbaRule,
  { logDetail }: AuthenticationFailure,
): AuthenticationReport {
  const file = rule.source === '' ? 'pg_hba.conf' : `file "${rule.source}"`;
  const matched = `Connection matched ${file} line ${rule.line}: "${rule.text}"`;
  return reportOf(applicant, rule, logDetail === null ? matched : `${logDetail} ${matched}`);
}
