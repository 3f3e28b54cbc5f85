// Is Patroni's answer to GET /cluster understood as each version writes it, and everything else refused?
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DISCOVERY_MEMBERS_MAX, DISCOVERY_TEXT_CHARACTERS_MAX } from '../../src/config/limits.ts';
import { parsePatroniCluster } from '../../src/walreceiver/patroni-cluster.ts';
import type { PatroniCluster, PatroniMember } from '../../src/walreceiver/patroni-cluster.ts';
import { bodyOf, PATRONI_2, PATRONI_4_0, PATRONI_4_1 } from '../support/patroni-samples.ts';

function cluster(answer: unknown): PatroniCluster {
  const parsed = parsePatroniCluster(bodyOf(answer));
  if (typeof parsed === 'string') throw new Error(parsed);
  return parsed;
}

/** The one member of an answer; null when it was left out. */
function member(fields: Record<string, unknown>): PatroniMember | null {
  const other = { name: 'other', role: 'replica', state: 'running', host: 'other', port: 1 };
  const { members } = cluster({ members: [{ name: 'it', ...fields }, other] });
  return members.find(({ name }) => name === 'it') ?? null;
}

const GOOD = { role: 'replica', state: 'streaming', host: 'pg', port: 5432 };

describe('an answer', () => {
  test('of Patroni 2 names the leader, a synchronous standby and one that does not run', () => {
    expect(cluster(PATRONI_2)).toEqual({
      scope: null,
      members: [
        {
          name: 'pg-0',
          role: 'primary',
          state: 'running',
          isRunning: true,
          host: '10.0.0.1',
          port: 5432,
          timeline: 3,
          lagBytes: null,
          zone: null,
          isSpared: false,
        },
        expect.objectContaining({ role: 'standby', isRunning: true, lagBytes: 0, zone: 'b' }),
        expect.objectContaining({ isRunning: false, timeline: null, lagBytes: null }),
      ],
    });
  });

  test('of Patroni 4.0 has states of replication and the name of the cluster', () => {
    const { scope, members } = cluster(PATRONI_4_0);
    expect(scope).toBe('demo');
    expect(members.map(({ role }) => role)).toEqual(['standby', 'primary', 'standby']);
    expect(members.every(({ isRunning }) => isRunning)).toBe(true);
    expect(members.map(({ lagBytes }) => lagBytes)).toEqual([16_384, null, 0]);
  });

  test('of Patroni 4.1 leaves out who has no address, and knows the leader of a standby cluster', () => {
    const { members } = cluster(PATRONI_4_1);
    expect(members.map(({ name, role, host }) => [name, role, host])).toEqual([
      ['x', 'standby_leader', 'fd00::1'],
      ['y', 'standby', 'fd00::2'],
    ]);
    expect(members[1]).toMatchObject({ zone: '2', isSpared: true });
  });

  test.each<[what: string, answer: unknown, problem: RegExp]>([
    ['is the state of one node', { state: 'running', role: 'primary' }, /no list of members/],
    ['is a list', [], /no list of members/],
    ['is null', null, /no list of members/],
    ['has members of another kind', { members: { a: 1 } }, /no list of members/],
    ['has a member that is none', { members: [5] }, /has no name/],
    ['has a member without a name', { members: [{ ...GOOD, name: '' }] }, /has no name/],
    ['has a member with a name that is no text', { members: [{ ...GOOD, name: 1 }] }, /no name/],
    ['has nobody', { members: [] }, /no member with an address/],
    ['has nobody with an address', { members: [{ name: 'a', role: 'leader' }] }, /with an address/],
    [
      'names somebody twice',
      {
        members: [
          { ...GOOD, name: 'a' },
          { ...GOOD, name: 'a', port: 1 },
        ],
      },
      /names a twice/,
    ],
    [
      'names two leaders',
      {
        members: [
          { ...GOOD, name: 'a', role: 'leader' },
          { ...GOOD, name: 'b', role: 'standby_leader', port: 1 },
        ],
      },
      /more than one leader/,
    ],
    [
      'names too many',
      {
        members: Array.from({ length: DISCOVERY_MEMBERS_MAX + 1 }, (_, port) => ({
          ...GOOD,
          name: `${port}`,
          port: port + 1,
        })),
      },
      /more than 100/,
    ],
  ])('that %s is refused', (_what, answer, problem) => {
    expect(parsePatroniCluster(bodyOf(answer))).toMatch(problem);
  });

  test.each(['', '{', '{"members":[', 'ok', '\ufeff', '<html></html>'])('%j is refused', (text) => {
    expect(parsePatroniCluster(Buffer.from(text))).toMatch(/no list of members/);
  });

  test('with bytes that are no UTF-8 is refused', () => {
    const body = bodyOf({ members: [{ ...GOOD, name: 'abc' }] });
    body[body.indexOf(0x61)] = 0xff;
    expect(parsePatroniCluster(body)).toMatch(/no list of members/);
  });

  test('that was cut off anywhere is refused', () => {
    const body = bodyOf(PATRONI_4_1);
    for (let end = 0; end < body.length; end += 1) {
      expect(parsePatroniCluster(body.subarray(0, end))).toMatch(/no list of members/);
    }
  });
});

