// Hostile inputs of the catalogue's part C.2, and those of C.1 that name users: what may be said while somebody proves who
// he is.
import { createHash } from 'node:crypto';
import { firstBytes, line, open, patiently, said, TRUSTY } from './hostile-case.ts';
import type { HostileCase, Side } from './hostile-case.ts';
import { initial, PASSWORD, saltOf, scramExchange } from './hostile-scram.ts';
import type { ScramWords } from './hostile-scram.ts';
import { startupBytes } from './hostile-startup.ts';
import { cstr, i32, message, raw } from './naive-writer.ts';
import { query, startup } from './raw-client.ts';
import type { RawClient } from './raw-client.ts';

/** One exchange of SCRAM with something wrong in it. */
function scram(row: string, name: string, words: ScramWords): HostileCase {
  return { row, name, run: async (side) => await scramExchange(await open(side), words) };
}

/** Instead of the client's first message. */
function insteadOfFirst(row: string, name: string, bytes: Uint8Array): HostileCase {
  return scram(row, name, { initial: () => bytes });
}

/** Instead of the client's last message. */
function insteadOfFinal(row: string, name: string, bytes: Uint8Array): HostileCase {
  return scram(row, name, { last: () => bytes });
}

/** What a user is asked for who comes with these parameters. */
function asked(row: string, name: string, bytes: Uint8Array): HostileCase {
  return {
    row,
    name,
    async run(side): Promise<string[]> {
      const client = await open(side);
      client.send(bytes);
      const first = await patiently(client, client.next());
      client.close();
      if (first === null) return ['closed'];
      return [first.type === 'R' ? `R ${first.body.toString('latin1', 3)}` : line(first)];
    },
  };
}

function named(user: string | Uint8Array): Uint8Array {
  const rest = ['replication', 'true'].map(cstr);
  return startupBytes(cstr('user'), user, 0, ...rest, 0);
}

/** Two challenges for the same name, and one for another: the salts tell no stranger from a user. */
const SALTS: HostileCase = {
  row: 'I12',
  name: 'the salt of an unknown user is always the same, and that of another is another',
  async run(side): Promise<string[]> {
    const salts: string[] = [];
    for (const user of ['stranger', 'stranger', 'stranger2', 'scram', 'scram']) {
      salts.push(await saltOf(side, user));
    }
    return salts.map((salt) => String(salts.indexOf(salt)));
  },
};

async function md5Exchange(side: Side, answer: (salt: Buffer) => Uint8Array): Promise<string[]> {
  const client = await open(side);
  client.send(startup({ ...TRUSTY, user: 'md5user' }));
  const request = await patiently(client, client.next());
  if (request?.type !== 'R' || request.body.length !== 8) return [request?.type ?? 'closed'];
  client.send(answer(request.body.subarray(4)));
  return [`R ${request.body.readInt32BE(0)}`, ...(await said(client))];
}

function md5(name: string, answer: (salt: Buffer) => Uint8Array): HostileCase {
  return { row: 'I33', name, run: (side) => md5Exchange(side, answer) };
}

function md5Password(password: string, salt: Buffer): string {
  const inner = createHash('md5').update(`${password}md5user`).digest('hex');
  return `md5${createHash('md5').update(inner).update(salt).digest('hex')}`;
}

/** Bytes that come in the same segment as the client's last message. */
const PIPELINED: HostileCase = {
  row: '+',
  name: 'a command behind the proof, in its segment',
  async run(side): Promise<string[]> {
    const client: RawClient = await open(side);
    const lines = await scramExchange(client, {
      last: (final) => raw(message('p', final), query('SHOW wal_level')),
    });
    return lines;
  },
};

const SLOW: HostileCase = {
  row: 'I13',
  name: 'silence instead of a proof',
  isSlow: true,
  async run(side): Promise<string[]> {
    const begun = performance.now();
    const client = await open(side);
    client.send(startup({ ...TRUSTY, user: 'scram' }));
    await patiently(client, client.next());
    const lines = await said(client);
    return [...lines, performance.now() - begun > 1900 ? 'after the deadline' : 'at once'];
  },
};

const OTHERS: readonly [name: string, bytes: Uint8Array][] = [
  ['a Query', query('IDENTIFY_SYSTEM')],
  ['Terminate', message('X')],
  ['Sync', message('S')],
  ['CopyData', message('d', 'x')],
  ['type 0', raw(0, i32(4))],
  ['type 255', raw(0xff, i32(4))],
  ['a startup packet', startup(TRUSTY)],
];

