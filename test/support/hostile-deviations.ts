// Where walcast answers otherwise than a server, on purpose: what each of them says, and why. Everything that is not
// written down here has to be the same, and what is written down has to differ.

/** An accepted difference. Transcripts are those of hostile-case.ts. */
export interface Deviation {
  /** Rows and names of the cases. */
  readonly cases: readonly string[];
  readonly reason: string;
  /** Of servers from this major on; of all when absent. */
  readonly from?: number;
  /** Of servers up to this major. */
  readonly to?: number;
  readonly postgres: readonly string[];
  readonly walcast: readonly string[];
}

/** What follows an error in a command: ready, and the answer to the marker. */
const READY = ['Z I', 'Z I', 'T', 'D on'];

const AHEAD =
  'E|ERROR|XX000|requested starting point LSN is ahead of the WAL flush position of this server LSN';

function physicalOnly(what: string): string {
  return `E|FATAL|0A000|walcast serves physical replication only|The client asked for ${what}.|Connect with replication=true, to database "walcast" for walcast's console, or to the upstream server itself.`;
}

function noEntry(database: string): string {
  return `E|FATAL|28000|no pg_hba.conf entry for host "127.0.0.1", user "trusty", database "${database}", no encryption`;
}

const NEWEST_TLS =
  'TLS is that of the newest server, whichever the upstream is: direct, and with ALPN';

const CHALLENGE = 'R 11 nonce and 18 bytes, 16 bytes of salt, 4096';

function wrongPassword(user: string): string[] {
  const error = `E|FATAL|28P01|password authentication failed for user "${user}"`;
  return ['R 10 SCRAM-SHA-256', CHALLENGE, error, 'closed'];
}

const SMUGGLED =
  'stricter: what came before the answer is refused at once; servers go on with a handshake that is there, and find out behind it';

const SMUGGLED_ERROR =
  'SFATAL|VFATAL|C08P01|Mreceived unencrypted data after SSL request|DThis could be either a client-software bug or evidence of an attempted man-in-the-middle attack.||';

const NUMBERS =
  'stricter: a number that does not fit is no number; the server takes what is left of it modulo 2^32';

const NO_SESSIONS =
  'there are no ordinary sessions, whoever would be let in to one; it is said before anything is asked';

const SETTINGS_ALLOWED =
  'a client may set what standbys and tools set; everything else is unknown here, also what only others may set there';

const SETTINGS_UNREAD =
  'a setting that means nothing to a relay is taken as it is: nobody interprets its value';

/** One setting that is refused on both sides, for another reason. */
function refusedSetting(name: string, setting: string, error: string): Deviation {
  return {
    cases: [`+ ${name}`],
    reason: SETTINGS_ALLOWED,
    postgres: ['R 0', `E|FATAL|${error}`, 'closed'],
    walcast: ['R 0', `E|FATAL|42704|unrecognized configuration parameter "${setting}"`, 'closed'],
  };
}

/** One setting whose value only the server looks at. */
function unreadSetting(name: string, error: string): Deviation {
  return {
    cases: [`+ ${name}`],
    reason: SETTINGS_UNREAD,
    postgres: ['R 0', `E|FATAL|22023|${error}`, 'closed'],
    walcast: ['R 0', 'Z I'],
  };
}

