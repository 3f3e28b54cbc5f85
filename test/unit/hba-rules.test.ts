// Rules of pg_hba.conf: what matches, in which order, and what each wrong line is told.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findHbaRule, parseHba } from '../../src/pg/hba.ts';
import type { HbaConnection, HbaError, HbaRules, HostNames } from '../../src/pg/hba.ts';
import { isInNetwork, parseIpAddress, prefixMask } from '../../src/pg/ip-address.ts';

const LOCAL_ADDRESSES = [
  { address: '127.0.0.1', netmask: '255.0.0.0' },
  { address: '10.1.2.3', netmask: '255.255.255.0' },
  { address: 'fe80::1', netmask: 'ffff:ffff:ffff:ffff::' },
  // Without a network.
  { address: '192.0.2.1', netmask: '0.0.0.0' },
  { address: '2001:db8::1', netmask: '::' },
];

const NOBODY_ANSWERS: HostNames = {
  nameOf: () => Promise.resolve(null),
  addressesOf: () => Promise.resolve([]),
};

function rulesOf(text: string): HbaRules {
  const parsed = parseHba(text);
  if ('rules' in parsed) return parsed;
  throw new Error(`unexpected errors: ${JSON.stringify(parsed)}`);
}

function errorsOf(text: string): readonly HbaError[] {
  const parsed = parseHba(text);
  if ('rules' in parsed) throw new Error('no errors');
  return parsed;
}

function replication(overrides: Partial<HbaConnection> = {}): HbaConnection {
  return {
    isLocal: false,
    isEncrypted: false,
    address: '10.0.0.7',
    user: 'replicator',
    database: '',
    isReplication: true,
    ...overrides,
  };
}

function matchedLine(text: string, connection: HbaConnection): number | null {
  const rule = findHbaRule(rulesOf(text), connection, {
    localAddresses: LOCAL_ADDRESSES,
    names: NOBODY_ANSWERS,
  });
  if (rule instanceof Promise) throw new Error('a name was looked up');
  return rule?.line ?? null;
}

