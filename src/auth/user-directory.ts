// Who may log in, and what is kept of each password: what the authentication of clients asks, whoever answers.
import type { PasswordSecret } from '../pg/password-secret.ts';
import type { ScramSecret } from './scram-secret.ts';

/** What is known of one user. Users are told apart by their exact names. */
export type UserAnswer =
  | {
      readonly kind: 'found';
      /** Null: the user has no password and can log in with none. */
      readonly secret: PasswordSecret | null;
      /**
       * Milliseconds since the Unix epoch, Infinity for `infinity`; null: for ever. Whoever checks a password compares: when it lies in the past there is no
       * password any more. (crypt.c:get_role_password)
       */
      readonly validUntilMs: number | null;
      /** The REPLICATION attribute (or superuser); null: not told, and then the access rules alone decide. */
      readonly mayReplicate: boolean | null;
    }
  /** `isSure`: there is no such role where roles are kept, so that nobody gets in by that name, even without a password. */
  | { readonly kind: 'unknown'; readonly isSure?: boolean }
  /**
   * Nobody who knows could be asked. Outside like a wrong password; `reason` is for our log and holds no secret. `isOut`: because
   * the server is away. Else it is there and could have told that there is no such role, or none that may replicate: then
   * nobody of whom that is not known gets in without a password either.
   */
  | { readonly kind: 'unavailable'; readonly reason: string; readonly isOut?: boolean };

/** The users. Lookups are bounded in number and in time by whoever implements this. */
export interface UserDirectory {
  /** A promise only when somebody has to be asked; it never rejects. */
  lookup(name: string): UserAnswer | Promise<UserAnswer>;
  /** A password was wrong: an answer that was kept is asked for again the next time, as often as is bearable. */
  onWrongPassword(name: string): void;
  /**
   * What SCRAM needs of a secret of `name`; null for an md5 secret, which SCRAM cannot use. A promise for a plain password
   * that was not derived yet: that happens once per secret, off the event loop. It rejects when the runtime cannot derive.
   */
  scramOf(name: string, secret: PasswordSecret): ScramSecret | null | Promise<ScramSecret>;
  /** The salt an unknown user is shown: the same for a name at any time and after a restart, and nobody outside can tell it from a real one. The caller must not change it. */
  mockSalt(name: string): Uint8Array;
  /** The iterations an unknown user is shown: what most known users have. */
  readonly mockIterations: number;
  /** What method md5 does with an unknown user: as with most known users. Default: scram. */
  readonly mockKind?: 'scram' | 'md5';
}
