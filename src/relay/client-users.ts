// Who are the users of this relay? Joins the users of the configuration, the questions to the upstream and the seed of the
// data directory.
import { isDeepStrictEqual } from 'node:util';
import { noUsers } from '../auth/no-users.ts';
import { UserBook } from '../auth/user-book.ts';
import type { UserDirectory } from '../auth/user-directory.ts';
import type { UserRows } from '../auth/user-row.ts';
import type { Clock } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { dial } from '../net/dial.ts';
import { QuestionSessions } from '../walreceiver/question-sessions.ts';
import type { UpstreamHost, UpstreamTarget } from '../walreceiver/upstream-target.ts';
import { loadAuthSeed } from './auth-seed.ts';

/** What users need. */
export interface ClientUsersParts {
  /** The configuration in effect at the moment of asking. */
  readonly config: () => Config;
  /** Where the upstream is, with the passwords of today. */
  readonly target: () => UpstreamTarget;
  /** The host that is followed, or was last. */
  readonly followedHost: () => UpstreamHost | null;
  readonly clock: Clock;
  readonly log: Log;
}

/** The users of one relay. Nobody is known before `load`. */
export class ClientUsers {
  readonly #parts: ClientUsersParts;
  readonly #sessions: QuestionSessions;
  readonly #nobody: UserDirectory = noUsers();
  #book: UserBook | null = null;
  #asked: unknown;

  constructor(parts: ClientUsersParts) {
    const { config, target, followedHost, clock, log } = parts;
    this.#parts = parts;
    this.#asked = whomAndWhat(config());
    this.#sessions = new QuestionSessions({
      target,
      followedHost,
      applicationName: () => config().upstream.applicationName,
      clock,
      log,
      dial,
    });
  }

  /** What the authentication of clients asks. */
  directory(): UserDirectory {
    return this.#book ?? this.#nobody;
  }

  /** Reads the seed from the data directory, or puts one there. To be called once, before anybody is let in. */
  async load(): Promise<void> {
    const { config, clock, log } = this.#parts;
    const seed = await loadAuthSeed(config().storage.directory, log);
    this.#book = new UserBook({
      users: () => config().auth.users,
      usersWithoutSecret: () => config().auth.usersWithoutSecret,
      cacheMs: () => config().auth.query?.cacheMs ?? null,
      ask: (name, signal) => this.#ask(name, signal),
      seed,
      clock,
      log,
    });
    void this.#book.prepare();
  }

  /** A new configuration is in effect. What another server said, or the same to another question, counts no more. */
  configChanged(): void {
    void this.#book?.prepare();
    this.#sessions.settingsChanged();
    const asked = whomAndWhat(this.#parts.config());
    if (isDeepStrictEqual(asked, this.#asked)) return;
    this.#asked = asked;
    this.#book?.forget();
  }

  /** Nobody is asked any more. */
  close(): void {
    this.#sessions.close();
  }

  #ask(name: string, signal: AbortSignal): Promise<UserRows> {
    const { query } = this.#parts.config().auth;
    if (query === null) {
      return Promise.reject(new OperationalError('AUTH_QUERY_OFF', 'auth.auth_query is not set'));
    }
    const { text, database } = query;
    return this.#sessions.ask({ sql: text, database, value: name }, signal);
  }
}

/** A password that was changed in the connection string asks the same server the same. */
function whomAndWhat({ upstream, auth }: Config): unknown {
  const { hosts, user } = upstream.server;
  return { hosts, user, text: auth.query?.text, database: auth.query?.database };
}
