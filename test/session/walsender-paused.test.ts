// Who is refused while walcast is paused, and who goes on?
import { afterEach, expect, it } from 'vitest';
import { message, query, StreamReader } from '../support/raw-client.ts';
import { Fixture, START_LSN } from '../support/wal-senders-fixture.ts';

let fixture: Fixture;

afterEach(() => fixture.close());

const REFUSED =
  'E|ERROR|55000|walcast is paused: no new replication is started|Try again after RESUME.';

function lsnText(lsn: bigint): string {
  return `0/${lsn.toString(16).toUpperCase()}`;
}

it('new streams are refused, with a slot or without, and come in after the pause on the same session', async () => {
  fixture = await Fixture.start();
  const { client } = await fixture.standby();
  await client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
  fixture.senders.setPaused(true);
  const start = `PHYSICAL ${lsnText(START_LSN)} TIMELINE 1`;
  expect(await client.ask(`START_REPLICATION ${start}`)).toEqual([REFUSED, 'Z I']);
  expect(await client.ask(`START_REPLICATION SLOT s ${start}`)).toEqual([REFUSED, 'Z I']);
  expect((await client.ask('IDENTIFY_SYSTEM')).at(-1)).toBe('Z I');
  fixture.senders.setPaused(false);
  client.send(query(`START_REPLICATION SLOT s ${start}`));
  expect((await client.next())?.type).toBe('W');
});

it('a stream that runs goes on, onto the next timeline too', async () => {
  fixture = await Fixture.start();
  const reader = await fixture.stream(START_LSN);
  const endLsn = fixture.feed.append(8000);
  await reader.readTo(endLsn);
  fixture.senders.setPaused(true);
  fixture.feed.switchTimeline(2, endLsn);
  expect((await reader.nextOther())?.type).toBe('c');
  reader.client.send(message('c'));
  expect(await reader.client.answer()).toContain('C START_REPLICATION');
  reader.client.send(query(`START_REPLICATION ${lsnText(endLsn)} TIMELINE 2`));
  expect((await reader.client.next())?.type).toBe('W');
  const next = new StreamReader(reader.client, endLsn);
  await next.readTo(fixture.feed.append(4000));
});
