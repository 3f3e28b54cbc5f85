// Which exchange does a rule lead to, what does each message of the client bring about, and in whose words does it end?
import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { Authentication, missingCertificate } from '../../src/auth/authentication.ts';
import type { AuthenticationMethod, AuthenticationStep } from '../../src/auth/authentication.ts';
import { credentialOf } from '../../src/auth/credential.ts';
import type { Credential } from '../../src/auth/credential.ts';
import { noUsers } from '../../src/auth/no-users.ts';
import { deriveScramSecret, formatScramSecret } from '../../src/auth/scram-secret.ts';
import type { ScramSecret } from '../../src/auth/scram-secret.ts';
import type { UserAnswer, UserDirectory } from '../../src/auth/user-directory.ts';
import type { HbaRule } from '../../src/pg/hba.ts';
import { NO_IDENT_MAPS } from '../../src/pg/ident.ts';
import { readPasswordSecret } from '../../src/pg/password-secret.ts';
import type { PasswordSecret } from '../../src/pg/password-secret.ts';
import type { AuthenticationInput } from '../../src/wire/authentication-decoder.ts';
import { md5Password } from '../../src/wire/scram-client.ts';
import type { TlsFacts, TlsPeer } from '../../src/wire/tls-facts.ts';
import { cstr, i32, raw } from '../support/naive-writer.ts';
import { ScramPlayer } from '../support/scram-player.ts';

const END_POINT = Buffer.from('11'.repeat(32), 'hex');
const NOW_MS = 1_000_000;
const PEER: TlsPeer = {
  commonName: 'ann',
  distinguishedName: 'CN=ann,O=walcast',
  serial: '1',
  issuer: '/CN=ca',
};
let keys: ScramSecret;

beforeAll(async () => {
  keys = await deriveScramSecret('secret', {
    salt: Buffer.from('saltsaltsaltsalt'),
    iterations: 2,
  });
});

function secretOf(text: string): PasswordSecret {
  const secret = readPasswordSecret(text);
  if ('problem' in secret) throw new Error(secret.problem);
  return secret;
}

function tlsWith(peer: TlsPeer | null, endPoint: Uint8Array | null = END_POINT): TlsFacts {
  return {
    protocol: 'TLSv1.3',
    cipher: 'TLS_AES_256_GCM_SHA384',
    bits: 256,
    alpn: null,
    peer,
    endPoint: () => endPoint,
  };
}

function ruleOf(method: HbaRule['method'], options: Partial<HbaRule> = {}): HbaRule {
  return {
    source: 'pg_hba.conf',
    line: 3,
    text: `hostssl all all all ${method}`,
    type: 'hostssl',
    databases: [],
    users: [],
    address: { kind: 'all' },
    method,
    clientCert: method === 'cert' ? 'verify-full' : null,
    clientName: 'CN',
    map: null,
    ...options,
  };
}

interface Play {
  readonly method?: AuthenticationMethod;
  readonly rule?: HbaRule;
  readonly user?: string;
  readonly tls?: TlsFacts | null;
  readonly credential?: Credential | null;
}

function exchange({ method = 'scram-sha-256', ...play }: Play = {}): Authentication {
  return new Authentication({
    method,
    rule: play.rule ?? ruleOf(method),
    user: play.user ?? 'ann',
    tls: play.tls ?? null,
    identMaps: NO_IDENT_MAPS,
    credential: play.credential === undefined ? { kind: 'scram', keys } : play.credential,
    randomBytes: (count) => Buffer.alloc(count, 0x41),
  });
}

const message = (body: Uint8Array): AuthenticationInput & { kind: 'message' } => ({
  kind: 'message',
  body,
});

function saslInitial(
  mechanism: string,
  data: Uint8Array,
): AuthenticationInput & { kind: 'message' } {
  return message(raw(cstr(mechanism), i32(data.length), data));
}

/** A step as a test compares it: what is sent, and how it ends. */
function told(step: AuthenticationStep): string {
  const sent = step.frames.map((frame) => {
    const bytes = Buffer.from(frame);
    return `R${bytes.readInt32BE(5)} ${bytes.toString('latin1', 9).replaceAll('\0', '|')}`;
  });
  if (step.kind === 'passed') return [...sent, `passed as ${step.identity}`].join('; ');
  if (step.kind === 'closed') return [...sent, `closed [${step.text}]`].join('; ');
  if (step.kind === 'more') return sent.join('; ');
  const { sqlstate, message: text, detail } = step.error;
  const end = [`${sqlstate} ${text}`, detail, step.logDetail && `[${step.logDetail}]`];
  return [...sent, end.filter((part) => part !== null && part !== undefined).join(' ')].join('; ');
}

