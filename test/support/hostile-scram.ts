// A SCRAM client that can be wrong in every place, written out plainly, and a TLS client that shows what it is told to.
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { connect as connectTls, TLSSocket } from 'node:tls';
import type { ConnectionOptions } from 'node:tls';
import { line, open, patiently, said, TRUSTY } from './hostile-case.ts';
import type { Side } from './hostile-case.ts';
import { cstr, i32, message, packet, raw } from './naive-writer.ts';
import { RawClient, startup } from './raw-client.ts';
import type { RawMessage } from './raw-session.ts';

export const PASSWORD = 'pencil é';

/** What a client says, where it is not what an honest one would say. */
export interface ScramWords {
  readonly user?: string;
  readonly password?: string;
  readonly mechanism?: string;
  /** Up to the second comma. */
  readonly gs2?: string;
  readonly nonce?: string;
  /** Behind the gs2 header; default `n=,r=…`. */
  readonly bare?: (nonce: string) => string;
  /** The whole SASLInitialResponse, or another message instead. */
  readonly initial?: (first: string) => Uint8Array;
  /** What is bound besides the gs2 header; default the server's certificate where the header says `p`. */
  readonly binding?: Uint8Array;
  /** The client-final-message without its proof. */
  readonly final?: (binding: string, nonce: string) => string;
  /** The whole client-final-message. */
  readonly proof?: (withoutProof: string, proof: Buffer) => string;
  /** What is sent instead of, or behind it. */
  readonly last?: (final: string) => Uint8Array;
}

/** How a TLS client comes. */
export interface TlsWords extends ConnectionOptions {
  /** Without an SSLRequest. */
  readonly isDirect?: boolean;
}

/** A session behind a handshake, or what became of the handshake. */
export async function secured(side: Side, words: TlsWords = {}): Promise<RawClient | string[]> {
  const plain = await open(side);
  if (words.isDirect !== true) {
    plain.send(packet(80_877_103));
    const answer = (await patiently(plain, plain.bytes(1))).toString('latin1');
    if (answer !== 'S') return [`${answer} instead of TLS`];
  }
  const socket = connectTls({
    socket: plain.socket,
    rejectUnauthorized: false,
    servername: 'localhost',
    ...words,
  });
  const failed = await new Promise<Error | null>((resolve) => {
    socket.once('secureConnect', () => resolve(null));
    socket.on('error', resolve);
    socket.once('close', () => resolve(new Error('closed')));
  });
  if (failed === null) return new RawClient(socket);
  plain.close();
  return ['no handshake'];
}

/** tls-server-end-point of a certificate that is signed with SHA-256. */
export function endPointOf(client: RawClient): Uint8Array {
  const { socket } = client;
  const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
  if (certificate === undefined) return raw();
  return createHash('sha256').update(certificate.raw).digest();
}

/** The whole exchange, up to the end or to ReadyForQuery; nonces, salts and signatures are only checked for their form. */
export async function scramExchange(client: RawClient, words: ScramWords = {}): Promise<string[]> {
  const user = words.user ?? 'scram';
  client.send(startup({ ...TRUSTY, user }));
  const offer = await patiently(client, client.next());
  if (offer?.type !== 'R' || offer.body.readInt32BE(0) !== 10)
    return await unexpected(client, offer);
  const lines = [`R 10 ${offer.body.toString('latin1', 4).replaceAll('\0', ' ').trim()}`];
  const gs2 = words.gs2 ?? 'n,,';
  const nonce = words.nonce ?? randomBytes(18).toString('base64');
  const bare = words.bare?.(nonce) ?? `n=,r=${nonce}`;
  client.send(
    words.initial?.(gs2 + bare) ?? initial(words.mechanism ?? 'SCRAM-SHA-256', gs2 + bare),
  );
  const challenge = await patiently(client, client.next());
  if (challenge?.type !== 'R' || challenge.body.readInt32BE(0) !== 11) {
    return [...lines, ...(await unexpected(client, challenge))];
  }
  const serverFirst = challenge.body.toString('latin1', 4);
  lines.push(challengeForm(serverFirst, nonce));
  const final = finalMessage({ client, words, gs2, bare, serverFirst });
  client.send(words.last?.(final) ?? message('p', final));
  return [...lines, ...(await said(client))];
}

/** A SASLInitialResponse. */
export function initial(
  mechanism: string,
  first: string,
  length = Buffer.byteLength(first),
): Uint8Array {
  return message('p', cstr(mechanism), i32(length), first);
}

async function unexpected(client: RawClient, item: RawMessage | null): Promise<string[]> {
  if (item === null) return ['closed'];
  const rest = await said(client);
  return [line(item), ...rest];
}

function challengeForm(serverFirst: string, nonce: string): string {
  const [, serverNonce = '', salt = '', iterations] =
    /^r=([^,]*),s=([^,]*),i=(\d+)$/.exec(serverFirst) ?? [];
  const isExtended = serverNonce.startsWith(nonce);
  const own = Buffer.from(serverNonce.slice(nonce.length), 'base64').length;
  return `R 11 ${isExtended ? `nonce and ${own} bytes` : 'another nonce'}, ${Buffer.from(salt, 'base64').length} bytes of salt, ${iterations}`;
}

/** The salt that a user is given, for asking whether it stays the same. */
export async function saltOf(side: Side, user: string): Promise<string> {
  const client = await open(side);
  client.send(startup({ ...TRUSTY, user }));
  await patiently(client, client.next());
  client.send(initial('SCRAM-SHA-256', 'n,,n=,r=abc'));
  const challenge = await patiently(client, client.next());
  client.close();
  return /s=([^,]*)/.exec(challenge?.body.toString('latin1') ?? '')?.[1] ?? '';
}

interface Final {
  readonly client: RawClient;
  readonly words: ScramWords;
  readonly gs2: string;
  readonly bare: string;
  readonly serverFirst: string;
}

function finalMessage({ client, words, gs2, bare, serverFirst }: Final): string {
  const [, nonce = '', salt = '', iterations] =
    /^r=([^,]*),s=([^,]*),i=(\d+)$/.exec(serverFirst) ?? [];
  const bound = words.binding ?? (gs2.startsWith('p=') ? endPointOf(client) : raw());
  const binding = Buffer.from(raw(gs2, bound)).toString('base64');
  const withoutProof = words.final?.(binding, nonce) ?? `c=${binding},r=${nonce}`;
  const salted = pbkdf2Sync(
    words.password ?? PASSWORD,
    Buffer.from(salt, 'base64'),
    Number(iterations),
    32,
    'sha256',
  );
  const clientKey = createHmac('sha256', salted).update('Client Key').digest();
  const storedKey = createHash('sha256').update(clientKey).digest();
  const authMessage = `${bare},${serverFirst},${withoutProof}`;
  const signature = createHmac('sha256', storedKey).update(authMessage).digest();
  const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)));
  return words.proof?.(withoutProof, proof) ?? `${withoutProof},p=${proof.toString('base64')}`;
}
