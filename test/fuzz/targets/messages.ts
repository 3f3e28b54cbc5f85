// What clients say, as honest beginnings of inputs.
import { cstr, i16, i32, i64, message, packet, raw } from '../../support/naive-writer.ts';
import { startup } from '../../support/raw-session.ts';
import { amount, happens, say, sessionOf } from '../engine/session.ts';
import type { FuzzSession, Step } from '../engine/session.ts';
import { RIG_OLDEST_LSN, RIG_START_LSN } from '../rig/made-wal.ts';

export const SSL_REQUEST: Uint8Array = packet(80_877_103);
export const GSS_REQUEST: Uint8Array = packet(80_877_104);

/** A login for replication. */
export const REPLICATION: Step = say(
  startup({ user: 'standby', replication: 'true', application_name: 'fuzz' }),
);

/** A login to the console. */
export const CONSOLE: Step = say(startup({ user: 'ops', database: 'walcast' }));

export const TURN: Step = happens('turn');
export const TERMINATE: Step = say(message('X'));
export const COPY_DONE: Step = say(message('c'));

/** A command, or a statement. */
export function query(sql: string): Step {
  return say(message('Q', cstr(sql)));
}

/** Where streams of inputs begin. */
export const AT: string = `0/${RIG_START_LSN.toString(16).toUpperCase()}`;
export const AT_OLDEST: string = `0/${RIG_OLDEST_LSN.toString(16).toUpperCase()}`;

/** A status update of a standby. */
export function reply(write: bigint, flush: bigint, apply: bigint, isAsking = false): Step {
  return say(message('d', 'r', i64(write), i64(flush), i64(apply), i64(7n), isAsking ? 1 : 0));
}

/** Hot standby feedback. */
export function feedback(xmin: number, epoch: number): Step {
  return say(message('d', 'h', i64(7n), i32(xmin), i32(epoch), i32(0), i32(0)));
}

/** A ClientHello as a client sends it that does not ask first. */
const CLIENT_HELLO = raw(
  0x16,
  3,
  1,
  i16(60),
  1,
  0,
  0,
  56,
  3,
  3,
  new Uint8Array(32).fill(7),
  0,
  i16(4),
  i16(0x1301),
  i16(0x1302),
  1,
  0,
  i16(8),
  i16(43),
  i16(4),
  3,
  3,
  4,
  3,
);

