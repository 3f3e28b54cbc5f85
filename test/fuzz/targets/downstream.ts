// What clients of the PostgreSQL port say: startup, commands of a walsender, a stream in both directions, the console.
import { COMMAND_SAMPLES } from '../../support/command-samples.ts';
import { happens, say, sessionOf } from '../engine/session.ts';
import type { FuzzSession, Step, StepKind } from '../engine/session.ts';
import type { FuzzTarget } from '../engine/target.ts';
import { SenderRun } from '../rig/sender-rig.ts';
import {
  AT,
  BACKUP_ANSWER,
  CONSOLE,
  COPY_SESSIONS,
  cstr,
  GSS_REQUEST,
  i16,
  i32,
  i64,
  message,
  query,
  raw,
  REPLICATION,
  SSL_REQUEST,
  STARTUP_SESSIONS,
  TERMINATE,
  TURN,
  UPLOAD_ANSWER,
} from './messages.ts';

const EVENTS: readonly StepKind[] = ['turn', 'time', 'wal', 'full', 'drain', 'end', 'upstream'];

export const STARTUP_WORDS: readonly (string | Uint8Array)[] = [
  ...(
    'user database replication options application_name client_encoding true false database on off yes 1 walcast ' +
    'postgres wal_sender_timeout datestyle TimeZone _pq_.protocol_option 5s 1min 2147483647ms -c --x=y UTF8 SQL_ASCII'
  )
    .split(' ')
    .flatMap((word) => [word, cstr(word)]),
  SSL_REQUEST,
  GSS_REQUEST,
  i32(196_608),
  i32(196_610),
  i32(80_877_102),
  i32(8),
  i32(10_000),
  i32(10_001),
  raw(0),
  raw(0xff),
  raw(0xc3, 0x28),
];

const COMMAND_WORDS: readonly string[] = (
  'IDENTIFY_SYSTEM SHOW START_REPLICATION SLOT PHYSICAL LOGICAL TIMELINE TIMELINE_HISTORY CREATE_REPLICATION_SLOT ' +
  'DROP_REPLICATION_SLOT READ_REPLICATION_SLOT ALTER_REPLICATION_SLOT BASE_BACKUP UPLOAD_MANIFEST RESERVE_WAL WAIT ' +
  'TEMPORARY FAILOVER TWO_PHASE LABEL FAST PROGRESS MAX_RATE true false s1 t nope wal_segment_size ' +
  `data_directory_mode max_wal_senders walcast_version ${AT} 0/0 FFFFFFFF/FFFFFFFF 0/ / ( ) , ; ' " '' "" -- /* */ = \\`
).split(' ');

const CONSOLE_WORDS: readonly string[] = (
  'SELECT * FROM pg_stat_replication pg_replication_slots pg_catalog . WHERE AND OR = <> < > pid state application_name ' +
  "sent_lsn count(*) AS ORDER BY DESC LIMIT OFFSET IN NOT IS NULL SHOW all SET TO version() BEGIN COMMIT ROLLBACK 'a' $1 " +
  "DEALLOCATE DISCARD ALL pg_is_in_recovery() standbys slots upstream status HELP ; , ( ) :: text int4 /* */ -- U& E'\\ null " +
  'RELOAD PAUSE RESUME RECONNECT upstream KILL 42 DRAIN SHUTDOWN WAIT_FOR_CLIENTS CREATE DROP SLOT RESERVE_WAL'
).split(' ');

/** What is asked of one session after the other: a login costs more than a question. */
const ASKED_AT_ONCE = 6;

function sessionsOf(login: Step, sqls: readonly string[]): FuzzSession[] {
  const count = Math.ceil(sqls.length / ASKED_AT_ONCE);
  return Array.from({ length: count }, (_, index) => {
    const asked = sqls.slice(index * ASKED_AT_ONCE, (index + 1) * ASKED_AT_ONCE);
    return sessionOf([login, ...asked.map(query), TURN], index);
  });
}

const EXTENDED: readonly FuzzSession[] = [
  [
    say(message('P', cstr('s'), cstr('SELECT pid, state FROM pg_stat_replication'), i16(0))),
    say(message('B', cstr('p'), cstr('s'), i16(0), i16(0), i16(1), i16(1))),
    say(message('D', 'P', cstr('p'))),
    say(message('E', cstr('p'), i32(1))),
    say(message('E', cstr('p'), i32(0))),
    say(message('C', 'P', cstr('p'))),
    say(message('S')),
  ],
  [
    say(message('P', cstr(''), cstr('SHOW $1'), i16(1), i32(25))),
    say(message('B', cstr(''), cstr(''), i16(1), i16(0), i16(1), i32(1), 'x', i16(0))),
    say(message('D', 'S', cstr(''))),
    say(message('E', cstr(''), i32(0))),
    say(message('H')),
    say(message('C', 'S', cstr(''))),
    say(message('S')),
    say(message('X')),
  ],
  [
    say(message('F', i32(1))),
    say(message('d', 'x')),
    say(message('c')),
    say(message('f', cstr('x'))),
    say(message('p', 'x')),
  ],
].map((steps) => sessionOf([CONSOLE, ...steps, ...steps, ...steps, TURN]));

