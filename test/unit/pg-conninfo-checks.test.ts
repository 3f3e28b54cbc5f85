// Which connection strings are refused, and are the words libpq's? (The differential test asks libpq itself.)
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseConninfoOptions } from '../../src/pg/conninfo-syntax.ts';
import { conninfoWarnings } from '../../src/pg/conninfo-warnings.ts';
import { conninfoOf, parseConninfo } from '../../src/pg/conninfo.ts';
import { CONNINFO_OPTIONS } from '../../src/pg/conninfo-options.ts';

/** Why `text` is refused when nothing is added to it. */
function complaint(text: string): string | null {
  const options = parseConninfoOptions(text);
  const meaning = 'error' in options ? options : conninfoOf(options, 'complete');
  return 'error' in meaning ? meaning.error : null;
}

/** Why `text` is refused whatever its surroundings say. */
function hopeless(text: string): string | null {
  const parsed = parseConninfo(text);
  return 'error' in parsed ? parsed.error : null;
}

const LONG = `/${'x'.repeat(100)}`;
const SCRAM_KEY = Buffer.alloc(32).toString('base64');

describe('a connection string', () => {
  it.each([
    ['port=0', 'invalid port number: "0"'],
    ['port=65536', 'invalid port number: "65536"'],
    ['port=-1', 'invalid port number: "-1"'],
    ['port=x', 'invalid integer value "x" for connection option "port"'],
    ["port='1 2'", 'invalid integer value "1 2" for connection option "port"'],
    ['port=99999999999', 'invalid integer value "99999999999" for connection option "port"'],
    ['port=1,2', 'could not match 2 port numbers to 1 hosts'],
    ['host=a,b port=1,2,3', 'could not match 3 port numbers to 2 hosts'],
    ['host=a,b port=1,x', 'invalid integer value "x" for connection option "port"'],
    ['host=a,b hostaddr=1.1.1.1', 'could not match 2 host names to 1 hostaddr values'],
    ['host=a hostaddr=,', 'could not match 1 host names to 2 hostaddr values'],
    ['hostaddr=a', 'could not parse network address "a": Name or service not known'],
    ['hostaddr=/tmp', 'could not parse network address "/tmp": Name or service not known'],
    ['hostaddr=256.1', 'could not parse network address "256.1": Name or service not known'],
    [
      'hostaddr=1.1.1.256',
      'could not parse network address "1.1.1.256": Name or service not known',
    ],
    [
      'hostaddr=1.1.1.1.1',
      'could not parse network address "1.1.1.1.1": Name or service not known',
    ],
    ['hostaddr=[::1]', 'could not parse network address "[::1]": Name or service not known'],
    [
      `host=${LONG}`,
      `Unix-domain socket path "${LONG}/.s.PGSQL.5432" is too long (maximum 107 bytes)`,
    ],
    ['require_auth=x', 'invalid require_auth value: "x"'],
    ['require_auth=md5,', 'invalid require_auth value: ""'],
    ['require_auth=!', 'invalid require_auth value: ""'],
    ["require_auth=' md5'", 'invalid require_auth value: " md5"'],
    ['require_auth=md5,none,md5', 'require_auth method "md5" is specified more than once'],
    ['require_auth=!none,!none', 'require_auth method "!none" is specified more than once'],
    [
      'require_auth=md5,!none',
      'negative require_auth method "!none" cannot be mixed with non-negative methods',
    ],
    ['require_auth=!md5,none', 'require_auth method "none" cannot be mixed with negative methods'],
    ['channel_binding=yes', 'invalid channel_binding value: "yes"'],
    ['sslmode=on', 'invalid sslmode value: "on"'],
    ['sslmode=', 'invalid sslmode value: ""'],
    ['sslnegotiation=x', 'invalid sslnegotiation value: "x"'],
    [
      'sslnegotiation=direct',
      'weak sslmode "prefer" may not be used with sslnegotiation=direct (use "require", "verify-ca", or "verify-full")',
    ],
    [
      'sslrootcert=system sslmode=verify-ca',
      'weak sslmode "verify-ca" may not be used with sslrootcert=system (use "verify-full")',
    ],
    ['ssl_min_protocol_version=1.2', 'invalid "ssl_min_protocol_version" value: "1.2"'],
    ['ssl_max_protocol_version=x', 'invalid "ssl_max_protocol_version" value: "x"'],
    ['ssl_max_protocol_version=TLSv1.1', 'invalid SSL protocol version range'],
    [
      'ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2',
      'invalid SSL protocol version range',
    ],
    ['sslcertmode=yes', 'invalid sslcertmode value: "yes"'],
    ['gssencmode=on', 'invalid gssencmode value: "on"'],
    ['target_session_attrs=rw', 'invalid target_session_attrs value: "rw"'],
    ['load_balance_hosts=yes', 'invalid load_balance_hosts value: "yes"'],
    ['scram_client_key=!', 'invalid SCRAM client key'],
    ['scram_server_key=AAAA', 'invalid SCRAM server key length: 3'],
    ['min_protocol_version=3', 'invalid min_protocol_version value: "3"'],
    ['max_protocol_version=', 'invalid max_protocol_version value: ""'],
    [
      'min_protocol_version=latest max_protocol_version=3.0',
      '"min_protocol_version" is greater than "max_protocol_version"',
    ],
    ['connect_timeout=1s', 'invalid integer value "1s" for connection option "connect_timeout"'],
    ['connect_timeout=', 'invalid integer value "" for connection option "connect_timeout"'],
    ['keepalives=x', 'invalid integer value "x" for connection option "keepalives"'],
    ['keepalives_idle=x', 'invalid integer value "x" for connection option "keepalives_idle"'],
    ['keepalives_count=', 'invalid integer value "" for connection option "keepalives_count"'],
    [
      'tcp_user_timeout=1ms',
      'invalid integer value "1ms" for connection option "tcp_user_timeout"',
    ],
    // The first mistake in libpq's order, not in that of the text.
    ['load_balance_hosts=x sslmode=x require_auth=x', 'invalid require_auth value: "x"'],
    ['host=a,b hostaddr=1.1.1.1 port=1,2,3', 'could not match 2 host names to 1 hostaddr values'],
  ])("is refused in libpq's words: %s", (text, error) => {
    expect(complaint(text)).toBe(error);
  });

  it.each([
    ['gssencmode=require', /^gssencmode value "require" invalid when GSSAPI .* \(use "disable"/],
    ['require_auth=gss,sspi', /leaves no method that walcast speaks \(use "scram-sha-256"/],
    ["ssl_min_protocol_version='' ssl_max_protocol_version=TLSv1.1", /is below TLSv1\.2/],
    ['min_protocol_version=3.2', /asks for more than protocol 3\.0/],
    [`scram_client_key=${SCRAM_KEY}`, /^scram_client_key cannot be used by walcast/],
    ['host=/run requirepeer=postgres', /^requirepeer parameter is not supported/],
    [`host=${'a,'.repeat(64)}a`, /^more than 64 hosts/],
    ["user='a\0b'", /^connection option "user" contains a zero byte/],
  ])('is refused for what walcast cannot do: %s', (text, error) => {
    expect(complaint(text)).toMatch(error);
    expect(hopeless(text)).toMatch(error);
  });

  it.each([
    'hostaddr=127.1',
    'hostaddr=0x7f.0.0.1',
    'hostaddr=1',
    'hostaddr=fe80::1%eth0',
    'hostaddr=::ffff:127.0.0.1',
    `host=/${'x'.repeat(95)} port=1`,
    'host=/run keepalives=x keepalives_idle=x tcp_user_timeout=x',
    'host=@abstract',
    'keepalives=0 keepalives_idle=x',
    "require_auth='' port='' hostaddr='' host=''",
    'require_auth=none,gss',
    'require_auth=!gss,!oauth',
    'sslrootcert=system sslnegotiation=direct',
    'gssencmode=prefer sslcompression=1 krbsrvname=x',
    'min_protocol_version=3.0 max_protocol_version=latest',
    'host=a requirepeer=postgres',
    'port=+5432',
  ])('is taken: %s', (text) => {
    expect(complaint(text)).toBeNull();
  });

  it.each(['port=1,2', 'sslnegotiation=direct', 'requirepeer=postgres'])(
    'is left in peace where its surroundings may put it right: %s',
    (text) => {
      expect(hopeless(text)).toBeNull();
    },
  );

  it.each([
    'host=a port=1,2',
    'sslnegotiation=direct sslmode=prefer',
    'sslrootcert=system sslmode=require',
  ])('is refused where nothing can put it right: %s', (text) => {
    expect(hopeless(text)).toBe(complaint(text));
    expect(hopeless(text)).not.toBeNull();
  });

  it('never makes the reader throw, whatever stands in its options', () => {
    const keyword = fc.constantFrom(...CONNINFO_OPTIONS.keys());
    const value = fc.oneof(
      fc.string(),
      fc.constantFrom('1', '0', '', ',', 'a,b', '/x', '@', 'require', 'system', '!none', '-1'),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(keyword, value), { maxLength: 6 }), (pairs) => {
        const options = new Map(pairs);
        for (const extent of ['given', 'complete'] as const) {
          const meaning = conninfoOf(options, extent);
          if ('error' in meaning) expect(meaning.error).not.toBe('');
          else expect(meaning.hosts.length).toBeGreaterThan(0);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('that is refused as given is refused when completed by nothing', () => {
    const pair = fc.tuple(
      fc.constantFrom('host', 'hostaddr', 'port', 'sslmode', 'sslrootcert', 'sslnegotiation'),
      fc.constantFrom('a', 'a,b', '1', '1,2', '127.0.0.1', 'system', 'direct', 'require', 'allow'),
    );
    fc.assert(
      fc.property(fc.array(pair, { maxLength: 5 }), (pairs) => {
        const options = new Map(pairs);
        const given = conninfoOf(options, 'given');
        if ('error' in given) expect(conninfoOf(options, 'complete')).toHaveProperty('error');
      }),
    );
  });
});

describe('a warning', () => {
  it.each([
    ['krbsrvname', 'x'],
    ['oauth_issuer', 'x'],
    ['client_encoding', 'x'],
    ['replication', 'true'],
    ['sslkeylogfile', 'x'],
    ['tcp_user_timeout', '1'],
    ['sslcompression', '1'],
    ['ssl_min_protocol_version', 'TLSv1'],
  ])('is given for %s, without its value', (keyword, value) => {
    const warnings = conninfoWarnings(new Map([[keyword, value]]));
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(`connection option ${keyword} `);
  });

  it('is given for nothing that is done as it says', () => {
    const text = 'host=a sslmode=require gssencmode=prefer sslcompression=0 keepalives_idle=3';
    const options = parseConninfoOptions(text);
    expect('error' in options ? options : conninfoWarnings(options)).toEqual([]);
  });
});