/** Goes through SCRAM and gives the last step. */
function scram(play: Play = {}, password = 'secret', header = 'n,,'): string {
  const machine = exchange(play);
  machine.begin();
  const isBound = header.startsWith('p');
  const player = new ScramPlayer(password, { header, ...(isBound ? { binding: END_POINT } : {}) });
  const mechanism = isBound ? 'SCRAM-SHA-256-PLUS' : 'SCRAM-SHA-256';
  const challenge = machine.onInput(saslInitial(mechanism, player.first));
  const [frame] = challenge.frames;
  if (challenge.kind !== 'more' || frame === undefined) return told(challenge);
  const last = told(machine.onInput(message(player.final(frame.subarray(9)))));
  return last.replace(`v=${player.serverSignature}`, 'v=proof');
}

describe('trust', () => {
  test('lets in at once, and proves nobody', () => {
    expect(told(exchange({ method: 'trust', credential: null }).begin())).toBe('passed as null');
  });

  test('with clientcert=verify-full asks for the name in the certificate', () => {
    const rule = ruleOf('trust', { clientCert: 'verify-full' });
    const play = { method: 'trust', rule, credential: null } as const;
    expect(told(exchange({ ...play, tls: tlsWith(PEER) }).begin())).toBe('passed as null');
    expect(told(exchange({ ...play, tls: tlsWith(PEER), user: 'bob' }).begin())).toBe(
      '28000 "trust" authentication failed for user "bob" [provided user name (bob) and authenticated user name (ann) do not match]',
    );
  });
});

describe('cert', () => {
  const certificate = (
    user: string,
    options: Partial<HbaRule> = {},
    peer: TlsPeer = PEER,
  ): string => {
    const rule = ruleOf('cert', options);
    return told(
      exchange({ method: 'cert', rule, user, tls: tlsWith(peer), credential: null }).begin(),
    );
  };

  test('lets in whom the common name names, as the whole subject', () => {
    expect(certificate('ann')).toBe('passed as CN=ann,O=walcast');
  });

  test('refuses everybody else', () => {
    expect(certificate('bob')).toBe(
      '28000 certificate authentication failed for user "bob" [provided user name (bob) and authenticated user name (ann) do not match]',
    );
    expect(certificate('Ann')).toMatch(/^28000 certificate authentication failed for user "Ann"/);
  });

  test('compares the whole subject where the rule says so', () => {
    const named = { ...PEER, distinguishedName: 'CN=ann' };
    expect(certificate('CN=ann', { clientName: 'DN' }, named)).toBe('passed as CN=ann');
    expect(certificate('ann', { clientName: 'DN' }, named)).toMatch(/^28000 /);
  });

  test('I21: refuses a certificate without a common name', () => {
    for (const commonName of [null, '']) {
      expect(certificate('', {}, { ...PEER, commonName })).toBe(
        '28000 certificate authentication failed for user "" [client certificate contains no user name]',
      );
    }
  });

  test('refuses a map that is not there', () => {
    expect(certificate('ann', { map: 'nomap' })).toBe(
      '28000 certificate authentication failed for user "ann" [no match in usermap "nomap" for user "ann" authenticated as "ann"]',
    );
  });
});