export const STARTUP_SESSIONS: readonly FuzzSession[] = [
  [REPLICATION],
  [say(SSL_REQUEST), REPLICATION, query('IDENTIFY_SYSTEM'), TERMINATE],
  [say(GSS_REQUEST), say(SSL_REQUEST), REPLICATION],
  [say(SSL_REQUEST), say(GSS_REQUEST), say(SSL_REQUEST), REPLICATION],
  [say(packet(80_877_102, i32(10_000_002), i32(42)))],
  [say(packet(80_877_102, i32(10_000_002), new Uint8Array(32)))],
  [say(startup({ user: 'standby', replication: 'true' }, 2)), query('IDENTIFY_SYSTEM')],
  [
    say(
      startup(
        { user: 'u', database: 'replication', replication: 'on', '_pq_.x': '1', '_pq_.y': '' },
        9,
      ),
    ),
  ],
  [say(startup({ user: 'u', replication: 'database', database: 'postgres' }))],
  [say(startup({ user: 'u', database: 'postgres' }))],
  [say(startup({ replication: 'true' }))],
  [say(startup({ user: 'u', replication: 'maybe' }))],
  [
    say(
      startup({ user: 'u'.repeat(80), replication: '1', application_name: 'ä\u0001é'.repeat(30) }),
    ),
  ],
  [
    say(
      startup({
        user: 'u',
        replication: 'true',
        options: '-c wal_sender_timeout=5s --client-encoding=UTF8 -c x\\ y=1',
      }),
    ),
    TURN,
    amount('time', 6_000),
  ],
  [
    say(
      startup({
        user: 'u',
        replication: 'true',
        wal_sender_timeout: '1.5min',
        client_encoding: 'UTF8',
        datestyle: 'ISO',
        TimeZone: 'UTC',
      }),
    ),
  ],
  [CONSOLE, query('SELECT 1')],
  [say(packet(0x20000, cstr('user'), 0))],
  [say(packet(0x40000, 0))],
  [say(CLIENT_HELLO)],
  [say(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'))],
  [REPLICATION, say(message('p', cstr('password')))],
  [amount('time', 59_000), REPLICATION, amount('time', 2_000)],
].map((steps) => sessionOf(steps));

const UPDATES: readonly Step[] = [
  reply(RIG_START_LSN, RIG_START_LSN, RIG_START_LSN),
  feedback(700, 0),
  amount('wal', 500),
  reply(RIG_START_LSN + 100n, RIG_START_LSN + 50n, 0n, true),
  reply(0n, 0n, 0n),
  feedback(0, 0),
];
const STREAMED: readonly Step[] = [...UPDATES, ...UPDATES.toReversed(), ...UPDATES];

export const COPY_SESSIONS: readonly FuzzSession[] = [
  [
    REPLICATION,
    query(`START_REPLICATION ${AT} TIMELINE 1`),
    TURN,
    ...STREAMED,
    COPY_DONE,
    query('IDENTIFY_SYSTEM'),
    TERMINATE,
  ],
  [
    REPLICATION,
    query('IDENTIFY_SYSTEM'),
    query(`START_REPLICATION PHYSICAL ${AT_OLDEST} TIMELINE 1`),
    TURN,
    TURN,
    ...STREAMED,
    TERMINATE,
  ],
  [
    REPLICATION,
    query('CREATE_REPLICATION_SLOT s1 PHYSICAL RESERVE_WAL'),
    TURN,
    query(`START_REPLICATION SLOT s1 PHYSICAL ${AT} TIMELINE 1`),
    TURN,
    ...STREAMED,
    COPY_DONE,
    query('DROP_REPLICATION_SLOT s1 WAIT'),
    TURN,
  ],
  [
    REPLICATION,
    query('CREATE_REPLICATION_SLOT t TEMPORARY PHYSICAL'),
    TURN,
    query(`START_REPLICATION SLOT t ${AT}`),
    TURN,
    ...STREAMED,
    happens('end'),
  ],
  [
    REPLICATION,
    query(`START_REPLICATION ${AT} TIMELINE 1`),
    TURN,
    happens('full'),
    amount('wal', 3_000),
    amount('time', 30_000),
    happens('drain'),
    ...STREAMED,
  ],
  [REPLICATION, query(`START_REPLICATION ${AT} TIMELINE 1`), TURN, amount('time', 61_000)],
  [
    REPLICATION,
    query(`START_REPLICATION ${AT}`),
    COPY_DONE,
    COPY_DONE,
    query(`START_REPLICATION ${AT}`),
    TURN,
    COPY_DONE,
  ],
  [
    REPLICATION,
    query('START_REPLICATION 0/9000000 TIMELINE 1'),
    TURN,
    amount('time', 3_000),
    COPY_DONE,
  ],
  [
    REPLICATION,
    query(`START_REPLICATION ${AT}`),
    TURN,
    say(message('H')),
    say(message('S')),
    say(message('f', cstr('no'))),
    TURN,
  ],
  [
    REPLICATION,
    query(`START_REPLICATION ${AT}`),
    TURN,
    say(message('d', 'z')),
    reply(1n << 62n, 1n << 62n, 1n << 62n),
    TURN,
  ],
].map((steps) => sessionOf(steps));

const COLUMNS = raw(i16(1), cstr('a'), i32(0), i16(0), i32(25), i16(-1), i32(-1), i16(0));

/** What the upstream says of a backup. */
export const BACKUP_ANSWER: Step = {
  kind: 'upstream',
  bytes: raw(
    message('T', COLUMNS),
    message('D', i16(1), i32(1), 'x'),
    message('C', cstr('SELECT')),
    message('H', 0, i16(0)),
    message('d', 'n', cstr('base.tar'), cstr('')),
    message('d', 'd', 'data'),
    message('c'),
    message('C', cstr('SELECT')),
    message('Z', 'I'),
  ),
};

/** The end of an upload, answered. */
export const UPLOAD_ANSWER: Step = { kind: 'upstream', bytes: message('G', 0, i16(0)) };

export { cstr, i16, i32, i64, message, raw };
