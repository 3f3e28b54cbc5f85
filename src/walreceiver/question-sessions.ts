// Plain SQL sessions at the upstream, beside that of the walreceiver, for one question each at a time: few, kept open for a
// while, never for replication, and with a name of their own, so that no synchronous_standby_names ever counts them.
import type { Clock, Timer } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  AUTH_ANSWER_BYTES_MAX,
  AUTH_QUESTION_MS_MAX,
  AUTH_QUESTION_PAUSE_MS,
  AUTH_SESSION_AGE_MS_MAX,
  AUTH_SESSION_IDLE_MS,
  AUTH_SESSIONS_MAX,
  AUTH_TARGET_MS,
} from '../config/limits.ts';
import type { Dial } from '../net/dial.ts';
import { sideSessionName } from './side-session.ts';
import { UpstreamConnection } from './upstream-connection.ts';
import { upstreamError } from './upstream-errors.ts';
import { hostKey } from './upstream-hosts.ts';
import { valueText } from './upstream-query.ts';
import type { QueryLimits, QueryOutcome } from './upstream-query.ts';
import type { UpstreamHost, UpstreamTarget } from './upstream-target.ts';

/** What the sessions need; asked for whenever a question comes. */
export interface QuestionSessionsParts {
  /** Where the upstream is, with the passwords of today. It reads files, and is asked for once in {@link AUTH_TARGET_MS} at most. */
  readonly target: () => UpstreamTarget;
  /** The host that is followed, or was last; null: there was none yet, and the first that can be asked will do. */
  readonly followedHost: () => UpstreamHost | null;
  /** The walreceiver's own name. */
  readonly applicationName: () => string;
  readonly clock: Clock;
  readonly log: Log;
  readonly dial: Dial;
}

/** One question. */
export interface SqlQuestion {
  readonly database: string;
  /** One statement. */
  readonly sql: string;
  /** Its `$1`. */
  readonly value: string;
}

/** Two rows of it at most. */
export interface SqlAnswer {
  /** Number of columns. */
  readonly columns: number;
  readonly rows: readonly (readonly (string | null)[])[];
  /** The server has no answer for this value, but may have one for others; says why. */
  readonly problem?: string;
}

interface Idle {
  readonly connection: UpstreamConnection;
  readonly key: string;
  readonly timer: Timer;
}

interface Place {
  readonly target: UpstreamTarget;
  readonly host: UpstreamHost;
  readonly question: SqlQuestion;
  readonly signal: AbortSignal;
}

/** A second row says that there are too many. */
const ROWS_MAX = 2;

const LIMITS: QueryLimits = { rowsMax: ROWS_MAX, bytesMax: AUTH_ANSWER_BYTES_MAX };

/**
 * Whatever the role, the database or the connection string say: timestamps come in one form, nothing that a function tells
 * lands in our log, and a question that we gave up ends at the server, too.
 */
const SESSION_SETTINGS: readonly (readonly [string, string])[] = [
  ['client_encoding', 'UTF8'],
  ['datestyle', 'ISO'],
  ['timezone', 'UTC'],
  ['client_min_messages', 'error'],
  ['statement_timeout', String(AUTH_QUESTION_MS_MAX)],
];

/** What it answers is little. */
const READ_BUFFER_BYTES = 16 * 1024;

/** The sessions of one relay. */
export class QuestionSessions {
  readonly #parts: QuestionSessionsParts;
  readonly #idle: Idle[] = [];
  readonly #openedAtMs = new WeakMap<UpstreamConnection, number>();
  readonly #waiting: (() => void)[] = [];
  #places: number = AUTH_SESSIONS_MAX;
  #target: { readonly found: UpstreamTarget; readonly atMs: number } | null = null;
  #isClosed = false;

  constructor(parts: QuestionSessionsParts) {
    this.#parts = parts;
  }

