// How long may one who is no session yet stay? One deadline, whatever arrives meanwhile, and nobody else waits for it.
import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { RawClient, startup, STANDBY } from '../support/raw-client.ts';
import { Fixture, rules } from '../support/wal-senders-fixture.ts';

const TIMEOUT_MS = 400;

let fixture: Fixture;

afterEach(() => fixture.finish());

async function withDeadline(clock?: ManualClock): Promise<void> {
  fixture = await Fixture.start({ beside: true, ...(clock === undefined ? {} : { clock }) });
  fixture.settings = { ...fixture.settings, authenticationTimeoutMs: TIMEOUT_MS };
}

/** Milliseconds from the connection to its end, which comes without a byte. */
async function timeToEnd(client: RawClient, beganAtMs: number): Promise<number> {
  const rest = await client.rest();
  expect(rest).toEqual([]);
  return performance.now() - beganAtMs;
}

describe('the deadline', () => {
  it('ends one who says nothing', async () => {
    await withDeadline();
    const beganAtMs = performance.now();
    const elapsedMs = await timeToEnd(await fixture.connect(), beganAtMs);
    expect(elapsedMs).toBeGreaterThanOrEqual(TIMEOUT_MS - 5);
    expect(elapsedMs).toBeLessThan(20 * TIMEOUT_MS);
  });

  it('is not extended by a byte now and then, before the startup packet is whole', async () => {
    await withDeadline();
    const packet = startup(STANDBY);
    const beganAtMs = performance.now();
    const client = await fixture.connect();
    let sent = 0;
    const timer = setInterval(() => {
      if (sent < packet.length - 1) client.send(packet.subarray(sent, sent + 1));
      sent += 1;
    }, 20);
    const elapsedMs = await timeToEnd(client, beganAtMs);
    clearInterval(timer);
    expect(sent).toBeGreaterThan(1);
    expect(elapsedMs).toBeLessThan(20 * TIMEOUT_MS);
  });

  it('is not extended by an authentication that has begun', async () => {
    const clock = new ManualClock();
    await withDeadline(clock);
    fixture.hba = rules('host replication all all scram-sha-256');
    const client = await fixture.connect();
    client.send(startup(STANDBY));
    expect((await client.next())?.type).toBe('R');
    const head = Uint8Array.from([0x70, 0, 0, 0, 60, 0x53]);
    for (const byte of head) {
      clock.advance(TIMEOUT_MS / 10);
      client.send(Uint8Array.of(byte));
    }
    clock.advance((TIMEOUT_MS * 4) / 10);
    await client.closed();
    expect(fixture.log.lines.join('\n')).toContain('canceling authentication due to timeout');
    expect(fixture.senders.statuses()).toHaveLength(1);
  });

  it('is over with the login: a session stays as long as it likes', async () => {
    const clock = new ManualClock();
    await withDeadline(clock);
    const { client } = await fixture.standby();
    const silent = await fixture.connect();
    await eventually(() => {
      clock.advance(TIMEOUT_MS);
      return silent.isClosed;
    }).toBe(true);
    expect(await client.ask('IDENTIFY_SYSTEM')).toContain('C IDENTIFY_SYSTEM');
  });
});

describe('what is kept of one who is no session yet', () => {
  it('is a bounded packet: a longer one is refused by its first four bytes', async () => {
    fixture = await Fixture.start({ beside: true });
    const lengths = [0x7fffffff, 900_000_000, 10_005, -1, 3];
    for (const length of lengths) {
      const client = await fixture.connect();
      const head = Buffer.alloc(4);
      head.writeInt32BE(length);
      client.send(head);
      expect(await client.rest()).toEqual([]);
    }
    expect(fixture.senders.totals().rejected.protocol).toBe(lengths.length);
    const longest = await fixture.connect();
    const packet = startup({ ...STANDBY, 'a.b': 'x'.repeat(9_850) });
    expect(packet.length).toBeGreaterThan(9_900);
    longest.send(packet);
    expect((await longest.until('Z')).at(-1)?.type).toBe('Z');
  });

  it('is a bounded message of an authentication: a longer one is a wrong password', async () => {
    fixture = await Fixture.start({ beside: true });
    fixture.hba = rules('host replication all all scram-sha-256');
    for (const length of [0x7fffffff, 70_000, 1_025, -1, 3]) {
      const client = await fixture.connect();
      client.send(startup(STANDBY));
      expect((await client.next())?.type).toBe('R');
      const head = Buffer.alloc(5);
      head.write('p');
      head.writeInt32BE(length, 1);
      client.send(head);
      expect(await client.rest()).toEqual([
        'E|FATAL|28P01|password authentication failed for user "replicator"',
      ]);
    }
    expect(fixture.senders.totals().authentications.get('scram-sha-256|failure')).toBe(5);
  });
});
