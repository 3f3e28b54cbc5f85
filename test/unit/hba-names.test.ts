// Rules with names of hosts: looked up only where nothing else decides, and a name counts only when it leads back.
import { describe, expect, test } from 'vitest';
import { findHbaRule, parseHba } from '../../src/pg/hba.ts';
import type { HbaConnection, HostNames } from '../../src/pg/hba.ts';

/** Names as somebody would have it, and what was asked. */
class Names implements HostNames {
  readonly asked: string[] = [];
  readonly #names: ReadonlyMap<string, string>;
  readonly #addresses: ReadonlyMap<string, readonly string[]>;

  constructor(
    names: Readonly<Record<string, string>>,
    addresses: Readonly<Record<string, readonly string[]>>,
  ) {
    this.#names = new Map(Object.entries(names));
    this.#addresses = new Map(Object.entries(addresses));
  }

  nameOf(address: string): Promise<string | null> {
    this.asked.push(address);
    return Promise.resolve(this.#names.get(address) ?? null);
  }

  addressesOf(name: string): Promise<readonly string[]> {
    this.asked.push(name);
    return Promise.resolve(this.#addresses.get(name) ?? []);
  }
}

const CONNECTION: HbaConnection = {
  isLocal: false,
  isEncrypted: true,
  address: '10.0.0.7',
  user: 'anne',
  database: 'postgres',
  isReplication: false,
};

async function decide(
  text: string,
  names: Names,
  address = CONNECTION.address,
): Promise<number | null> {
  const rules = parseHba(text);
  if (!('rules' in rules)) throw new Error(JSON.stringify(rules));
  const connection = { ...CONNECTION, address };
  const rule = await findHbaRule(rules, connection, { localAddresses: [], names });
  return rule?.line ?? null;
}

function standby(): Names {
  return new Names(
    { '10.0.0.7': 'Standby-A.example.com' },
    { 'Standby-A.example.com': ['10.0.0.9', '10.0.0.7'] },
  );
}

describe('a name of a host', () => {
  test.each([
    ['standby-a.example.com', 1],
    ['STANDBY-A.EXAMPLE.COM', 1],
    ['.example.com', 1],
    ['.com', 1],
    ['example.com', null],
    ['a.example.com', null],
    ['.standby-a.example.com', null],
    ['standby-a.example.com.', null],
  ])('%s: line %s', async (name, line) => {
    expect(await decide(`host all all ${name} trust`, standby())).toBe(line);
  });

  test('that does not lead back to the address counts nowhere', async () => {
    const forged = new Names(
      { '10.0.0.7': 'a.example.com' },
      { 'a.example.com': ['10.0.0.8', '::1'] },
    );
    const text =
      'host all all a.example.com trust\nhost all all .com trust\nhost all all all reject';
    expect(await decide(text, forged)).toBe(3);
    expect(forged.asked).toEqual(['10.0.0.7', 'a.example.com']);
  });

  test('is compared as an address with what it leads back to, however that is written', async () => {
    const names = new Names({ '2001:db8::1': 'six' }, { six: ['2001:DB8:0:0::1'] });
    expect(await decide('host all all six trust', names, '2001:db8::1')).toBe(1);
  });

  test('is asked for without the link that an address is on', async () => {
    const names = new Names({ 'fe80::7': 'six' }, { six: ['fe80::7%2'] });
    expect(await decide('host all all six trust', names, 'fe80::7%eth0')).toBe(1);
    expect(names.asked).toEqual(['fe80::7', 'six']);
  });

  test('is asked for once, however many rules have one', async () => {
    const names = standby();
    const text = ['a', 'b', 'c', '.example.com'].map((name) => `host all all ${name} trust`);
    expect(await decide(text.join('\n'), names)).toBe(4);
    expect(names.asked).toEqual(['10.0.0.7', 'Standby-A.example.com']);
  });

  test('is not asked for where another rule decides before, or the user is another one', async () => {
    for (const text of [
      'host all all 10.0.0.0/8 reject\nhost all all a.example.com trust',
      'host all bert a.example.com trust\nhost all all all reject',
      'host other all a.example.com trust\nhost all all all reject',
      'hostnossl all all a.example.com trust\nhost all all all reject',
      'local all all trust',
    ]) {
      const names = standby();
      const rules = parseHba(text);
      if (!('rules' in rules)) throw new Error(text);
      const found = findHbaRule(rules, CONNECTION, { localAddresses: [], names });
      expect([found instanceof Promise, names.asked]).toEqual([false, []]);
    }
  });

  test('that nobody knows matches nothing: the next rule decides, or nobody was meant', async () => {
    const nobody = new Names({}, {});
    expect(await decide('host all all a.example.com trust', nobody)).toBeNull();
    const text = 'host all all a.example.com reject\nhost all all all trust';
    expect(await decide(text, nobody)).toBe(2);
  });
});
