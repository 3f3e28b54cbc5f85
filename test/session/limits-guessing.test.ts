// Who guesses passwords, from where others come, too: how long does a guesser wait, does anybody else, and what does the log
// say of all of them?
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FAILED_OF_NETWORK_MAX, FAILURES, STRANGERS_LOG_LINES } from '../../src/config/limits.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { cstr, i32, message } from '../support/naive-writer.ts';
import { RawClient, startup, STANDBY } from '../support/raw-client.ts';
import { ScramPlayer } from '../support/scram-player.ts';
import { UserTable } from '../support/user-table.ts';
import { Fixture, rules } from '../support/wal-senders-fixture.ts';

const REFUSED = 'E|FATAL|28P01|password authentication failed for user "replicator"';

let fixture: Fixture;
/** Failures are forgiven as time passes: it does when a test says so, however slow the machine is. */
let clock: ManualClock;
const clients: RawClient[] = [];

beforeEach(async () => {
  clock = new ManualClock();
  fixture = await Fixture.start({ beside: true, clock });
  fixture.users = new UserTable().add('replicator', 'secret');
  fixture.hba = rules('host all,replication all all scram-sha-256');
  fixture.settings = { ...fixture.settings, logConnections: true, logDisconnections: true };
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await fixture.finish();
});

/** Comes from an address of the loopback network. */
async function from(localAddress: string): Promise<RawClient> {
  const socket = connect({ port: fixture.port, host: '127.0.0.1', localAddress, noDelay: true });
  const client = new RawClient(socket);
  clients.push(client);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return client;
}

/** The login up to the client's last message, which is sent; what comes then is not waited for. */
async function login(password: string, address: string): Promise<RawClient> {
  const client = await from(address);
  client.send(startup(STANDBY));
  await client.next();
  const player = new ScramPlayer(password);
  client.send(message('p', cstr('SCRAM-SHA-256'), i32(player.first.length), player.first));
  const challenge = (await client.next())?.body.subarray(4) ?? Buffer.alloc(0);
  client.send(message('p', player.final(challenge)));
  return client;
}

/** Waits until so many have failed. */
async function failed(count: number): Promise<void> {
  await eventually(() =>
    fixture.senders.totals().authentications.get('scram-sha-256|failure'),
  ).toBe(count);
}

/** Guesses that are answered at once. */
async function useUpFreeGuesses(address: string): Promise<void> {
  for (let count = 0; count < FAILURES.freeMax; count += 1) {
    expect(await (await login('wrong', address)).rest()).toEqual([REFUSED]);
  }
}

describe('a guesser', () => {
  it('is answered later and later; a right password of the same address at once', async () => {
    await useUpFreeGuesses('127.0.0.2');
    const waiting = await Promise.all(
      Array.from({ length: 45 }, () => login('wrong', '127.0.0.2')),
    );
    const right = await login('secret', '127.0.0.2');
    expect((await right.answer()).at(-1)).toBe('Z I');
    const elsewhere = await login('wrong', '127.0.0.3');
    expect(await elsewhere.rest()).toEqual([REFUSED]);
    expect(fixture.senders.totals().authentications.get('scram-sha-256|success')).toBe(1);
    await failed(FAILURES.freeMax + 46);
    expect(waiting.filter(({ isClosed }) => isClosed)).toEqual([]);
    clock.advance(FAILURES.stepMs);
    await eventually(() => waiting.filter(({ isClosed }) => isClosed).length).toBe(1);
    clock.advance(44 * FAILURES.stepMs);
    for (const client of waiting) expect(await client.rest()).toEqual([REFUSED]);
  });

  it('is told at last, in the same words, after what its failures cost', async () => {
    await useUpFreeGuesses('127.0.0.2');
    const late = await login('wrong', '127.0.0.2');
    await failed(FAILURES.freeMax + 1);
    clock.advance(FAILURES.stepMs - 1);
    const right = await login('secret', '127.0.0.2');
    expect((await right.answer()).at(-1)).toBe('Z I');
    expect(late.isClosed).toBe(false);
    clock.advance(1);
    expect(await late.rest()).toEqual([REFUSED]);
  });

  it('holds only so many places while it waits; the longest of its own goes without a word', async () => {
    await useUpFreeGuesses('127.0.0.2');
    const waiting: RawClient[] = [];
    while (waiting.length < FAILED_OF_NETWORK_MAX + 3) {
      waiting.push(await login('wrong', '127.0.0.2'));
    }
    await failed(FAILURES.freeMax + FAILED_OF_NETWORK_MAX + 3);
    for (const client of waiting.slice(0, 3)) expect(await client.rest()).toEqual([]);
    expect(waiting.filter(({ isClosed }) => isClosed)).toHaveLength(3);
    const right = await login('secret', '127.0.0.2');
    expect((await right.answer()).at(-1)).toBe('Z I');
  });
});

describe('one address', () => {
  it('has only so many connections, and who logs in there has room made by who does not', async () => {
    fixture.settings = { ...fixture.settings, connectionsPerNetworkMax: 3 };
    const silent = await Promise.all(Array.from({ length: 5 }, () => from('127.0.0.2')));
    await eventually(() => silent.filter(({ isClosed }) => isClosed).length).toBe(2);
    for (let count = 0; count < 3; count += 1) {
      expect((await (await login('secret', '127.0.0.2')).answer()).at(-1)).toBe('Z I');
    }
    await eventually(() => silent.filter(({ isClosed }) => isClosed).length).toBe(5);
    expect(await (await from('127.0.0.2')).rest()).toEqual([]);
    expect((await (await login('secret', '127.0.0.3')).answer()).at(-1)).toBe('Z I');
  });
});

describe('the log', () => {
  it('says who came, how they showed it and when they left, and has bounds that a flood does not pass', async () => {
    for (let count = 0; count < 40; count += 1) (await from('127.0.0.9')).close();
    await eventually(
      () => fixture.log.lines.filter((line) => line.includes('host=127.0.0.9')).length,
    ).toBe(STRANGERS_LOG_LINES.keyLinesMax);
    const client = await login('secret', '127.0.0.2');
    await client.answer();
    client.close();
    const said = (): string[] =>
      fixture.log.lines
        .filter((line) => line.startsWith('info') && line.includes('127.0.0.2'))
        .map((line) => line.split(' {')[0] ?? '');
    await eventually(() => said().length).toBe(4);
    const port = /port=(\d+)/.exec(said()[0] ?? '')?.[1];
    expect(said().map((line) => line.replace(/0:00:0\d\.\d{3}/, 'T'))).toEqual([
      `info connection received: host=127.0.0.2 port=${port}`,
      'info connection authenticated: identity="replicator" method=scram-sha-256 (line 1)',
      'info replication connection authorized: user=replicator application_name=standby1',
      `info disconnection: session time: T user=replicator database= host=127.0.0.2 port=${port}`,
    ]);
    expect(fixture.log.lines.join('\n')).not.toMatch(/secret|wrong/);
  });

  it('lets no name end a line or pass for more of it', async () => {
    fixture.hba = rules('host all,replication all all trust');
    const client = await from('127.0.0.2');
    const user = 'a" host=10.0.0.1\nx';
    client.send(startup({ ...STANDBY, user, application_name: 'b c=d' }));
    await client.answer();
    const lines = fixture.log.lines.filter((line) => line.includes('127.0.0.2'));
    expect(lines.every((line) => !line.includes('\n'))).toBe(true);
    expect(lines.join('\n')).toContain(
      'authorized: user="a"" host=10.0.0.1\\x0ax" application_name="b c=d"',
    );
  });
});
