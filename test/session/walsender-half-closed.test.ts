// What is told to a client that has sent its end right behind what it asks for? All that a server tells it: the answers may
// take a while, and it is there to hear them.
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManualClock } from '../support/manual-clock.ts';
import { cstr, i32, message, packet } from '../support/naive-writer.ts';
import { PaperConnection } from '../support/paper-connection.ts';
import { query, startup, STANDBY } from '../support/raw-client.ts';
import type { RawClient } from '../support/raw-client.ts';
import { ScramPlayer } from '../support/scram-player.ts';
import { classic, rawClient, TlsServerRig } from '../support/tls-server-rig.ts';
import { UserTable } from '../support/user-table.ts';
import { Fixture, rules } from '../support/wal-senders-fixture.ts';

const CANCEL_REQUEST = packet(80_877_102, i32(1), i32(1));
const ALL = /^R0 S+KZTDCZTDCZ$/;
const COMMANDS = [query('IDENTIFY_SYSTEM'), query('SHOW wal_segment_size')];

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a client that sends its end right behind what it asks for', () => {
  let clock: ManualClock;
  let fixture: Fixture;
  let users: UserTable;
  let client: PaperConnection;

  beforeEach(() => {
    clock = new ManualClock();
    fixture = new Fixture(15, clock);
    users = new UserTable().add('replicator', 'secret');
    fixture.users = users;
    client = connect();
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

  async function closed(): Promise<void> {
    while (!client.isClosed) await turn();
  }

  it('is answered although its startup waited for its turn', async () => {
    useUpTurn();
    client.send(startup(STANDBY), ...COMMANDS);
    client.events?.onEnd();
    expect(client.heard()).toBe('');
    await closed();
    expect(client.heard()).toMatch(ALL);
  });

  it('is answered although its user had to be asked for', async () => {
    const { release } = users.hold();
    client.send(startup(STANDBY), ...COMMANDS);
    client.events?.onEnd();
    expect(client.isClosed).toBe(false);
    release();
    await closed();
    expect(client.heard()).toMatch(ALL);
    client.events?.onClose(null);
    expect(fixture.senders.statuses()).toEqual([]);
  });

  it('is asked for its password, and left when there is none', async () => {
    fixture.hba = rules('host replication all all scram-sha-256');
    useUpTurn();
    client.send(startup(STANDBY));
    client.events?.onEnd();
    await closed();
    expect(client.heard()).toBe('R10 ');
    expect(fixture.log.lines.join('\n')).not.toContain('startup packet');
  });

  it('is left at once when nothing is under way', async () => {
    fixture.hba = rules('host replication all all scram-sha-256');
    client.send(startup(STANDBY));
    while (client.heard() === '') await turn();
    client.events?.onEnd();
    expect(client.isClosed).toBe(true);
  });

  it('is told that its password is wrong, as late as everybody', async () => {
    fixture.hba = rules('host replication all all scram-sha-256');
    for (let count = 0; count < 30; count += 1) {
      client = connect();
      client.send(startup(STANDBY));
      while (client.heard() === '') await turn();
      const player = new ScramPlayer('wrong');
      client.send(message('p', cstr('SCRAM-SHA-256'), i32(player.first.length), player.first));
      const challenge = client.written.subarray(client.written.lastIndexOf('r='));
      client.send(message('p', player.final(challenge)));
      if (!client.isClosed) break;
    }
    client.events?.onEnd();
    expect(client.isClosed).toBe(false);
    expect(client.heard()).toBe('R10 R11 ');
    clock.advance(30_000);
    expect(client.heard()).toBe('R10 R11 E');
    expect(client.isClosed).toBe(true);
  });

  it('waits no longer than anybody may take to log in', () => {
    users.hold();
    client.send(startup(STANDBY));
    client.events?.onEnd();
    clock.advance(fixture.settings.authenticationTimeoutMs);
    expect(client.isClosed).toBe(true);
    expect(client.heard()).toBe('');
  });

  it('is no session any more, whatever it waited for, once its connection is gone', async () => {
    const { release } = users.hold();
    client.send(startup(STANDBY), ...COMMANDS);
    client.events?.onEnd();
    client.events?.onClose('ECONNRESET');
    release();
    await turn();
    expect(client.heard()).toBe('');
    expect(fixture.senders.statuses()).toEqual([]);
  });

  it('is answered also what was held back while it did not take its answers', async () => {
    client.send(startup(STANDBY));
    while (!client.heard().endsWith('Z')) await turn();
    client.pending = 1 << 30;
    client.send(...COMMANDS);
    client.events?.onEnd();
    expect(client.isClosed).toBe(false);
    client.pending = 0;
    client.events?.onDrain();
    await closed();
    expect(client.heard()).toMatch(ALL);
  });
});

describe.each(['plain', 'inside TLS'])('a socket whose client sends its end, %s', (kind) => {
  let fixture: Fixture;
  let rig: TlsServerRig;

  beforeEach(async () => {
    rig = await TlsServerRig.open();
    fixture = await Fixture.start({ tls: rig.acceptor });
  });

  afterEach(async () => {
    await fixture.finish();
    await rig.close();
  });

  async function open(): Promise<RawClient> {
    return kind === 'plain' ? await fixture.connect() : rawClient(await classic(fixture.port));
  }

  it('is written to as long as there are answers, and closed behind them', async () => {
    const users = new UserTable();
    const { release, asked } = users.hold();
    fixture.users = users;
    const client = await open();
    client.send(startup(STANDBY), ...COMMANDS);
    client.socket.end();
    await Promise.all([asked, once(client.socket, 'finish')]);
    // Behind it in the kernel: when this one has been read, so has the end.
    const witness = await open();
    witness.send(CANCEL_REQUEST);
    await witness.closed();
    release();
    const letters = (await client.until('')).map(({ type }) => type).join('');
    expect(letters).toMatch(/^RS+KZTDCZTDCZ$/);
    expect(client.isClosed).toBe(true);
  });
});
