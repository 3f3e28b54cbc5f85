import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseConninfoOptions } from '../../src/pg/conninfo-syntax.ts';
import { maskConninfo, parseConninfo } from '../../src/pg/conninfo.ts';
import type { Conninfo } from '../../src/pg/conninfo.ts';

function options(text: string): Record<string, string> | string {
  const parsed = parseConninfoOptions(text);
  return 'error' in parsed ? parsed.error : Object.fromEntries(parsed);
}

function meaning(text: string): Conninfo {
  const parsed = parseConninfo(text);
  if ('error' in parsed) throw new Error(parsed.error);
  return parsed;
}

function complaint(text: string): string | null {
  const parsed = parseConninfo(text);
  return 'error' in parsed ? parsed.error : null;
}

describe('the keyword form', () => {
  it.each([
    ['', {}],
    [' \t\n ', {}],
    ['host=a', { host: 'a' }],
    ['host = a\tport\n=\n1', { host: 'a', port: '1' }],
    ["user='a b' dbname=c", { user: 'a b', dbname: 'c' }],
    ["user='it\\'s' password='back\\\\slash'", { user: "it's", password: 'back\\slash' }],
    ["user=it\\'s\\ me", { user: "it's me" }],
    ["user=a'b'", { user: "a'b'" }],
    ["user=''", { user: '' }],
    ['user=', { user: '' }],
    ["user='a'dbname=b", { user: 'a', dbname: 'b' }],
    ['user=a user=b', { user: 'b' }],
    ['user=a\\', { user: 'a' }],
    ['options=a=b', { options: 'a=b' }],
    ['user= dbname=x', { user: 'dbname=x' }],
    ['user=ü', { user: 'ü' }],
  ])('reads %j', (text, expected) => {
    expect(options(text)).toEqual(expected);
  });

  it.each([
    ['host', 'missing "=" after "host" in connection info string'],
    ['host a', 'missing "=" after "host" in connection info string'],
    ['host=a b', 'missing "=" after "b" in connection info string'],
    ["user='a", 'unterminated quoted string in connection info string'],
    ["user='a\\'", 'unterminated quoted string in connection info string'],
    ['bogus=1', 'invalid connection option "bogus"'],
    ['Host=a', 'invalid connection option "Host"'],
    ['=a', 'invalid connection option ""'],
  ])("refuses %j in libpq's words", (text, error) => {
    expect(options(text)).toBe(error);
  });

  it('gives back any value that was quoted by the rules', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (user, password) => {
        const quote = (value: string): string =>
          `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
        expect(options(`user=${quote(user)} password = ${quote(password)}`)).toEqual({
          user,
          password,
        });
      }),
    );
  });
});

describe('the URI form', () => {
  it.each([
    ['postgres://', {}],
    ['postgresql:///', {}],
    ['postgresql://h', { host: 'h' }],
    ['postgresql://h:1/d', { host: 'h', port: '1', dbname: 'd' }],
    ['postgresql://u@h', { user: 'u', host: 'h' }],
    ['postgresql://u:p@h/d', { user: 'u', password: 'p', host: 'h', dbname: 'd' }],
    ['postgresql://:p@', { password: 'p' }],
    ['postgresql://u:@/d', { user: 'u', dbname: 'd' }],
    ['postgresql://u:a:b@h', { user: 'u', password: 'a:b', host: 'h' }],
    ['postgresql://u%40x:%2F%c3%BC@h', { user: 'u@x', password: '/ü', host: 'h' }],
    ['postgresql://[::1]:5/d', { host: '::1', port: '5', dbname: 'd' }],
    ['postgresql://[::1],b', { host: '::1,b', port: ',' }],
    ['postgresql://a:1,b,c:3/d', { host: 'a,b,c', port: '1,,3', dbname: 'd' }],
    ['postgresql://%2Fvar%2Frun/d', { host: '/var/run', dbname: 'd' }],
    ['postgresql:///d?host=/tmp&port=7', { dbname: 'd', host: '/tmp', port: '7' }],
    ['postgresql://h?sslmode=require&', { host: 'h', sslmode: 'require' }],
    ['postgresql://h?ssl=true', { host: 'h', sslmode: 'require' }],
    ['postgresql://h?user=', { host: 'h', user: '' }],
    ['postgresql://h?application_name=a%20b', { host: 'h', application_name: 'a b' }],
    ['postgresql://h/d/e', { host: 'h', dbname: 'd/e' }],
  ])('reads %s', (text, expected) => {
    expect(options(text)).toEqual(expected);
  });

  it.each([
    [
      'postgres://[::1',
      'end of string reached when looking for matching "]" in IPv6 host address in URI: "postgres://[::1"',
    ],
    ['postgres://[]', 'IPv6 host address may not be empty in URI: "postgres://[]"'],
    [
      'postgres://[::1]x',
      'unexpected character "x" at position 17 in URI (expected ":" or "/"): "postgres://[::1]x"',
    ],
    ['postgres://h?x', 'missing key/value separator "=" in URI query parameter: "x"'],
    ['postgres://h?&port=1', 'missing key/value separator "=" in URI query parameter: ""'],
    ['postgres://h?port=1=2', 'extra key/value separator "=" in URI query parameter: "port"'],
    ['postgres://h?bogus=1', 'invalid URI query parameter: "bogus"'],
    ['postgres://h?ssl=false', 'invalid URI query parameter: "ssl"'],
    ['postgres://h%zz', 'invalid percent-encoded token: "h%zz"'],
    ['postgres://h%4', 'invalid percent-encoded token: "h%4"'],
    ['postgres://h%00', 'forbidden value %00 in percent-encoded value: "h%00"'],
    ['http://h', 'missing "=" after "http://h" in connection info string'],
  ])("refuses %s in libpq's words", (text, error) => {
    expect(options(text)).toBe(error);
  });

  it('does not repeat a password that it cannot read', () => {
    expect(options('postgres://u:secret%@h')).toBe('invalid percent-encoded token: "***"');
    expect(options('postgres://h?password=secret%00')).toBe(
      'forbidden value %00 in percent-encoded value: "***"',
    );
    expect(options('postgres://u:secret@[::1')).not.toContain('secret');
  });
});

describe('parseConninfo', () => {
  it("has libpq's defaults, and localhost", () => {
    expect(meaning('')).toEqual({
      hosts: [{ host: 'localhost', hostaddr: null, port: 5432 }],
      user: null,
      password: null,
      database: null,
      applicationName: null,
      connectTimeoutSeconds: null,
      sslmode: 'prefer',
      options: null,
      others: new Map(),
    });
  });

  it('understands every option that a session needs and hands on the others', () => {
    expect(
      meaning(
        `host=/run port=6 user=u password=p dbname=d application_name=a connect_timeout=10
        sslmode=verify-full options='-c a=b' keepalives=1 passfile=/x sslrootcert=system`,
      ),
    ).toEqual({
      hosts: [{ host: '/run', hostaddr: null, port: 6 }],
      user: 'u',
      password: 'p',
      database: 'd',
      applicationName: 'a',
      connectTimeoutSeconds: 10,
      sslmode: 'verify-full',
      options: '-c a=b',
      others: new Map([
        ['keepalives', '1'],
        ['passfile', '/x'],
        ['sslrootcert', 'system'],
      ]),
    });
  });

  it('pairs hosts, addresses and ports', () => {
    const hosts = (text: string): string[] =>
      meaning(text).hosts.map((each) => `${each.host}|${each.hostaddr}|${each.port}`);
    expect(hosts('host=a,b')).toEqual(['a|null|5432', 'b|null|5432']);
    expect(hosts('host=a,b port=1')).toEqual(['a|null|1', 'b|null|1']);
    expect(hosts('host=a,,@c port=1,,3')).toEqual(['a|null|1', 'localhost|null|5432', '@c|null|3']);
    expect(hosts('hostaddr=::1')).toEqual(['::1|::1|5432']);
    expect(hosts('host=a,b hostaddr=1.1.1.1,')).toEqual(['a|1.1.1.1|5432', 'b|null|5432']);
    expect(hosts("port=' 7 '")).toEqual(['localhost|null|7']);
    expect(hosts('postgres://a,b:2')).toEqual(['a|null|5432', 'b|null|2']);
  });

  it('takes empty values for absent ones and the fallback for the name', () => {
    expect(meaning("user='' password='' dbname='' application_name=''")).toMatchObject({
      user: null,
      password: null,
      database: null,
      applicationName: null,
    });
    expect(meaning('fallback_application_name=f').applicationName).toBe('f');
    expect(meaning('application_name=a fallback_application_name=f').applicationName).toBe('a');
  });

  it.each([
    ['port=0', 'invalid port number: "0"'],
    ['port=65536', 'invalid port number: "65536"'],
    ['port=-1', 'invalid port number: "-1"'],
    ['port=x', 'invalid integer value "x" for connection option "port"'],
    ['port=99999999999', 'invalid integer value "99999999999" for connection option "port"'],
    ['port=1,2', 'could not match 2 port numbers to 1 hosts'],
    ['host=a,b port=1,2,3', 'could not match 3 port numbers to 2 hosts'],
    ['host=a,b hostaddr=1.1.1.1', 'could not match 2 host names to 1 hostaddr values'],
    ['sslmode=on', 'invalid sslmode value: "on"'],
    ['sslmode=', 'invalid sslmode value: ""'],
    ['connect_timeout=1s', 'invalid integer value "1s" for connection option "connect_timeout"'],
    ['keepalives_idle=x', 'invalid integer value "x" for connection option "keepalives_idle"'],
    ['target_session_attrs=rw', 'invalid target_session_attrs value: "rw"'],
    ['load_balance_hosts=yes', 'invalid load_balance_hosts value: "yes"'],
    ['channel_binding=yes', 'invalid channel_binding value: "yes"'],
    ['host', 'missing "=" after "host" in connection info string'],
  ])("refuses %s in libpq's words", (text, error) => {
    expect(complaint(text)).toBe(error);
  });

  it('bounds the number of hosts', () => {
    expect(complaint(`host=${'a,'.repeat(64)}a`)).toMatch(/^more than 64 hosts/);
  });

  it('understands or complains, whatever the text', () => {
    const piece = fc.constantFrom(
      ..."host port user password = ' \\ , postgres:// @ : / ? & % %41 [ ] 1 a".split(' '),
      ' ',
    );
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const text = pieces.join('');
        expect(complaint(text) === null || complaint(text) !== '').toBe(true);
        expect(typeof maskConninfo(text)).toBe('string');
      }),
      { numRuns: 500 },
    );
  });
});

describe('maskConninfo', () => {
  it.each([
    ['host=a user=b', 'host=a user=b'],
    ['host=a password=secret user=b', 'host=a password=*** user=b'],
    ["password = 'sec ret' user=b", 'password = *** user=b'],
    ["password='sec\\'ret'", 'password=***'],
    ['sslpassword=secret', 'sslpassword=***'],
    ['host=a password=sec ret', 'host=a password=*** ***'],
    ["host=a password='secret", 'host=a ***'],
    ['postgres://u@h/d', 'postgres://u@h/d'],
    ['postgres://h:5432/d', 'postgres://h:5432/d'],
    ['postgres://u:secret@h:1/d?x=y', 'postgres://u:***@h:1/d?x=y'],
    ['postgres://u:sec@ret@h', 'postgres://u:***@h'],
    ['postgres://u:sec/ret@h', 'postgres://u:***@h'],
    ['postgres://h?user=u&password=secret&port=1', 'postgres://h?user=u&password=***&port=1'],
    ['postgres://h?pass%77ord=secret', 'postgres://h?pass%77ord=***'],
    ['postgres://h?pass%zz=secret', 'postgres://h?***'],
  ])('shows %s as %s', (text, shown) => {
    expect(maskConninfo(text)).toBe(shown);
  });

  it('never shows a password that was given by the rules', () => {
    const password = fc.string({ minLength: 1 }).map((text) => `<${text}>`);
    fc.assert(
      fc.property(password, (secret) => {
        const quoted = `'${secret.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
        expect(maskConninfo(`host=h password=${quoted} user=u`)).toBe('host=h password=*** user=u');
        const encoded = encodeURIComponent(secret);
        expect(maskConninfo(`postgres://u:${encoded}@h/d?password=${encoded}`)).toBe(
          'postgres://u:***@h/d?password=***',
        );
      }),
    );
  });
});
