// Who are the users, and how long does what the upstream said about one count? Users of our own come first; answers of the
// upstream are kept for a while, asked for again when a password was wrong, and outlive an upstream that cannot be asked.
import type { Clock } from '../base/clock.ts';
import { LogBudget } from '../base/log-budget.ts';
import type { Log } from '../base/log.ts';
import {
  AUTH_ASK_AGAIN_MAX,
  AUTH_ASK_AGAIN_MS,
  AUTH_DERIVED_MAX,
  AUTH_STRANGERS_KEPT_MAX,
  AUTH_USERS_KEPT_MAX,
  OTHERS_LOG_LINES,
} from '../config/limits.ts';
import type { PasswordSecret } from '../pg/password-secret.ts';
import { SCRAM_ITERATIONS_MAX } from '../wire/scram-client.ts';
import { DerivedSecrets } from './derived-secrets.ts';
import { SCRAM_ITERATIONS_DEFAULT } from './scram-secret.ts';
import type { ScramSecret } from './scram-secret.ts';
import type { UserAnswer, UserDirectory } from './user-directory.ts';
import { UserQuestions } from './user-questions.ts';
import type { AskUpstream, Told } from './user-questions.ts';
import { readUserRows } from './user-row.ts';
import type { KnownAnswer } from './user-row.ts';

/** What a book needs. */
export interface UserBookParts {
  /** Users of the file and the configuration, as they are now. */
  readonly users: () => ReadonlyMap<string, PasswordSecret>;
  /** Those that are named there and have no secret: no password lets them in. */
  readonly usersWithoutSecret: () => ReadonlySet<string>;
  /** How long an answer of the upstream counts; null: it is not asked. */
  readonly cacheMs: () => number | null;
  readonly ask: AskUpstream;
  /** What makes the salts of unknown users: a secret, kept over restarts. Owned by the book from now on. */
  readonly seed: Uint8Array;
  readonly clock: Clock;
  readonly log: Log;
}

interface Kept {
  readonly answer: KnownAnswer;
  readonly askedAtMs: number;
  /** How often it was asked for because the answer before was in doubt, and since when that is counted. */
  readonly again: { readonly count: number; readonly sinceMs: number };
  isDoubtful: boolean;
}

/** NAMEDATALEN - 1: no server has a user of a longer name. */
const NAME_BYTES_MAX = 63;

/** The users of one relay. */
export class UserBook implements UserDirectory {
  readonly #parts: UserBookParts;
  readonly #questions: UserQuestions;
  readonly #derived: DerivedSecrets;
  readonly #users = new Map<string, Kept>();
  /** Apart from the others, so that no flood of names drives users out. */
  readonly #strangers = new Map<string, Kept>();
  readonly #lines: LogBudget = new LogBudget(OTHERS_LOG_LINES);
  /** Answers of questions that were asked before count no more. */
  #generation = 0;
  /** Of those whom the upstream told. */
  #told: Custom = NO_CUSTOM;
  #own: { of: ReadonlyMap<string, PasswordSecret>; custom: Custom } | null = null;

  constructor(parts: UserBookParts) {
    this.#parts = parts;
    this.#questions = new UserQuestions(parts);
    this.#derived = new DerivedSecrets(parts.seed);
  }

  lookup(name: string): UserAnswer | Promise<UserAnswer> {
    const own = this.#parts.users().get(name) ?? null;
    if (own !== null || this.#parts.usersWithoutSecret().has(name)) {
      return { kind: 'found', secret: own, validUntilMs: null, mayReplicate: null };
    }
    const cacheMs = this.#parts.cacheMs();
    if (cacheMs === null || Buffer.byteLength(name) > NAME_BYTES_MAX) return { kind: 'unknown' };
    const kept = this.#keptOf(name);
    if (kept !== null && this.#counts(kept, cacheMs)) return kept.answer;
    const asked = this.#ask(name, kept);
    // While the upstream could not be asked a moment ago, nobody who is known waits until it has been tried again.
    const isOut = this.#questions.outage !== null;
    return isOut && kept?.answer.kind === 'found' ? kept.answer : asked;
  }

  onWrongPassword(name: string): void {
    const kept = this.#users.get(name);
    if (kept !== undefined) kept.isDoubtful = true;
  }

  scramOf(name: string, secret: PasswordSecret): ScramSecret | null | Promise<ScramSecret> {
    switch (secret.kind) {
      case 'scram':
        return secret;
      case 'md5':
        return null;
      case 'plain':
        return this.#derived.derive(name, secret.password, this.mockIterations);
    }
  }

  mockSalt(name: string): Uint8Array {
    return this.#derived.saltOf(name);
  }

  get mockIterations(): number {
    return this.#ownCustom().iterations ?? this.#told.iterations ?? SCRAM_ITERATIONS_DEFAULT;
  }

  get mockKind(): 'scram' | 'md5' {
    return this.#ownCustom().md5Surplus + this.#told.md5Surplus > 0 ? 'md5' : 'scram';
  }

  /**
   * Derives the keys of the passwords that are written down, one after the other, so that the first login of a user takes no
   * longer than that of a stranger. To be called when there are other users; ends early when there are others again.
   */
  async prepare(): Promise<void> {
    const users = this.#parts.users();
    const plain = [...users].filter(([, { kind }]) => kind === 'plain').slice(0, AUTH_DERIVED_MAX);
    for (const [name, secret] of plain) {
      if (this.#parts.users() !== users) return;
      try {
        await this.scramOf(name, secret);
      } catch {
        // Whoever logs in as this user is told.
      }
    }
  }

  /** Another upstream is asked, or in another way: what was said before counts no more, not even while nobody can be asked. */
  forget(): void {
    this.#generation += 1;
    this.#users.clear();
    this.#strangers.clear();
    this.#told = NO_CUSTOM;
    this.#questions.abandon();
  }

  #ownCustom(): Custom {
    const users = this.#parts.users();
    if (this.#own?.of !== users) this.#own = { of: users, custom: customOf(users.values()) };
    return this.#own.custom;
  }

  #keptOf(name: string): Kept | null {
    return this.#users.get(name) ?? this.#strangers.get(name) ?? null;
  }

  #counts(kept: Kept, cacheMs: number): boolean {
    const ageMs = this.#parts.clock.nowMs() - kept.askedAtMs;
    if (ageMs >= cacheMs) return false;
    return !this.#isDoubtful(kept) || this.#againOf(kept).count >= AUTH_ASK_AGAIN_MAX;
  }

