// BASE_BACKUP and UPLOAD_MANIFEST: bytes pass 1:1 between the client and an upstream connection of its own.
import { afterEach, describe, expect, it } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { i32 } from '../support/naive-writer.ts';
import { message, query, summary } from '../support/raw-client.ts';
import type { RawClient } from '../support/raw-client.ts';
import { CUTS, Fixture, START_LSN } from '../support/wal-senders-fixture.ts';

const READY = message('Z', 'I');
const BACKUP = "BASE_BACKUP ( LABEL 'x',  WAIT 0)";

/** An answer of the upstream with messages of every size. */
function backupAnswer(): Buffer {
  return Buffer.concat([
    message('T', 'columns'),
    message('D', 'Z as data is no ReadyForQuery'),
    message('d', Buffer.alloc(200_000, 0x5a)),
    message('c'),
    message('C', 'BASE_BACKUP', 0),
    READY,
  ]);
}

describe.each(CUTS)('tunnel, bytes fed %s', (cut) => {
  let fixture: Fixture;
  let client: RawClient;
  let pid: number;

  async function start(major: number): Promise<void> {
    fixture = await Fixture.start({ major, cut, beside: true });
    ({ client, pid } = await fixture.standby({ application_name: 'pg_basebackup' }));
  }

  afterEach(() => fixture.finish());

  it('hands a base backup to the upstream as it was typed, and its bytes back as they are', async () => {
    await start(15);
    client.send(query(BACKUP));
    const tunnel = await fixture.tunnels.nth(1);
    expect(tunnel.applicationName).toBe('pg_basebackup');
    const sent = query(BACKUP);
    expect(await tunnel.got(sent.length)).toEqual(Buffer.from(sent));
    expect(stateOf()).toBe('backup');
    const answer = backupAnswer();
    for (let offset = 0; offset < answer.length; offset += 7919) {
      const chunk = Uint8Array.from(answer.subarray(offset, offset + 7919));
      tunnel.events.onBytes(chunk);
      chunk.fill(0);
    }
    expect((await client.bytes(answer.length)).equals(answer)).toBe(true);
    expect(stateOf()).toBe('startup');
    expect(tunnel.isClosed).toBe(true);
    expect((await client.ask('SHOW wal_segment_size'))[1]).toBe('D 16MB');
  });

  it('keeps the connection from a manifest to the backup that uses it', async () => {
    await start(17);
    client.send(query('UPLOAD_MANIFEST'));
    const tunnel = await fixture.tunnels.nth(1);
    const upload = query('UPLOAD_MANIFEST');
    await tunnel.got(upload.length);
    tunnel.events.onBytes(message('G', 0, 0, 0));
    expect((await client.next())?.type).toBe('G');
    const pieces = [message('d', Buffer.alloc(100_000, 1)), message('d', 'end'), message('c')];
    client.send(...pieces, query(BACKUP));
    const uploaded = Buffer.concat([upload, ...pieces]);
    expect((await tunnel.got(uploaded.length)).equals(uploaded)).toBe(true);
    tunnel.events.onBytes(Buffer.concat([message('C', 'UPLOAD_MANIFEST', 0), READY]));
    expect(await client.answer()).toEqual(['C UPLOAD_MANIFEST', 'Z I']);
    expect(tunnel.isClosed).toBe(false);
    const all = Buffer.concat([uploaded, query(BACKUP)]);
    expect((await tunnel.got(all.length)).equals(all)).toBe(true);
    tunnel.events.onBytes(backupAnswer());
    expect((await client.until('Z')).at(-1)?.type).toBe('Z');
    expect(fixture.tunnels.opened).toHaveLength(1);
  });

  it('passes what the client sends at once, before the upstream is connected', async () => {
    await start(17);
    const pieces = [message('d', 'manifest'), message('c')];
    client.send(query('UPLOAD_MANIFEST'), ...pieces);
    const tunnel = await fixture.tunnels.nth(1);
    const expected = Buffer.concat([query('UPLOAD_MANIFEST'), ...pieces]);
    expect((await tunnel.got(expected.length)).equals(expected)).toBe(true);
  });

  it('answers a command that came during a backup after it, by itself', async () => {
    await start(15);
    client.send(query(BACKUP), query('SHOW wal_segment_size'), query('IDENTIFY_SYSTEM'));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(query(BACKUP).length);
    tunnel.events.onBytes(backupAnswer());
    await client.until('Z');
    expect((await client.answer())[1]).toBe('D 16MB');
    expect((await client.answer()).at(-2)).toBe('C IDENTIFY_SYSTEM');
    expect(tunnel.received).toHaveLength(query(BACKUP).length);
  });

  it('drops temporary slots when the upstream answers with an error', async () => {
    await start(15);
    await client.ask('CREATE_REPLICATION_SLOT t TEMPORARY PHYSICAL');
    client.send(query('BASE_BACKUP (NONSENSE)'));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    const error = message('E', 'SERROR', 0, 'C42601', 0, 'Mno', 0, 0);
    tunnel.events.onBytes(Buffer.concat([error, READY]));
    expect(await client.answer()).toEqual(['E|ERROR|42601|no', 'Z I']);
    expect(fixture.slots.slots.size).toBe(0);
    // The client may stay for long; the upstream's walsender must not.
    expect(tunnel.isClosed).toBe(true);
  });

  it('lets go of the upstream when no backup follows a manifest for a minute', async () => {
    const clock = new ManualClock();
    fixture = await Fixture.start({ major: 17, cut, clock });
    ({ client, pid } = await fixture.standby());
    client.send(query('UPLOAD_MANIFEST'));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    clock.advance(60_000);
    expect(tunnel.isClosed).toBe(false);
    tunnel.events.onBytes(Buffer.concat([message('C', 'UPLOAD_MANIFEST', 0), READY]));
    await client.answer();
    clock.advance(59_999);
    expect(tunnel.isClosed).toBe(false);
    clock.advance(1);
    expect(tunnel.isClosed).toBe(true);
    client.send(query(BACKUP));
    await (await fixture.tunnels.nth(2)).got(1);
    clock.advance(120_000);
    expect(fixture.tunnels.opened[1]?.isClosed).toBe(false);
  });

  it('skips what was under way to an upload that failed', async () => {
    await start(17);
    client.send(query('UPLOAD_MANIFEST'));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    tunnel.events.onBytes(
      Buffer.concat([message('E', 'SERROR', 0, 'C22023', 0, 'Mno', 0, 0), READY]),
    );
    expect(await client.answer()).toEqual(['E|ERROR|22023|no', 'Z I']);
    client.send(
      message('d', Buffer.alloc(65_536)),
      message('d', Buffer.alloc(65_536)),
      message('c'),
    );
    expect((await client.ask('SHOW wal_segment_size'))[1]).toBe('D 16MB');
  });

  it('still bounds what comes outside of a COPY', async () => {
    await start(17);
    client.send('d', i32(1024 * 1024 + 1));
    expect(await client.closed()).toHaveLength(0);
  });

  it('says why when the upstream cannot be reached, and works again when it can', async () => {
    await start(15);
    fixture.tunnels.failure = new OperationalError(
      'CONNECT_FAILED',
      'could not connect to pg-a:5432: connection refused',
    );
    expect(await client.ask(BACKUP)).toEqual([
      'E|ERROR|08006|could not hand the command to the upstream server|could not connect to pg-a:5432: connection refused',
      'Z I',
    ]);
    fixture.tunnels.failure = null;
    client.send(query(BACKUP));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    tunnel.events.onBytes(backupAnswer());
    expect((await client.until('Z')).at(-2)?.type).toBe('C');
  });

  it('tells the client when the upstream goes between two messages, and closes in the middle of one', async () => {
    await start(15);
    client.send(query(BACKUP));
    const first = await fixture.tunnels.nth(1);
    await first.got(1);
    first.events.onBytes(message('T', 'columns'));
    first.events.onClose('connection reset');
    expect(await client.answer()).toEqual([
      'T',
      'E|ERROR|08006|could not hand the command to the upstream server|connection reset',
      'Z I',
    ]);
    client.send(query(BACKUP));
    const second = await fixture.tunnels.nth(2);
    await second.got(1);
    second.events.onBytes(message('d', 'half of this').subarray(0, 9));
    second.events.onClose(null);
    expect((await client.closed()).length).toBeLessThanOrEqual(9);
  });

  it('gives up a backup on a cancel request', async () => {
    await start(15);
    client.close();
    const session = await fixture.standby();
    session.client.send(query(BACKUP));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    const other = await fixture.connect();
    other.send(i32(16), i32(80_877_102), i32(session.pid), session.key);
    expect(await session.client.answer()).toEqual([
      'E|ERROR|57014|canceling statement due to user request',
      'Z I',
    ]);
    expect(tunnel.isClosed).toBe(true);
  });

  it.each(['the end of the connection', 'Terminate and the end of the connection'])(
    'closes the upstream connection on %s of the client',
    async (how) => {
      await start(15);
      client.send(query(BACKUP));
      const tunnel = await fixture.tunnels.nth(1);
      await tunnel.got(1);
      if (how.startsWith('Terminate')) client.send(message('X'));
      client.socket.end();
      await tunnel.closed();
      expect(await client.closed()).toHaveLength(0);
    },
  );

  it('sends the whole backup before it looks at a Terminate, as a server does', async () => {
    await start(15);
    client.send(query(BACKUP));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    client.send(message('X'));
    const answer = backupAnswer();
    tunnel.events.onBytes(answer.subarray(0, 1000));
    await client.bytes(1000);
    tunnel.events.onBytes(answer.subarray(1000));
    expect((await client.bytes(answer.length - 1000)).length).toBe(answer.length - 1000);
    expect(await client.closed()).toHaveLength(0);
  });

  it('closes the upstream connection on Terminate in the middle of an upload', async () => {
    await start(17);
    client.send(query('UPLOAD_MANIFEST'));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    client.send(message('X'));
    await tunnel.closed();
    expect(await client.closed()).toHaveLength(0);
  });

  it('closes an upstream connection that opens when the client has gone', async () => {
    await start(15);
    let connect: () => void = () => {};
    fixture.tunnels.connecting = new Promise((resolve) => {
      connect = resolve;
    });
    client.send(query(BACKUP));
    await eventually(stateOf).toBe('backup');
    client.close();
    await eventually(stateOf).toBeUndefined();
    connect();
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.closed();
    expect(tunnel.received).toHaveLength(0);
  });

  it('does not read the upstream faster than the client takes it', async () => {
    await start(15);
    client.send(query(BACKUP));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    client.pause();
    let sent = 0;
    while (!tunnel.isPaused) {
      tunnel.events.onBytes(message('d', Buffer.alloc(100_000)));
      sent += 100_005;
      if (sent > 1 << 28) throw new Error('never paused');
    }
    client.resume();
    await tunnel.paused(false);
    expect((await client.bytes(sent)).length).toBe(sent);
  });

  it('leaves the session to the administrator', async () => {
    await start(15);
    client.send(query(BACKUP));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    fixture.senders.kill(pid);
    expect((await client.until('')).map(summary)).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    expect(tunnel.isClosed).toBe(true);
  });

  it('is not closed by wal_sender_timeout', async () => {
    await start(15);
    fixture.settings = { ...fixture.settings, walSenderTimeoutMs: 100 };
    client.send(query(BACKUP));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    // A stream that begins now is closed by its timeout; the backup beside it is not.
    await (
      await fixture.stream(START_LSN, { parameters: { application_name: 'x' } })
    ).client.closed();
    tunnel.events.onBytes(backupAnswer());
    expect((await client.until('Z')).at(-1)?.type).toBe('Z');
  });

  function stateOf(): string | undefined {
    return fixture.senders.statuses().find((status) => status.pid === pid)?.state;
  }
});