describe('matching', () => {
  it('takes the first rule that matches', () => {
    const text = [
      '# comment',
      'host replication replicator 10.0.0.0/8 reject # trailing',
      '',
      'host replication all all trust',
    ].join('\n');
    expect(matchedLine(text, replication())).toBe(2);
    expect(matchedLine(text, replication({ address: '192.168.0.1' }))).toBe(4);
  });

  it('matches a physical replication connection with the word replication only', () => {
    expect(matchedLine('host all all all trust', replication())).toBeNull();
    expect(matchedLine('host "replication" all all trust', replication())).toBeNull();
    expect(matchedLine('host postgres,replication all all trust', replication())).toBe(1);
  });

  it('does not match an ordinary session with the word replication, quoted it is a name', () => {
    const session = replication({ isReplication: false, database: 'replication' });
    expect(matchedLine('host replication all all trust', session)).toBeNull();
    expect(matchedLine('host "replication" all all trust', session)).toBe(1);
    expect(matchedLine('host all all all trust', session)).toBe(1);
  });

  it('knows sameuser', () => {
    const session = replication({ isReplication: false, database: 'ann', user: 'ann' });
    expect(matchedLine('host sameuser all all trust', session)).toBe(1);
    expect(matchedLine('host sameuser all all trust', { ...session, user: 'bob' })).toBeNull();
  });

  it('compares user names exactly, and a quoted "all" is a user called all', () => {
    expect(matchedLine('host replication Replicator all trust', replication())).toBeNull();
    expect(matchedLine('host replication "all" all trust', replication())).toBeNull();
    expect(matchedLine('host replication "all" all trust', replication({ user: 'all' }))).toBe(1);
    expect(
      matchedLine('host replication "a b","c""d" all trust', replication({ user: 'c"d' })),
    ).toBe(1);
  });

  it('goes on with a field behind "a," but not behind "a ,"', () => {
    expect(matchedLine('host replication ann, replicator all trust', replication())).toBe(1);
    expect(errorsOf('host replication ann , replicator all trust')[0]?.message).toBe(
      'invalid authentication method "all"',
    );
  });

  it('joins lines that end in a backslash, and numbers them by the first', () => {
    expect(matchedLine('\nhost replication \\\n replicator all \\\n trust', replication())).toBe(2);
  });

  it.each([
    ['local', { isLocal: true, address: null }, true],
    ['local', {}, false],
    ['host', { isLocal: true, address: null }, false],
    ['host', { isEncrypted: true }, true],
    ['hostssl', {}, false],
    ['hostssl', { isEncrypted: true }, true],
    ['hostnossl', {}, true],
    ['hostnossl', { isEncrypted: true }, false],
  ] as const)('type %s against %o: %s', (type, overrides, expected) => {
    const text = `${type} replication all ${type === 'local' ? '' : 'all'} trust`;
    expect(matchedLine(text, replication(overrides)) === 1).toBe(expected);
  });

  it.each([
    ['10.0.0.7/32', '10.0.0.7', true],
    ['10.0.0.7/32', '10.0.0.8', false],
    ['10.0.0.0/9', '10.127.1.1', true],
    ['10.0.0.0/9', '10.128.1.1', false],
    ['10.0.0.0 255.255.0.0', '10.0.9.9', true],
    ['10.0.0.0 255.255.0.0', '10.1.9.9', false],
    ['0.0.0.0/0', '203.0.113.9', true],
    ['0.0.0.0/0', '2001:db8::1', false],
    ['::/0', '2001:db8::1', true],
    ['::/0', '203.0.113.9', false],
    ['2001:db8::/32', '2001:db8:ffff::1', true],
    ['2001:db8::/32', '2001:db9::1', false],
    ['fe80:: ffff::', 'fe80::9', true],
    ['samehost', '10.1.2.3', true],
    ['samehost', '10.1.2.4', false],
    ['samenet', '10.1.2.4', true],
    ['samenet', '10.1.3.4', false],
    ['samenet', 'fe80::77', true],
    ['samenet', '192.0.2.1', true],
    ['samenet', '203.0.113.9', false],
    ['samenet', '2001:db8::1', true],
    ['samenet', '2001:db8::2', false],
    ['samehost', 'fe80::1%eth0', true],
    ['fe80::/10', 'fe80::9%eth0', true],
    ['fe80::/10', '2001:db8::1%eth0', false],
    ['all', 'fe80::9%eth0', true],
  ])('address %s against %s: %s', (rule, address, expected) => {
    const text = `host replication all ${rule} trust`;
    expect(matchedLine(text, replication({ address })) === 1).toBe(expected);
  });

  it('looks at the addresses of this machine once, however many rules mean them', () => {
    let looks = 0;
    const own = {
      get address(): string {
        looks += 1;
        return '10.1.2.3';
      },
      netmask: '255.255.255.0',
    };
    const rules = rulesOf('host replication all samenet reject\n'.repeat(50));
    const surroundings = { localAddresses: [own], names: NOBODY_ANSWERS };
    expect(findHbaRule(rules, replication(), surroundings)).toBeNull();
    expect(looks).toBe(1);
  });

  it('matches nothing without rules', () => {
    expect(matchedLine('# nothing\n', replication())).toBeNull();
  });
});