  /**
   * Asks. Rejects with a WalcastError when no host can be asked or the server refuses whatever the value, and when `signal` fires. Waits for a
   * place among {@link AUTH_SESSIONS_MAX}; whoever calls bounds how many wait.
   */
  async ask(question: SqlQuestion, signal: AbortSignal): Promise<SqlAnswer> {
    await this.#place();
    try {
      if (signal.aborted || this.#isClosed) throw notAsked();
      return await this.#askSomebody(question, signal);
    } finally {
      // However many strangers make names up, the upstream is asked no more often than that.
      this.#parts.clock.setTimer(AUTH_QUESTION_PAUSE_MS, () => {
        this.#places += 1;
        this.#waiting.shift()?.();
      });
    }
  }

  /** Another connection string may be in effect. */
  settingsChanged(): void {
    this.#target = null;
  }

  /** Closes what is open; nothing is asked any more. */
  close(): void {
    this.#isClosed = true;
    for (const { connection, timer } of this.#idle.splice(0)) {
      timer.cancel();
      connection.close();
    }
  }

  async #place(): Promise<void> {
    while (this.#places === 0) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#places -= 1;
  }

  async #askSomebody(question: SqlQuestion, signal: AbortSignal): Promise<SqlAnswer> {
    const target = this.#targetOfToday();
    const followed = this.#parts.followedHost();
    let failure: unknown = notAsked();
    for (const host of followed === null ? target.hosts : [followed]) {
      try {
        return await this.#askHost({ target, host, question, signal });
      } catch (error) {
        failure = error;
        if (!(error instanceof OperationalError) || signal.aborted) break;
      }
    }
    throw failure;
  }

  #targetOfToday(): UpstreamTarget {
    const atMs = this.#parts.clock.nowMs();
    if (this.#target === null || atMs - this.#target.atMs >= AUTH_TARGET_MS) {
      this.#target = { found: this.#parts.target(), atMs };
    }
    return this.#target.found;
  }

  async #askHost(place: Place): Promise<SqlAnswer> {
    const key = keyOf(place);
    const open = this.#takeOpen(key);
    if (open !== null) {
      try {
        return await this.#askOn(open, key, place);
      } catch (error) {
        // The server may have closed it without our knowing yet: then a fresh one tells.
        if (!open.isClosed || place.signal.aborted) throw error;
      }
    }
    return await this.#askOn(await this.#connect(place), key, place);
  }

  async #askOn(
    connection: UpstreamConnection,
    key: string,
    { question, signal }: Place,
  ): Promise<SqlAnswer> {
    const onAbort = (): void => connection.destroy();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const { sql, value } = question;
      const outcome = await connection.ask(
        { sql, value, rowsMax: ROWS_MAX },
        { timeoutMs: AUTH_QUESTION_MS_MAX, limits: LIMITS },
      );
      this.#keep(connection, key);
      return answerOf(outcome);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #connect({ target, host, question, signal }: Place): Promise<UpstreamConnection> {
    const { applicationName, clock, log, dial } = this.#parts;
    const connectMs = target.connectTimeoutMs;
    const connection = await UpstreamConnection.open({
      target: { ...target, parameters: new Map([...target.parameters, ...SESSION_SETTINGS]) },
      host,
      database: question.database,
      applicationName: sideSessionName(applicationName(), '_auth'),
      isReplication: false,
      timeoutMs: connectMs === 0 ? AUTH_QUESTION_MS_MAX : Math.min(connectMs, AUTH_QUESTION_MS_MAX),
      readBufferBytes: READ_BUFFER_BYTES,
      clock,
      log,
      dial,
      signal,
    });
    this.#openedAtMs.set(connection, clock.nowMs());
    return connection;
  }

  /** One that is open to the same server, as the same user, in the same database. Those to other places are closed. */
  #takeOpen(key: string): UpstreamConnection | null {
    let found: UpstreamConnection | null = null;
    for (const idle of this.#idle.splice(0)) {
      if (idle.key === key && found !== null) {
        this.#idle.push(idle);
        continue;
      }
      idle.timer.cancel();
      if (idle.key === key && !idle.connection.isClosed) found = idle.connection;
      else idle.connection.close();
    }
    return found;
  }

  /** Not for ever, however much is asked: by now the name of the host may be that of another server. */
  #keep(connection: UpstreamConnection, key: string): void {
    const { clock } = this.#parts;
    const ageMs = clock.nowMs() - (this.#openedAtMs.get(connection) ?? 0);
    if (this.#isClosed || ageMs >= AUTH_SESSION_AGE_MS_MAX) {
      connection.close();
      return;
    }
    const timer = clock.setTimer(AUTH_SESSION_IDLE_MS, () => {
      const at = this.#idle.findIndex((idle) => idle.connection === connection);
      if (at >= 0) this.#idle.splice(at, 1);
      connection.close();
    });
    this.#idle.push({ connection, key, timer });
  }
}

/** What a session can be used for again: a connection string with other TLS or options asks for one of its own. Holds secrets. */
function keyOf({ target, host, question }: Place): string {
  const settings = { ...target, hosts: [], parameters: [...target.parameters] };
  return JSON.stringify([hostKey(host), settings, question.database]);
}

/** Cardinality, data, and what a function raises itself: another value may be answered. */
const ABOUT_VALUE = /^(?:21|22|P0)/;

function answerOf({ results, error }: QueryOutcome): SqlAnswer {
  if (error !== null) {
    // Values stand in the texts of this class of errors, and a value may be a secret.
    const isAboutData = error.sqlstate.startsWith('22');
    const fields = { ...error, detail: null, hint: null };
    const refusal = upstreamError(
      'the upstream refused the question',
      isAboutData ? { ...fields, message: 'a value does not fit its type' } : fields,
      'Run the query of auth.auth_query as that role in psql, with a name in place of $1.',
    );
    if (error.severity !== 'ERROR' || !ABOUT_VALUE.test(error.sqlstate)) throw refusal;
    return { columns: 0, rows: [], problem: refusal.message };
  }
  const result = results.at(-1);
  return {
    columns: result?.columns.length ?? 0,
    rows: (result?.rows ?? []).map((row) => row.map((value) => valueText(value))),
  };
}

function notAsked(): OperationalError {
  return new OperationalError('AUTH_QUERY_CLOSED', 'the upstream is not asked any more', {
    isRetryable: true,
  });
}
