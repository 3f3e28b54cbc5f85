// Users of a test: their secrets in a table, or told later, whenever the test says so.
import { noUsers } from '../../src/auth/no-users.ts';
import { deriveScramSecret } from '../../src/auth/scram-secret.ts';
import type { ScramSecret } from '../../src/auth/scram-secret.ts';
import type { UserAnswer, UserDirectory } from '../../src/auth/user-directory.ts';
import { readPasswordSecret } from '../../src/pg/password-secret.ts';
import type { PasswordSecret } from '../../src/pg/password-secret.ts';

/** Iterations of everybody here: tests need not wait. */
export const FEW_ITERATIONS = 16;

type Found = Extract<UserAnswer, { kind: 'found' }>;

/** A directory that a test fills. */
export class UserTable implements UserDirectory {
  readonly mockIterations: number = FEW_ITERATIONS;
  readonly wrong: string[] = [];
  readonly #answers = new Map<string, UserAnswer>();
  readonly #nobody = noUsers();
  #gate: Promise<void> | null = null;
  #onAsked: () => void = () => {};

  /** `text`: a secret as a file has it; plain text is a password. */
  add(name: string, text: string | null, facts: Partial<Found> = {}): this {
    const secret = text === null ? null : readPasswordSecret(text);
    if (secret !== null && 'problem' in secret) throw new Error(secret.problem);
    this.#answers.set(name, {
      kind: 'found',
      secret,
      validUntilMs: null,
      mayReplicate: null,
      ...facts,
    });
    return this;
  }

  /** What is said of a name. */
  set(name: string, answer: UserAnswer): void {
    this.#answers.set(name, answer);
  }

  /** From now on nobody is told about before `release`; `asked` resolves when somebody is asked for. */
  hold(): { release: () => void; asked: Promise<void> } {
    let release: () => void = () => {};
    this.#gate = new Promise((resolve) => {
      release = resolve;
    });
    const asked = new Promise<void>((resolve) => {
      this.#onAsked = resolve;
    });
    return { release, asked };
  }

  lookup(name: string): UserAnswer | Promise<UserAnswer> {
    this.#onAsked();
    const answer = this.#answers.get(name) ?? ({ kind: 'unknown' } as const);
    return this.#gate === null ? answer : this.#gate.then(() => answer);
  }

  onWrongPassword(name: string): void {
    this.wrong.push(name);
  }

  scramOf(name: string, secret: PasswordSecret): ScramSecret | null | Promise<ScramSecret> {
    if (secret.kind === 'md5') return null;
    if (secret.kind === 'scram') return secret;
    const salt = this.mockSalt(name);
    return deriveScramSecret(secret.password, { salt, iterations: FEW_ITERATIONS });
  }

  mockSalt(name: string): Uint8Array {
    return this.#nobody.mockSalt(name);
  }
}
