// Does the server's half of SCRAM let in who knows the password, and refuse everybody else in PostgreSQL's words?
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { deriveScramSecret, formatScramSecret } from '../../src/auth/scram-secret.ts';
import type { ScramSecret } from '../../src/auth/scram-secret.ts';
import { ScramClient } from '../../src/wire/scram-client.ts';
import type { ScramBinding } from '../../src/wire/scram-client.ts';
import { ScramServer } from '../../src/wire/scram-server.ts';
import { ScramViolation } from '../../src/wire/scram-text.ts';
import { ScramPlayer } from '../support/scram-player.ts';
import type { ScramMove } from '../support/scram-player.ts';

const END_POINT = Buffer.from('11'.repeat(32), 'hex');
const OTHER_END_POINT = Buffer.from('22'.repeat(32), 'hex');
const PLUS = 'p=tls-server-end-point,,';
let secret: ScramSecret;

beforeAll(async () => {
  secret = await deriveScramSecret('secret', {
    salt: Buffer.from('0123456789abcdef'),
    iterations: 2,
  });
});

interface Play {
  readonly isBound?: boolean;
  readonly endPoint?: Uint8Array | null;
  readonly isDoomed?: boolean;
}

function server({ isBound = false, endPoint = null, isDoomed = false }: Play = {}): ScramServer {
  return new ScramServer({ isBound, endPoint, keys: secret, isDoomed, nonce: 'servernonce' });
}

/** The texts of what one exchange is refused with; the proof that it ends with otherwise. */
function outcome(move: ScramMove, play: Play = {}, password = 'secret'): string {
  const player = new ScramPlayer(password, move);
  const scram = server(play);
  return told(() => {
    const final = scram.serverFinal(player.final(scram.serverFirst(player.first)));
    if (final === null) return 'wrong';
    return Buffer.from(final).toString() === `v=${player.serverSignature}` ? 'right' : 'lie';
  });
}

function told(act: () => string): string {
  try {
    return act();
  } catch (error) {
    if (!(error instanceof ScramViolation)) throw error;
    const { code, message, detail } = error;
    return detail === undefined ? `${code} ${message}` : `${code} ${message}: ${detail}`;
  }
}

const MALFORMED = '08P01 malformed SCRAM message: ';

describe('who knows the password', () => {
  test('proves it, and is proved that the server has its secret', () => {
    expect(outcome({})).toBe('right');
  });

  test('may have seen -PLUS offered and not want it', () => {
    expect(outcome({}, { endPoint: END_POINT })).toBe('right');
  });

  test('may say that it would have bound the channel where that was not offered', () => {
    expect(outcome({ header: 'y,,' })).toBe('right');
  });

  test('binds to the certificate that was presented', () => {
    const play = { isBound: true, endPoint: END_POINT };
    expect(outcome({ header: PLUS, binding: END_POINT }, play)).toBe('right');
  });

  test('may send extensions, which mean nothing', () => {
    expect(outcome({ bare: 'n=,r=abc,x=1,Y=,z=,' })).toBe('right');
    expect(outcome({ extensions: ',x=1,y=' })).toBe('right');
  });

  test('may name any user: the one of the startup packet counts', () => {
    expect(outcome({ bare: 'n=somebody=2Celse,r=abc' })).toBe('right');
  });

  test.each<[string, ScramBinding, boolean]>([
    ['without TLS', { kind: 'none' }, false],
    ['with TLS and without -PLUS', { kind: 'not-offered' }, false],
    ['with the channel bound', { kind: 'bound', data: END_POINT }, true],
  ])('%s, as our own client does it', async (_name, binding, isBound) => {
    const client = new ScramClient('secret', 'fyko+d2lbbFgONRv9qkxdawL', { binding });
    const scram = server({ isBound, endPoint: isBound ? END_POINT : null });
    const final = scram.serverFinal(
      await client.serverFirst(scram.serverFirst(client.clientFirst)),
    );
    expect(final).not.toBeNull();
    client.serverFinal(final ?? new Uint8Array(0));
  });

  test('as in the example of RFC 7677', async () => {
    const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64');
    const keys = await deriveScramSecret('pencil', { salt, iterations: 4096 });
    const scram = new ScramServer({
      isBound: false,
      endPoint: null,
      keys,
      isDoomed: false,
      nonce: '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0',
    });
    const first = scram.serverFirst(Buffer.from('n,,n=user,r=rOprNGfwEbeRWgbNEkqO'));
    expect(Buffer.from(first).toString()).toBe(
      'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
    );
    const final = scram.serverFinal(
      Buffer.from(
        'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
      ),
    );
    expect(Buffer.from(final ?? []).toString()).toBe(
      'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
    );
  });
});

describe('who does not know it', () => {
  test('is not told more than that', () => {
    expect(outcome({}, {}, 'Secret')).toBe('wrong');
    expect(
      outcome({ header: PLUS, binding: END_POINT }, { isBound: true, endPoint: END_POINT }, ''),
    ).toBe('wrong');
  });

  test('cannot be told from one whose exchange is bound to fail', () => {
    expect(outcome({}, { isDoomed: true })).toBe('wrong');
  });
});

