// What does a server keep of a password for SCRAM-SHA-256, and how is it written? Derived off the event loop.
// (src/common/scram-common.c:scram_SaltedPassword, scram_build_secret; RFC 5802)
import { createHash, createHmac, pbkdf2 } from 'node:crypto';
import { promisify } from 'node:util';
import { saslprep } from '../wire/saslprep.ts';

const pbkdf2Async = promisify(pbkdf2);
const HASH_BYTES = 32;

/** SCRAM_SHA_256_DEFAULT_ITERATIONS */
export const SCRAM_ITERATIONS_DEFAULT = 4096;

/** SCRAM_DEFAULT_SALT_LEN, in bytes. */
export const SCRAM_SALT_BYTES = 16;

/** What is kept of a password: enough to check a proof, not enough to make one. Buffers belong to the secret. */
export interface ScramSecret {
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** H(ClientKey), 32 bytes. */
  readonly storedKey: Uint8Array;
  /** 32 bytes. */
  readonly serverKey: Uint8Array;
}

/** How a secret is derived. */
export interface ScramParameters {
  /** Kept by the secret; must not change afterwards. */
  readonly salt: Uint8Array;
  readonly iterations: number;
}

/** Derives what is kept of `password`, which is prepared first (SASLprep). The work is done in libuv's pool, not on the event loop. */
export async function deriveScramSecret(
  password: string,
  { salt, iterations }: ScramParameters,
): Promise<ScramSecret> {
  const salted = await pbkdf2Async(saslprep(password), salt, iterations, HASH_BYTES, 'sha256');
  const clientKey = hmac(salted, 'Client Key');
  return {
    iterations,
    salt,
    storedKey: createHash('sha256').update(clientKey).digest(),
    serverKey: hmac(salted, 'Server Key'),
  };
}

/** The text of pg_authid.rolpassword: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, base64. */
export function formatScramSecret(secret: ScramSecret): string {
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
  const { iterations, salt, storedKey, serverKey } = secret;
  return `SCRAM-SHA-256$${iterations}:${base64(salt)}$${base64(storedKey)}:${base64(serverKey)}`;
}

function hmac(key: Uint8Array, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}
