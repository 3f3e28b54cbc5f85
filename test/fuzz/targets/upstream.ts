// What a server says to a walreceiver: login, identification, timeline histories, slots, a stream of WAL, its end.
import {
  COPY_BOTH,
  complete,
  errorResponse,
  keepalive,
  playedServer,
  READY,
  answer,
  rows,
  walData,
} from '../../support/scripted-upstream.ts';
import type { PlayedServer } from '../../support/scripted-upstream.ts';
import { cstr, i16, i32, i64, message, raw } from '../../support/naive-writer.ts';
import { amount, happens, say } from '../engine/session.ts';
import type { FuzzSession, Step } from '../engine/session.ts';
import type { FuzzTarget } from '../engine/target.ts';
import { RIG_WANTED_LSN, UpstreamRig, UpstreamRun } from '../rig/upstream-rig.ts';

const AUTH_OK = message('R', i32(0));
const SASL = message('R', i32(10), cstr('SCRAM-SHA-256'), 0);
const SASL_BOTH = message('R', i32(10), cstr('SCRAM-SHA-256-PLUS'), cstr('SCRAM-SHA-256'), 0);
const SERVER_FIRST = message('R', i32(11), 'r=%NONCE%xyz,s=c2FsdHNhbHRzYWx0,i=4096');
const SERVER_FINAL = message('R', i32(12), 'v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=');

/** One step a message. */
export function cut(bytes: Uint8Array): Step[] {
  const steps: Step[] = [];
  const view = Buffer.from(bytes);
  for (let at = 0; at < view.length;) {
    const end = at + 1 + view.readUInt32BE(at + 1);
    steps.push(say(Uint8Array.from(view.subarray(at, end))));
    at = end;
  }
  return steps;
}

/** The end of a login. */
export function greeting(server: PlayedServer): Uint8Array {
  return raw(
    AUTH_OK,
    message('S', cstr('server_version'), cstr(server.serverVersion)),
    message('S', cstr('TimeZone'), cstr('UTC')),
    message('S', cstr('in_hot_standby'), cstr('off')),
    message('K', i32(4242), i32(1)),
    READY,
  );
}

/** Lets a walreceiver talk to an honest server and writes down what that says; `then` is said once WAL may stream. */
async function honest(
  server: PlayedServer,
  variant: number,
  then: readonly Step[],
): Promise<FuzzSession> {
  const steps: Step[] = [];
  const due: Uint8Array[] = [];
  let isStreaming = false;
  const onWritten = (chunk: Uint8Array): void => {
    const bytes = Buffer.from(chunk);
    if (bytes[0] === 0) due.push(greeting(server));
    if (bytes[0] !== 0x51) return;
    const command = bytes.toString('utf8', 5, bytes.length - 1);
    const isStart =
      command.startsWith('START_REPLICATION') && !command.endsWith(' TIMELINE 2147483647');
    isStreaming ||= isStart;
    due.push(isStart ? COPY_BOTH : raw(answer(server, command), READY));
  };
  const rig = new UpstreamRig(variant, { onWritten });
  rig.receiver.start();
  await rig.upstream.connected();
  for (let round = 0; round < 60 && !isStreaming; round += 1) {
    await rig.play({ steps: [happens('turn')], chunk: 0, variant });
    for (const bytes of due.splice(0)) {
      const said = cut(bytes);
      steps.push(...said, happens('turn'));
      await rig.play({ steps: said, chunk: 0, variant });
    }
  }
  for (const bytes of due) steps.push(...cut(bytes), happens('turn'));
  rig.receiver.stop();
  if (!isStreaming) throw new Error(`no stream from ${server.serverVersion}`);
  return { steps: [...steps, ...then], chunk: 0, variant };
}

