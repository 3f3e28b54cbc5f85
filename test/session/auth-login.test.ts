// A login from its startup packet to its first command, over real sockets: in which order things are checked, what is kept
// of what a client sends ahead, and that nothing is let out or read before it is over.
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SASL_LENGTH_MAX } from '../../src/wire/authentication-decoder.ts';
import { md5Password } from '../../src/wire/scram-client.ts';
import { cstr, i32, message, raw } from '../support/naive-writer.ts';
import { query, STANDBY, startup, summary } from '../support/raw-client.ts';
import type { RawClient } from '../support/raw-client.ts';
import { ScramPlayer } from '../support/scram-player.ts';
import { UserTable } from '../support/user-table.ts';
import { CUTS, Fixture, identityOf, rules } from '../support/wal-senders-fixture.ts';

const REFUSED = 'E|FATAL|28P01|password authentication failed for user "replicator"';
/** md5('secret' || 'replicator') */
const MD5_SECRET = `md5${createHash('md5').update('secretreplicator').digest('hex')}`;

let fixture: Fixture;
let users: UserTable;

async function start(cut: (typeof CUTS)[number] = 'whole', major = 15): Promise<void> {
  fixture = await Fixture.start({ cut, beside: true, major });
  users = new UserTable().add('replicator', 'secret');
  fixture.users = users;
  fixture.hba = rules('host all,replication all all scram-sha-256');
}

/** A login up to the challenge; gives what the client answers to it. */
async function challenged(
  password: string,
  parameters: Readonly<Record<string, string>> = {},
): Promise<{ client: RawClient; challenge: string; final: Uint8Array; player: ScramPlayer }> {
  const client = await fixture.connect();
  client.send(startup({ ...STANDBY, ...parameters }));
  const offer = await client.next();
  if (offer?.type !== 'R') throw new Error(offer === null ? 'closed' : summary(offer));
  expect(offer.body.toString('latin1', 4)).toBe('SCRAM-SHA-256\0\0');
  const player = new ScramPlayer(password);
  client.send(message('p', cstr('SCRAM-SHA-256'), i32(player.first.length), player.first));
  const challenge = (await client.next())?.body.subarray(4) ?? Buffer.alloc(0);
  const final = message('p', player.final(challenge));
  return { client, challenge: challenge.toString('latin1'), final, player };
}

async function login(
  password: string,
  parameters: Readonly<Record<string, string>> = {},
): Promise<string[]> {
  const { client, final } = await challenged(password, parameters);
  client.send(final);
  return client.answer();
}

