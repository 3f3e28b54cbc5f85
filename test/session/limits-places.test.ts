// max_wal_senders with standbys that are named: a place is kept for each that is not there.
import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { query, RawClient, startup, STANDBY } from '../support/raw-client.ts';
import { Fixture } from '../support/wal-senders-fixture.ts';

const KEPT =
  'The places that are left are kept for the standbys of slots and synchronous_standby_names.';
const HINT =
  'Stream with one of those slots, under one of those names, or have max_wal_senders raised.';
const TOO_MANY =
  '53300|number of requested standby connections exceeds max_wal_senders (currently 3)';

let fixture: Fixture;

afterEach(() => fixture.finish());

async function withPlaces(reserved: { slots?: string[]; standbys?: string[] }): Promise<void> {
  fixture = await Fixture.start({ beside: true });
  fixture.settings = {
    ...fixture.settings,
    maxWalSenders: 3,
    reserved: { slots: [], standbys: [], ...reserved },
  };
}

async function refused(applicationName: string): Promise<string[]> {
  const client = await fixture.connect();
  client.send(startup({ ...STANDBY, application_name: applicationName }));
  return client.rest();
}

describe('a place that is kept', () => {
  it('for a synchronous standby is had by it, and by nobody else', async () => {
    await withPlaces({ standbys: ['sync1', 'sync2'] });
    expect(await refused('other')).toEqual([`E|FATAL|${TOO_MANY}|${KEPT}|${HINT}`]);
    await fixture.standby({ application_name: 'SYNC1' });
    expect(await refused('other')).toEqual([`E|FATAL|${TOO_MANY}|${KEPT}|${HINT}`]);
    await fixture.standby({ application_name: 'sync2' });
    expect(await refused('sync2')).toEqual([`E|FATAL|${TOO_MANY}`]);
    expect(fixture.senders.totals().rejected.limit).toBe(3);
  });

  it('for a slot is had by whoever streams with it, under any name, and nothing else is done on it', async () => {
    await withPlaces({ slots: ['pg_0', 'pg_1'] });
    const { client } = await fixture.standby({ application_name: 'walreceiver' });
    expect((await client.ask('IDENTIFY_SYSTEM')).at(-1)).toBe('Z I');
    await client.ask('CREATE_REPLICATION_SLOT pg_0 PHYSICAL');
    for (const command of ['START_REPLICATION 0/1234000', 'BASE_BACKUP']) {
      expect(await client.ask(command)).toEqual([`E|ERROR|${TOO_MANY}|${KEPT}|${HINT}`, 'Z I']);
    }
    client.send(query('START_REPLICATION SLOT pg_0 0/1234000'));
    expect((await client.next())?.type).toBe('W');
    await eventually(
      () => fixture.senders.statuses().filter(({ slotName }) => slotName === 'pg_0').length,
    ).toBe(1);
  });

  it('is given back by who sits on it without a reason', async () => {
    await withPlaces({ slots: ['pg_0', 'pg_1'] });
    const first = await fixture.standby({ application_name: 'x' });
    const second = await fixture.standby({ application_name: 'y' });
    await fixture.standby({ application_name: 'pg-0' });
    expect(await first.client.rest()).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    expect((await second.client.ask('IDENTIFY_SYSTEM')).at(-1)).toBe('Z I');
    expect(fixture.senders.statuses()).toHaveLength(3);
    const { client } = await RawClient.standby(fixture.port, { application_name: 'pg_1' });
    await second.client.closed();
    client.close();
  });
});
