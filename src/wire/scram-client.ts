// How do we prove to the upstream that we know the password? SCRAM-SHA-256, bound to the TLS channel where there is one
// (RFC 5802, RFC 7677, RFC 5929), with everything the server says bounded and its own proof checked; and the older md5
// answer. (src/interfaces/libpq/fe-auth-scram.c)
import { createHash, createHmac, pbkdf2, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { withoutControls } from '../base/controls.ts';
import { invariant, OperationalError, ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { decodeText } from './message-reader.ts';
import { encodeText } from './message-writer.ts';
import { saslprep } from './saslprep.ts';

const pbkdf2Async = promisify(pbkdf2);

/** The mechanism without channel binding. */
export const SCRAM_MECHANISM = 'SCRAM-SHA-256';

/** The mechanism with channel binding. */
export const SCRAM_PLUS_MECHANISM = 'SCRAM-SHA-256-PLUS';

/**
 * What the client says about channel binding. `none`: it does none (no TLS, or channel_binding=disable). `not-offered`:
 * it would, but the server did not offer it; a server that did offer it then knows that somebody changed its list.
 * `bound`: `data` is the tls-server-end-point of the server's certificate.
 */
export type ScramBinding =
  | { readonly kind: 'none' }
  | { readonly kind: 'not-offered' }
  | { readonly kind: 'bound'; readonly data: Uint8Array };

/** What a login may have besides its password. */
export interface ScramOptions {
  /** Default: `none`. */
  readonly binding?: ScramBinding;
  /** Stays empty for PostgreSQL, which takes the name of the startup message. */
  readonly userName?: string;
}

/** More iterations than this from a server are an attack on our processor, not a password policy. */
export const SCRAM_ITERATIONS_MAX = 1_000_000;

const MESSAGE_BYTES_MAX = 1024;
const HASH_BYTES = 32;

const GS2_HEADERS: Readonly<Record<ScramBinding['kind'], string>> = {
  none: 'n,,',
  'not-offered': 'y,,',
  bound: 'p=tls-server-end-point,,',
};

/** One login. Order: `clientFirst`, `serverFirst`, `serverFinal`; only then is the server known to know the password too. */
export class ScramClient {
  /** The data of the SASLInitialResponse. */
  readonly clientFirst: Uint8Array;
  readonly #password: string;
  readonly #nonce: string;
  readonly #clientFirstBare: string;
  /** The GS2 header and the binding data, base64: what the client-final-message repeats. */
  readonly #channel: string;
  #expectedServerSignature: Uint8Array | null = null;

  /** `nonce` is printable text without commas, fresh for each login. */
  constructor(password: string, nonce: string, options: ScramOptions = {}) {
    invariant(/^[\x21-\x2b\x2d-\x7e]+$/.test(nonce), 'SCRAM nonce must be printable');
    this.#password = saslprep(password);
    this.#nonce = nonce;
    const { binding = { kind: 'none' }, userName = '' } = options;
    const header = GS2_HEADERS[binding.kind];
    const data = binding.kind === 'bound' ? binding.data : new Uint8Array(0);
    this.#channel = Buffer.concat([encodeText(header), data]).toString('base64');
    this.#clientFirstBare = `n=${userName.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=${nonce}`;
    this.clientFirst = encodeText(header + this.#clientFirstBare);
  }

  /**
   * Answers the server's challenge: the data of the next SASLResponse. The key is derived off the event loop. Rejects
   * with {@link ProtocolViolation} when the challenge is malformed, uses an unknown extension, or asks for too much.
   */
  async serverFirst(data: Uint8Array): Promise<Uint8Array> {
    const serverFirst = messageText(data);
    const { nonce, salt, iterations } = parseServerFirst(serverFirst, this.#nonce);
    const withoutProof = `c=${this.#channel},r=${nonce}`;
    const authMessage = `${this.#clientFirstBare},${serverFirst},${withoutProof}`;
    const saltedPassword = await pbkdf2Async(
      this.#password,
      salt,
      iterations,
      HASH_BYTES,
      'sha256',
    );
    const clientKey = hmac(saltedPassword, 'Client Key');
    const signature = hmac(sha256(clientKey), authMessage);
    const proof = clientKey.map((byte, index) => byte ^ (signature[index] ?? 0));
    this.#expectedServerSignature = hmac(hmac(saltedPassword, 'Server Key'), authMessage);
    return encodeText(`${withoutProof},p=${Buffer.from(proof).toString('base64')}`);
  }

  /**
   * Checks the server's own proof. Throws {@link ProtocolViolation} when it is missing or wrong: whoever answered does
   * not know the password. Throws {@link OperationalError} when the server refused.
   */
  serverFinal(data: Uint8Array): void {
    const expected = this.#expectedServerSignature;
    if (expected === null) throw malformed('server-final-message came too early');
    const text = messageText(data);
    if (text.startsWith('e=')) {
      throw new OperationalError(
        SQLSTATE.invalidPassword,
        `error received from server in SCRAM exchange: ${withoutControls(text.slice(2))}`,
        { hint: 'Check the password of the upstream connection.' },
      );
    }
    const signature = attribute(text.split(',')[0], 'v');
    const bytes = decodeBase64(signature);
    if (bytes === null || bytes.length !== HASH_BYTES) throw malformed('invalid server signature');
    if (!timingSafeEqual(bytes, expected)) {
      throw new ProtocolViolation(SQLSTATE.protocolViolation, 'incorrect server signature');
    }
  }
}

/** The answer to AuthenticationMD5Password. (src/common/md5_common.c:pg_md5_encrypt) */
export function md5Password(user: string, password: string, salt: Uint8Array): string {
  const inner = createHash('md5').update(password).update(user).digest('hex');
  return `md5${createHash('md5').update(inner).update(salt).digest('hex')}`;
}

function parseServerFirst(
  text: string,
  clientNonce: string,
): { nonce: string; salt: Uint8Array; iterations: number } {
  const parts = text.split(',');
  if (parts[0]?.startsWith('m=') === true) throw malformed('unknown mandatory extension');
  const nonce = attribute(parts[0], 'r');
  if (!nonce.startsWith(clientNonce) || nonce.length === clientNonce.length) {
    throw malformed('mismatching nonce');
  }
  if (!/^[\x21-\x7e]+$/.test(nonce)) throw malformed('non-printable characters in nonce');
  const salt = decodeBase64(attribute(parts[1], 's'));
  if (salt === null || salt.length === 0) throw malformed('invalid salt');
  const iterationText = attribute(parts[2], 'i');
  const iterations = /^[0-9]{1,10}$/.test(iterationText) ? Number(iterationText) : 0;
  if (iterations < 1) throw malformed('invalid iteration count');
  if (iterations > SCRAM_ITERATIONS_MAX) {
    throw malformed(`iteration count ${iterations} exceeds the limit of ${SCRAM_ITERATIONS_MAX}`);
  }
  return { nonce, salt, iterations };
}

function messageText(data: Uint8Array): string {
  if (data.length > MESSAGE_BYTES_MAX) throw malformed('message is too long');
  return decodeText(data);
}

function attribute(part: string | undefined, name: string): string {
  if (part === undefined || !part.startsWith(`${name}=`)) {
    throw malformed(`attribute "${name}" expected`);
  }
  return part.slice(2);
}

function decodeBase64(text: string): Uint8Array | null {
  const isBase64 = text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
  return isBase64 ? Buffer.from(text, 'base64') : null;
}

function hmac(key: Uint8Array, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

function sha256(data: Uint8Array): Buffer {
  return createHash('sha256').update(data).digest();
}

function malformed(reason: string): ProtocolViolation {
  return new ProtocolViolation(SQLSTATE.protocolViolation, `malformed SCRAM message: ${reason}`);
}
