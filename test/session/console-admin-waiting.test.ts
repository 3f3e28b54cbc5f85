// A command of the console that has to be waited for: who is kept waiting, and what ends the wait and what does not.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CONSOLE_COMMAND_MS_MAX, CONSOLE_COMMANDS_MAX } from '../../src/config/limits.ts';
import { bind, execute, openConsole, parse, SYNC } from '../support/console-client.ts';
import { deferred } from '../support/deferred.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { i32, message } from '../support/naive-writer.ts';
import { query } from '../support/raw-client.ts';
import type { RawClient } from '../support/raw-client.ts';
import { CUTS, Fixture, rules } from '../support/wal-senders-fixture.ts';

const HBA = 'host replication all all trust\nhost walcast all all trust';
const CANCEL_REQUEST = 80_877_102;

const givenUp = (why: string, command: string): string =>
  `E|ERROR|57014|canceling statement due to ${why}|${command} has begun and goes on. The log says what becomes of it.`;

describe.each(CUTS)('a command that has to wait, bytes fed %s', (cut) => {
  const clock = new ManualClock();
  let fixture: Fixture;
  let client: RawClient;
  let cancelRequest: Uint8Array;
  let gate: ReturnType<typeof deferred<void>>;

  beforeEach(async () => {
    fixture = await Fixture.start({ cut, clock });
    fixture.hba = rules(HBA);
    fixture.admins.add('ops');
    const opened = await openConsole(fixture);
    client = opened.client;
    const key = opened.greeting.find(({ type }) => type === 'K')?.body ?? Buffer.alloc(0);
    cancelRequest = Buffer.concat([i32(8 + key.length), i32(CANCEL_REQUEST), key]);
    gate = deferred();
    fixture.actions.gate = gate.promise;
  });

  afterEach(() => {
    gate.resolve();
    fixture.close();
  });

  /** Until that many commands have been begun. */
  async function begun(count = 1): Promise<void> {
    await eventually(() => fixture.actions.done.length).toBe(count);
  }

  async function cancel(): Promise<void> {
    const other = await fixture.connect();
    other.send(cancelRequest);
    expect(await other.rest()).toEqual([]);
  }

  function told(): string[] {
    return fixture.log.lines
      .filter((line) => line.includes('console command'))
      .map((line) => line.slice(0, line.indexOf(' {')));
  }

  it('keeps nobody else waiting, and what its own session sends in order', async () => {
    client.send(query('SELECT 1; RELOAD; SELECT 2'), parse('SELECT 3'), bind(), execute(), SYNC);
    await begun();
    const { client: other } = await openConsole(fixture);
    expect(await other.ask('SELECT 4')).toContain('D 4');
    expect(await other.ask('PAUSE')).toEqual(['C PAUSE', 'Z I']);
    const standby = await fixture.standby();
    expect(standby.pid).toBeGreaterThan(0);
    expect(told()).toEqual(['info console command done: PAUSE']);
    gate.resolve();
    expect(await client.answer()).toEqual([
      'T',
      'D 1',
      'C SELECT 1',
      'C RELOAD',
      'T',
      'D 2',
      'C SELECT 1',
      'Z I',
    ]);
    expect(await client.answer()).toEqual(['1', '2', 'D 3', 'C SELECT 1', 'Z I']);
  });

  it('is not waited for any longer by one who cancels, and goes on', async () => {
    client.send(query('CREATE SLOT a; RELOAD'));
    await begun();
    await cancel();
    expect(await client.answer()).toEqual([givenUp('user request', 'CREATE SLOT'), 'Z I']);
    expect(await client.ask('SELECT 1')).toContain('D 1');
    expect(told()).toEqual([]);
    gate.resolve();
    await eventually(told).toEqual(['info console command done: CREATE SLOT "a"']);
    // What came behind it was not begun, and an idle session has nothing to cancel.
    await cancel();
    expect(await client.ask('SELECT 1')).toContain('D 1');
    expect(fixture.actions.done).toEqual(['create a']);
  });

  it('may be cancelled in the extended protocol, too, up to Sync', async () => {
    client.send(parse('RELOAD'), bind(), execute(), parse('PAUSE'), bind(), execute(), SYNC);
    await begun();
    await cancel();
    expect(await client.answer()).toEqual(['1', '2', givenUp('user request', 'RELOAD'), 'Z I']);
    expect(fixture.actions.done).toEqual(['reload']);
  });

  it('is not waited for for ever', async () => {
    client.send(query('DROP SLOT a'));
    await begun();
    clock.advance(CONSOLE_COMMAND_MS_MAX - 1);
    const { client: other } = await openConsole(fixture);
    expect(await other.ask('SELECT 1')).toContain('D 1');
    clock.advance(1);
    expect(await client.answer()).toEqual([givenUp('statement timeout', 'DROP SLOT'), 'Z I']);
    fixture.actions.refusal = { sqlstate: '58030', message: 'too late' };
    gate.resolve();
    await eventually(told).toEqual(['warn console command failed: DROP SLOT "a"']);
    // No timer is left of it.
    clock.advance(CONSOLE_COMMAND_MS_MAX);
    expect(await client.ask('SELECT 1')).toContain('D 1');
  });

  it('goes on when its connection is gone, what would have come behind it does not', async () => {
    client.send(query('CREATE SLOT a; CREATE SLOT b'), query('CREATE SLOT c'));
    await begun();
    client.socket.resetAndDestroy();
    await eventually(() => fixture.log.lines.join()).toContain('session closed');
    gate.resolve();
    await eventually(told).toEqual(['info console command done: CREATE SLOT "a"']);
    const { client: other } = await openConsole(fixture);
    expect(await other.ask('SELECT 1')).toContain('D 1');
    expect(fixture.actions.done).toEqual(['create a']);
  });

  it('is answered to one who has sent his last byte', async () => {
    client.send(query('RELOAD'), query('SELECT 1'));
    client.socket.end();
    await begun();
    gate.resolve();
    expect(await client.rest()).toEqual(['C RELOAD', 'Z I', 'T', 'D 1', 'C SELECT 1', 'Z I']);
  });

  it('is answered before a goodbye that came behind it', async () => {
    client.send(query('RELOAD'), message('X'));
    await begun();
    gate.resolve();
    expect(await client.rest()).toEqual(['C RELOAD', 'Z I']);
  });

  it('keeps no drain waiting', async () => {
    client.send(query('RELOAD; SHUTDOWN'));
    await begun();
    const drained = fixture.senders.drain(fixture.feed.sendableLsn());
    expect(await client.rest()).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    await drained;
    gate.resolve();
    await eventually(told).toEqual(['info console command done: RELOAD']);
    clock.advance(0);
    expect(fixture.actions.done).toEqual(['reload']);
  });

  it('may be under way a bounded number of times, however often it is cancelled', async () => {
    for (let count = 1; count <= CONSOLE_COMMANDS_MAX; count += 1) {
      client.send(query('DROP SLOT a'));
      await begun(count);
      await cancel();
      expect((await client.answer())[0]).toMatch(/^E\|ERROR\|57014\|/);
    }
    expect((await client.ask('DROP SLOT a'))[0]).toMatch(
      /^E\|ERROR\|53400\|too many commands of the console are under way\|/,
    );
    // A disk that hangs is why somebody wants to give those that wait for nothing.
    expect(await client.ask('PAUSE; RESUME; RECONNECT; SHUTDOWN')).toEqual([
      'C PAUSE',
      'C RESUME',
      'C RECONNECT',
      'C SHUTDOWN',
      'Z I',
    ]);
    clock.advance(0);
    expect(fixture.actions.done.at(-1)).toBe('shutdown');
    gate.resolve();
    await eventually(() => told().length).toBe(CONSOLE_COMMANDS_MAX + 5);
    expect(await client.ask('DROP SLOT a')).toEqual(['C DROP SLOT', 'Z I']);
  });
});