test('I12: an exchange that is bound to fail takes as long as one that fails', () => {
  const times: Record<'doomed' | 'wrong', number[]> = { doomed: [], wrong: [] };
  for (let round = 0; round < 600; round += 1) {
    const isDoomed = round % 2 === 0;
    const player = new ScramPlayer('wrong');
    const scram = server({ isDoomed });
    const final = player.final(scram.serverFirst(player.first));
    const beganAtMs = performance.now();
    scram.serverFinal(final);
    times[isDoomed ? 'doomed' : 'wrong'].push(performance.now() - beganAtMs);
  }
  const median = (list: number[]): number => list.sort((one, other) => one - other)[150] ?? 0;
  const ratio = median(times.doomed) / median(times.wrong);
  expect(ratio).toBeGreaterThan(0.5);
  expect(ratio).toBeLessThan(2);
});

describe('the first message', () => {
  test.each<[string, ScramMove, Play, string]>([
    [
      'I27: binds without -PLUS',
      { header: 'p=tls-unique,,' },
      {},
      `${MALFORMED}The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.`,
    ],
    [
      'I28: says -PLUS was not offered',
      { header: 'y,,' },
      { endPoint: END_POINT },
      '28000 SCRAM channel binding negotiation error: The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.',
    ],
    [
      '-PLUS without binding (n)',
      { header: 'n,,' },
      { isBound: true, endPoint: END_POINT },
      `${MALFORMED}The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.`,
    ],
    [
      '-PLUS without binding (y)',
      { header: 'y,,' },
      { isBound: true, endPoint: END_POINT },
      `${MALFORMED}The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.`,
    ],
    [
      'another kind of binding',
      { header: 'p=tls-unique,,' },
      { isBound: true, endPoint: END_POINT },
      '08P01 unsupported SCRAM channel-binding type "tls-unique"',
    ],
    [
      'a kind of binding that is long and not printable',
      { header: `p=${'\x01'.repeat(40)},,` },
      { isBound: true, endPoint: END_POINT },
      `08P01 unsupported SCRAM channel-binding type "${'?'.repeat(30)}"`,
    ],
    [
      'p without =',
      { header: 'p,,' },
      { isBound: true, endPoint: END_POINT },
      `${MALFORMED}Expected character "=" for attribute "p".`,
    ],
    ['no such flag', { header: 'q,,' }, {}, `${MALFORMED}Unexpected channel-binding flag "'q'".`],
    [
      'a flag that is not printable',
      { header: '\xff,,' },
      {},
      `${MALFORMED}Unexpected channel-binding flag "0xff".`,
    ],
    [
      'no comma behind the flag',
      { header: 'nx,' },
      {},
      `${MALFORMED}Comma expected, but found character "'x'".`,
    ],
    [
      'nothing behind the flag',
      { header: 'n', bare: '' },
      {},
      `${MALFORMED}Comma expected, but found character "0x00".`,
    ],
    [
      'I30: an authorization identity',
      { header: 'n,a=root,' },
      {},
      '0A000 client uses authorization identity, but it is not supported',
    ],
    [
      'something else there',
      { header: 'n,b=root,' },
      {},
      `${MALFORMED}Unexpected attribute "'b'" in client-first-message.`,
    ],
    [
      'I30: a mandatory extension',
      { bare: 'm=1,n=,r=abc' },
      {},
      '0A000 client requires an unsupported SCRAM extension',
    ],
    ['no user', { bare: 'r=abc' }, {}, `${MALFORMED}Expected attribute "n" but found "'r'".`],
    ['no nonce', { bare: 'n=' }, {}, `${MALFORMED}Expected attribute "r" but found "0x00".`],
    [
      'a user without =',
      { bare: 'n,r=abc' },
      {},
      `${MALFORMED}Expected character "=" for attribute "n".`,
    ],
    ['I31: an empty nonce', { nonce: '' }, {}, `${MALFORMED}The nonce of the client is empty.`],
    [
      'I31: a nonce that is not printable',
      { nonce: 'a b' },
      {},
      '08P01 non-printable characters in SCRAM nonce',
    ],
    [
      'a nonce beyond ASCII',
      { nonce: 'a\xe4' },
      {},
      '08P01 non-printable characters in SCRAM nonce',
    ],
    [
      'garbage behind the nonce',
      { bare: 'n=,r=abc,1' },
      {},
      `${MALFORMED}Attribute expected, but found invalid character "'1'".`,
    ],
    [
      'an extension without =',
      { bare: 'n=,r=abc,x' },
      {},
      `${MALFORMED}Expected character "=" for attribute "x".`,
    ],
  ])('%s', (_name, move, play, text) => {
    expect(outcome(move, play)).toBe(text);
  });

  test('has bytes, and no zero among them', () => {
    expect(told(() => String(server().serverFirst(Buffer.alloc(0))))).toBe(
      `${MALFORMED}The message is empty.`,
    );
    expect(told(() => String(server().serverFirst(Buffer.from('n,,n=,r=a\0b'))))).toBe(
      `${MALFORMED}Message length does not match input length.`,
    );
  });
});