describe('a rule with clientcert', () => {
  test.each(['verify-ca', 'verify-full'] as const)(
    '%s needs a certificate before anything else',
    (clientCert) => {
      const rule = ruleOf('scram-sha-256', { clientCert });
      const text = '28000 connection requires a valid client certificate';
      for (const tls of [null, tlsWith(null)]) {
        const missing = missingCertificate(rule, tls);
        expect(missing === null ? null : told(missing)).toBe(text);
      }
      expect(missingCertificate(rule, tlsWith(PEER))).toBeNull();
      expect(missingCertificate(ruleOf('scram-sha-256'), null)).toBeNull();
    },
  );

  test('verify-ca does not look at the name, verify-full does, behind the password', () => {
    const play = { tls: tlsWith({ ...PEER, commonName: 'somebody' }) };
    const ca = ruleOf('scram-sha-256', { clientCert: 'verify-ca' });
    const full = ruleOf('scram-sha-256', { clientCert: 'verify-full' });
    expect(scram({ ...play, rule: ca })).toBe('R12 v=proof; passed as ann');
    expect(scram({ ...play, rule: full })).toBe(
      'R12 v=proof; 28P01 password authentication failed for user "ann" [provided user name (ann) and authenticated user name (somebody) do not match]',
    );
    expect(scram({ ...play, rule: full }, 'wrong')).toBe(
      '28P01 password authentication failed for user "ann" [Password does not match for user "ann".]',
    );
  });
});

describe('SCRAM', () => {
  test('is offered with the channel first where there is one to bind to', () => {
    expect(told(exchange().begin())).toBe('R10 SCRAM-SHA-256||');
    expect(told(exchange({ tls: tlsWith(null) }).begin())).toBe(
      'R10 SCRAM-SHA-256-PLUS|SCRAM-SHA-256||',
    );
    expect(told(exchange({ tls: tlsWith(null, null) }).begin())).toBe('R10 SCRAM-SHA-256||');
  });

  test('lets in who knows the password', () => {
    expect(scram()).toBe('R12 v=proof; passed as ann');
    expect(scram({ tls: tlsWith(null) })).toBe('R12 v=proof; passed as ann');
    expect(scram({ tls: tlsWith(null) }, 'secret', 'p=tls-server-end-point,,')).toBe(
      'R12 v=proof; passed as ann',
    );
    expect(scram({ method: 'md5' })).toBe('R12 v=proof; passed as ann');
  });

  test('tells who does not know it what PostgreSQL tells', () => {
    expect(scram({}, 'Secret')).toBe(
      '28P01 password authentication failed for user "ann" [Password does not match for user "ann".]',
    );
  });

  test('waits for the first message of a client that only chose', () => {
    const machine = exchange();
    machine.begin();
    const player = new ScramPlayer('secret');
    expect(told(machine.onInput(message(raw(cstr('SCRAM-SHA-256'), i32(-1)))))).toBe('R11 ');
    const challenge = machine.onInput(message(player.first));
    const final = player.final(challenge.frames[0]?.subarray(9) ?? new Uint8Array(0));
    expect(told(machine.onInput(message(final)))).toBe(
      `R12 v=${player.serverSignature}; passed as ann`,
    );
  });

  test.each<[string, Exclude<AuthenticationInput, { kind: 'more' }>, string]>([
    [
      'I23: a Query',
      { kind: 'other-type', type: 81 },
      '08P01 expected SASL response, got message type 81',
    ],
    [
      'a Terminate',
      { kind: 'other-type', type: 88 },
      '08P01 expected SASL response, got message type 88',
    ],
    [
      'I24: a mechanism that was not offered',
      message(raw(cstr('PLAIN'), i32(0))),
      '08P01 client selected an invalid SASL authentication mechanism',
    ],
    [
      'I24: no mechanism',
      message(raw(cstr(''), i32(0))),
      '08P01 client selected an invalid SASL authentication mechanism',
    ],
    [
      '-PLUS without a channel',
      message(raw(cstr('SCRAM-SHA-256-PLUS'), i32(-1))),
      '08P01 client selected an invalid SASL authentication mechanism',
    ],
    ['a mechanism without end', message(raw('SCRAM-SHA-256')), '08P01 invalid string in message'],
    ['no length', message(raw(cstr('SCRAM-SHA-256'))), '08P01 insufficient data left in message'],
    [
      'I26: a length beyond the message',
      message(raw(cstr('SCRAM-SHA-256'), i32(2_147_483_647), 'n,,')),
      '08P01 insufficient data left in message',
    ],
    [
      'I26: a length below zero',
      message(raw(cstr('SCRAM-SHA-256'), i32(-2), 'n,,')),
      '08P01 insufficient data left in message',
    ],
    [
      'bytes behind the data',
      message(raw(cstr('SCRAM-SHA-256'), i32(0), 'x')),
      '08P01 invalid message format',
    ],
    [
      'bytes behind no data',
      message(raw(cstr('SCRAM-SHA-256'), i32(-1), 'x')),
      '08P01 invalid message format',
    ],
    [
      'no data',
      message(raw(cstr('SCRAM-SHA-256'), i32(0))),
      '08P01 malformed SCRAM message The message is empty.',
    ],
    ['an empty message', message(Buffer.alloc(0)), '08P01 invalid string in message'],
    [
      'I25: a length that no message has',
      { kind: 'bad-length', length: 70_000 },
      '28P01 password authentication failed for user "ann" [invalid message length]',
    ],
  ])('%s ends it', (_name, input, text) => {
    const machine = exchange();
    machine.begin();
    expect(told(machine.onInput(input))).toBe(text);
  });

  test('takes 1024 bytes at a time, a password message 65535', () => {
    expect(exchange().lengthMax).toBe(1024);
    expect(exchange({ method: 'md5', credential: { kind: 'md5', hash: '' } }).lengthMax).toBe(
      65_535,
    );
  });
});