describe.each(CUTS)('a login with a password, bytes fed %s', (cut) => {
  beforeEach(() => start(cut));
  afterEach(() => fixture.finish());

  it('is answered with the proof of the server, AuthenticationOk and the greeting', async () => {
    const { client, final, player } = await challenged('secret');
    client.send(final);
    const [proof, ok, ...greeting] = await client.until('Z');
    expect(proof?.body.toString('latin1', 4)).toBe(`v=${player.serverSignature}`);
    expect(ok?.body).toEqual(Buffer.alloc(4));
    expect(greeting.map(({ type }) => type).join('')).toMatch(/^S+KZ$/);
    expect(fixture.senders.totals().authentications.get('scram-sha-256|success')).toBe(1);
  });

  it('keeps the commands that came behind the last message of the login, and answers them', async () => {
    const { client, final } = await challenged('secret');
    client.send(final, query('IDENTIFY_SYSTEM'), query('SHOW wal_segment_size'));
    const types = (await client.until('Z')).map(({ type }) => type).join('');
    expect(types).toMatch(/^RRS+KZ$/);
    expect((await client.answer()).at(-2)).toBe('C IDENTIFY_SYSTEM');
    expect(await client.answer()).toEqual(['T', 'D 16MB', 'C SHOW', 'Z I']);
  });

  it('answers also whoever has said its last word by then', async () => {
    const { client, final } = await challenged('secret');
    client.socket.end(raw(final, query('SHOW wal_segment_size')));
    const answers = (await client.until('')).filter(({ type }) => 'DC'.includes(type));
    expect(answers.map(summary)).toEqual(['D 16MB', 'C SHOW']);
  });

  it('is refused with a wrong password as PostgreSQL refuses it', async () => {
    expect(await login('Secret')).toEqual([REFUSED]);
    expect(users.wrong).toEqual(['replicator']);
    const { rejected, authentications } = fixture.senders.totals();
    expect(rejected.auth).toBe(1);
    expect(authentications.get('scram-sha-256|failure')).toBe(1);
  });

  it.each([
    [
      'I23: a Query',
      query('IDENTIFY_SYSTEM'),
      'E|FATAL|08P01|expected SASL response, got message type 81',
    ],
    ['I23: one byte of it', raw('Q'), 'E|FATAL|08P01|expected SASL response, got message type 81'],
    ['a Terminate', message('X'), 'E|FATAL|08P01|expected SASL response, got message type 88'],
    [
      'I24: an unknown mechanism',
      message('p', cstr('PLAIN'), i32(0)),
      'E|FATAL|08P01|client selected an invalid SASL authentication mechanism',
    ],
    ['I25: a message that is too long', raw('p', i32(70_000), new Uint8Array(2_000)), REFUSED],
    ['I25: a message that is one byte too long', raw('p', i32(SASL_LENGTH_MAX + 1)), REFUSED],
    ['I26: 2 GB', raw('p', i32(0x7fffffff)), REFUSED],
    ['I26: a length below four', raw('p', i32(3)), REFUSED],
    ['I26: a length below zero', raw('p', i32(-1)), REFUSED],
  ])('is over with %s', async (_name, bytes, text) => {
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    expect((await client.next())?.type).toBe('R');
    client.send(bytes);
    expect(await client.rest()).toEqual([text]);
  });

  it('is over with a command in the place of the proof, which nobody reads', async () => {
    const { client } = await challenged('secret');
    client.send(query('IDENTIFY_SYSTEM'));
    expect(await client.rest()).toEqual([
      'E|FATAL|08P01|expected SASL response, got message type 81',
    ]);
    expect(fixture.senders.totals().commands.has('IDENTIFY_SYSTEM')).toBe(false);
  });

  it('takes what a client sends ahead, and waits for it to be its turn', async () => {
    const player = new ScramPlayer('secret');
    const client = await fixture.connect();
    client.send(
      startup(STANDBY),
      message('p', cstr('SCRAM-SHA-256'), i32(player.first.length), player.first),
    );
    expect((await client.next())?.body.readInt32BE()).toBe(10);
    const challenge = (await client.next())?.body.subarray(4) ?? Buffer.alloc(0);
    client.send(message('p', player.final(challenge)));
    expect((await client.answer()).at(-1)).toBe('Z I');
  });
});

describe('who cannot be told apart', () => {
  beforeEach(() => start());
  afterEach(() => fixture.finish());

  it('I12: a wrong password, no such user, no password, an expired one and one of another kind', async () => {
    users.add('empty', null).add('old', 'secret', { validUntilMs: 1 }).add('hashed', MD5_SECRET);
    for (const user of ['replicator', 'nobody', 'empty', 'old', 'hashed']) {
      const password = user === 'replicator' ? 'wrong' : 'secret';
      const { client, challenge, final } = await challenged(password, { user });
      expect(challenge).toMatch(/^r=clientnonce[A-Za-z0-9+/]{24},s=[A-Za-z0-9+/]{22}==,i=16$/);
      client.send(final);
      expect(await client.rest()).toEqual([REFUSED.replace('replicator', user)]);
    }
    const log = fixture.log.lines.join('\n');
    expect(log).toContain('Role \\"nobody\\" does not exist.');
    expect(log).toContain('User \\"old\\" has an expired password.');
    expect(log).toContain('User \\"hashed\\" does not have a valid SCRAM secret.');
    expect(log).toContain('Connection matched pg_hba.conf line 1: ');
  });

  it('an unknown user is shown one salt at any time, another user another', async () => {
    const saltOf = async (user: string): Promise<string> => {
      const { challenge } = await challenged('x', { user });
      return /,s=([^,]*)/.exec(challenge)?.[1] ?? '';
    };
    const salts = [await saltOf('nobody'), await saltOf('nobody'), await saltOf('nobody2')];
    expect(salts[1]).toBe(salts[0]);
    expect(salts[2]).not.toBe(salts[0]);
  });

  it('I11: a user of odd characters and one of more than 63 bytes', async () => {
    for (const user of ['a\nb', 'ä'.repeat(100)]) {
      const shown = user.length > 63 ? 'ä'.repeat(31) : user;
      expect(await login('secret', { user })).toEqual([REFUSED.replace('replicator', shown)]);
    }
    expect(fixture.log.lines.every((line) => !line.includes('a\nb'))).toBe(true);
  });
});

