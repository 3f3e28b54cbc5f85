// Does a client know the password of which we keep a secret? The server's half of SCRAM-SHA-256, with PostgreSQL's checks in
// PostgreSQL's order and words. No key is derived here: checking a proof costs two HMACs.
// (src/backend/libpq/auth-scram.c; RFC 5802, RFC 7677, RFC 5929)
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { ScramText, ScramViolation, malformedScram } from './scram-text.ts';

/** What a server keeps of a password. */
export interface ScramKeys {
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** H(ClientKey), 32 bytes. */
  readonly storedKey: Uint8Array;
  /** 32 bytes. */
  readonly serverKey: Uint8Array;
}

/** What one exchange is about. */
export interface ScramServerOptions {
  /** The client chose SCRAM-SHA-256-PLUS. */
  readonly isBound: boolean;
  /** tls-server-end-point of the certificate that we presented; null: -PLUS was not offered. */
  readonly endPoint: Uint8Array | null;
  readonly keys: ScramKeys;
  /** The exchange fails at its end whatever the client proves: its keys belong to nobody. */
  readonly isDoomed: boolean;
  /** Printable text without commas, fresh for each exchange. */
  readonly nonce: string;
}

const HASH_BYTES = 32;
const BINDING_TYPE = 'tls-server-end-point';

/** One exchange. Order: `serverFirst`, then `serverFinal`. Both throw {@link ScramViolation}, which ends the connection. */
export class ScramServer {
  readonly #options: ScramServerOptions;
  /** GS2 flag of the client: `n`, `y` or `p`. */
  #flag = '';
  #clientFirstBare = '';
  #nonce = '';
  #serverFirst = '';

  constructor(options: ScramServerOptions) {
    this.#options = options;
  }

