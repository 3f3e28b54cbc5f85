// Status updates that a moving position does not explain, and answers that are not given for ever.
import { expect, it } from 'vitest';
import {
  UPSTREAM_STATUS_AGAIN_MS,
  UPSTREAM_STOP_ASKS_MIN,
  UPSTREAM_STOP_MS,
} from '../../src/config/limits.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { lsn, ReceiverRig } from '../support/receiver-rig.ts';
import {
  keepalive,
  playedServer,
  ScriptedUpstream,
  walData,
} from '../support/scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from '../support/scripted-upstream.ts';

const START = 0x5000000n;
const END = START + 3_000n;
/** Where the last whole record ends. */
const WHOLE = START + 2_000n;

const STANDBY = { parameters: { in_hot_standby: 'on' } };

/** A stream of `server`, on a clock that stands still. */
async function streaming(
  upstream: ScriptedUpstream,
  server: PlayedServer,
): Promise<{ rig: ReceiverRig; session: ScriptedSession; clock: ManualClock }> {
  const clock = new ManualClock();
  const rig = new ReceiverRig({ port: upstream.port, clock, statusIntervalMs: 0 });
  rig.receiver.start();
  const session = await upstream.accept();
  await session.stream(server);
  return { rig, session, clock };
}

it('repeats its first update where commits may wait for it, and nowhere else', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const { settings } = playedServer();
  const synchronous = playedServer({ settings: { ...settings, synchronous_standby_names: '*' } });
  const { rig, session, clock } = await streaming(upstream, synchronous);
  await using _ = rig;
  clock.advance(UPSTREAM_STATUS_AGAIN_MS);
  expect(await session.status()).toMatchObject({ flush: START, replyRequested: false });
  rig.receiver.reconnect();
  const next = await upstream.accept();
  await next.stream();
  clock.advance(10 * UPSTREAM_STATUS_AGAIN_MS);
  next.send(keepalive(START + 60n, true));
  await next.status();
  // An answer to the next question is the next there is.
  next.send(walData(START, Buffer.alloc(8)), keepalive(START + 60n, true));
  expect((await next.status()).flush).toBe(START + 8n);
});

/** All of the server's WAL, which ends inside a record; then it asks as a server does that stops. */
async function askAtLength(
  session: ScriptedSession,
  clock: ManualClock,
  rig: ReceiverRig,
): Promise<void> {
  const whole = lsn('0/50007D0');
  rig.positions = () => ({ writeLsn: whole, flushLsn: whole, applyLsn: INVALID_LSN });
  session.send(walData(START, Buffer.alloc(3_000)));
  for (let count = 0; count < UPSTREAM_STOP_ASKS_MIN; count += 1) {
    session.send(keepalive(END, true));
    expect((await session.status()).flush).toBe(WHOLE);
    clock.advance(UPSTREAM_STOP_MS / UPSTREAM_STOP_ASKS_MIN);
  }
  session.send(keepalive(END, true));
}

it('lets a standby go that stops inside a record, and comes back', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const { rig, session, clock } = await streaming(upstream, playedServer(STANDBY));
  await using _ = rig;
  await askAtLength(session, clock, rig);
  await session.closed;
  const { disconnects, detail } = rig.receiver.status();
  expect(disconnects).toMatchObject({ shutdown: 1, error: 0 });
  expect(detail).toContain('shutting down');
  clock.advance(5_000);
  const next = await upstream.accept();
  await next.login(playedServer(STANDBY));
  expect(await next.identify(playedServer(STANDBY))).toBe('START_REPLICATION 0/5000BB8 TIMELINE 1');
});

it('answers a primary as long as it asks: commits may wait for us there', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const { rig, session, clock } = await streaming(upstream, playedServer());
  await using _ = rig;
  await askAtLength(session, clock, rig);
  expect((await session.status()).flush).toBe(WHOLE);
  session.send(keepalive(END, true));
  expect((await session.status()).flush).toBe(WHOLE);
});

it('says when a stream said something last, whatever who refuses us says since then', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const { rig, session, clock } = await streaming(upstream, playedServer());
  await using _ = rig;
  await rig.until('it streams', () => rig.receiver.followedHost() !== null);
  const { lastStreamedAtMs } = rig.receiver.status();
  expect(lastStreamedAtMs).toBe(clock.wallMs());
  session.end();
  await rig.until('it is lost', () => rig.receiver.status().state !== 'streaming');
  await rig.until('it is called again', () => {
    if (rig.receiver.status().state === 'disconnected') clock.advance(100);
    return upstream.accepted === 2;
  });
  const next = await upstream.accept();
  clock.advance(100);
  await next.login(playedServer());
  await rig.until('it was heard', () => rig.receiver.status().lastMessageAtMs === clock.wallMs());
  expect(rig.receiver.status()).toMatchObject({ lastStreamedAtMs });
});