describe('md5', () => {
  beforeEach(async () => {
    await start();
    fixture.hba = rules('host replication all all md5');
  });
  afterEach(() => fixture.finish());

  async function salted(): Promise<{ client: RawClient; salt: Uint8Array }> {
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    const request = await client.next();
    expect(request?.body.readInt32BE()).toBe(5);
    return { client, salt: request?.body.subarray(4) ?? new Uint8Array(0) };
  }

  it('lets in with the answer to its own salt, which is another each time', async () => {
    users.add('replicator', MD5_SECRET);
    const first = await salted();
    const second = await salted();
    expect(first.salt).not.toEqual(second.salt);
    const answer = message('p', cstr(md5Password('replicator', 'secret', first.salt)));
    first.client.send(answer);
    expect((await first.client.answer()).at(-1)).toBe('Z I');
    second.client.send(answer);
    expect(await second.client.rest()).toEqual([REFUSED]);
  });

  it('uses SCRAM for whom a SCRAM secret or a password is kept, and for strangers', async () => {
    expect((await login('secret')).at(-1)).toBe('Z I');
    expect(await login('secret', { user: 'nobody' })).toEqual([
      REFUSED.replace('replicator', 'nobody'),
    ]);
  });

  it('is over with a message that is none', async () => {
    users.add('replicator', MD5_SECRET);
    const { client } = await salted();
    client.send(query('IDENTIFY_SYSTEM'));
    expect(await client.rest()).toEqual([
      'E|FATAL|08P01|expected password response, got message type 81',
    ]);
    const long = await salted();
    long.client.send(raw('p', i32(65_536)));
    expect(await long.client.rest()).toEqual([]);
    expect(fixture.log.lines.join('\n')).toContain('invalid message length');
    expect(users.wrong).toEqual([]);
  });
});

