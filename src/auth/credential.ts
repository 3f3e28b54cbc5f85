// Against what is this user's word to be checked, and why against nothing where there is nothing?
// (src/backend/libpq/crypt.c:get_role_password, auth.c:CheckPWChallengeAuth)
import { errorText } from '../base/errors.ts';
import type { ScramSecret } from './scram-secret.ts';
import type { UserAnswer, UserDirectory } from './user-directory.ts';

/** What a password method works with. */
export type Credential =
  | { readonly kind: 'scram'; readonly keys: ScramSecret }
  /** `hash`: 32 hexadecimal digits. */
  | { readonly kind: 'md5'; readonly hash: string }
  /** The exchange goes its way and fails at its end; `logDetail` says why, to our log alone. */
  | { readonly kind: 'mock'; readonly keys: ScramSecret; readonly logDetail: string }
  | { readonly kind: 'mock-md5'; readonly hash: string; readonly logDetail: string };

/** What the choice depends on. */
export interface CredentialContext {
  readonly method: 'scram-sha-256' | 'md5';
  readonly users: UserDirectory;
  /** Milliseconds since the Unix epoch. */
  readonly wallMs: number;
}

const KEY_BYTES = 32;
const MOCK_HASH = '0'.repeat(32);

/**
 * The credential of a user. A promise only where a key has to be derived first; it never rejects. Under md5 a user whose
 * secret is one of SCRAM goes through SCRAM; who is not there goes the way that most users go.
 */
export function credentialOf(
  user: string,
  answer: UserAnswer,
  context: CredentialContext,
): Credential | Promise<Credential> {
  const { method, users, wallMs } = context;
  const mock = (logDetail: string): Credential =>
    mockCredential(user, { method, users, logDetail });
  if (answer.kind === 'unavailable')
    return mock(`The secret could not be asked for: ${answer.reason}`);
  if (answer.kind === 'unknown') return mock(`Role "${user}" does not exist.`);
  const { secret, validUntilMs } = answer;
  if (secret === null) return mock(`User "${user}" has no password assigned.`);
  if (validUntilMs !== null && validUntilMs < wallMs) {
    return mock(`User "${user}" has an expired password.`);
  }
  if (method === 'md5' && secret.kind === 'md5') return { kind: 'md5', hash: secret.hash };
  const keys = users.scramOf(user, secret);
  if (keys === null) return mock(`User "${user}" does not have a valid SCRAM secret.`);
  if (!(keys instanceof Promise)) return { kind: 'scram', keys };
  return keys.then(
    (derived): Credential => ({ kind: 'scram', keys: derived }),
    (error: unknown) => mock(`No SCRAM secret could be derived: ${errorText(error)}`),
  );
}

/** (auth-scram.c:mock_scram_secret; under md5 PostgreSQL goes by password_encryption) */
function mockCredential(
  user: string,
  how: { method: 'scram-sha-256' | 'md5'; users: UserDirectory; logDetail: string },
): Credential {
  const { method, users, logDetail } = how;
  if (method === 'md5' && users.mockKind === 'md5') {
    return { kind: 'mock-md5', hash: MOCK_HASH, logDetail };
  }
  const keys = {
    iterations: users.mockIterations,
    salt: users.mockSalt(user),
    storedKey: new Uint8Array(KEY_BYTES),
    serverKey: new Uint8Array(KEY_BYTES),
  };
  return { kind: 'mock', keys, logDetail };
}