describe('a member', () => {
  test.each([
    '/run/postgresql',
    '@walcast',
    'a,b',
    'a b',
    '',
    '-a',
    'a-',
    'a\n',
    'a/b',
    'user@a',
    'x'.repeat(DISCOVERY_TEXT_CHARACTERS_MAX + 1),
    5,
    null,
  ])('with the host %j is left out', (host) => {
    expect(member({ ...GOOD, host })).toBeNull();
  });

  test.each(['a', 'pg-0.pg.default.svc.cluster.local', '10.1.2.3', '::1', 'fe80::1%eth0', 'a_b.'])(
    'with the host %j is one',
    (host) => {
      expect(member({ ...GOOD, host })).toMatchObject({ host });
    },
  );

  test.each([0, 65_536, -1, 1.5, '5432', {}])('with the port %j is left out', (port) => {
    expect(member({ ...GOOD, port })).toBeNull();
  });

  test('without a port has PostgreSQL’s own', () => {
    const { port, ...others } = GOOD;
    expect(member(others)).toMatchObject({ port });
  });

  test.each([
    ['leader', 'primary'],
    ['master', 'primary'],
    ['primary', 'primary'],
    ['standby_leader', 'standby_leader'],
    ['replica', 'standby'],
    ['sync_standby', 'standby'],
    ['quorum_standby', 'standby'],
    ['of the future', 'standby'],
    [5, 'standby'],
    [undefined, 'standby'],
  ])('with the role %j is a %s', (role, meant) => {
    expect(member({ ...GOOD, role })).toMatchObject({ role: meant });
  });

  test.each(['stopped', 'start failed', 'creating replica', 'crashed', 'unheard of', '', 5, null])(
    'in the state %j does not run, and is known all the same',
    (state) => {
      expect(member({ ...GOOD, state })).toMatchObject({ isRunning: false });
    },
  );

  test.each([0, -1, 2 ** 31, 1.5, '7', null])('has no timeline %j', (timeline) => {
    expect(member({ ...GOOD, timeline })).toMatchObject({ timeline: null });
  });

  test.each([['a'], { a: 1 }, true, '', 'x'.repeat(300)])('has no zone %j', (zone) => {
    expect(member({ ...GOOD, tags: { zone } })).toMatchObject({ zone: null });
  });

  test('cannot write to a terminal', () => {
    const odd = { ...GOOD, state: 'a\u001b[2J', tags: { zone: 'x\r\ny' } };
    expect(member(odd)).toMatchObject({ state: 'a [2J', zone: 'x y' });
  });

  test('at an address that was named before is the same', () => {
    expect(
      cluster({
        members: [
          { ...GOOD, name: 'a' },
          { ...GOOD, name: 'b' },
        ],
      }).members,
    ).toHaveLength(1);
  });
});

describe('whatever comes', () => {
  function isUsable({ host, port, timeline, name }: PatroniMember): boolean {
    const isPort = Number.isInteger(port) && port >= 1 && port <= 65_535;
    const isTimeline = timeline === null || (timeline >= 1 && timeline < 2 ** 31);
    return isPort && isTimeline && /^[\w.:%-]{1,253}$/.test(host) && name !== '';
  }

  function expectSense(parsed: PatroniCluster | string): void {
    if (typeof parsed === 'string') return;
    expect(parsed.members.length).toBeGreaterThan(0);
    expect(parsed.members.every(isUsable)).toBe(true);
    expect(parsed.members.filter(({ role }) => role !== 'standby').length).toBeLessThan(2);
  }

  test('as bytes, is an answer that can be used or a reason', () => {
    fc.assert(fc.property(fc.uint8Array(), (body) => expectSense(parsePatroniCluster(body))));
  });

  test('as JSON, is an answer that can be used or a reason', () => {
    const value = fc.oneof(fc.jsonValue(), fc.constantFrom('leader', 'running', 'pg-a', 5432, 3));
    const keys = ['name', 'role', 'state', 'host', 'port', 'timeline', 'lag', 'tags'] as const;
    const fields = Object.fromEntries(keys.map((key) => [key, value]));
    const entry = fc.oneof(fc.jsonValue(), fc.record(fields, { requiredKeys: [] }));
    const known = fc.record(
      { name: fc.string(), host: fc.string(), ...fields },
      { requiredKeys: ['name', 'host'] },
    );
    const answer = fc.record({
      members: fc.oneof(fc.jsonValue(), fc.array(fc.oneof(entry, known), { maxLength: 8 })),
      scope: fc.jsonValue(),
    });
    fc.assert(
      fc.property(answer, (given) => expectSense(parsePatroniCluster(bodyOf(given)))),
      { numRuns: 500 },
    );
  });
});
