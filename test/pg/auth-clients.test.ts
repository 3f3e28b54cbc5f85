// Is walcast as easy and as hard to get into as the server behind it? The same client with the same words at both: psql with
// every sslmode and kind of user, and sockets that break the rules of SCRAM one by one. Then stock receivers log in and stay.
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import { runToolChecked, startTool } from '../harness/pg-tools.ts';
import { cstr, i32, message, raw } from '../support/naive-writer.ts';
import { query, startup, summary } from '../support/raw-client.ts';
import type { RawMessage, RawSession } from '../support/raw-session.ts';
import { clientMajor, FULL_FAULTS, itWhen, spannedMajors } from '../support/requirements.ts';
import { ScramPlayer } from '../support/scram-player.ts';
import type { ScramMove } from '../support/scram-player.ts';
import { ClientAuthRig, SIDES } from './client-auth-rig.ts';
import type { Side } from './client-auth-rig.ts';
import { PASSWORD, roleName, RULES, witnessProblem } from './upstream-auth-rig.ts';

const VERIFY = 'sslmode=verify-full sslrootcert=@root.crt';
/** `prefer` goes the way of one of the others, and then of the other. */
const MODES = ['sslmode=disable', ...(FULL_FAULTS ? ['sslmode=prefer'] : []), VERIFY];
const DIRECT = `${VERIFY} sslnegotiation=direct`;
/** How many clients are at it at one time. */
const LANES = 4;