describe('errors', () => {
  it.each([
    ['hosts replication all all trust', 'invalid connection type "hosts"'],
    ['host', 'end-of-line before database specification'],
    ['host replication', 'end-of-line before role specification'],
    ['host replication all', 'end-of-line before IP address specification'],
    ['host replication all 10.0.0.1', 'end-of-line before netmask specification'],
    ['host replication all all', 'end-of-line before authentication method'],
    ['local replication all', 'end-of-line before authentication method'],
    ['host replication all 10.0.0.256/8 trust', 'invalid IP address "10.0.0.256/8"'],
    ['host replication all 10.0.0.0/33 trust', 'invalid CIDR mask in address "10.0.0.0/33"'],
    ['host replication all 10.0.0.0/-1 trust', 'invalid CIDR mask in address "10.0.0.0/-1"'],
    ['host replication all 10.0.0.0 trust trust', 'invalid IP mask "trust"'],
    ['host replication all 10.0.0.0 ffff:: trust', 'IP address and mask do not match'],
    [
      'host replication all 10.0.0.1/8,10.0.0.2/8 trust',
      'multiple values specified for host address',
    ],
    ['host replication all all trusty', 'invalid authentication method "trusty"'],
    [
      'host replication all all ldap',
      'authentication method "ldap" cannot be used: no directory is asked; write scram-sha-256 or cert',
    ],
    [
      'host replication all all trust clientcert=verify-ca',
      'clientcert can only be configured for "hostssl" rows',
    ],
    [
      'host replication all all trust clientname=DN',
      'clientname can only be configured for "hostssl" rows',
    ],
    [
      'hostssl all all all trust clientcert=verify-none',
      'invalid value for clientcert: "verify-none"',
    ],
    [
      'hostssl all all all cert clientcert=verify-ca',
      'clientcert can only be set to "verify-full" when using "cert" authentication',
    ],
    ['hostssl all all all cert clientname=SAN', 'invalid value for clientname: "SAN"'],
    ['host all all all cert', 'cert authentication is only supported on hostssl connections'],
    [
      'hostssl all all all scram-sha-256 map=x',
      'authentication option "map" is only valid for authentication methods ident, peer, gssapi, sspi, cert, and oauth',
    ],
    [
      'host all all all scram-sha-256 krb_realm=x',
      'authentication option "krb_realm" is only valid for authentication methods gssapi and sspi',
    ],
    ['host all all all scram-sha-256 salt=5', 'unrecognized authentication option name: "salt"'],
    ['host all all all md5 x', 'authentication option not in name=value format: x'],
    [
      'host all all db.example.com/32 trust',
      'specifying both host name and CIDR mask is invalid: "db.example.com/32"',
    ],
    ['host all all 10.1 trust', 'invalid IP address "10.1"'],
    ['host all all 10.2.0x3.4 trust', 'invalid IP address "10.2.0x3.4"'],
    ['host all all 10.2.0X3/24 trust', 'invalid IP address "10.2.0X3/24"'],
    ['host all all fe80::1%eth0/64 trust', 'invalid IP address "fe80::1%eth0/64"'],
    [
      'host replication +ops all trust',
      '"+ops" cannot be used: walcast knows no role members; write the names, or a regular expression',
    ],
    [
      'host samerole all all trust',
      '"samerole" cannot be used: walcast knows no role members; write the names, or a regular expression',
    ],
    [
      'host replication /^(rep all trust',
      'invalid regular expression "^(rep": parentheses () not balanced',
    ],
    [
      String.raw`host /(a)\1 all all trust`,
      String.raw`invalid regular expression "(a)\1": back references cannot be used`,
    ],
    ['host replication @users all trust', 'other files cannot be named here'],
    ['include other.conf', 'other files cannot be named here'],
    ['include_dir rules', 'other files cannot be named here'],
    ['include a b', 'invalid connection type "include"'],
    [
      'hostgssenc replication all all trust',
      'connection type "hostgssenc" cannot be used: GSSAPI encryption is not offered',
    ],
    ['host replication "all all trust', 'a quote is opened and never closed'],
  ])('%s: %s', (text, message) => {
    expect(errorsOf(text)).toEqual([{ source: '', line: 1, text, message }]);
  });

  it('returns every wrong line at once, with number and text', () => {
    const errors = errorsOf('host\nlocal replication all trust\n  nonsense x\n');
    expect(errors.map((error) => [error.line, error.text])).toEqual([
      [1, 'host'],
      [3, 'nonsense x'],
    ]);
  });

  it('never throws, whatever the text', () => {
    fc.assert(fc.property(fc.string({ maxLength: 200 }), (text) => parseHba(text) !== undefined));
  });
});

describe('addresses', () => {
  it.each([
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '1.2.3.',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    'g::',
    '1:2:3:4:5:6:7:8:9',
    '::1%eth0',
    '1.2.3.4::',
    '::12345',
  ])('%s is no address', (text) => {
    expect(parseIpAddress(text)).toBeNull();
  });

  it.each([
    ['::', new Uint8Array(16)],
    ['::ffff:1.2.3.4', Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4])],
    ['1:2:3:4:5:6:7:8', Uint8Array.from([0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8])],
    ['1::8', Uint8Array.from([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8])],
  ])('%s is read', (text, bytes) => {
    expect(parseIpAddress(text)).toEqual(bytes);
  });

  it('an address lies in its own network for every prefix, and a flipped leading bit leaves it', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.integer({ min: 1, max: 32 }), (text, prefix) => {
        const address = parseIpAddress(text);
        const mask = prefixMask(prefix, 4);
        if (address === null || mask === null) throw new Error('unreadable');
        const flipped = address.slice();
        flipped[0] = (flipped[0] ?? 0) ^ 0x80;
        expect(isInNetwork(address, { address, mask })).toBe(true);
        expect(isInNetwork(flipped, { address, mask })).toBe(false);
      }),
    );
  });
});
