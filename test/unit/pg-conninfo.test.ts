import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseConninfoOptions } from '../../src/pg/conninfo-syntax.ts';
import { parseConninfo } from '../../src/pg/conninfo.ts';
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
    ['requiressl=1', { sslmode: 'require' }],
    ['sslmode=disable requiressl=0', { sslmode: 'prefer' }],
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
    ['postgresql://u:p?q@h', { user: 'u', password: 'p?q', host: 'h' }],
    ['postgresql://h?requiressl=1', { host: 'h', sslmode: 'require' }],
    ['postgresql:// h :1/ d ? user = u ', { host: 'h', port: '1', dbname: 'd', user: 'u' }],
    ['postgresql://h/%20d%20', { host: 'h', dbname: ' d ' }],
    ['postgresql://h/a\tb', { host: 'h', dbname: 'a\tb' }],
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
    [
      'postgres://h/a b',
      'unexpected spaces found in "a b", use percent-encoded spaces (%20) instead',
    ],
    ['http://h', 'missing "=" after "***" in connection info string'],
  ])("refuses %s in libpq's words", (text, error) => {
    expect(options(text)).toBe(error);
  });

  it('does not repeat a password that it cannot read', () => {
    expect(options('postgres://u:secret%@h')).toBe('invalid percent-encoded token: "***"');
    expect(options('postgres://h?password=secret%00')).toBe(
      'forbidden value %00 in percent-encoded value: "***"',
    );
    expect(options('postgres://u:secret@[::1')).not.toContain('secret');
    expect(options('postgres://u:two secrets@h')).toBe(
      'unexpected spaces found in "***", use percent-encoded spaces (%20) instead',
    );
    expect(options('password=two secrets')).toBe(
      'missing "=" after "***" in connection info string',
    );
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
      tls: {
        mode: 'prefer',
        negotiation: 'postgres',
        rootCert: null,
        crl: null,
        crlDirectory: null,
        cert: null,
        key: null,
        keyPassword: null,
        certMode: 'allow',
        sni: true,
        minVersion: 'TLSv1.2',
        maxVersion: null,
      },
      channelBinding: 'prefer',
      requireAuth: null,
      targetSessionAttrs: 'any',
      loadBalanceHosts: 'disable',
      keepalive: { isOn: true, idleMs: 0 },
      requirePeer: null,
      passfile: null,
      options: null,
      given: new Map(),
    });
  });

  it('understands every option that a session needs', () => {
    expect(
      meaning(
        `host=/run port=6 user=u password=p dbname=d application_name=a connect_timeout=10
        options='-c a=b' passfile=/x require_auth=scram-sha-256 channel_binding=require
        target_session_attrs=read-write load_balance_hosts=random keepalives=1 keepalives_idle=7`,
      ),
    ).toMatchObject({
      hosts: [{ host: '/run', hostaddr: null, port: 6 }],
      user: 'u',
      password: 'p',
      database: 'd',
      applicationName: 'a',
      connectTimeoutSeconds: 10,
      options: '-c a=b',
      passfile: '/x',
      requireAuth: 'scram-sha-256',
      channelBinding: 'require',
      targetSessionAttrs: 'read-write',
      loadBalanceHosts: 'random',
      keepalive: { isOn: true, idleMs: 7_000 },
    });
  });

  it('understands everything about TLS', () => {
    expect(
      meaning(
        `sslmode=verify-full sslnegotiation=direct sslrootcert=r sslcrl=l sslcrldir=d sslcert=c
        sslkey=k sslpassword=p sslcertmode=require sslsni=0 ssl_min_protocol_version=tlsv1.3
        ssl_max_protocol_version=TLSV1.3`,
      ).tls,
    ).toEqual({
      mode: 'verify-full',
      negotiation: 'direct',
      rootCert: 'r',
      crl: 'l',
      crlDirectory: 'd',
      cert: 'c',
      key: 'k',
      keyPassword: 'p',
      certMode: 'require',
      sni: false,
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
    });
    expect(meaning('ssl_min_protocol_version=TLSv1').tls.minVersion).toBe('TLSv1.2');
    expect(meaning('keepalives=0').keepalive.isOn).toBe(false);
    expect(meaning('sslsni=').tls.sni).toBe(false);
  });

  it('checks the host name, too, where it trusts the roots of the machine', () => {
    expect(meaning('sslrootcert=system').tls.mode).toBe('verify-full');
    expect(meaning('sslrootcert=system').tls.mode).toBe('verify-full');
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
    const emptied = "application_name='' fallback_application_name=f";
    expect(meaning(emptied).applicationName).toBeNull();
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
      }),
      { numRuns: 500 },
    );
  });
});