/** Up to the first command. */
export const STARTUP: FuzzTarget = {
  name: 'startup',
  about: 'first packets of clients: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage',
  weight: 3,
  seeds: (recorded) => [...STARTUP_SESSIONS, ...recorded],
  words: STARTUP_WORDS,
  events: EVENTS,
  open: ({ canary }) => new SenderRun({ canary }),
};

/** Commands of a walsender, tunnels included. */
export const COMMANDS: FuzzTarget = {
  name: 'commands',
  about: 'replication commands of every major, and commands handed to the upstream',
  weight: 4,
  seeds: (recorded) => [
    ...sessionsOf(REPLICATION, COMMAND_SAMPLES),
    sessionOf([
      REPLICATION,
      query("BASE_BACKUP (LABEL 'x', PROGRESS)"),
      TURN,
      BACKUP_ANSWER,
      query('IDENTIFY_SYSTEM'),
    ]),
    sessionOf([REPLICATION, query("BASE_BACKUP LABEL 'x' FAST"), TURN, BACKUP_ANSWER, TERMINATE]),
    sessionOf(
      [
        REPLICATION,
        query('UPLOAD_MANIFEST'),
        TURN,
        UPLOAD_ANSWER,
        say(message('d', '{}')),
        say(message('c')),
        TURN,
      ],
      5,
    ),
    sessionOf([REPLICATION, query('BASE_BACKUP'), TURN, happens('end')]),
    ...recorded,
  ],
  words: [
    ...COMMAND_WORDS,
    ...['Q', 'X', 'P', 'B', 'S', 'F'].map((letter) => message(letter, cstr('IDENTIFY_SYSTEM'))),
  ],
  events: EVENTS,
  open: ({ canary }) => new SenderRun({ canary }),
};

/** A stream, and what standbys say in it. */
export const COPYBOTH: FuzzTarget = {
  name: 'copyboth',
  about: 'what standbys say while WAL streams to them',
  weight: 5,
  seeds: (recorded) => [...COPY_SESSIONS, ...recorded],
  words: [
    ...COMMAND_WORDS,
    i64(0x1234000n),
    i64(0n),
    i64(-1n),
    i32(700),
    message('c'),
    message('X'),
    raw('d', i32(38), 'r'),
    raw('d', i32(30), 'h'),
  ],
  events: EVENTS,
  open: ({ canary }) => new SenderRun({ canary }),
};

/** Questions to walcast itself. */
export const CONSOLE_TARGET: FuzzTarget = {
  name: 'console',
  about: 'statements and the extended protocol on database walcast',
  weight: 3,
  seeds: (recorded) => [
    ...sessionsOf(CONSOLE, [
      'SELECT * FROM pg_stat_replication',
      "SELECT pid, application_name FROM pg_catalog.pg_stat_replication WHERE state = 'streaming' ORDER BY pid DESC LIMIT 1",
      'SELECT count(*) FROM pg_stat_replication; SELECT version(); SHOW all',
      "BEGIN; SET application_name TO 'x'; COMMIT; ROLLBACK",
      'DEALLOCATE ALL; DISCARD ALL; ;',
      'SHOW walcast_version',
      "SELECT pg_is_in_recovery(), 1, NULL, 'a''b'",
      '/* a /* b */ c */ -- d\nSELECT "a"',
      'SELECT 1',
      'SHOW TimeZone',
      'HELP',
      'RELOAD; SELECT 1; PAUSE; RESUME',
      'CREATE SLOT a RESERVE_WAL; DROP SLOT "a"',
      'BEGIN; RECONNECT upstream',
      'KILL 42',
      'DRAIN; SHUTDOWN WAIT_FOR_CLIENTS',
      "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'",
    ]),
    ...EXTENDED,
    ...recorded,
  ],
  words: [
    ...CONSOLE_WORDS,
    ...['P', 'B', 'D', 'E', 'C', 'H', 'S'].map((letter) =>
      message(letter, cstr(''), cstr('SELECT 1'), i16(0)),
    ),
  ],
  events: EVENTS,
  open: ({ canary }) => new SenderRun({ canary }),
};
