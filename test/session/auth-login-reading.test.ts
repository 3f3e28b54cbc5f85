// When is a client read while it logs in? Not while others are waited for, whoever they are: nothing of what it goes on to
// send may be kept.
import { beforeEach, describe, expect, it } from 'vitest';
import { ManualClock } from '../support/manual-clock.ts';
import { cstr, i32, message } from '../support/naive-writer.ts';
import { PaperConnection } from '../support/paper-connection.ts';
import { query, STANDBY, startup } from '../support/raw-client.ts';
import { ScramPlayer } from '../support/scram-player.ts';
import { UserTable } from '../support/user-table.ts';
import { Fixture, rules } from '../support/wal-senders-fixture.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a client that logs in', () => {
  let clock: ManualClock;
  let fixture: Fixture;
  let users: UserTable;

  beforeEach(() => {
    clock = new ManualClock();
    fixture = new Fixture(15, clock);
    users = new UserTable().add('replicator', 'secret');
    fixture.users = users;
    fixture.hba = rules('host replication all all scram-sha-256');
  });

  function connect(): PaperConnection {
    const connection = new PaperConnection();
    fixture.senders.accept((events) => connection.open(events));
    return connection;
  }

  /** Somebody else takes all the time of this turn. */
  function useUpTurn(): void {
    connect().send(startup({ ...STANDBY, user: 'busy' }));
    clock.skip(1_000);
  }

  it('is not read before it is its turn, nor while its user is asked for', async () => {
    const { release } = users.hold();
    const early = connect();
    early.send(startup(STANDBY));
    expect(early.isReading).toBe(false);
    clock.skip(1_000);
    const late = connect();
    late.send(startup(STANDBY));
    expect(late.isReading).toBe(false);
    await turn();
    expect([early.isReading, late.isReading]).toEqual([false, false]);
    release();
    while (late.heard() === '' || early.heard() === '') await turn();
    expect([early.heard(), late.heard()]).toEqual(['R10 ', 'R10 ']);
    expect([early.isReading, late.isReading]).toEqual([true, true]);
  });

  it('is not read while its answer waits for its turn, and goes on afterwards', async () => {
    const client = connect();
    client.send(startup(STANDBY));
    while (client.heard() === '') await turn();
    expect(client.heard()).toBe('R10 ');
    const player = new ScramPlayer('secret');
    useUpTurn();
    client.send(message('p', cstr('SCRAM-SHA-256'), i32(player.first.length), player.first));
    expect(client.isReading).toBe(false);
    await turn();
    expect(client.heard()).toBe('R10 R11 ');
    const challenge = client.written.subarray(client.written.lastIndexOf('r='));
    useUpTurn();
    client.send(message('p', player.final(challenge)), query('IDENTIFY_SYSTEM'));
    expect(client.isReading).toBe(false);
    await turn();
    await turn();
    expect(client.heard()).toMatch(/^R10 R11 R12 R0 S+KZTDCZ$/);
    expect(client.isReading).toBe(true);
  });

  it('is read by its session from its first command on: one that keeps it from being read is not overruled', async () => {
    fixture.hba = rules('host replication all all trust');
    const { release } = users.hold();
    const client = connect();
    client.send(startup(STANDBY), query('IDENTIFY_SYSTEM'));
    expect(client.isReading).toBe(false);
    client.pending = 1 << 30;
    release();
    await turn();
    expect(client.heard()).toMatch(/^R0 S+KZTDCZ$/);
    expect(client.isReading).toBe(false);
  });

  it('is not read while the answer to a wrong password waits', async () => {
    const guess = async (): Promise<PaperConnection> => {
      const client = connect();
      client.send(startup(STANDBY));
      while (client.heard() === '') await turn();
      const player = new ScramPlayer('wrong');
      client.send(message('p', cstr('SCRAM-SHA-256'), i32(player.first.length), player.first));
      const challenge = client.written.subarray(client.written.lastIndexOf('r='));
      client.send(message('p', player.final(challenge)));
      return client;
    };
    let last = await guess();
    for (let count = 0; count < 30 && last.isClosed; count += 1) last = await guess();
    expect(last.isClosed).toBe(false);
    expect(last.isReading).toBe(false);
    expect(last.heard()).toBe('R10 R11 ');
    clock.advance(60_000);
    expect(last.heard()).toBe('R10 R11 E');
  });
});
