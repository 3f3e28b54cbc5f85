// What clients say to prove who they are. Words in percent signs stand for what only the moment knows: a nonce, a proof. Who
// is let in without having said the right proof is a failure.
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { noUsers } from '../../../src/auth/no-users.ts';
import type { ScramSecret } from '../../../src/auth/scram-secret.ts';
import type { UserAnswer, UserDirectory } from '../../../src/auth/user-directory.ts';
import { readPasswordSecret } from '../../../src/pg/password-secret.ts';
import { startup } from '../../support/raw-session.ts';
import { amount, happens, say, sessionOf } from '../engine/session.ts';
import type { FuzzSession, Step } from '../engine/session.ts';
import { requireThat } from '../engine/target.ts';
import type { FuzzTarget } from '../engine/target.ts';
import type { AnswerCheck } from '../rig/answer-check.ts';
import { BESIDE_ADDRESS, SenderRun } from '../rig/sender-rig.ts';
import { cstr, i32, message, query, raw } from './messages.ts';
import { STARTUP_WORDS } from './downstream.ts';

const SALT = Buffer.from('salt of a fuzzer');
const ITERATIONS = 100;
const CLIENT_NONCE = 'fuzzer-nonce';
const MD5_SECRET = createHash('md5').update('passwordold').digest('hex');

const salted = pbkdf2Sync('password', SALT, ITERATIONS, 32, 'sha256');
const clientKey = hmac(salted, 'Client Key');
const storedKey = createHash('sha256').update(clientKey).digest();

const KEYS: ScramSecret = {
  iterations: ITERATIONS,
  salt: SALT,
  storedKey,
  serverKey: hmac(salted, 'Server Key'),
};
const HBA = `host replication,all all ${BESIDE_ADDRESS}/32 trust\nhost replication,all old all md5\nhost replication,all shut all reject\nhost replication,all all all scram-sha-256`;

function hmac(key: Uint8Array, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

function answerFor(name: string): UserAnswer {
  const found = { kind: 'found', validUntilMs: null, mayReplicate: null } as const;
  const text = `SCRAM-SHA-256$${ITERATIONS}:${SALT.toString('base64')}$${storedKey.toString('base64')}:${Buffer.from(KEYS.serverKey).toString('base64')}`;
  const scram = readPasswordSecret(text);
  const md5 = readPasswordSecret(`md5${MD5_SECRET}`);
  if ('problem' in scram || 'problem' in md5) throw new Error('a secret of the fuzzer is none');
  switch (name) {
    case 'standby':
    case 'slow':
      return { ...found, secret: scram };
    case 'old':
      return { ...found, secret: md5 };
    case 'empty':
      return { ...found, secret: null };
    case 'expired':
      return { ...found, secret: scram, validUntilMs: 1 };
    case 'denied':
      return { ...found, secret: scram, mayReplicate: false };
    case 'away':
      return { kind: 'unavailable', reason: 'nobody could be asked' };
    default:
      return { kind: 'unknown' };
  }
}

const nobody = noUsers();

const DIRECTORY: UserDirectory = {
  lookup: (name) => (name === 'slow' ? Promise.resolve(answerFor(name)) : answerFor(name)),
  onWrongPassword: () => {},
  scramOf: (_name, secret) => (secret.kind === 'scram' ? KEYS : null),
  mockSalt: (name) => nobody.mockSalt(name),
  mockIterations: ITERATIONS,
};

/** What the server has asked for last. */
interface Challenge {
  readonly nonce: string;
  readonly final: string;
  readonly md5: string;
}

function challengeOf(check: AnswerCheck): Challenge {
  const data = check.challenge.toString('latin1');
  const nonce = /^r=([^,]*),s=/.exec(data)?.[1] ?? 'none';
  const bare = `c=biws,r=${nonce}`;
  const signed = `n=,r=${CLIENT_NONCE},${data},${bare}`;
  const signature = hmac(storedKey, signed);
  const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)));
  const md5 = createHash('md5')
    .update(MD5_SECRET)
    .update(check.challenge.subarray(0, 4))
    .digest('hex');
  return { nonce, final: `${bare},p=${proof.toString('base64')}`, md5: `md5${md5}` };
}