describe('the end of walcast', () => {
  const clock = new ManualClock();
  let fixture: Fixture;
  let client: RawClient;

  beforeEach(async () => {
    fixture = await Fixture.start({ clock });
    fixture.hba = rules(HBA);
    fixture.admins.add('ops');
    ({ client } = await openConsole(fixture));
  });

  afterEach(() => fixture.close());

  it('comes once its command was answered whole', async () => {
    expect(await client.ask('SHUTDOWN; SELECT 1')).toEqual([
      'C SHUTDOWN',
      'T',
      'D 1',
      'C SELECT 1',
      'Z I',
    ]);
    expect(fixture.actions.done).toEqual([]);
    clock.advance(0);
    expect(fixture.actions.done).toEqual(['shutdown']);
  });

  it('comes at Sync, or with the end of a session that sends none', async () => {
    client.send(parse('DRAIN'), bind(), execute(), message('H'));
    for (let left = 3; left > 0; left -= 1) await client.next();
    clock.advance(0);
    expect(fixture.actions.done).toEqual([]);
    client.close();
    await eventually(() => fixture.log.lines.join()).toContain('session closed');
    clock.advance(0);
    expect(fixture.actions.done).toEqual(['drain']);
  });

  it('comes in half a minute where the client neither sends Sync nor goes', async () => {
    client.send(parse('DRAIN'), bind(), execute());
    for (let left = 3; left > 0; left -= 1) await client.next();
    clock.advance(CONSOLE_COMMAND_MS_MAX - 1);
    expect(fixture.actions.done).toEqual([]);
    clock.advance(1);
    clock.advance(0);
    expect(fixture.actions.done).toEqual(['drain']);
    client.send(SYNC);
    expect(await client.answer()).toEqual(['Z I']);
    clock.advance(CONSOLE_COMMAND_MS_MAX);
    expect(fixture.actions.done).toEqual(['drain']);
  });

  it('comes once, however many sessions ask for it in one turn', async () => {
    const clients = [
      client,
      ...(await Promise.all([openConsole(fixture), openConsole(fixture)])).map(
        (opened) => opened.client,
      ),
    ];
    for (const each of clients) expect(await each.ask('DRAIN')).toEqual(['C DRAIN', 'Z I']);
    expect(await client.ask('SHUTDOWN')).toEqual(['C SHUTDOWN', 'Z I']);
    clock.advance(0);
    expect(fixture.actions.done).toEqual(['shutdown']);
    expect(await client.ask('DRAIN')).toEqual(['C DRAIN', 'Z I']);
    clock.advance(0);
    expect(fixture.actions.done).toEqual(['shutdown', 'drain']);
  });

  it('comes once, and at once where both were asked for', async () => {
    for (const sql of ['DRAIN', 'SHUTDOWN', 'SHUTDOWN WAIT_FOR_CLIENTS', 'DRAIN']) {
      client.send(parse(sql), bind(), execute());
    }
    client.send(SYNC);
    expect(await client.answer()).toHaveLength(13);
    clock.advance(0);
    expect(fixture.actions.done).toEqual(['shutdown']);
  });
});