const LENGTHS: readonly [name: string, bytes: Uint8Array][] = [
  ['a length of 70 000', raw('p', i32(70_000), new Uint8Array(70_000))],
  ['a length of 1028', raw('p', i32(1028), new Uint8Array(1024))],
  ['a length of 1029', raw('p', i32(1029), new Uint8Array(1025))],
  ['a length of 2 GB', raw('p', i32(0x7f_ff_ff_ff))],
  ['a negative length', raw('p', i32(-2))],
  ['a length of 3', raw('p', i32(3))],
];

/** Rows I11, I12 and I23 to I31, without TLS. */
export const AUTH_CASES: readonly HostileCase[] = [
  asked('I11', 'a user of 9000 bytes', named('u'.repeat(9000))),
  asked('I11', 'a user of invalid UTF-8', named(raw(0xff, 0xfe, 0xc3))),
  asked('I11', 'a user with a newline and a quote', named('a\nb"c\u001b[31m')),
  firstBytes('I11', 'a rejected user', startup({ ...TRUSTY, user: 'rejected' })),
  {
    row: 'I11',
    name: 'a user whom no rule is for',
    async run(side): Promise<string[]> {
      const client = await open(side, '127.0.0.2');
      client.send(startup({ ...TRUSTY, user: 'no "rule"\n' }));
      return await said(client);
    },
  },
  SALTS,
  scram('I12', 'an unknown user', { user: 'stranger' }),
  scram('I12', 'an unknown user of 70 bytes', { user: 'é'.repeat(35) }),
  scram('I12', 'a user without a password', { user: 'nopassword' }),
  scram('I12', 'a wrong password', { password: 'wrong' }),
  scram('I12', 'an empty password', { password: '' }),
  scram('I12', 'the right password', {}),
  SLOW,
  ...OTHERS.map(([name, bytes]) =>
    insteadOfFirst('I23', `${name} instead of a first message`, bytes),
  ),
  ...OTHERS.map(([name, bytes]) =>
    insteadOfFinal('I23', `${name} instead of a last message`, bytes),
  ),
  scram('I24', 'an unknown mechanism', { mechanism: 'SCRAM-SHA-512' }),
  scram('I24', 'no mechanism', { mechanism: '' }),
  scram('I24', 'a mechanism in small letters', { mechanism: 'scram-sha-256' }),
  scram('I24', 'PLAIN', { initial: () => initial('PLAIN', `\0scram\0${PASSWORD}`) }),
  scram('I24', 'PLUS without TLS', { mechanism: 'SCRAM-SHA-256-PLUS' }),
  ...LENGTHS.map(([name, bytes]) => insteadOfFirst('I25', `${name} of a first message`, bytes)),
  ...LENGTHS.map(([name, bytes]) => insteadOfFinal('I25', `${name} of a last message`, bytes)),
  scram('I26', 'an inner length of -1', {
    initial: (first) => initial('SCRAM-SHA-256', first, -1),
  }),
  scram('I26', 'an inner length of -2', {
    initial: (first) => initial('SCRAM-SHA-256', first, -2),
  }),
  scram('I26', 'an inner length of 2 GB', {
    initial: (first) => initial('SCRAM-SHA-256', first, 0x7f_ff_ff_ff),
  }),
  scram('I26', 'an inner length that is too short', {
    initial: (first) => initial('SCRAM-SHA-256', first, 5),
  }),
  scram('I26', 'an inner length of 0', { initial: (first) => initial('SCRAM-SHA-256', first, 0) }),
  scram('I26', 'no inner length', { initial: () => message('p', cstr('SCRAM-SHA-256')) }),
  scram('I26', 'a mechanism without an end', { initial: () => message('p', 'SCRAM-SHA-256') }),
  scram('I26', 'no body', { initial: () => message('p') }),
  scram('I26', 'a NUL inside', { bare: (nonce) => `n=,r=${nonce}\0x` }),
  scram('I27', 'p=tls-unique without PLUS', { gs2: 'p=tls-unique,,' }),
  scram('I27', 'p=tls-server-end-point without PLUS', {
    gs2: 'p=tls-server-end-point,,',
    binding: raw('x'),
  }),
  scram('I28', 'y,, without TLS', { gs2: 'y,,' }),
  ...['x,,', 'n', 'n,', 'N,,', 'nn,,', ',,', ''].map((gs2) =>
    scram('I30', `a header ${JSON.stringify(gs2)}`, { gs2 }),
  ),
  scram('I30', 'an authzid', { gs2: 'n,a=other,' }),
  scram('I30', 'rubbish in place of an authzid', { gs2: 'n,x,' }),
  scram('I30', 'an extension', { bare: (nonce) => `m=x,n=,r=${nonce}` }),
  scram('I30', 'an extension in the last message', {
    final: (binding, nonce) => `c=${binding},r=${nonce},m=x`,
  }),
  scram('I30', 'an extension of a letter in the last message', {
    final: (binding, nonce) => `c=${binding},r=${nonce},x=1`,
  }),
  scram('I30', 'no user name', { bare: (nonce) => `r=${nonce}` }),
  scram('I30', 'another user name inside', { bare: (nonce) => `n=postgres,r=${nonce}` }),
  scram('I30', 'an attribute without =', { bare: (nonce) => `n,r=${nonce}` }),
  scram('I30', 'something behind the first nonce', { bare: (nonce) => `n=,r=${nonce},x=y` }),
  scram('I30', 'no nonce', { bare: () => 'n=' }),
  scram('I31', 'an empty nonce', { nonce: '' }),
  scram('I31', 'a nonce of a space', { nonce: 'a b' }),
  scram('I31', 'a nonce that is not printable', { nonce: 'a\u0007b' }),
  scram('I31', 'a nonce of letters of other languages', { nonce: 'é' }),
  scram('I31', 'a nonce of 900 letters', { nonce: 'n'.repeat(900) }),
  scram('I30', 'a nonce that is not ours', { final: (binding) => `c=${binding},r=other` }),
  scram('I30', 'a nonce cut short', {
    final: (binding, nonce) => `c=${binding},r=${nonce.slice(0, -1)}`,
  }),
  scram('I30', 'no binding', { final: (_binding, nonce) => `r=${nonce}` }),
  scram('I30', 'a binding of another header', { final: (_binding, nonce) => `c=eSws,r=${nonce}` }),
  scram('I30', 'a binding that is no base64', { final: (_binding, nonce) => `c=!!,r=${nonce}` }),
  scram('I30', 'an empty binding', { final: (_binding, nonce) => `c=,r=${nonce}` }),
  scram('I30', 'no proof', { proof: (withoutProof) => withoutProof }),
  scram('I30', 'an empty proof', { proof: (withoutProof) => `${withoutProof},p=` }),
  scram('I30', 'a proof that is too short', { proof: (withoutProof) => `${withoutProof},p=AAAA` }),
  scram('I30', 'a proof that is too long', {
    proof: (withoutProof, proof) =>
      `${withoutProof},p=${Buffer.concat([proof, proof]).toString('base64')}`,
  }),
  scram('I30', 'a proof that is no base64', {
    proof: (withoutProof) => `${withoutProof},p=${'!'.repeat(44)}`,
  }),
  scram('I30', 'a proof of base64 without its padding', {
    proof: (withoutProof, proof) =>
      `${withoutProof},p=${proof.toString('base64').replace('=', '')}`,
  }),
  scram('I30', 'a proof of base64 with white space', {
    proof: (withoutProof, proof) =>
      `${withoutProof},p=${proof.toString('base64').replace(/^.{8}/, '$& ')}`,
  }),
  scram('I30', 'something behind the proof', {
    proof: (withoutProof, proof) => `${withoutProof},p=${proof.toString('base64')},x`,
  }),
  scram('I30', 'a NUL behind the proof', {
    proof: (withoutProof, proof) => `${withoutProof},p=${proof.toString('base64')}\0`,
  }),
  scram('I30', 'an empty last message', { last: () => message('p') }),
  scram('I30', 'the proof twice', {
    last: (final) => raw(message('p', final), message('p', final)),
  }),
  md5('a right md5 answer', (salt) => message('p', cstr(md5Password(PASSWORD, salt)))),
  md5('a wrong md5 answer', (salt) => message('p', cstr(md5Password('wrong', salt)))),
  md5('the password in clear text', () => message('p', cstr(PASSWORD))),
  md5('an empty answer', () => message('p', cstr(''))),
  md5('an answer without NUL', () => message('p', 'md5')),
  md5('an answer with two NULs', () => message('p', 'md5', 0, 0)),
  md5('an answer of 70 000 bytes', () => message('p', new Uint8Array(70_000))),
  md5('a query instead of an answer', () => query('IDENTIFY_SYSTEM')),
  md5('Terminate instead of an answer', () => message('X')),
  scram('I34', 'a password that has expired', { user: 'expired' }),
  scram('I34', 'a password that expires later', { user: 'expires' }),
  scram('I34', 'a wrong password that has expired', { user: 'expired', password: 'wrong' }),
  scram('I34', 'a user who may not replicate', { user: 'reader' }),
  scram('I34', 'a user who may not log in', { user: 'nologin' }),
  PIPELINED,
];
