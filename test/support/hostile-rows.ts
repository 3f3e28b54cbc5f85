// Which test shows what becomes of each kind of bad input? Rows whose input is sent to a server as well are cases of the
// differential suite; here are those that are about something else, and further witnesses of some others.

/** A test, by its file and a piece of its name as it is written there (or of its case, where there is a table of them). */
export interface Witness {
  readonly file: string;
  readonly text: string;
}

function witnesses(file: string, ...texts: readonly string[]): Witness[] {
  return texts.map((text) => ({ file, text }));
}

const STREAM = 'test/session/walreceiver-stream.test.ts';
const IDENTIFY = 'test/session/walreceiver-identify.test.ts';
const TIMELINES = 'test/session/walreceiver-timelines.test.ts';
const CONFIG_CASES = 'test/support/config-cases.ts';
const CONFIG_LOAD = 'test/unit/config-load.test.ts';
const BAD_START = 'test/fault/bad-start.test.ts';
const HOSTILE = 'test/unit/http-hostile.test.ts';
const ACTIONS = 'test/unit/http-actions.test.ts';
const HTTP = 'test/unit/http-server.test.ts';
const TLS_STARTUP = 'test/session/tls-startup.test.ts';

/** By row. */
export const WITNESSES: Readonly<Record<string, readonly Witness[]>> = {
  I16: witnesses(
    'test/session/upstream-tls.test.ts',
    "'Sx'",
    'ends the attempt, with sslmode=prefer as well',
  ),
  I20: witnesses(TLS_STARTUP, "'renegotiation'", "'TLSv1.1'", 'a cipher that we do not have'),
  I22: witnesses(
    'test/session/upstream-hostile-login.test.ts',
    'a SQLSTATE "%s" is none',
    'bytes that make no sense',
  ),
  I26: witnesses('test/unit/wire-scram-server.test.ts', 'whatever bytes come'),
  I32: witnesses(
    'test/unit/wire-scram-client.test.ts',
    'a billion iterations',
    'a nonce that is not ours',
  ),
  I33: witnesses('test/session/walreceiver-login.test.ts', 'in clear text or by MD5 is refused'),
  I34: witnesses('test/pg/auth-query.test.ts', 'VALID UNTIL is honoured'),
  I35: witnesses('test/session/walreceiver-login.test.ts', 'past a login of its own'),
  I80: [
    ...witnesses(
      STREAM,
      'WALData shorter than its header',
      'a keepalive of 17 bytes',
      'an unknown replication message',
    ),
    ...witnesses('test/pg/hostile-upstream.test.ts', 'is left alike'),
  ],
  I81: [
    ...witnesses(STREAM, "'a gap'", "'an overlap'"),
    ...witnesses('test/pg/hostile-upstream.test.ts', 'WAL beyond what the server says it has'),
  ],
  I82: witnesses(STREAM, 'a message of a gigabyte'),
  I83: witnesses('test/unit/wal-record-walk.test.ts', 'finds damage in'),
  I84: witnesses(IDENTIFY, "'timeline 0'", 'a timeline beyond 2^31', "'no row'"),
  I85: witnesses(IDENTIFY, 'has only comments', 'is refused under another name', "'is empty'"),
  I86: witnesses(TIMELINES, 'a timeline that is not later', 'is refused when nothing is named'),
  I87: [
    ...witnesses(STREAM, 'by an error in the middle of COPY'),
    ...witnesses('test/pg/hostile-upstream.test.ts', 'CommandComplete without CopyDone'),
  ],
  I88: [
    ...witnesses(
      STREAM,
      'a flood of parameters ends the session',
      'notices, notifications and changed parameters',
    ),
    ...witnesses('test/pg/hostile-upstream.test.ts', 'thirty thousand notices'),
  ],
  I89: witnesses('test/session/upstream-tls.test.ts', 'self-signed', 'TLS_UNKNOWN_CA'),
  I90: [
    ...witnesses(
      CONFIG_CASES,
      'keys that are misspelt',
      'a key given twice',
      'an empty file',
      'a file that is too large',
    ),
    ...witnesses(
      CONFIG_LOAD,
      'a byte order mark does no harm',
      'anchors work, and an expansion bomb is cut short',
    ),
  ],
  I91: [
    ...witnesses(CONFIG_LOAD, 'a negative time'),
    ...witnesses('test/unit/config-units.test.ts', 'sizes and times'),
  ],
  I92: [
    ...witnesses(CONFIG_CASES, 'a size below -1'),
    ...witnesses(CONFIG_LOAD, 'a size out of all range'),
  ],
  I93: witnesses(
    BAD_START,
    'lets others in: the command that closes it is named',
    'is a file, or a link to nowhere',
    "is a PostgreSQL server's",
    'is on a file system that is read-only',
  ),
  I94: [
    ...witnesses(
      CONFIG_CASES,
      'files with secrets that everybody reads',
      'a token file that is empty',
    ),
    ...witnesses('test/unit/relay-secret-files.test.ts', 'a file that cannot be used'),
    ...witnesses('test/unit/base-secret-mode.test.ts', 'a file of our own'),
  ],
  I95: witnesses(
    'test/session/tls-reload.test.ts',
    'a start with files that cannot be used is refused with what to do',
    'is not in use while its key is not there',
  ),
  I96: [
    ...witnesses(BAD_START, 'a port that is taken'),
    ...witnesses(
      'test/unit/net-listener.test.ts',
      'refuses a Unix socket path that is too long',
      'refuses a port in use',
    ),
  ],
  I97: witnesses(
    CONFIG_CASES,
    'more synchronous standbys than there are names',
    'names of synchronous standbys that PostgreSQL would refuse',
  ),
  I98: witnesses(
    CONFIG_CASES,
    'a connection string with an unknown option',
    'a connection string that ends in the middle',
  ),
  I99: witnesses(
    CONFIG_CASES,
    'inline access rules with mistakes',
    'a file of access rules with mistakes',
  ),
  I100: [
    ...witnesses(
      ACTIONS,
      'is refused without one, with a wrong one, and nothing is done',
      'guessing over the port ends in 429',
    ),
    ...witnesses(
      HOSTILE,
      'one that is too short, too long, cut off or nearly right',
      'has a token in it',
    ),
  ],
  I101: [
    ...witnesses(
      ACTIONS,
      '64 KiB and more',
      'a prototype',
      'a form, or a body without end, is refused',
    ),
    ...witnesses(HTTP, 'a body over the bound'),
    ...witnesses(
      HOSTILE,
      'a gigabyte that is announced',
      'lists in lists',
      'a key twice',
      'one without end of somebody without a token',
    ),
  ],
  I102: [
    ...witnesses(HTTP, 'headers that do not arrive end the connection'),
    ...witnesses(
      'test/unit/http-held-connections.test.ts',
      'a full house of clients that say nothing is emptied',
    ),
    ...witnesses(HOSTILE, 'that dribble do not get more time with each byte'),
  ],
  I103: [
    ...witnesses(
      'test/unit/http-wal.test.ts',
      'a path that is made to climb',
      '%2e%2e%2fetc%2fpasswd',
    ),
    ...witnesses(HTTP, 'an encoded zero', 'a very long path', 'two lengths'),
    ...witnesses(HOSTILE, 'nothing is done, and no second request is seen in it'),
  ],
  I104: [
    ...witnesses(ACTIONS, 'reaches the rule for names as it was meant'),
    ...witnesses(HOSTILE, 'a name cannot end its label, nor begin a line'),
  ],
  I105: [
    ...witnesses(
      'test/unit/http-json.test.ts',
      'every field has the name and form that scripts rely on',
    ),
    ...witnesses(HOSTILE, 'an LSN is text, and no digit of it is lost'),
  ],
  I106: witnesses(ACTIONS, 'in the same words', 'may come twice'),
  I107: [
    ...witnesses(
      'test/unit/metrics-exposition.test.ts',
      'ask for the status once',
      'a scrape with a thousand standbys',
    ),
    ...witnesses(HOSTILE, 'are answered from few renderings'),
  ],
  I108: [
    ...witnesses('test/unit/http-json.test.ts', 'the Host header on loopback'),
    ...witnesses(HTTP, 'a request in the name of another site is refused on loopback'),
    ...witnesses(
      HOSTILE,
      'a form that a browser sends for another site does nothing',
      'is not that of this machine',
    ),
  ],
};
