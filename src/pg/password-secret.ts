// What does the server keep of a password: a SCRAM secret, an md5 hash, or the password itself?
// (src/backend/libpq/crypt.c:get_password_type, auth-scram.c:parse_scram_secret)

/** `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, taken apart. `text` is what was written. */
export interface ScramSecret {
  readonly kind: 'scram';
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** 32 bytes. */
  readonly storedKey: Uint8Array;
  /** 32 bytes. */
  readonly serverKey: Uint8Array;
  readonly text: string;
}

/** `md5` and the 32 hexadecimal digits of md5(password + user name); `hash` is the digits. */
export interface Md5Secret {
  readonly kind: 'md5';
  readonly hash: string;
  readonly text: string;
}

/** The password itself. Never logged. */
export interface PlainSecret {
  readonly kind: 'plain';
  readonly password: string;
}

/** What one user can be checked against. */
export type PasswordSecret = ScramSecret | Md5Secret | PlainSecret;

/** Characters of a secret. PostgreSQL bounds passwords by the length of a message only; PgBouncer takes 2047 bytes. */
const SECRET_CHARACTERS_MAX = 2047;

/** Bytes of salt at most; PostgreSQL writes 16. */
const SALT_BYTES_MAX = 1024;

const KEY_BYTES = 32;

const ITERATIONS_MAX = 2 ** 31 - 1;

/**
 * Which kind of secret a text is. PostgreSQL takes whatever is neither of the other two for a password; here a text that
 * begins like a SCRAM secret and is none is a problem, because it is a secret that was cut or mistyped and would else open
 * the account to whoever has read the file; so would a mask, which everybody can guess. Nothing of the text is repeated in
 * the problem.
 */
export function readPasswordSecret(text: string): PasswordSecret | { readonly problem: string } {
  if (text === '') return { problem: 'the secret is empty' };
  if (text.length > SECRET_CHARACTERS_MAX) {
    return { problem: `the secret has more than ${SECRET_CHARACTERS_MAX} characters` };
  }
  if (text.includes('\0')) return { problem: 'the secret holds a zero byte' };
  if (/^\*{3,}$/.test(text)) {
    return { problem: 'the secret is a mask that stands for one, as pg_user and pg_roles show it' };
  }
  const md5 = /^md5([0-9a-f]{32})$/.exec(text)?.[1];
  if (md5 !== undefined) return { kind: 'md5', hash: md5, text };
  if (!text.startsWith('SCRAM-SHA-256$')) return { kind: 'plain', password: text };
  return (
    readScramSecret(text) ?? {
      problem:
        'the secret begins with SCRAM-SHA-256 and is none: SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY',
    }
  );
}

/** Null when the text is no SCRAM secret. */
export function readScramSecret(text: string): ScramSecret | null {
  const match =
    /^SCRAM-SHA-256\$(\d{1,10}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/.exec(text);
  if (match === null) return null;
  const iterations = Number(match[1]);
  const salt = decodeBase64(match[2] ?? '');
  const storedKey = decodeBase64(match[3] ?? '');
  const serverKey = decodeBase64(match[4] ?? '');
  if (salt === null || storedKey === null || serverKey === null) return null;
  if (iterations < 1 || iterations > ITERATIONS_MAX) return null;
  if (salt.length === 0 || salt.length > SALT_BYTES_MAX) return null;
  if (storedKey.length !== KEY_BYTES || serverKey.length !== KEY_BYTES) return null;
  return { kind: 'scram', iterations, salt, storedKey, serverKey, text };
}

/** Null for what is no padded base64. (pg_b64_decode) */
function decodeBase64(text: string): Uint8Array | null {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) return null;
  return Uint8Array.from(Buffer.from(text, 'base64'));
}