describe('the last message', () => {
  const change = (pattern: RegExp, to: string): ScramMove => ({
    final: (text) => text.replace(pattern, to),
  });

  test.each<[string, ScramMove, Play, string]>([
    [
      'I29: another certificate',
      { header: PLUS, binding: OTHER_END_POINT },
      { isBound: true, endPoint: END_POINT },
      '28000 SCRAM channel binding check failed',
    ],
    [
      'I29: no certificate',
      { header: PLUS },
      { isBound: true, endPoint: END_POINT },
      '28000 SCRAM channel binding check failed',
    ],
    [
      'another flag than before',
      change(/^c=biws/, 'c=eSws'),
      {},
      '08P01 unexpected SCRAM channel-binding attribute in client-final-message',
    ],
    [
      'another flag than before, the other way',
      { header: 'y,,', ...change(/^c=eSws/, 'c=biws') },
      {},
      '08P01 unexpected SCRAM channel-binding attribute in client-final-message',
    ],
    [
      'no channel',
      change(/^c=biws,/, ''),
      {},
      `${MALFORMED}Expected attribute "c" but found "'r'".`,
    ],
    ['no nonce', change(/r=[^,]*,/, ''), {}, `${MALFORMED}Expected attribute "r" but found "'p'".`],
    [
      'I30: another nonce',
      change(/servernonce/, 'servernoncf'),
      {},
      '08P01 invalid SCRAM response: Nonce does not match.',
    ],
    [
      'I30: a shorter nonce',
      change(/servernonce/, 'servernonc'),
      {},
      '08P01 invalid SCRAM response: Nonce does not match.',
    ],
    [
      'I30: the own nonce alone',
      change(/servernonce/, ''),
      {},
      '08P01 invalid SCRAM response: Nonce does not match.',
    ],
    [
      'I30: no proof',
      change(/,p=.*/, ''),
      {},
      `${MALFORMED}Attribute expected, but found end of string.`,
    ],
    [
      'I30: an empty proof',
      change(/p=.*/, 'p='),
      {},
      `${MALFORMED}Malformed proof in client-final-message.`,
    ],
    [
      'I30: a proof that is no base64',
      change(/p=..../, 'p=!!!!'),
      {},
      `${MALFORMED}Malformed proof in client-final-message.`,
    ],
    [
      'I30: a short proof',
      change(/p=..../, 'p='),
      {},
      `${MALFORMED}Malformed proof in client-final-message.`,
    ],
    [
      'I30: a long proof',
      change(/p=/, 'p=AAAA'),
      {},
      `${MALFORMED}Malformed proof in client-final-message.`,
    ],
    [
      'I30: trailing garbage',
      change(/$/, ',x=1'),
      {},
      `${MALFORMED}Garbage found at the end of client-final-message.`,
    ],
    [
      'an extension that is none',
      { extensions: ',1=2' },
      {},
      `${MALFORMED}Attribute expected, but found invalid character "'1'".`,
    ],
    ['nothing', { final: () => '' }, {}, `${MALFORMED}The message is empty.`],
  ])('%s', (_name, move, play, text) => {
    expect(outcome(move, play)).toBe(text);
  });

  test('ends an exchange that is bound to fail with the same complaints', () => {
    expect(outcome(change(/servernonce/, 'other'), { isDoomed: true })).toBe(
      '08P01 invalid SCRAM response: Nonce does not match.',
    );
  });
});

describe('whatever bytes come', () => {
  test('they are refused or read, and never prove anything', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.string({ unit: 'binary-ascii', maxLength: 60 }),
        fc.boolean(),
        (bytes, tail, isBound) => {
          const play = { isBound, endPoint: isBound ? END_POINT : null };
          told(() => String(server(play).serverFirst(bytes)));
          const scram = server(play);
          scram.serverFirst(Buffer.from(isBound ? `${PLUS}n=,r=abc` : 'n,,n=,r=abc'));
          expect(told(() => (scram.serverFinal(bytes) === null ? 'wrong' : 'let in'))).not.toBe(
            'let in',
          );
          const other = server(play);
          other.serverFirst(Buffer.from(isBound ? `${PLUS}n=,r=abc` : 'n,,n=,r=abc'));
          const text = Buffer.from(`c=biws,r=abcservernonce,p=${tail}`);
          expect(told(() => (other.serverFinal(text) === null ? 'wrong' : 'let in'))).not.toBe(
            'let in',
          );
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('a secret', () => {
  test('is written as PostgreSQL writes it', async () => {
    const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64');
    const keys = await deriveScramSecret('pencil', { salt, iterations: 4096 });
    expect(formatScramSecret(keys)).toBe(
      'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=',
    );
  });

  test('is the same for a password and its prepared form', async () => {
    const parameters = { salt: Buffer.from('salt'), iterations: 1 };
    const [one, other] = await Promise.all([
      deriveScramSecret('\u00aa', parameters),
      deriveScramSecret('a', parameters),
    ]);
    expect(one).toEqual(other);
  });
});