/** Puts the moment's words in, with a length that fits. */
function prepare({ bytes }: Step, check: AnswerCheck): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1');
  if (!text.includes('%')) return bytes;
  const { nonce, final, md5 } = challengeOf(check);
  const said = text
    .replaceAll('%FINAL%', final)
    .replaceAll('%NONCE%', nonce)
    .replaceAll('%MD5%', md5);
  if (said === text) return bytes;
  const whole = Buffer.from(said, 'latin1');
  if (whole[0] === 0x70 && Buffer.from(bytes).readUInt32BE(1) === bytes.length - 1)
    whole.writeUInt32BE(whole.length - 1, 1);
  return whole;
}

/** Who got AuthenticationOk has said what proves it. */
function requireProof(check: AnswerCheck, said: Buffer): void {
  if (!check.isLetIn) return;
  const { final, md5 } = challengeOf(check);
  requireThat(
    said.includes(final) || said.includes(md5),
    'somebody was let in who did not say the right proof',
  );
}

const FIRST = say(
  message('p', cstr('SCRAM-SHA-256'), i32(3 + 5 + CLIENT_NONCE.length), `n,,n=,r=${CLIENT_NONCE}`),
);
const FINAL = say(message('p', '%FINAL%'));
const TURN = happens('turn');

function login(
  user: string,
  more: Readonly<Record<string, string>> = { replication: 'true' },
): Step {
  return say(startup({ user, ...more }));
}

function first(mechanism: string, data: string): Step {
  return say(message('p', cstr(mechanism), i32(data.length), data));
}

const SESSIONS: readonly FuzzSession[] = [
  ...['standby', 'slow', 'denied', 'expired', 'empty', 'away', 'stranger', 'shut'].map((user) => [
    login(user),
    TURN,
    FIRST,
    TURN,
    FINAL,
    TURN,
    query('IDENTIFY_SYSTEM'),
    say(message('X')),
  ]),
  [login('standby', { database: 'walcast' }), TURN, FIRST, TURN, FINAL, TURN, query('SELECT 1')],
  [login('old'), TURN, say(message('p', cstr('%MD5%'))), TURN, query('IDENTIFY_SYSTEM')],
  [login('old'), TURN, say(message('p', cstr('md5'))), amount('time', 5_000)],
  [login('standby'), TURN, first('SCRAM-SHA-256-PLUS', 'p=tls-server-end-point,,n=,r=x'), TURN],
  [login('standby'), TURN, first('SCRAM-SHA-256', `y,,n=,r=${CLIENT_NONCE}`), TURN, FINAL],
  [login('standby'), TURN, first('SCRAM-SHA-256', `n,a=me,n=,r=${CLIENT_NONCE}`)],
  [login('standby'), TURN, first('SCRAM-SHA-256', `n,,m=x,n=,r=${CLIENT_NONCE}`)],
  [login('standby'), TURN, FIRST, TURN, say(message('p', 'c=biws,r=%NONCE%,x=y,p=AAAA'))],
  [
    login('standby'),
    TURN,
    FIRST,
    TURN,
    say(message('p', `c=biws,r=%NONCE%,p=${'A'.repeat(43)}=`)),
    amount('time', 30_000),
  ],
  [
    login('standby'),
    TURN,
    say(message('p', cstr('SCRAM-SHA-256'), i32(-1))),
    TURN,
    FIRST,
    TURN,
    FINAL,
  ],
  [login('standby'), FIRST, FINAL, query('IDENTIFY_SYSTEM')],
  [login('standby'), TURN, query('IDENTIFY_SYSTEM')],
  [login('standby'), TURN, say(raw('p', i32(0x7fffffff)))],
  [login('standby'), amount('time', 61_000)],
].map((steps) => sessionOf(steps));

/** Authentication of clients. */
export const SASL: FuzzTarget = {
  name: 'sasl',
  about: 'SCRAM and md5 of clients: nobody is let in without the right proof',
  weight: 4,
  seeds: (recorded) => [...SESSIONS, ...recorded],
  words: [
    ...STARTUP_WORDS,
    ...(
      'standby slow old empty expired denied away stranger shut SCRAM-SHA-256 SCRAM-SHA-256-PLUS n,, y,, p=tls-server-end-point,, a= n= r= c=biws c=eSws s= i= p= m= , = ' +
      `%NONCE% %FINAL% %MD5% ${CLIENT_NONCE}`
    ).split(' '),
    i32(-1),
    i32(1025),
    message('p', ''),
  ],
  events: ['turn', 'turn', 'turn', 'time', 'end', 'full', 'drain'],
  open: ({ canary }) =>
    new SenderRun({
      canary,
      hba: HBA,
      options: { users: () => DIRECTORY },
      prepare,
      afterwards: requireProof,
    }),
};
