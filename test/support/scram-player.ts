// The client's half of SCRAM-SHA-256 (RFC 5802), as plainly as it can be written, with a hand on every part of it.
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';

/** What a client does otherwise than it should. */
export interface ScramMove {
  /** GS2 header; default `n,,`. */
  readonly header?: string;
  /** Data behind the header in the last message. */
  readonly binding?: Uint8Array;
  readonly nonce?: string;
  /** Everything behind the header of the first message. */
  readonly bare?: string;
  /** Attributes between nonce and proof, with their commas in front. */
  readonly extensions?: string;
  /** Changes the last message. */
  readonly final?: (text: string) => string;
}

/** One exchange. */
export class ScramPlayer {
  readonly first: Buffer;
  readonly #password: string;
  readonly #move: ScramMove;
  readonly #header: string;
  readonly #bare: string;
  serverSignature = '';

  constructor(password: string, move: ScramMove = {}) {
    this.#password = password;
    this.#move = move;
    this.#header = move.header ?? 'n,,';
    this.#bare = move.bare ?? `n=,r=${move.nonce ?? 'clientnonce'}`;
    this.first = Buffer.from(this.#header + this.#bare, 'latin1');
  }

  /** Answers the challenge, and notes what the server has to answer to that. */
  final(challenge: Uint8Array): Buffer {
    const serverFirst = Buffer.from(challenge).toString('latin1');
    const [, nonce = '', salt = '', iterations = ''] =
      /^r=([^,]*),s=([^,]*),i=(\d+)$/.exec(serverFirst) ?? [];
    const channel = Buffer.concat([
      Buffer.from(this.#header, 'latin1'),
      this.#move.binding ?? Buffer.alloc(0),
    ]).toString('base64');
    const withoutProof = `c=${channel},r=${nonce}${this.#move.extensions ?? ''}`;
    const saltBytes = Buffer.from(salt, 'base64');
    const salted = pbkdf2Sync(this.#password, saltBytes, Number(iterations), 32, 'sha256');
    const authMessage = `${this.#bare},${serverFirst},${withoutProof}`;
    const clientKey = hmac(salted, 'Client Key');
    const signature = hmac(createHash('sha256').update(clientKey).digest(), authMessage);
    const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)));
    this.serverSignature = hmac(hmac(salted, 'Server Key'), authMessage).toString('base64');
    const text = `${withoutProof},p=${proof.toString('base64')}`;
    return Buffer.from(this.#move.final?.(text) ?? text, 'latin1');
  }
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text, 'latin1').digest();
}
