// A played server that says what no server says, to a real walreceiver and to ours: does either of them go on?
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { cstr, i16, i32, i64, message, raw } from '../support/naive-writer.ts';
import { lsn, ReceiverRig } from '../support/receiver-rig.ts';
import { NEWEST_MAJOR, requires } from '../support/requirements.ts';
import {
  complete,
  COPY_BOTH,
  errorResponse,
  keepalive,
  playedServer,
  READY,
  rows,
  ScriptedUpstream,
  walData,
} from '../support/scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from '../support/scripted-upstream.ts';

/** What becomes of a session: it is asked three times whether it lives, its first word may be none of the answers. */
type Outcome = 'goes on' | 'leaves' | 'waits';

const WAL = new Uint8Array(100);
const NOTICE = message('N', 'S', cstr('NOTICE'), 'C', cstr('00000'), 'M', cstr('x'), 0);

/** What is said in the stream, and what both do then; two where they differ: the server's walreceiver first. */
const IN_STREAM: readonly [name: string, bytes: (at: bigint) => Uint8Array, does: string][] = [
  ['WALData of ten bytes', () => message('d', 'w', new Uint8Array(9)), 'leaves'],
  ['WALData without WAL', (at) => walData(at, raw()), 'goes on'],
  ['a keepalive of 17 bytes', () => message('d', 'k', new Uint8Array(16)), 'leaves'],
  ['a keepalive of 19 bytes', () => message('d', 'k', new Uint8Array(18)), 'leaves'],
  ['an unknown payload', () => message('d', 'z', i64(1n)), 'leaves'],
  ['an empty CopyData', () => message('d'), 'goes on, leaves'],
  ['an error in the middle of COPY', () => errorResponse('XX000', 'no'), 'leaves'],
  ['an error without a SQLSTATE', () => message('E', 'M', cstr('no'), 0), 'leaves'],
  ['an error without fields', () => message('E', 0), 'leaves'],
  ['an error cut short', () => message('E', 'Sxyz'), 'leaves'],
  ['an error of unknown fields', () => message('E', '1', cstr('x'), 'M', cstr('no'), 0), 'leaves'],
  ['CommandComplete without CopyDone', () => raw(complete('X'), READY), 'leaves'],
  ['a message of negative length', () => raw('d', i32(-5)), 'leaves'],
  ['a message of length 3', () => raw('d', i32(3)), 'leaves'],
  ['a message of a gigabyte', () => raw('d', i32(0x3f_ff_ff_ff), 'w'), 'waits, leaves'],
  ['a notice of a gigabyte', () => raw('N', i32(0x3f_ff_ff_ff)), 'waits, leaves'],
  ['an unknown type', () => message('?'), 'leaves'],
  ['CopyBothResponse again', () => COPY_BOTH, 'leaves'],
  ['a request for a password', () => message('R', i32(3)), 'leaves'],
  ['rows without a query', () => rows(['a'], [['b']]), 'waits, leaves'],
  [
    'a thousand parameters',
    () =>
      raw(
        ...Array.from({ length: 1000 }, (_, index) => message('S', cstr(`p.${index}`), cstr('x'))),
      ),
    'goes on, leaves',
  ],
  ['a parameter without its end', () => message('S', 'abc'), 'waits, leaves'],
  ['a notification', () => message('A', i32(1), cstr('a'), cstr('b')), 'goes on'],
  [
    'thirty thousand notices',
    () => raw(...Array.from({ length: 30_000 }, () => NOTICE)),
    'goes on',
  ],
  // What a standby takes and finds out later, if at all. Behind all others: it keeps what it took.
  ['WAL beyond what the server says it has', (at) => walData(at, WAL, at + 10n), 'goes on, leaves'],
  ['a gap', (at) => walData(at + 8192n, WAL), 'goes on, leaves'],
  ['an overlap', (at) => raw(walData(at, WAL), walData(at, WAL)), 'goes on, leaves'],
];

/** Answers to IDENTIFY_SYSTEM; both want another one. */
const IDENTITIES: readonly [name: string, answer: (server: PlayedServer) => Uint8Array][] = [
  ['no row', () => rows(['a', 'b', 'c', 'd'], [])],
  ['two columns', (server) => rows(['a', 'b'], [[server.systemIdentifier, '1']])],
  ['two rows', (server) => rows(['a', 'b', 'c', 'd'], [identityRow(server), identityRow(server)])],
  [
    'another system',
    (server) => rows(['a', 'b', 'c', 'd'], [['1', ...identityRow(server).slice(1)]]),
  ],
  ['an error', () => errorResponse('XX000', 'no')],
  ['nothing but an end', () => message('I')],
  ['columns without a row of theirs', () => message('T', i16(9))],
];

function identityRow(server: PlayedServer): (string | null)[] {
  return [server.systemIdentifier, server.timeline, server.xlogPos, null];
}

