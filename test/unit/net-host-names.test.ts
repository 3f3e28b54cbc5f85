// Names of hosts: kept for a while, never waited for longer than a bound, and no stranger's name service keeps others waiting.
import { describe, expect, test } from 'vitest';
import { KnownHostNames, nameInHosts } from '../../src/net/host-names.ts';
import type { NameLookups } from '../../src/net/host-names.ts';
import { ManualClock } from '../support/manual-clock.ts';

const LIMITS = {
  waitMs: 100,
  keepMs: 1_000,
  staleMs: 10_000,
  entriesMax: 3,
  askedMax: 2,
  askedPerNetworkMax: 1,
};

/** A name service that is told what to answer. */
class NameService implements NameLookups {
  readonly asked: string[] = [];
  answer: (question: string) => Promise<readonly string[]> = (question) =>
    Promise.resolve([`host-${question}`]);

  names(address: string): Promise<readonly string[]> {
    this.asked.push(address);
    return this.answer(address);
  }

  addresses(name: string): Promise<readonly string[]> {
    this.asked.push(name);
    return this.answer(name);
  }
}

function open(): { clock: ManualClock; service: NameService; names: KnownHostNames } {
  const clock = new ManualClock();
  const service = new NameService();
  return { clock, service, names: new KnownHostNames(clock, service, LIMITS) };
}

const NEVER = (): Promise<readonly string[]> => new Promise(() => undefined);

function failing(code: string): () => Promise<readonly string[]> {
  return () => Promise.reject(Object.assign(new Error(code), { code }));
}

describe('a name', () => {
  test('is asked for once while its answer counts, then again', async () => {
    const { clock, service, names } = open();
    expect(await names.nameOf('10.0.0.1')).toBe('host-10.0.0.1');
    expect(await names.nameOf('10.0.0.1')).toBe('host-10.0.0.1');
    expect(service.asked).toEqual(['10.0.0.1']);
    clock.advance(LIMITS.keepMs);
    await names.nameOf('10.0.0.1');
    expect(service.asked).toHaveLength(2);
  });

  test('is asked for once by everybody who asks at the same time', async () => {
    const { service, names } = open();
    const both = await Promise.all([names.nameOf('10.0.0.1'), names.nameOf('10.0.0.1')]);
    expect(both).toEqual(['host-10.0.0.1', 'host-10.0.0.1']);
    expect(service.asked).toHaveLength(1);
  });

  test('that does not exist is none, and that is kept, too', async () => {
    const { service, names } = open();
    service.answer = failing('ENOTFOUND');
    expect(await names.nameOf('10.0.0.1')).toBeNull();
    expect(await names.addressesOf('a.example')).toEqual([]);
    service.answer = () => Promise.resolve(['late']);
    expect(await names.nameOf('10.0.0.1')).toBeNull();
  });

  test.each([
    'a b.example',
    'evil.example\0.example.com',
    '',
    '.example.com',
    'ä.example.com',
    'a..b',
  ])('(%j) that no host can have is none', async (name) => {
    const { service, names } = open();
    service.answer = () => Promise.resolve([name]);
    expect(await names.nameOf('10.0.0.1')).toBeNull();
  });

  test('that nobody can tell is none now and asked for again next time', async () => {
    const { service, names } = open();
    service.answer = failing('ETIMEOUT');
    expect(await names.nameOf('10.0.0.1')).toBeNull();
    service.answer = () => Promise.resolve(['a.example']);
    expect(await names.nameOf('10.0.0.1')).toBe('a.example');
  });
});

describe('a name service that hangs', () => {
  test('is waited for no longer than the bound', async () => {
    const { clock, service, names } = open();
    service.answer = NEVER;
    const name = names.nameOf('10.0.0.1');
    clock.advance(LIMITS.waitMs);
    expect(await name).toBeNull();
  });

  test('takes no known name away from those who have one', async () => {
    const { clock, service, names } = open();
    await names.nameOf('10.0.0.1');
    service.answer = NEVER;
    clock.advance(LIMITS.keepMs);
    const name = names.nameOf('10.0.0.1');
    clock.advance(LIMITS.waitMs);
    expect(await name).toBe('host-10.0.0.1');
    clock.advance(LIMITS.staleMs);
    const stale = names.nameOf('10.0.0.1');
    clock.advance(LIMITS.waitMs);
    expect(await stale).toBeNull();
  });

  test('is asked no more than so many questions at once; the others have no answer at once', async () => {
    const { clock, service, names } = open();
    service.answer = NEVER;
    const waiting = [names.nameOf('10.0.0.1'), names.nameOf('10.0.0.2')];
    expect(await names.nameOf('10.0.0.3')).toBeNull();
    expect(service.asked).toEqual(['10.0.0.1', '10.0.0.2']);
    clock.advance(LIMITS.waitMs);
    expect(await Promise.all(waiting)).toEqual([null, null]);
  });

  test('for all addresses of one network keeps no other network from an answer', async () => {
    const { clock, service, names } = open();
    service.answer = NEVER;
    const waiting = names.nameOf('2001:db8::1');
    expect(await names.nameOf('2001:db8::2')).toBeNull();
    service.answer = () => Promise.resolve(['a.example']);
    expect(await names.nameOf('2001:db8:0:1::1')).toBe('a.example');
    clock.advance(LIMITS.waitMs);
    expect(await waiting).toBeNull();
  });

  test('that answers after all frees its place', async () => {
    const { clock, service, names } = open();
    const answers: ((names: readonly string[]) => void)[] = [];
    service.answer = () => new Promise((resolve) => answers.push(resolve));
    const first = names.nameOf('10.0.0.1');
    const second = names.nameOf('10.0.0.2');
    clock.advance(LIMITS.waitMs);
    await Promise.all([first, second]);
    for (const answer of answers) answer(['late.example']);
    service.answer = (question) => Promise.resolve([question]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(await names.nameOf('10.0.0.3')).toBe('10.0.0.3');
    expect(await names.nameOf('10.0.0.1')).toBe('late.example');
  });
});

test('no more answers are kept than there may be: the one unused for longest goes', async () => {
  const { service, names } = open();
  for (const address of ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.1', '10.0.0.4', '10.0.0.1']) {
    await names.nameOf(address);
  }
  expect(service.asked).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4']);
  await names.nameOf('10.0.0.2');
  expect(service.asked.at(-1)).toBe('10.0.0.2');
});

test('the hosts file gives the first name of the first line with the address', () => {
  const text =
    '# 10.0.0.1 no\n\n10.0.0.1\n10.0.0.1\tstandby-a.example a # x\n10.0.0.1 b\n::1 six\nx y\n';
  expect(nameInHosts(text, '10.0.0.1')).toBe('standby-a.example');
  expect(nameInHosts(text, '0:0::1')).toBe('six');
  expect(nameInHosts(text, '10.0.0.2')).toBeNull();
  expect(nameInHosts(text, 'nonsense')).toBeNull();
});
