// Who gets a session on database walcast, whom it keeps waiting, and what ends it.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  CONSOLE_IDLE_MS_MAX,
  CONSOLE_SESSIONS_MAX,
  CONSOLE_SLICE_MS,
  CONSOLE_UNREAD_MS_MAX,
} from '../../src/config/limits.ts';
import { bind, execute, openConsole, parse, SYNC } from '../support/console-client.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { message } from '../support/naive-writer.ts';
import { query, startup, summary } from '../support/raw-client.ts';
import type { RawClient } from '../support/raw-client.ts';
import { sampleStatus } from '../support/relay-status.ts';
import { Fixture, rules } from '../support/wal-senders-fixture.ts';

describe('who is let in to the console', () => {
  let fixture: Fixture;

  beforeEach(async () => {
    fixture = await Fixture.start({ beside: true });
  });

  afterEach(() => fixture.finish());

  async function refusal(parameters: Readonly<Record<string, string>> = {}): Promise<string> {
    const { greeting } = await openConsole(fixture, parameters);
    return greeting.map(summary).join('\n');
  }

  it.each([
    [
      'host replication all all trust',
      'no pg_hba.conf entry for host "127.0.0.1", user "ops", database "walcast", no encryption',
    ],
    [
      'host replication all all trust\nhost "replication" all all trust',
      'no pg_hba.conf entry for host "127.0.0.1", user "ops", database "walcast", no encryption',
    ],
    [
      'host replication all all trust\nhost walcast ops all reject',
      'pg_hba.conf rejects connection for host "127.0.0.1", user "ops", database "walcast", no encryption',
    ],
    [
      'host replication all all trust\nhost walcast other all trust',
      'no pg_hba.conf entry for host "127.0.0.1", user "ops", database "walcast", no encryption',
    ],
  ])('is decided by rules for its database: %s', async (text, message_) => {
    fixture.hba = rules(text);
    expect(await refusal()).toBe(`E|FATAL|28000|${message_}`);
  });

  it.each([
    'host all all all trust',
    'host walcast all all trust',
    'host sameuser walcast all trust',
  ])('is let in by %s', async (text) => {
    fixture.hba = rules(`host replication all all trust\n${text}`);
    expect(await refusal({ user: 'walcast', database: '' })).toMatch(/Z I$/);
  });

  it('does not let a standby in by a rule for the console', async () => {
    fixture.hba = rules('host walcast all all trust\nhost all all all trust');
    const client = await fixture.connect();
    client.send(startup({ user: 'ops', database: 'walcast', replication: 'true' }));
    expect(await client.rest()).toEqual([
      'E|FATAL|28000|no pg_hba.conf entry for replication connection from host "127.0.0.1", user "ops", no encryption',
    ]);
  });

  it.each([
    ['another database', { database: 'postgres' }],
    ['replication=database', { replication: 'database' }],
  ])('has no console for %s', async (_name, parameters) => {
    fixture.hba = rules('host all all all trust\nhost replication all all trust');
    expect(await refusal(parameters)).toMatch(
      /^E\|FATAL\|0A000\|walcast serves physical replication only\|/,
    );
  });

  it('takes no places of standbys, and leaves a few for others', async () => {
    fixture.hba = rules('host all all all trust\nhost replication all all trust');
    fixture.settings = { ...fixture.settings, maxWalSenders: 2 };
    const clients: RawClient[] = [];
    for (let index = 0; index < CONSOLE_SESSIONS_MAX; index += 1) {
      const { client, greeting } = await openConsole(fixture);
      expect(greeting.at(-1)?.type).toBe('Z');
      clients.push(client);
    }
    expect(await refusal()).toBe(
      `E|FATAL|53300|sorry, too many clients already|The console has at most ${CONSOLE_SESSIONS_MAX} sessions.`,
    );
    await fixture.standby({ application_name: 'second' });
    const third = await fixture.connect();
    third.send(startup({ user: 'replicator', replication: 'true' }));
    expect((await third.rest()).join()).toContain('exceeds max_wal_senders (currently 2)');
    clients[0]?.send(message('X'));
    await clients[0]?.closed();
    await expect.poll(() => refusal(), { timeout: 10_000 }).toMatch(/Z I$/);
    expect(fixture.senders.totals().disconnects.client).toBe(0);
  });

  it('is told what standbys are told while there is nothing to show', async () => {
    fixture.hba = rules('host all all all trust\nhost replication all all trust');
    const { identity } = fixture;
    fixture.identity = null;
    expect(await refusal()).toBe('E|FATAL|57P03|the database system is starting up');
    fixture.identity = identity;
    fixture.senders.refuseNew();
    expect(await refusal()).toBe('E|FATAL|57P03|the database system is shutting down');
  });
});