/** Does `work` with all of the list, a few at a time. */
async function inLanes<T>(list: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const waiting = [...list];
  const lane = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await work(next);
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

/** Users for whom a rule looks at the certificate. */
const CERTIFIED = [
  'roleless',
  'mapped',
  'plica',
  'unmapped',
  'mapless',
  'subject',
  'fulltrust',
  'catrust',
];

/** What psql is to try at both. */
function attempts(major: number): string[] {
  const list: string[] = [];
  for (const mode of MODES) {
    for (const rule of RULES) {
      for (const method of ['trust', 'md5', 'scram-sha-256']) {
        list.push(`user=${roleName(rule, method)} password=${PASSWORD} ${mode}`);
      }
      list.push(`user=${roleName(rule, 'scram-sha-256')} password=wrong ${mode}`);
    }
  }
  const scram = `user=host_scramsha256 password=${PASSWORD}`;
  return [
    ...list,
    ...['disable', 'prefer', 'require'].map((word) => `${scram} channel_binding=${word} ${VERIFY}`),
    `${scram} channel_binding=require sslmode=disable`,
    `${scram} channel_binding=require require_auth=scram-sha-256 ${VERIFY}`,
    `user=host_md5 password=${PASSWORD} require_auth=scram-sha-256 ${VERIFY}`,
    `user=host_md5 password=wrong ${VERIFY}`,
    ...(major >= 17 ? [`${scram} channel_binding=require ${DIRECT}`] : []),
    ...['migrated', 'hashed'].flatMap((user) => [
      `user=${user} password=${PASSWORD} ${VERIFY}`,
      `user=${user} password=wrong ${VERIFY}`,
    ]),
    ...['expired', 'unset', 'oldhash', 'nobody', 'plain', 'stranger', 'elsewhere'].map(
      (user) => `user=${user} password=${PASSWORD} ${VERIFY}`,
    ),
    `user=plain password=wrong ${VERIFY}`,
    `user=replicator ${VERIFY} sslcert=@replicator.crt sslkey=@replicator.key`,
    `user=somebody ${VERIFY} sslcert=@replicator.crt sslkey=@replicator.key`,
    `user=replicator ${VERIFY}`,
    ...CERTIFIED.flatMap((user) =>
      ['me', 'replicator'].map(
        (name) => `user=${user} ${VERIFY} sslcert=@${name}.crt sslkey=@${name}.key`,
      ),
    ),
    `user=catrust ${VERIFY}`,
    `user=two_proofs password=${PASSWORD} ${VERIFY}`,
    `user=two_proofs password=${PASSWORD} ${VERIFY} sslcert=@me.crt sslkey=@me.key`,
    `user=two_proofs password=wrong ${VERIFY} sslcert=@me.crt sslkey=@me.key`,
    `user=full password=${PASSWORD} ${VERIFY} sslcert=@me.crt sslkey=@me.key`,
    `user=full password=${PASSWORD} ${VERIFY}`,
  ];
}

const PLUS = 'p=tls-server-end-point,,';

/** How one exchange goes wrong, or does not. */
interface Breach {
  readonly user?: string;
  readonly password?: string;
  readonly isTls?: boolean;
  readonly mechanism?: string;
  readonly move?: ScramMove;
  /** Instead of the first message. */
  readonly first?: Uint8Array;
  /** Instead of the last. */
  readonly final?: Uint8Array;
}

const change = (pattern: RegExp, to: string): Breach => ({
  move: { final: (text) => text.replace(pattern, to) },
});

const BREACHES: Readonly<Record<string, Breach>> = {
  none: {},
  'none, inside TLS': { isTls: true },
  'none, bound to the channel': {
    isTls: true,
    mechanism: 'SCRAM-SHA-256-PLUS',
    move: { header: PLUS },
  },
  'y without TLS': { move: { header: 'y,,' } },
  'a wrong password': { password: 'wrong' },
  'an unknown user': { user: 'nobody' },
  'an expired password': { user: 'expired' },
  'no password at all': { user: 'unset' },
  'an md5 secret': { user: 'oldhash' },
  'a role that may not replicate': { user: 'plain' },
  extensions: { move: { bare: 'n=,r=abc,x=1,y=', extensions: ',z=2' } },
  'a user name of its own': { move: { bare: 'n=somebody,r=abc' } },
  'I23: a Query first': { first: query('IDENTIFY_SYSTEM') },
  'I23: a Query last': { final: query('IDENTIFY_SYSTEM') },
  'a Terminate': { first: message('X') },
  'I24: an unknown mechanism': { mechanism: 'SCRAM-SHA-1' },
  'I24: -PLUS without TLS': { mechanism: 'SCRAM-SHA-256-PLUS', move: { header: PLUS } },
  'I25: 70 000 bytes': { first: raw('p', i32(70_000), new Uint8Array(4_000)) },
  'I25: 1025 bytes': {
    first: raw('p', i32(1025), cstr('SCRAM-SHA-256'), i32(-1), new Uint8Array(1003)),
  },
  'I25: 1024 bytes': {
    first: raw('p', i32(1024), cstr('SCRAM-SHA-256'), i32(1002), new Uint8Array(1002)),
  },
  'I26: 2 GB': { first: raw('p', i32(0x7fffffff)) },
  'I26: a length below four': { first: raw('p', i32(3)) },
  'I26: data beyond the message': { first: message('p', cstr('SCRAM-SHA-256'), i32(0x7fffffff)) },
  'I26: data below zero': { first: message('p', cstr('SCRAM-SHA-256'), i32(-7), 'n,,') },
  'bytes behind the data': { first: message('p', cstr('SCRAM-SHA-256'), i32(0), 'n,,') },
  'no data': { first: message('p', cstr('SCRAM-SHA-256'), i32(0)) },
  'no mechanism': { first: message('p') },
  'a mechanism without end': { first: message('p', 'SCRAM-SHA-256') },
  'I27: p= without -PLUS': { move: { header: 'p=tls-unique,,' } },
  'another kind of binding': {
    isTls: true,
    mechanism: 'SCRAM-SHA-256-PLUS',
    move: { header: 'p=tls-unique,,' },
  },
  'n with -PLUS': { isTls: true, mechanism: 'SCRAM-SHA-256-PLUS' },
  'I28: y though -PLUS was offered': { isTls: true, move: { header: 'y,,' } },
  'I29: another certificate': {
    isTls: true,
    mechanism: 'SCRAM-SHA-256-PLUS',
    move: { header: PLUS, binding: Buffer.alloc(32) },
  },
  'no such flag': { move: { header: 'q,,' } },
  'a flag that is no character': { move: { header: '\xfc,,' } },
  'no comma': { move: { header: 'nn,' } },
  'nothing behind the flag': { move: { header: 'n', bare: '' } },
  'I30: an authorization identity': { move: { header: 'n,a=root,' } },
  'something else there': { move: { header: 'n,b=root,' } },
  'I30: a mandatory extension': { move: { bare: 'm=1,n=,r=abc' } },
  'no user in the message': { move: { bare: 'r=abc' } },
  'no nonce': { move: { bare: 'n=' } },
  'a user without =': { move: { bare: 'n,r=abc' } },
  'I31: a nonce that is not printable': { move: { nonce: 'a b' } },
  'garbage behind the nonce': { move: { bare: 'n=,r=abc,1' } },
  'a zero byte': { move: { bare: 'n=,r=a\0bc' } },
  'another flag at the end': change(/^c=biws/, 'c=eSws'),
  'no channel': change(/^c=biws,/, ''),
  'no nonce at the end': change(/r=[^,]*,/, ''),
  'I30: another nonce': change(/r=[^,]*/, 'r=abc'),
  'I30: no proof': change(/,p=.*/, ''),
  'I30: an empty proof': change(/p=.*/, 'p='),
  'I30: a proof that is no base64': change(/p=..../, 'p=!!!!'),
  'I30: a short proof': change(/p=..../, 'p='),
  'I30: trailing garbage': change(/$/, ',x=1'),
  'an extension that is none': { move: { extensions: ',1=2' } },
  'nothing at the end': { final: message('p') },
};

/** A message without what is another each time. */
function shown(item: RawMessage): string {
  if (item.type !== 'R') return summary(item);
  const text = item.body.toString('latin1', 4).replaceAll('\0', '|');
  const lasting = text
    .replace(/(?<=r=(?:clientnonce|abc))[^,]*/, '…')
    .replace(/s=[^,]{24},/, 's=…,')
    .replace(/v=.*/, 'v=…');
  return `R${item.body.readInt32BE()} ${lasting}`;
}

/** Everything one side says, up to a greeting or its end. */
async function exchange(session: RawSession, breach: Breach, endPoint: Buffer): Promise<string[]> {
  const { user = 'host_scramsha256', password = PASSWORD, mechanism = 'SCRAM-SHA-256' } = breach;
  const header = breach.move?.header ?? 'n,,';
  const binding = header === PLUS ? { binding: endPoint } : {};
  const player = new ScramPlayer(password, { ...binding, ...breach.move });
  const seen: RawMessage[] = [];
  const hear = async (): Promise<RawMessage | null> => {
    const item = await session.next();
    if (item !== null) seen.push(item);
    return item;
  };
  session.send(startup({ user, database: 'replication', replication: 'true' }));
  await hear();
  const { length } = player.first;
  session.send(breach.first ?? message('p', cstr(mechanism), i32(length), player.first));
  const challenge = await hear();
  if (challenge?.type === 'R') {
    session.send(breach.final ?? message('p', player.final(challenge.body.subarray(4))));
  }
  seen.push(...(await session.until('ZE')));
  session.close();
  return seen.filter(({ type }) => 'RE'.includes(type)).map(shown);
}

describe.each(spannedMajors())('PostgreSQL %i and walcast', (major) => {
  let rig: ClientAuthRig;

  beforeAll(async () => {
    rig = await ClientAuthRig.open(major);
  });

  afterAll(() => rig[Symbol.asyncDispose]());

  it('let the same clients in, and give the same reasons to the others', async (context) => {
    const problem = witnessProblem();
    if (problem !== null) context.skip(problem);
    const list = attempts(major);
    const differ: object[] = [];
    let letIn = 0;
    await inLanes(list, async (conninfo) => {
      const [postgres, walcast] = await Promise.all(SIDES.map((side) => rig.psql(side, conninfo)));
      if (postgres?.isIn === true) letIn += 1;
      if (JSON.stringify(postgres) === JSON.stringify(walcast)) return;
      differ.push({ conninfo, postgres, walcast });
    });
    expect(differ).toEqual([]);
    expect(letIn).toBeGreaterThan(20);
    expect(list.length - letIn).toBeGreaterThan(20);
  });

  it('say the same to every breach of SCRAM', async () => {
    const endPoint = createHash('sha256').update(rig.upstream.served.der).digest();
    const said = async (side: Side, breach: Breach): Promise<string[]> => {
      const session = await rig.connect(side, breach.isTls === true);
      return await exchange(session, breach, endPoint);
    };
    const both = { postgres: new Map<string, string[]>(), walcast: new Map<string, string[]>() };
    await inLanes(Object.entries(BREACHES), async ([name, breach]) => {
      for (const side of SIDES) both[side].set(name, await said(side, breach));
    });
    const answers = (side: Side): object => Object.fromEntries(both[side]);
    expect(answers('walcast')).toEqual(answers('postgres'));
    expect(both.walcast.get('none')).toEqual([
      'R10 SCRAM-SHA-256||',
      'R11 r=clientnonce…,s=…,i=4096',
      'R12 v=…',
      'R0 ',
    ]);
  });

  it('a standby logs in with its password, bound to the certificate, and streams', async () => {
    const standby = await createStandby(rig.workspace, {
      major,
      name: 'standby',
      backupFrom: rig.primary.target(),
      upstream: rig.relay.target(),
    });
    const required = major >= 16 ? ' require_auth=scram-sha-256' : '';
    const conninfo = `user=hostssl_scramsha256 password=${PASSWORD} application_name=standby channel_binding=require${required} ${major >= 17 ? DIRECT : VERIFY}`;
    await standby.configure({ primary_conninfo: rig.conninfo('walcast', conninfo) });
    await standby.start();
    await rig.primary.query('CREATE TABLE logged_in (id int)');
    await standby.waitForReplay(await rig.primary.walPosition());
    const { standbys } = await rig.relay.status();
    expect(standbys.find(({ application_name: name }) => name === 'standby')).toMatchObject({
      user: 'hostssl_scramsha256',
    });
    await standby.stop();
  });

  // Client programs refuse servers that are newer than they are.
  const isTaken = clientMajor('pg_receivewal') >= major;
  itWhen(isTaken)('pg_receivewal and pg_basebackup log in the same way', async () => {
    const login = `user=hostssl_scramsha256 password=${PASSWORD} channel_binding=require ${VERIFY}`;
    const dbname = rig.conninfo('walcast', login);
    const directory = await rig.workspace.makeDirectory('received');
    const receiver = startTool(rig.workspace, 'pg_receivewal', [
      '-d',
      dbname,
      '-D',
      directory,
      '-n',
    ]);
    await rig.relay.waitForStatus('pg_receivewal at walcast', ({ standbys }) =>
      standbys.some(({ application_name: name }) => name === 'pg_receivewal'),
    );
    await receiver.stop('SIGINT');
    const backup = await rig.workspace.makeDirectory('backup');
    await runToolChecked(rig.workspace, 'pg_basebackup', [
      '-d',
      dbname,
      '-D',
      backup,
      '-X',
      'stream',
      '-c',
      'fast',
    ]);
    const wrong = dbname.replace(`password=${PASSWORD}`, 'password=wrong');
    await expect(
      runToolChecked(rig.workspace, 'pg_basebackup', [
        '-d',
        wrong,
        '-D',
        `${backup}2`,
        '-X',
        'none',
      ]),
    ).rejects.toThrow('FATAL:  password authentication failed for user "hostssl_scramsha256"');
  });
});