describe('the order of the checks', () => {
  beforeEach(() => start());
  afterEach(() => fixture.finish());

  it('57P03 and max_wal_senders come before the rules, the rules before the password', async () => {
    fixture.hba = rules('host replication all all reject');
    fixture.settings = { ...fixture.settings, maxWalSenders: 1 };
    const answer = async (): Promise<string[]> => {
      const client = await fixture.connect();
      client.send(startup(STANDBY));
      return client.rest();
    };
    expect(await answer()).toEqual([
      'E|FATAL|53300|number of requested standby connections exceeds max_wal_senders (currently 1)',
    ]);
    fixture.identity = null;
    expect(await answer()).toEqual(['E|FATAL|57P03|the database system is starting up']);
    fixture.identity = identityOf(15);
    fixture.settings = { ...fixture.settings, maxWalSenders: 10 };
    expect(await answer()).toEqual([
      'E|FATAL|28000|pg_hba.conf rejects replication connection for host "127.0.0.1", user "replicator", no encryption',
    ]);
    expect(users.wrong).toEqual([]);
  });

  it('a wrong password comes before the role and before a setting that is none, the role before the setting', async () => {
    users.add('replicator', 'secret', { mayReplicate: false });
    expect(await login('wrong', { foo: 'bar' })).toEqual([REFUSED]);
    expect((await login('secret', { foo: 'bar' })).slice(2)).toEqual([
      'E|FATAL|42501|must be superuser or replication role to start walsender',
    ]);
    users.add('replicator', 'secret', { mayReplicate: true });
    expect((await login('secret', { foo: 'bar' })).slice(2)).toEqual([
      'E|FATAL|42704|unrecognized configuration parameter "foo"',
    ]);
  });

  it('who is refused without a wrong password is named in the log, too', async () => {
    users.add('replicator', 'secret', { mayReplicate: false });
    await login('secret');
    fixture.hba = rules('host replication other all trust');
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    await client.rest();
    const lines = fixture.log.lines.filter((line) => line.includes('connection refused'));
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toContain('"user":"replicator"');
  });

  it('a role that may not replicate is told so also where no password is asked for', async () => {
    fixture.hba = rules('host replication all all trust');
    users.add('replicator', null, { mayReplicate: false });
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    expect(await client.rest()).toEqual([
      'R',
      'E|FATAL|42501|must be superuser or replication role to start walsender',
    ]);
  });

  it('a role that the upstream has not gets in by no method, one that nobody was asked about by trust', async () => {
    fixture.hba = rules('host replication all all trust');
    await fixture.standby({ user: 'somebody' });
    users.set('replicator', { kind: 'unknown', isSure: true });
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    expect(await client.rest()).toEqual(['R', 'E|FATAL|28000|role "replicator" does not exist']);
  });

  it('a role of which nobody was told gets in without a password while the upstream is away, not because too many ask', async () => {
    fixture.hba = rules('host replication all all trust');
    users.set('replicator', { kind: 'unavailable', reason: 'nobody is there', isOut: true });
    await fixture.standby();
    users.set('replicator', {
      kind: 'unavailable',
      reason: '64 users are being asked for already',
    });
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    expect(await client.rest()).toEqual([
      'R',
      'E|FATAL|57P03|could not ask the upstream server about role "replicator"',
    ]);
  });

  it('who proves itself when no more are let in is told so, and is no session', async () => {
    const { client, final } = await challenged('secret');
    fixture.senders.refuseNew();
    client.send(final, query('IDENTIFY_SYSTEM'));
    expect(await client.rest()).toEqual([
      'R',
      'E|FATAL|57P03|the database system is shutting down',
    ]);
    expect(fixture.senders.totals().commands.has('IDENTIFY_SYSTEM')).toBe(false);
  });

  it('a second StartupMessage is neither a message of a login nor a command', async () => {
    const client = await fixture.connect();
    client.send(startup(STANDBY), startup({ ...STANDBY, user: 'postgres' }));
    expect(await client.rest()).toEqual([
      'R',
      'E|FATAL|08P01|expected SASL response, got message type 0',
    ]);
    fixture.hba = rules('host replication all all trust');
    const trusted = await fixture.connect();
    trusted.send(startup(STANDBY), startup({ ...STANDBY, user: 'postgres' }));
    expect((await trusted.rest()).at(-1)).toBe('E|FATAL|08P01|invalid frontend message type 0');
  });

  it('the last place is not given to two who log in at one time', async () => {
    fixture.settings = { ...fixture.settings, maxWalSenders: 2 };
    const [one, other] = [await challenged('secret'), await challenged('secret')];
    one.client.send(one.final);
    expect((await one.client.answer()).at(-1)).toBe('Z I');
    other.client.send(other.final);
    expect((await other.client.rest()).slice(1)).toEqual([
      'E|FATAL|53300|number of requested standby connections exceeds max_wal_senders (currently 2)',
    ]);
  });

  it('a rule with clientcert asks for a certificate before a password', async () => {
    fixture.hba = {
      rules: fixture.hba.rules.map((rule) => ({ ...rule, clientCert: 'verify-ca' as const })),
    };
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    expect(await client.rest()).toEqual([
      'E|FATAL|28000|connection requires a valid client certificate',
    ]);
    // Nobody was asked for a password, and the log does not say so.
    const lines = fixture.log.lines.filter((line) => line.includes('connection refused'));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(
      'connection refused: connection requires a valid client certificate',
    );
    expect(lines[0]).toContain('"user":"replicator","method":"scram-sha-256"');
  });
});

