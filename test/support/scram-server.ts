// The server's half of SCRAM-SHA-256 (RFC 5802), as plainly as it can be written, over a scripted session.
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { cstr, i32, message } from './naive-writer.ts';
import { errorResponse } from './scripted-upstream.ts';
import type { ScriptedSession } from './scripted-upstream.ts';

/** What is offered, what is expected back, and what the server does wrong. */
export interface ScramPlay {
  /** Default: SCRAM-SHA-256 alone. */
  readonly mechanisms?: readonly string[];
  /** What the client has to choose; default: the first that is offered. */
  readonly chosen?: string;
  /** GS2 header that the client has to send; default `n,,`. */
  readonly header?: string;
  /** Data behind the header in the client's last message; default none. */
  readonly binding?: Uint8Array;
  readonly iterations?: number;
  readonly nonce?: (clients: string) => string;
  readonly signature?: (s: string) => string;
  readonly salt?: string;
}

/** Authenticates `password` and greets, or refuses as PostgreSQL does. Throws when the client says something else. */
export async function playScram(
  session: ScriptedSession,
  password: string,
  play: ScramPlay = {},
): Promise<void> {
  const { mechanisms = ['SCRAM-SHA-256'], header = 'n,,' } = play;
  session.send(message('R', i32(10), ...mechanisms.map(cstr), 0));
  const first = (await session.next()).body;
  const mechanism = first.subarray(0, first.indexOf(0)).toString();
  expectSame(mechanism, play.chosen ?? mechanisms[0] ?? '');
  const clientFirst = first.subarray(mechanism.length + 5).toString();
  expectSame(clientFirst.slice(0, header.length + 5), `${header}n=,r=`);
  const bare = clientFirst.slice(header.length);
  const clientNonce = bare.slice('n=,r='.length);
  const iterations = play.iterations ?? 4096;
  const salt = randomBytes(16);
  const nonce = play.nonce?.(clientNonce) ?? `${clientNonce}serverpart`;
  const serverFirst = `r=${nonce},s=${play.salt ?? salt.toString('base64')},i=${iterations}`;
  session.send(message('R', i32(11), serverFirst));
  const clientFinal = (await session.next()).body.toString();
  const [withoutProof = '', proof] = clientFinal.split(',p=');
  const channel = Buffer.concat([Buffer.from(header), play.binding ?? Buffer.alloc(0)]);
  expectSame(withoutProof, `c=${channel.toString('base64')},r=${nonce}`);
  const salted = pbkdf2Sync(password.normalize('NFKC'), salt, iterations, 32, 'sha256');
  const clientKey = hmac(salted, 'Client Key');
  const storedKey = createHash('sha256').update(clientKey).digest();
  const authMessage = `${bare},${serverFirst},${withoutProof}`;
  const signature = hmac(storedKey, authMessage);
  const expected = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)));
  if (proof !== expected.toString('base64')) {
    session.send(
      errorResponse('28P01', 'password authentication failed for user "replicator"', 'FATAL'),
    );
    session.end();
    return;
  }
  const server = hmac(hmac(salted, 'Server Key'), authMessage).toString('base64');
  session.send(
    message('R', i32(12), `v=${play.signature?.(server) ?? server}`),
    message('R', i32(0)),
  );
  session.greet();
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

function expectSame(actual: string, expected: string): void {
  if (actual !== expected) throw new Error(`the client sent ${actual} instead of ${expected}`);
}
