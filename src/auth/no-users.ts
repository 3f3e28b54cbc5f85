// What does a relay without users answer when somebody wants to log in with a password? The same as to any stranger.
import { createHmac, randomBytes } from 'node:crypto';
import { SCRAM_ITERATIONS_DEFAULT, SCRAM_SALT_BYTES } from './scram-secret.ts';
import type { UserDirectory } from './user-directory.ts';

/** A directory in which nobody is found; its salts last as long as it does. */
export function noUsers(): UserDirectory {
  const seed = randomBytes(32);
  return {
    lookup: () => ({ kind: 'unknown' }),
    onWrongPassword: () => {},
    scramOf: () => null,
    mockSalt: (name) =>
      createHmac('sha256', seed).update(name).digest().subarray(0, SCRAM_SALT_BYTES),
    mockIterations: SCRAM_ITERATIONS_DEFAULT,
  };
}
