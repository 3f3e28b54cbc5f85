import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { OperationalError, ProtocolViolation } from '../../src/base/errors.ts';
import { saslprep } from '../../src/wire/saslprep.ts';
import { md5Password, ScramClient } from '../../src/wire/scram-client.ts';

// RFC 7677 section 3.
const NONCE = 'rOprNGfwEbeRWgbNEkqO';
const SERVER_NONCE = '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0';
const SALT = 'W22ZaJ0SNY7soEsUEjb6gQ==';
const SERVER_FIRST = `r=${NONCE}${SERVER_NONCE},s=${SALT},i=4096`;
const SERVER_FINAL = 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=';

const bytes = (text: string): Uint8Array => Buffer.from(text);
const textOf = (data: Uint8Array): string => Buffer.from(data).toString();

function client(password = 'pencil'): ScramClient {
  return new ScramClient(password, NONCE, { userName: 'user' });
}

async function answered(): Promise<ScramClient> {
  const scram = client();
  await scram.serverFirst(bytes(SERVER_FIRST));
  return scram;
}

describe('ScramClient', () => {
  it('follows the example of RFC 7677', async () => {
    const scram = client();
    expect(textOf(scram.clientFirst)).toBe(`n,,n=user,r=${NONCE}`);
    expect(textOf(await scram.serverFirst(bytes(SERVER_FIRST)))).toBe(
      `c=biws,r=${NONCE}${SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=`,
    );
    expect(() => scram.serverFinal(bytes(SERVER_FINAL))).not.toThrow();
  });

  it('leaves the user name out towards PostgreSQL, and escapes it otherwise', () => {
    expect(textOf(new ScramClient('x', 'abc').clientFirst)).toBe('n,,n=,r=abc');
    expect(textOf(new ScramClient('x', 'abc', { userName: 'a=b,c' }).clientFirst)).toBe(
      'n,,n=a=3Db=2Cc,r=abc',
    );
  });

  it('says how it binds to the channel, and repeats it with the data', async () => {
    const data = Uint8Array.from({ length: 32 }, (_, index) => index * 8);
    for (const [binding, header, channel] of [
      [{ kind: 'none' }, 'n,,', 'biws'],
      [{ kind: 'not-offered' }, 'y,,', 'eSws'],
      [
        { kind: 'bound', data },
        'p=tls-server-end-point,,',
        Buffer.concat([Buffer.from('p=tls-server-end-point,,'), data]).toString('base64'),
      ],
    ] as const) {
      const scram = new ScramClient('pencil', NONCE, { binding });
      expect(textOf(scram.clientFirst)).toBe(`${header}n=,r=${NONCE}`);
      const final = textOf(await scram.serverFirst(bytes(SERVER_FIRST)));
      expect(final.startsWith(`c=${channel},r=`)).toBe(true);
    }
  });

  it('agrees with a verifier that is written down another way', async () => {
    const scram = new ScramClient('p\u00a0w', 'nonce');
    const first = 'r=noncemore,s=c2FsdA==,i=1';
    const [withoutProof, proof] = textOf(await scram.serverFirst(bytes(first))).split(',p=');
    const salted = pbkdf2Sync('p w', 'salt', 1, 32, 'sha256');
    const key = createHmac('sha256', salted).update('Client Key').digest();
    const stored = createHash('sha256').update(key).digest();
    const auth = `n=,r=nonce,${first},${withoutProof}`;
    const signature = createHmac('sha256', stored).update(auth).digest();
    const recovered = Buffer.from(proof ?? '', 'base64').map((byte, i) => byte ^ signature[i]!);
    expect(createHash('sha256').update(recovered).digest()).toEqual(stored);
  });

  it.each([
    ['one bit is wrong', SERVER_FINAL.replace('6rri', '7rri')],
    ['it is the signature of nothing', `v=${Buffer.alloc(32).toString('base64')}`],
    ['it is cut', 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4'],
    ['it is short', 'v=6rri'],
    ['it is empty', 'v='],
    ['it is missing', ''],
    ['it is another attribute', `p=${SERVER_FINAL.slice(2)}`],
  ])('does not believe a server when its signature is such that %s', async (_name, final) => {
    const scram = await answered();
    expect(() => scram.serverFinal(bytes(final))).toThrow(ProtocolViolation);
  });

  it('does not believe a server that skips the challenge', () => {
    expect(() => client().serverFinal(bytes(SERVER_FINAL))).toThrow(ProtocolViolation);
  });

  it('says so when the server refuses', async () => {
    const scram = await answered();
    expect(() => scram.serverFinal(bytes('e=invalid-proof'))).toThrow(OperationalError);
    const forged = (): void => scram.serverFinal(bytes('e=x\n2026-01-01 another line'));
    expect(forged).toThrow(
      'error received from server in SCRAM exchange: x 2026-01-01 another line',
    );
  });

  it.each([
    ['a nonce that is not ours', `r=x${NONCE}abc,s=${SALT},i=4096`],
    ['a nonce to which the server adds nothing', `r=${NONCE},s=${SALT},i=4096`],
    ['a nonce shorter than ours', `r=${NONCE.slice(0, 5)},s=${SALT},i=4096`],
    ['a nonce that is not printable', `r=${NONCE}\u0001,s=${SALT},i=4096`],
    ['a billion iterations', `r=${NONCE}x,s=${SALT},i=1000000000`],
    ['one iteration too many', `r=${NONCE}x,s=${SALT},i=1000001`],
    ['no iterations', `r=${NONCE}x,s=${SALT},i=0`],
    ['negative iterations', `r=${NONCE}x,s=${SALT},i=-1`],
    ['iterations that are no number', `r=${NONCE}x,s=${SALT},i=4096x`],
    ['more digits than a number has', `r=${NONCE}x,s=${SALT},i=${'0'.repeat(20)}4096`],
    ['a mandatory extension', `m=ext,r=${NONCE}x,s=${SALT},i=4096`],
    ['a salt that is no base64', `r=${NONCE}x,s=W22,i=4096`],
    ['an empty salt', `r=${NONCE}x,s=,i=4096`],
    ['no salt', `r=${NONCE}x,i=4096`],
    ['no iteration count', `r=${NONCE}x,s=${SALT}`],
    ['nothing', ''],
    ['a message of 2000 bytes', `r=${NONCE}${'x'.repeat(2000)},s=${SALT},i=4096`],
  ])('refuses a challenge with %s', async (_name, challenge) => {
    await expect(client().serverFirst(bytes(challenge))).rejects.toThrow(ProtocolViolation);
  });

  it('ignores extensions that are not mandatory', async () => {
    await expect(client().serverFirst(bytes(`${SERVER_FIRST},x=1`))).resolves.toBeDefined();
  });
});

describe('md5Password', () => {
  it('hashes the password with the user, then with the salt', () => {
    const inner = createHash('md5').update('secretalice').digest('hex');
    const outer = createHash('md5')
      .update(inner)
      .update(Buffer.from([1, 2, 3, 4]))
      .digest('hex');
    expect(md5Password('alice', 'secret', Uint8Array.of(1, 2, 3, 4))).toBe(`md5${outer}`);
  });
});

describe('saslprep', () => {
  // RFC 4013 section 3, and what PostgreSQL does where that says "error": it uses the password as it is.
  it.each([
    ['plain text', 'user', 'user'],
    ['case', 'USER', 'USER'],
    ['soft hyphens', 'I\u00adX', 'IX'],
    ['compatibility characters', '\u00aa', 'a'],
    ['roman numerals', '\u2168', 'IX'],
    ['other spaces', 'a\u3000b', 'a b'],
    ['control characters', '\u0007', '\u0007'],
    ['control characters among others', 'ü\u0007', 'ü\u0007'],
    ['mixed directions', '\u0627\u0031', '\u0627\u0031'],
    ['right-to-left text', '\u0627\u0628', '\u0627\u0628'],
    ['composition', 'u\u0308', 'ü'],
    ['what would vanish', '\u00ad', '\u00ad'],
    ['private use', '\ue000\u00aa', '\ue000\u00aa'],
    ['unassigned code points', '\u0378\u00aa', '\u0378\u00aa'],
  ])('prepares %s', (_name, password, prepared) => {
    expect(saslprep(password)).toBe(prepared);
  });
});