it('PostgreSQL 16 says who may replicate', async () => {
  await start('whole', 16);
  users.add('replicator', 'secret', { mayReplicate: false });
  expect((await login('secret')).slice(2)).toEqual([
    'E|FATAL|42501|permission denied to start WAL sender|Only roles with the REPLICATION attribute may start a WAL sender process.',
  ]);
  await fixture.finish();
});

it('the console asks for a password like a walsender, and of no role whether it may replicate', async () => {
  await start();
  users.add('ann', 'secret', { mayReplicate: false });
  const console = { user: 'ann', database: 'walcast', replication: 'off' };
  expect(await login('secret', console)).toContain('Z I');
  expect(await login('wrong', console)).toEqual([REFUSED.replace('replicator', 'ann')]);
  await fixture.finish();
});

it('a client whose name has to be looked up waits, and nobody else does', async () => {
  await start();
  let tell: (name: string | null) => void = () => {};
  let onAsked: () => void = () => {};
  const asked = new Promise<void>((resolve) => {
    onAsked = resolve;
  });
  fixture.names = {
    nameOf: () => {
      onAsked();
      return new Promise((resolve) => {
        tell = resolve;
      });
    },
    addressesOf: () => Promise.resolve(['127.0.0.1']),
  };
  fixture.hba = rules(
    'host replication other 127.0.0.1/32 trust\nhost replication all good.example trust',
  );
  const client = await fixture.connect();
  client.send(startup(STANDBY), query('IDENTIFY_SYSTEM'));
  await asked;
  await fixture.standby({ user: 'other' });
  tell('good.example');
  expect((await client.answer()).at(-1)).toBe('Z I');
  expect((await client.answer()).at(-2)).toBe('C IDENTIFY_SYSTEM');
  await fixture.finish();
});

describe('while a user is asked for', () => {
  beforeEach(() => start());
  afterEach(() => fixture.finish());

  it('nobody else waits, what the client sends ahead is kept, and nothing of it is read', async () => {
    const { release, asked } = users.hold();
    const player = new ScramPlayer('secret');
    const client = await fixture.connect();
    client.send(
      startup(STANDBY),
      message('p', cstr('SCRAM-SHA-256'), i32(player.first.length), player.first),
    );
    await asked;
    fixture.hba = rules('host replication other all trust\nhost replication all all scram-sha-256');
    fixture.users = new UserTable();
    await fixture.standby({ user: 'other' });
    release();
    expect((await client.next())?.body.readInt32BE()).toBe(10);
    const challenge = (await client.next())?.body.subarray(4) ?? Buffer.alloc(0);
    expect(challenge.toString()).toMatch(/^r=clientnonce/);
  });

  it('a client that goes is forgotten, whatever the answer is', async () => {
    const { release, asked } = users.hold();
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    await asked;
    client.close();
    fixture.hba = rules('host replication all all trust');
    fixture.users = new UserTable();
    await fixture.standby();
    release();
    await fixture.standby();
    expect(fixture.senders.totals().authentications.get('scram-sha-256|success')).toBeUndefined();
  });
});

describe('a client that goes in the middle', () => {
  beforeEach(() => start());
  afterEach(() => fixture.finish());

  it('counts as no failure: libpq does so when it has no password', async () => {
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    expect((await client.next())?.type).toBe('R');
    client.socket.end();
    expect(await client.rest()).toEqual([]);
    expect(fixture.senders.totals().authentications.get('scram-sha-256|failure')).toBeUndefined();
    expect(users.wrong).toEqual([]);
  });

  it('also inside a message', async () => {
    const { client, final } = await challenged('secret');
    client.send(final.subarray(0, 20));
    client.socket.end();
    expect(await client.rest()).toEqual([]);
    expect(users.wrong).toEqual([]);
  });
});