  /** Reads the client-first-message and gives the challenge. */
  serverFirst(data: Uint8Array): Uint8Array {
    const text = ScramText.of(data);
    this.#readFlag(text);
    if (text.peek() === 'a') {
      throw new ScramViolation(
        SQLSTATE.featureNotSupported,
        'client uses authorization identity, but it is not supported',
      );
    }
    if (text.peek() !== ',') {
      throw malformedScram(`Unexpected attribute "${text.shown()}" in client-first-message.`);
    }
    text.skip();
    this.#clientFirstBare = text.rest();
    if (text.peek() === 'm') {
      throw new ScramViolation(
        SQLSTATE.featureNotSupported,
        'client requires an unsupported SCRAM extension',
      );
    }
    // The user is the one of the startup packet.
    text.attribute('n');
    const clientNonce = text.attribute('r');
    checkNonce(clientNonce);
    while (!text.isAtEnd) text.anyAttribute();
    const { keys, nonce } = this.#options;
    this.#nonce = clientNonce + nonce;
    const salt = Buffer.from(keys.salt).toString('base64');
    this.#serverFirst = `r=${this.#nonce},s=${salt},i=${keys.iterations}`;
    return Buffer.from(this.#serverFirst, 'latin1');
  }

  /** Reads the client-final-message and gives our own proof; null when the client does not know the password. */
  serverFinal(data: Uint8Array): Uint8Array | null {
    const text = ScramText.of(data);
    this.#checkChannel(text.attribute('c'));
    const nonce = text.attribute('r');
    const { withoutProof, proof } = readProof(text);
    if (!isSame(Buffer.from(nonce, 'latin1'), Buffer.from(this.#nonce, 'latin1'))) {
      throw new ScramViolation(
        SQLSTATE.protocolViolation,
        'invalid SCRAM response',
        'Nonce does not match.',
      );
    }
    const authMessage = Buffer.from(
      `${this.#clientFirstBare},${this.#serverFirst},${withoutProof}`,
      'latin1',
    );
    const { keys, isDoomed } = this.#options;
    // All of it also for one that is bound to fail: it takes the same time.
    const isKnown = isProofOf(proof, keys.storedKey, authMessage);
    const signature = hmac(keys.serverKey, authMessage).toString('base64');
    if (!isKnown || isDoomed) return null;
    return Buffer.from(`v=${signature}`, 'latin1');
  }

  /** gs2-cbind-flag and the comma behind it. (read_client_first_message) */
  #readFlag(text: ScramText): void {
    const { isBound, endPoint } = this.#options;
    this.#flag = text.peek();
    if (this.#flag === 'p') {
      if (!isBound) {
        throw malformedScram(
          'The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.',
        );
      }
      const type = text.attribute('p');
      if (type !== BINDING_TYPE) {
        throw new ScramViolation(
          SQLSTATE.protocolViolation,
          `unsupported SCRAM channel-binding type "${shownType(type)}"`,
        );
      }
      return;
    }
    if (this.#flag !== 'n' && this.#flag !== 'y') {
      throw malformedScram(`Unexpected channel-binding flag "${text.shown()}".`);
    }
    if (isBound) {
      throw malformedScram(
        'The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.',
      );
    }
    if (this.#flag === 'y' && endPoint !== null) {
      // Somebody between us took -PLUS off the list.
      throw new ScramViolation(
        SQLSTATE.invalidAuthorizationSpecification,
        'SCRAM channel binding negotiation error',
        'The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.',
      );
    }
    text.skip();
    if (text.peek() !== ',') {
      throw malformedScram(`Comma expected, but found character "${text.shown()}".`);
    }
    text.skip();
  }

  /** `c=` repeats the flag, and says which certificate the client saw. (read_client_final_message) */
  #checkChannel(channel: string): void {
    const { isBound, endPoint } = this.#options;
    if (isBound) {
      const header = Buffer.from(`p=${BINDING_TYPE},,`, 'latin1');
      const expected = Buffer.concat([header, endPoint ?? new Uint8Array(0)]).toString('base64');
      if (channel === expected && endPoint !== null) return;
      throw new ScramViolation(
        SQLSTATE.invalidAuthorizationSpecification,
        'SCRAM channel binding check failed',
      );
    }
    const expected = Buffer.from(`${this.#flag},,`, 'latin1').toString('base64');
    if (channel === expected) return;
    throw new ScramViolation(
      SQLSTATE.protocolViolation,
      'unexpected SCRAM channel-binding attribute in client-final-message',
    );
  }
}

/** Extensions are passed over; `p` is the last. */
function readProof(text: ScramText): { withoutProof: string; proof: Uint8Array } {
  for (;;) {
    const withoutProof = text.before(1);
    const { name, value } = text.anyAttribute();
    if (name !== 'p') continue;
    const proof = decodeBase64(value);
    if (proof?.length !== HASH_BYTES) {
      throw malformedScram('Malformed proof in client-final-message.');
    }
    if (!text.isAtEnd) throw malformedScram('Garbage found at the end of client-final-message.');
    return { withoutProof, proof };
  }
}

/** An empty one passes PostgreSQL; it would leave the freshness of the exchange to us alone. */
function checkNonce(nonce: string): void {
  if (nonce === '') throw malformedScram('The nonce of the client is empty.');
  if (/^[\x21-\x2b\x2d-\x7e]+$/.test(nonce)) return;
  throw new ScramViolation(SQLSTATE.protocolViolation, 'non-printable characters in SCRAM nonce');
}

/** ClientKey := proof XOR HMAC(StoredKey, AuthMessage); is H(ClientKey) the StoredKey? (verify_client_proof) */
function isProofOf(proof: Uint8Array, storedKey: Uint8Array, authMessage: Uint8Array): boolean {
  const signature = hmac(storedKey, authMessage);
  const clientKey = proof.map((byte, index) => byte ^ (signature[index] ?? 0));
  return isSame(createHash('sha256').update(clientKey).digest(), storedKey);
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}

function hmac(key: Uint8Array, data: Uint8Array): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

/** (sanitize_str) */
function shownType(type: string): string {
  return type.slice(0, 30).replaceAll(/[^\x21-\x7e]/g, '?');
}

function decodeBase64(text: string): Uint8Array | null {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) return null;
  return Buffer.from(text, 'base64');
}