describe('md5', () => {
  /** md5('secret' || 'ann'), as pg_authid has it. */
  const HASH = '9d792a3a8853c2411afb9163d088c036';
  const SALT = Buffer.alloc(4, 0x41);

  test('is over without a word with a length that no message has', () => {
    const machine = exchange({ method: 'md5', credential: { kind: 'md5', hash: HASH } });
    machine.begin();
    expect(told(machine.onInput({ kind: 'bad-length', length: 70_000 }))).toBe(
      'closed [invalid message length]',
    );
  });

  function md5(body: Uint8Array | number): string {
    const machine = exchange({ method: 'md5', credential: { kind: 'md5', hash: HASH } });
    expect(told(machine.begin())).toBe('R5 AAAA');
    return told(
      machine.onInput(
        typeof body === 'number' ? { kind: 'other-type', type: body } : message(body),
      ),
    );
  }

  test('lets in who knows the password', () => {
    expect(md5(raw(cstr(md5Password('ann', 'secret', SALT))))).toBe('passed as ann');
  });

  test.each<[string, Uint8Array | number, string]>([
    [
      'another password',
      raw(cstr(md5Password('ann', 'Secret', SALT))),
      '28P01 password authentication failed for user "ann" [Password does not match for user "ann".]',
    ],
    [
      'the password itself',
      raw(cstr('secret')),
      '28P01 password authentication failed for user "ann" [Password does not match for user "ann".]',
    ],
    [
      'the secret itself',
      raw(cstr(`md5${HASH}`)),
      '28P01 password authentication failed for user "ann" [Password does not match for user "ann".]',
    ],
    ['nothing', raw(cstr('')), '28P01 empty password returned by client'],
    ['no string', raw('secret'), '08P01 invalid password packet size'],
    ['no bytes', Buffer.alloc(0), '08P01 invalid password packet size'],
    ['two strings', raw(cstr('a'), cstr('b')), '08P01 invalid password packet size'],
    ['a Query', 81, '08P01 expected password response, got message type 81'],
  ])('%s is refused', (_name, body, text) => {
    expect(md5(body)).toBe(text);
  });
});