/** Sends three questions one after the other and says whether each of them was answered. */
async function outcomeOf(
  session: ScriptedSession,
  at: bigint,
  silenceMs: number,
): Promise<Outcome> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<Outcome>((resolve) => {
    timer = setTimeout(() => resolve('waits'), silenceMs);
  });
  const asked = askThrice(session, at).catch((): Outcome => 'leaves');
  const gone = session.closed.then((): Outcome => 'leaves');
  const outcome = await Promise.race([asked, gone, silence]);
  clearTimeout(timer);
  session.reset();
  return outcome;
}

/** How long somebody is given who does not wait for ever, and who does. */
const PATIENCE_MS = 30_000;
const SILENCE_MS = 1_000;

async function askThrice(session: ScriptedSession, at: bigint): Promise<Outcome> {
  for (let question = 0; question < 3; question += 1) {
    session.send(keepalive(at, true));
    for (;;) {
      const { type, body } = await session.next();
      if (type === 'c' || type === 'X') return 'leaves';
      if (type === 'd' && body[0] === 0x72) break;
    }
  }
  return 'goes on';
}

/** Lets a client in up to its stream; gives where it begins. */
async function opened(session: ScriptedSession, server: PlayedServer): Promise<bigint> {
  await session.login(server);
  const command = await session.identify(server);
  session.send(COPY_BOTH);
  const [, high = '0', low = '0'] = /([0-9A-F]+)\/([0-9A-F]+)/.exec(command) ?? [];
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}

async function inStream(
  session: ScriptedSession,
  server: PlayedServer,
  { bytes, silenceMs }: { bytes: (at: bigint) => Uint8Array; silenceMs: number },
): Promise<Outcome> {
  const at = await opened(session, server);
  session.send(bytes(at));
  return await outcomeOf(session, at, silenceMs);
}

async function identified(
  session: ScriptedSession,
  server: PlayedServer,
  answer: (server: PlayedServer) => Uint8Array,
): Promise<Outcome> {
  await session.login(server);
  await session.identify(server, /^IDENTIFY_SYSTEM/);
  session.send(answer(server), complete('IDENTIFY_SYSTEM'), READY);
  const asked = session.next().then(
    ({ type }): Outcome => (type === 'X' ? 'leaves' : 'goes on'),
    (): Outcome => 'leaves',
  );
  const outcome = await asked;
  session.reset();
  return outcome;
}

/** Asks our walreceiver. */
async function ofWalcast(ask: (session: ScriptedSession) => Promise<Outcome>): Promise<Outcome> {
  await using upstream = await ScriptedUpstream.listen();
  await using rig = new ReceiverRig({
    port: upstream.port,
    start: lsn('0/5000000'),
    decide: ({ systemIdentifier, timeline }, sink) =>
      systemIdentifier === playedServer().systemIdentifier
        ? { kind: 'start', timeline, startLsn: sink.nextLsn() }
        : { kind: 'hold', state: 'diverged', detail: 'another system', retryMs: 60_000 },
  });
  rig.receiver.start();
  return await ask(await upstream.accept());
}

requires(`postgres-${NEWEST_MAJOR}`).describe('a server that says what no server says', () => {
  let workspace: Workspace;
  let standby: PostgresCluster;
  let upstream: ScriptedUpstream;
  let server: PlayedServer;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    upstream = await ScriptedUpstream.listen();
    standby = await createPrimary(workspace, {
      major: NEWEST_MAJOR,
      name: 'standby',
      settings: { max_connections: '100', wal_retrieve_retry_interval: '20ms' },
    });
    await standby.becomeStandby(standby.target({ host: '127.0.0.1', port: upstream.port }));
    await standby.start();
    server = playedServer({
      systemIdentifier: await standby.value('SELECT system_identifier FROM pg_control_system()'),
      serverVersion: await standby.value('SHOW server_version'),
    });
  });

  afterAll(async () => {
    await workspace.close();
    await upstream[Symbol.asyncDispose]();
  });

  it.each(IN_STREAM)('is left alike, or not: %s', async (_name, bytes, does) => {
    const silenceMs = does.startsWith('waits') ? SILENCE_MS : PATIENCE_MS;
    const [theirs, ours] = await Promise.all([
      upstream.accept().then((session) => inStream(session, server, { bytes, silenceMs })),
      ofWalcast((session) => inStream(session, playedServer(), { bytes, silenceMs: PATIENCE_MS })),
    ]);
    expect(theirs === ours ? ours : `${theirs}, ${ours}`).toBe(does);
  });

  it.each(IDENTITIES)('is asked for another identity: %s', async (_name, answer) => {
    const outcomes = await Promise.all([
      upstream.accept().then((session) => identified(session, server, answer)),
      ofWalcast((session) => identified(session, playedServer(), answer)),
    ]);
    expect(outcomes).toEqual(['leaves', 'leaves']);
  });
});