export const DEVIATIONS: readonly Deviation[] = [
  {
    cases: ['I9 replication=of'],
    reason: NO_SESSIONS,
    postgres: [noEntry('replication'), 'closed'],
    walcast: [physicalOnly('an ordinary session'), 'closed'],
  },
  {
    cases: ['I10 no replication'],
    reason: NO_SESSIONS,
    postgres: [noEntry('postgres'), 'closed'],
    walcast: [physicalOnly('an ordinary session'), 'closed'],
  },
  {
    cases: ['I10 replication=database'],
    reason: NO_SESSIONS,
    postgres: [noEntry('replication'), 'closed'],
    walcast: [physicalOnly('replication=database'), 'closed'],
  },
  {
    cases: ['I39 SHOW ALL'],
    reason: 'SHOW knows the settings that standbys and tools ask for',
    postgres: ['T', 'C SHOW', 'Z I', 'all'],
    walcast: ['T', 'C SHOW', 'Z I', 'some'],
  },
  {
    cases: ['I42 TIMELINE_HISTORY 4294967297'],
    reason: NUMBERS,
    postgres: [
      'T',
      'E|ERROR|58P01|could not open file "pg_wal/00000001.history": No such file or directory',
      ...READY,
    ],
    walcast: ['E|ERROR|42601|syntax error', ...READY],
  },
  {
    cases: ['I42 TIMELINE_HISTORY 18446744073709551617'],
    reason: NUMBERS,
    postgres: [
      'T',
      'E|ERROR|58P01|could not open file "pg_wal/FFFFFFFF.history": No such file or directory',
      ...READY,
    ],
    walcast: ['E|ERROR|42601|syntax error', ...READY],
  },
  {
    cases: [
      'I46 START_REPLICATION 123456789/0',
      'I46 START_REPLICATION 0/123456789',
      'I49 START_REPLICATION FF/0 TIMELINE 4294967298',
    ],
    reason: NUMBERS,
    postgres: ['W', AHEAD, ...READY],
    walcast: ['E|ERROR|42601|syntax error', ...READY],
  },
  {
    cases: [
      'I61 a query of 900 MB',
      'I61 COPY data of 1 GB less a byte',
      'I71 CopyData of 1 GB less a byte',
      'I71 CopyData of 1 GB less a byte, and a reply of it',
    ],
    reason:
      'stricter: commands and replies have at most 64 KiB; the server waits for all of it, and keeps it in memory',
    postgres: ['waits'],
    walcast: ['closed'],
  },
  {
    cases: ['I69 type 255'],
    reason: 'texts are UTF-8 here; the server puts the byte into its text as it came',
    postgres: ['E|FATAL|08P01|invalid standby message type "\ufffd"', 'closed'],
    walcast: ['E|FATAL|08P01|invalid standby message type "ÿ"', 'closed'],
  },
  {
    cases: ['I75 a stream that fails, with replies behind it'],
    reason:
      'a start beyond our end waits for the upstream to come there, and whoever waits may leave',
    postgres: ['W', AHEAD, ...READY],
    walcast: ['W', 'c', 'C START_STREAMING', 'C START_REPLICATION', ...READY],
  },
  {
    cases: ['I78 a thousand replies that ask for one'],
    reason: 'stricter: one answer in a tenth of a second is enough',
    postgres: ['each is answered'],
    walcast: ['not each is answered'],
  },
  refusedSetting(
    'a parameter that only the server may set',
    'port',
    '55P02|parameter "port" cannot be changed without restarting the server',
  ),
  refusedSetting(
    'a parameter of a superuser',
    'log_statement',
    '42501|permission denied to set parameter "log_statement"',
  ),
  refusedSetting(
    'options with role and session_authorization',
    'role',
    '42501|permission denied to set role "postgres"',
  ),
  refusedSetting(
    'options that make everybody superuser',
    'is_superuser',
    '55P02|parameter "is_superuser" cannot be changed',
  ),
  {
    cases: ['+ options with a switch of the server'],
    reason: 'of the switches of a server only -c and -- exist here',
    postgres: [
      'R 0',
      'E|FATAL|42501|permission denied to set parameter "log_min_messages"',
      'closed',
    ],
    walcast: [
      'R 0',
      'E|FATAL|42601|invalid command-line argument for server process: -d|Try "postgres --help" for more information.',
      'closed',
    ],
  },
  unreadSetting(
    'search_path with SQL in it',
    'invalid value for parameter "search_path": "\'; DROP TABLE x; --"|List syntax is invalid.',
  ),
  unreadSetting(
    'a date style that is none',
    'invalid value for parameter "DateStyle": "nonsense"|Unrecognized key word: "nonsense".',
  ),
  {
    cases: ['+ an application_name of invalid UTF-8'],
    reason: 'names are text here: what is no UTF-8 is a U+FFFD before it is cleaned',
    to: 15,
    postgres: ['application_name\0??(??\0', 'Z I'],
    walcast: ['application_name\0??????(???\0', 'Z I'],
  },
  {
    cases: ['+ an application_name of invalid UTF-8'],
    reason: 'names are text here: what is no UTF-8 is a U+FFFD before it is cleaned',
    from: 16,
    postgres: ['application_name\0\\xff\\xc3(\\xe2\\x82\0', 'Z I'],
    walcast: ['application_name\0\\xef\\xbf\\xbd\\xef\\xbf\\xbd(\\xef\\xbf\\xbd\0', 'Z I'],
  },
  {
    cases: ['I12 an unknown user of 70 bytes'],
    reason:
      'a long name is cut between two characters, as it is where a role is made; the server cuts in the middle of one',
    postgres: wrongPassword(`${'é'.repeat(31)}\ufffd`),
    walcast: wrongPassword('é'.repeat(31)),
  },
  {
    cases: ['I31 an empty nonce'],
    reason: 'stricter: a nonce that is empty makes nothing new',
    postgres: ['R 10 SCRAM-SHA-256', CHALLENGE, 'R 12', 'R 0', 'Z I'],
    walcast: [
      'R 10 SCRAM-SHA-256',
      'E|FATAL|08P01|malformed SCRAM message|The nonce of the client is empty.',
      'closed',
    ],
  },
  {
    cases: ['I4 direct TLS with ALPN'],
    reason: NEWEST_TLS,
    to: 16,
    postgres: ['no handshake'],
    walcast: ['R 0', 'Z I'],
  },
  {
    cases: ['I4 direct TLS without ALPN'],
    reason: NEWEST_TLS,
    to: 16,
    postgres: ['no handshake'],
    walcast: ['closed'],
  },
  {
    cases: ['I4 TLS with another ALPN behind a request'],
    reason: NEWEST_TLS,
    to: 16,
    postgres: ['R 0', 'Z I'],
    walcast: ['no handshake'],
  },
  {
    cases: [
      'I21 an expired certificate',
      'I21 a certificate of tomorrow',
      'I21 a certificate of an unknown authority',
      'I21 a certificate of itself',
      'I21 an expired certificate nobody asked for',
    ],
    reason: 'refused on both sides: with an error of the protocol here, with an alert of TLS there',
    postgres: ['closed'],
    walcast: ['E|FATAL|28000|connection requires a valid client certificate', 'closed'],
  },
  {
    cases: ['I15 SSLRequest and a session in one segment over TCP'],
    reason: SMUGGLED,
    to: 16,
    postgres: ['S', 'waits'],
    walcast: [SMUGGLED_ERROR, 'closed'],
  },
  {
    cases: ['I15 SSLRequest and a session in one segment over TCP'],
    reason: SMUGGLED,
    from: 17,
    postgres: ['S', 'closed'],
    walcast: [SMUGGLED_ERROR, 'closed'],
  },
  {
    cases: ['I15 SSLRequest and a handshake in one segment'],
    reason: SMUGGLED,
    to: 16,
    postgres: ['S', 'waits'],
    walcast: [SMUGGLED_ERROR, 'closed'],
  },
  {
    cases: ['I15 SSLRequest and a handshake in one segment'],
    reason: SMUGGLED,
    from: 17,
    postgres: ['S', 'handshake', 'waits'],
    walcast: [SMUGGLED_ERROR, 'closed'],
  },
  {
    cases: ['I17 SSLRequest inside direct TLS'],
    reason: NEWEST_TLS,
    to: 16,
    postgres: ['no handshake'],
    walcast: ['N', 'R 0', 'Z I'],
  },
  {
    cases: ['I34 a user who may not log in'],
    reason:
      'stricter: whom the question about users does not give is nobody, and is told nothing else',
    postgres: [
      'R 10 SCRAM-SHA-256',
      CHALLENGE,
      'R 12',
      'R 0',
      'E|FATAL|28000|role "nologin" is not permitted to log in',
      'closed',
    ],
    walcast: wrongPassword('nologin'),
  },
];