const WAL = Buffer.alloc(400, 0x5a);
const AT = RIG_WANTED_LSN;
const STREAM: readonly Step[] = [
  say(walData(AT, WAL)),
  happens('wal'),
  say(walData(AT + 400n, WAL)),
  say(keepalive(AT + 800n, true)),
  happens('turn'),
  say(walData(AT + 800n, WAL.subarray(0, 8), AT + 10_000n)),
  amount('time', 11_000),
  say(keepalive(AT + 10_000n)),
  happens('full'),
  say(walData(AT + 808n, WAL)),
  happens('drain'),
];
const TIMELINE_END: readonly Step[] = [
  say(walData(AT, WAL)),
  say(message('c')),
  happens('turn'),
  ...cut(
    raw(
      rows(['next_tli', 'next_tli_startpos'], [['2', '0/5000190']]),
      complete('START_STREAMING'),
      READY,
    ),
  ),
  happens('turn'),
];

async function seeds(recorded: readonly FuzzSession[]): Promise<readonly FuzzSession[]> {
  const history: Record<string, readonly [string, string]> = {
    '2': ['00000002.history', '1\t0/5000190\tno recovery target specified\n'],
  };
  const versions = ['13.10', '14.2', '15.4', '16.1', '17.0', '18.1'];
  const made: FuzzSession[] = [];
  for (const [index, serverVersion] of versions.entries()) {
    made.push(await honest(playedServer({ serverVersion }), 2 + index * 6, STREAM));
  }
  made.push(await honest(playedServer(), 1, STREAM));
  made.push(await honest(playedServer({ timeline: '2', histories: history }), 4, TIMELINE_END));
  made.push(
    await honest(playedServer({ isStandby: true, serverVersion: '14.1' }), 8, [
      ...TIMELINE_END,
      ...STREAM,
    ]),
  );
  made.push(
    await honest(playedServer({ slots: { slot_a: ['physical', '0/4000000'] } }), 11, STREAM),
  );
  const logins = [
    [
      say(SASL),
      happens('turn'),
      say(SERVER_FIRST),
      happens('turn'),
      happens('turn'),
      say(SERVER_FINAL),
      say(AUTH_OK),
      say(READY),
    ],
    [
      say(SASL_BOTH),
      happens('turn'),
      say(SERVER_FIRST),
      say(errorResponse('28P01', 'no', 'FATAL')),
    ],
    [say(message('R', i32(5), 'salt')), happens('turn'), say(AUTH_OK), say(READY)],
    [
      say(message('R', i32(3))),
      happens('turn'),
      say(errorResponse('28P01', 'password authentication failed', 'FATAL')),
      happens('end'),
    ],
    [
      say(message('v', i32(0x30000), i32(1), cstr('_pq_.x'))),
      say(AUTH_OK),
      say(message('N', 'S', cstr('NOTICE'), 'M', cstr('x'), 0)),
      say(READY),
    ],
    [
      say(errorResponse('57P03', 'the database system is starting up', 'FATAL')),
      happens('end'),
      amount('time', 5_000),
      say(AUTH_OK),
    ],
  ].map((steps, index) => ({ steps, chunk: 0, variant: 3 * index }));
  return [...made, ...logins, ...recorded];
}

/** Everything before a stream, and the stream itself. */
export const UPSTREAM: FuzzTarget = {
  name: 'upstream',
  about:
    'a hostile server: login, identification, timeline histories, slots, a stream of WAL, its end',
  weight: 6,
  seeds,
  words: [
    ...(
      'systemid timeline xlogpos dbname slot_type restart_lsn physical logical 16MB 1GB 8192 0700 on off 1\t0/5000190\tx\n 0/5000000 FFFFFFFF/FFFFFFFF ' +
      '7301234567890123456 r=%NONCE% s= i=1 i=4096 i=999999999 v= m=x e=other-error SCRAM-SHA-256 SCRAM-SHA-256-PLUS S C M V ERROR FATAL PANIC 57P01 58P01 00000002.history walcast'
    ).split(' '),
    READY,
    AUTH_OK,
    COPY_BOTH,
    message('c'),
    i64(AT),
    i64(AT + 400n),
    i64(0n),
    i64(-1n),
    i32(0),
    i32(-1),
    i16(1),
    i16(-1),
    complete('START_STREAMING'),
    errorResponse('57P01', 'terminating connection due to administrator command', 'FATAL'),
    keepalive(AT, true),
  ],
  events: ['turn', 'turn', 'time', 'full', 'drain', 'wal', 'end'],
  open: () => new UpstreamRun(),
};