describe('a credential', () => {
  const found = (text: string | null, validUntilMs: number | null = null): UserAnswer => ({
    kind: 'found',
    secret: text === null ? null : secretOf(text),
    validUntilMs,
    mayReplicate: null,
  });
  const users: UserDirectory = {
    ...noUsers(),
    scramOf: (_name, secret) => {
      if (secret.kind === 'plain') return Promise.resolve(keys);
      return secret.kind === 'scram' ? secret : null;
    },
  };
  const MD5 = `md5${'0'.repeat(32)}`;
  const chosen = async (
    answer: UserAnswer,
    method: 'scram-sha-256' | 'md5' = 'scram-sha-256',
  ): Promise<string> => {
    const credential = await credentialOf('ann', answer, { method, users, wallMs: NOW_MS });
    return credential.kind === 'mock' ? `mock: ${credential.logDetail}` : credential.kind;
  };

  test.each<[string, UserAnswer, 'scram-sha-256' | 'md5', string]>([
    [
      'nobody of that name',
      { kind: 'unknown' },
      'scram-sha-256',
      'mock: Role "ann" does not exist.',
    ],
    [
      'nobody of that name under md5',
      { kind: 'unknown' },
      'md5',
      'mock: Role "ann" does not exist.',
    ],
    [
      'nobody to ask',
      { kind: 'unavailable', reason: 'down' },
      'scram-sha-256',
      'mock: The secret could not be asked for: down',
    ],
    ['no password', found(null), 'md5', 'mock: User "ann" has no password assigned.'],
    [
      'an md5 secret under scram-sha-256',
      found(MD5),
      'scram-sha-256',
      'mock: User "ann" does not have a valid SCRAM secret.',
    ],
    ['an md5 secret under md5', found(MD5), 'md5', 'md5'],
    [
      'I34: a password that expired',
      found('secret', NOW_MS - 1),
      'scram-sha-256',
      'mock: User "ann" has an expired password.',
    ],
    [
      'I34: an md5 secret that expired',
      found(MD5, NOW_MS - 1),
      'md5',
      'mock: User "ann" has an expired password.',
    ],
    ['a password in its last moment', found('secret', NOW_MS), 'scram-sha-256', 'scram'],
    ['a password for ever', found('secret', Number.POSITIVE_INFINITY), 'scram-sha-256', 'scram'],
    [
      'a password that was never valid',
      found('secret', Number.NEGATIVE_INFINITY),
      'scram-sha-256',
      'mock: User "ann" has an expired password.',
    ],
    ['a plain password under md5', found('secret'), 'md5', 'scram'],
  ])('%s', async (_name, answer, method, text) => {
    expect(await chosen(answer, method)).toBe(text);
  });

  test('P46: of an unknown user is an md5 one where most users have such, and lets nobody in', () => {
    const context = { method: 'md5', users: { ...users, mockKind: 'md5' }, wallMs: 0 } as const;
    const credential = credentialOf('bob', { kind: 'unknown' }, context);
    if (credential instanceof Promise) throw new Error('nothing is to be waited for');
    const machine = exchange({ method: 'md5', user: 'bob', credential });
    expect(told(machine.begin())).toBe('R5 AAAA');
    const outer = createHash('md5').update('0'.repeat(32)).update('AAAA').digest('hex');
    for (const answer of ['md5', `md5${outer}`]) {
      expect(told(machine.onInput(message(raw(cstr(answer)))))).toBe(
        '28P01 password authentication failed for user "bob" [Role "bob" does not exist.]',
      );
    }
    const other = { ...context, method: 'scram-sha-256' } as const;
    expect(credentialOf('bob', { kind: 'unknown' }, other)).toMatchObject({ kind: 'mock' });
  });

  test('is a SCRAM secret as it was written', async () => {
    const text = formatScramSecret(keys);
    const credential = await credentialOf('ann', found(text), { method: 'md5', users, wallMs: 0 });
    expect(credential).toMatchObject({ kind: 'scram', keys: { iterations: 2 } });
  });

  test('that cannot be derived fails like a wrong password', async () => {
    const broken = { ...users, scramOf: () => Promise.reject(new Error('out of memory')) };
    const context = { method: 'scram-sha-256', users: broken, wallMs: 0 } as const;
    expect(await credentialOf('ann', found('secret'), context)).toMatchObject({
      kind: 'mock',
      logDetail: 'No SCRAM secret could be derived: out of memory',
    });
  });

  test('of an unknown user has one salt for a name, and fails in the same words as a wrong password', () => {
    const salts = ['ann', 'ann', 'bob'].map((name) => {
      const credential = credentialOf(
        name,
        { kind: 'unknown' },
        { method: 'scram-sha-256', users, wallMs: 0 },
      );
      return 'keys' in credential ? Buffer.from(credential.keys.salt).toString('hex') : '';
    });
    expect(salts[0]).toMatch(/^[0-9a-f]{32}$/);
    expect(salts[1]).toBe(salts[0]);
    expect(salts[2]).not.toBe(salts[0]);
    const mock = credentialOf(
      'ann',
      { kind: 'unknown' },
      { method: 'scram-sha-256', users, wallMs: 0 },
    );
    if (mock instanceof Promise) throw new Error('nothing is to be waited for');
    const outside = (text: string): string => text.replace(/ \[.*\]$/, '');
    expect(outside(scram({ credential: mock }))).toBe(outside(scram({}, 'wrong')));
  });
});