describe('a console session that asks without a pause', () => {
  it('takes turns with everybody else, and is answered in order', async () => {
    const clock = new ManualClock();
    const fixture = await Fixture.start({ clock });
    fixture.hba = rules('host all all all trust');
    let pictures = 0;
    fixture.status = () => {
      // As if it took long: two of them are a slice.
      clock.advance(3);
      pictures += 1;
      return sampleStatus({ standbys: [] });
    };
    const { client } = await openConsole(fixture);
    const asked = Array.from({ length: 50 }, (_, index) => [
      query(`SELECT count(*) AS c${index} FROM pg_stat_replication`),
      parse('SELECT count(*) FROM pg_stat_replication'),
      bind(),
      execute(),
      SYNC,
    ]).flat();
    client.send(...asked);
    const perTurn: number[] = [];
    while (pictures < 100) {
      const before = pictures;
      await new Promise((resolve) => setImmediate(resolve));
      perTurn.push(pictures - before);
    }
    expect(Math.max(...perTurn)).toBeLessThan(10);
    for (let index = 0; index < 50; index += 1) {
      expect(await client.answer()).toEqual(['T', 'D 0', 'C SELECT 1', 'Z I']);
      expect(await client.answer()).toEqual(['1', '2', 'D 0', 'C SELECT 1', 'Z I']);
    }
    fixture.close();
  });
});

describe('many console sessions that ask without a pause', () => {
  it('are not waited for by a standby that comes', async () => {
    const clock = new ManualClock();
    const fixture = await Fixture.start({ clock });
    fixture.hba = rules('host all all all trust\nhost replication all all trust');
    let answers = 0;
    fixture.status = () => {
      clock.advance(CONSOLE_SLICE_MS);
      answers += 1;
      return sampleStatus({ standbys: [] });
    };
    const question = query('SELECT count(*) FROM pg_stat_replication');
    const everybody: RawClient[] = [];
    for (let index = 0; index < CONSOLE_SESSIONS_MAX; index += 1) {
      everybody.push((await openConsole(fixture)).client);
    }
    for (const client of everybody)
      for (let index = 0; index < 200; index += 1) client.send(question);
    // Each of them has a question in the queue.
    await expect
      .poll(() => answers, { timeout: 10_000, interval: 5 })
      .toBeGreaterThan(2 * CONSOLE_SESSIONS_MAX);
    const { identity, hba } = fixture;
    const arrivals: number[] = [];
    const admissions: number[] = [];
    Object.defineProperty(fixture, 'identity', {
      get: () => {
        arrivals.push(answers);
        return identity;
      },
    });
    Object.defineProperty(fixture, 'hba', {
      get: () => {
        admissions.push(answers);
        return hba;
      },
    });
    await fixture.standby({ application_name: 'newcomer' });
    // Its startup packet was read, and it was let in in the same turn.
    expect(admissions[0]).toBe(arrivals[0]);
    expect(admissions[0]).toBeLessThan(200 * CONSOLE_SESSIONS_MAX);
    fixture.close();
  });
});

describe('the end of a console session', () => {
  let fixture: Fixture;
  const clock = new ManualClock();

  beforeEach(async () => {
    fixture = await Fixture.start({ clock });
    fixture.hba = rules('host all all all trust');
  });

  afterEach(() => fixture.close());

  it('comes with a drain, and is said', async () => {
    const { client } = await openConsole(fixture);
    const drained = fixture.senders.drain(fixture.feed.sendableLsn());
    expect(await client.rest()).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    await drained;
  });

  it('comes with an hour of silence, which begins anew with each message', async () => {
    const { client } = await openConsole(fixture);
    clock.advance(CONSOLE_IDLE_MS_MAX - 1);
    expect(await client.ask('SELECT 1')).toContain('D 1');
    clock.advance(CONSOLE_IDLE_MS_MAX - 1);
    expect(await client.ask('SELECT 1')).toContain('D 1');
    clock.advance(CONSOLE_IDLE_MS_MAX + CONSOLE_UNREAD_MS_MAX);
    expect(await client.rest()).toEqual([
      'E|FATAL|57P05|terminating connection due to idle-session timeout',
    ]);
  });

  it('comes when answers are left lying, of which there is a bounded heap', async () => {
    const { client } = await openConsole(fixture);
    client.pause();
    const question = query(`SELECT '${'x'.repeat(60_000)}'`);
    let isClosed = false;
    client.socket.on('close', () => {
      isClosed = true;
    });
    for (let index = 0; index < 400; index += 1) client.socket.write(question);
    // Until neither side takes anything more: we are not read from, and do not read.
    let before = -1;
    await expect
      .poll(
        () => {
          const isStill = client.socket.writableLength === before;
          before = client.socket.writableLength;
          return isStill && before > 0;
        },
        { timeout: 20_000, interval: 500 },
      )
      .toBe(true);
    clock.advance(2 * CONSOLE_UNREAD_MS_MAX);
    client.resume();
    await expect.poll(() => isClosed, { timeout: 10_000 }).toBe(true);
  });
});