  #againOf(kept: Kept | null): Kept['again'] {
    const nowMs = this.#parts.clock.nowMs();
    const isOver = kept === null || nowMs - kept.again.sinceMs >= AUTH_ASK_AGAIN_MS;
    return isOver ? { count: 0, sinceMs: nowMs } : kept.again;
  }

  /** An answer with which nobody gets in is always in doubt: the user may have been made meanwhile, or been given a password. */
  #isDoubtful({ answer, isDoubtful }: Kept): boolean {
    if (isDoubtful || answer.kind === 'unknown' || answer.secret === null) return true;
    return answer.validUntilMs !== null && answer.validUntilMs < this.#parts.clock.wallMs();
  }

  async #ask(name: string, before: Kept | null): Promise<UserAnswer> {
    const generation = this.#generation;
    const askedAtMs = this.#parts.clock.nowMs();
    const { count, sinceMs } = this.#againOf(before);
    const isAgain = before !== null && this.#isDoubtful(before);
    const again = { count: isAgain ? count + 1 : count, sinceMs };
    const isKnown = before?.answer.kind === 'found';
    const told = await this.#questions.ask(name, { isKnown });
    const answer = this.#read(name, told);
    if (answer.kind === 'unavailable') {
      if (generation !== this.#generation) return answer;
      // It was asked: what it said before is not what it says now, and must not come back with the next outage.
      if ('rows' in told) this.#users.delete(name);
      else if (before !== null) return before.answer;
      return answer;
    }
    if (generation === this.#generation) {
      this.#keep(name, { answer, askedAtMs, again, isDoubtful: false });
    }
    return answer;
  }

  #read(name: string, told: Told): UserAnswer {
    if ('reason' in told) {
      const { reason, isOut } = told;
      return { kind: 'unavailable', reason, ...(isOut ? { isOut } : {}) };
    }
    const answer = readUserRows(name, told.rows);
    if (!('problem' in answer)) return answer;
    const leftOut = this.#lines.take(this.#parts.clock.nowMs());
    if (leftOut !== null) {
      this.#parts.log.error(
        `auth_query: the answer of the upstream cannot be used: ${answer.problem}`,
        { user: name, ...(leftOut > 0 ? { left_out: leftOut } : {}) },
      );
    }
    return { kind: 'unavailable', reason: answer.problem };
  }

  #keep(name: string, kept: Kept): void {
    this.#users.delete(name);
    this.#strangers.delete(name);
    if (kept.answer.kind === 'unknown') {
      addNewest(this.#strangers, { name, kept, max: AUTH_STRANGERS_KEPT_MAX });
      return;
    }
    addNewest(this.#users, { name, kept, max: AUTH_USERS_KEPT_MAX });
    this.#told = customOf([...this.#users.values()].map(secretOf));
  }
}

function secretOf({ answer }: Kept): PasswordSecret | null {
  return answer.kind === 'found' ? answer.secret : null;
}

/** The one that was asked for longest ago makes room. */
function addNewest(
  map: Map<string, Kept>,
  { name, kept, max }: { name: string; kept: Kept; max: number },
): void {
  map.set(name, kept);
  const [oldest] = map.keys();
  if (map.size > max && oldest !== undefined) map.delete(oldest);
}

/** What most secrets have in common, for whoever has to look like one of them. */
interface Custom {
  /** Null when there is no SCRAM secret. */
  readonly iterations: number | null;
  /** How many more md5 secrets there are than others. */
  readonly md5Surplus: number;
}

const NO_CUSTOM: Custom = { iterations: null, md5Surplus: 0 };

function customOf(secrets: Iterable<PasswordSecret | null>): Custom {
  const counts = new Map<number, number>();
  let md5Surplus = 0;
  for (const secret of secrets) {
    if (secret === null) continue;
    md5Surplus += secret.kind === 'md5' ? 1 : -1;
    // Our own passwords are derived with as many: a role of the upstream must not make that take hours.
    if (secret.kind === 'scram' && secret.iterations <= SCRAM_ITERATIONS_MAX) {
      counts.set(secret.iterations, (counts.get(secret.iterations) ?? 0) + 1);
    }
  }
  const [most] = [...counts].toSorted((a, b) => b[1] - a[1]);
  return { iterations: most?.[0] ?? null, md5Surplus };
}
