// Which host of a list is followed: order, chance, target_session_attrs with its second pass, and what people are told
// about the hosts that were left.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import { TARGET_SESSION_ATTRS } from '../../src/pg/conninfo.ts';
import type { TargetSessionAttrs } from '../../src/pg/conninfo.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { HostWalk } from '../../src/walreceiver/host-walk.ts';
import type { HostList, HostWalkOptions } from '../../src/walreceiver/host-walk.ts';
import { OTHER_SESSION_KIND, sessionMismatch } from '../../src/walreceiver/session-attrs.ts';
import { UpstreamMachine } from '../../src/walreceiver/upstream-machine.ts';
import type { UpstreamAction, UpstreamEvent } from '../../src/walreceiver/upstream-events.ts';

const NAMES = ['a:5432', 'b:5432', 'c:5432'];

type Overrides = Partial<HostList & Pick<HostWalkOptions, 'random'>>;

function options({ random = () => 0, ...list }: Overrides = {}): HostWalkOptions {
  const all = { hosts: NAMES, targetSessionAttrs: 'any', loadBalanceHosts: 'disable' } as const;
  return { list: () => ({ ...all, ...list }), random };
}

/** A whole round in which every host is left; gives the hosts with what was wanted of each. */
function round(walk: HostWalk, isOtherKind: (host: number) => boolean = () => false): string[] {
  const seen: string[] = [];
  for (let host: number | null = walk.begin(); host !== null; host = walk.next()) {
    seen.push(`${host} ${walk.wanted}`);
    walk.leave('refused', isOtherKind(host));
  }
  return seen;
}

/** Reproducible numbers 0 ≤ n < 1. */
function dice(): () => number {
  let state = 42;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

describe('a round over the hosts', () => {
  it('goes through them in the order of the connection string', () => {
    const walk = new HostWalk(options());
    expect(round(walk)).toEqual(['0 any', '1 any', '2 any']);
    expect(round(walk)).toEqual(['0 any', '1 any', '2 any']);
  });

  it('takes every host once, in an order of its own each round, with load_balance_hosts=random', () => {
    const walk = new HostWalk(options({ loadBalanceHosts: 'random', random: dice() }));
    const first = new Map<string, number>();
    for (let count = 0; count < 3_000; count += 1) {
      const hosts = round(walk).map((text) => text[0] ?? '');
      expect(hosts.toSorted()).toEqual(['0', '1', '2']);
      const order = hosts.join('');
      first.set(order, (first.get(order) ?? 0) + 1);
    }
    expect([...first.keys()].toSorted()).toEqual(['012', '021', '102', '120', '201', '210']);
    for (const count of first.values()) expect(count).toBeGreaterThan(400);
  });

  it.each(['any', 'read-write', 'read-only', 'primary', 'standby'] as const)(
    'wants %s of every host, once',
    (wanted) => {
      const walk = new HostWalk(options({ targetSessionAttrs: wanted }));
      expect(round(walk, () => true)).toEqual(['0', '1', '2'].map((host) => `${host} ${wanted}`));
    },
  );

  it('takes any host in a second pass when prefer-standby found no standby', () => {
    const walk = new HostWalk(options({ targetSessionAttrs: 'prefer-standby' }));
    const hosts = round(walk, () => true);
    expect(hosts.slice(0, 3)).toEqual(['0', '1', '2'].map((host) => `${host} prefer-standby`));
    expect(hosts.slice(3)).toEqual(['0 any', '1 any', '2 any']);
  });

  it('asks in the second pass only the hosts that work', () => {
    const walk = new HostWalk(options({ targetSessionAttrs: 'prefer-standby' }));
    expect(round(walk, (host) => host === 1)).toEqual([
      '0 prefer-standby',
      '1 prefer-standby',
      '2 prefer-standby',
      '1 any',
    ]);
    expect(round(walk)).toHaveLength(3);
  });

  it('names hosts with their reasons, some at most', () => {
    const walk = new HostWalk(options());
    walk.begin();
    walk.leave('could not connect to a:5432: connection refused', false);
    expect(walk.reasons()).toBe('could not connect to a:5432: connection refused');
    walk.next();
    walk.leave('session is read-only', true);
    walk.next();
    walk.leave('no answer', false);
    expect(walk.reasons()).toBe(
      'none of the 3 upstream hosts can be followed: could not connect to a:5432: connection refused; ' +
        'b:5432: session is read-only; c:5432: no answer',
    );
    const many = new HostWalk(options({ hosts: Array.from({ length: 100 }, (_, at) => `h${at}`) }));
    round(many);
    expect(many.reasons()).toMatch(/^none of the 100 .*h7: refused; and 92 more$/);
  });
});

describe('target_session_attrs', () => {
  const primary = { isReadOnly: false, isInRecovery: false };
  const readOnlyPrimary = { isReadOnly: true, isInRecovery: false };
  const standby = { isReadOnly: true, isInRecovery: true };

  it.each<[TargetSessionAttrs, string | null, string | null, string | null]>([
    ['any', null, null, null],
    ['read-write', null, 'session is read-only', 'session is read-only'],
    ['read-only', 'session is not read-only', null, null],
    ['primary', null, null, 'server is in hot standby mode'],
    ['standby', 'server is not in hot standby mode', 'server is not in hot standby mode', null],
    [
      'prefer-standby',
      'server is not in hot standby mode',
      'server is not in hot standby mode',
      null,
    ],
  ])('%s is said in the words of libpq', (wanted, ofPrimary, ofReadOnly, ofStandby) => {
    expect(sessionMismatch(wanted, primary)).toBe(ofPrimary);
    expect(sessionMismatch(wanted, readOnlyPrimary)).toBe(ofReadOnly);
    expect(sessionMismatch(wanted, standby)).toBe(ofStandby);
  });
});

describe('the session to a list of hosts', () => {
  class Driver {
    readonly machine: UpstreamMachine;
    now = 1_000;

    constructor(overrides: Overrides = {}) {
      this.machine = new UpstreamMachine(options(overrides));
    }

    send(event: UpstreamEvent): readonly UpstreamAction[] {
      return this.machine.handle(event, this.now);
    }

    /** What is done, with the arguments that matter here. */
    does(event: UpstreamEvent): string[] {
      return this.send(event).map((action) => {
        if (action.type === 'connect') return `connect ${action.hostIndex}`;
        if (action.type === 'identify') return `identify ${action.wanted}`;
        if (action.type === 'host-left') {
          return `left ${NAMES.indexOf(action.host)}${action.isOtherKind ? ', other kind' : ''}: ${action.reason}`;
        }
        return action.type;
      });
    }

    fail(code: string, text: string): string[] {
      const error = new OperationalError(code, text, { isRetryable: true });
      return this.does({ type: 'failed', error });
    }

    login(): string[] {
      this.send({ type: 'dialed' });
      return this.does({ type: 'logged-in' });
    }

    hold(state: 'waiting' | 'diverged', retryMs: number): string[] {
      this.login();
      this.send({ type: 'identified' });
      const decision = { kind: 'hold', state, detail: `it is ${state}`, retryMs } as const;
      return this.does({ type: 'decided', decision });
    }

    stream(): void {
      this.login();
      this.send({ type: 'identified' });
      const start = { timeline: toTimelineId(1), startLsn: INVALID_LSN };
      this.send({ type: 'decided', decision: { kind: 'start', ...start } });
      this.send({ type: 'copy-started' });
    }
  }

  it('tells of each host why it was left, and at the end of all', () => {
    const driver = new Driver({ hosts: NAMES.slice(0, 2), targetSessionAttrs: 'read-write' });
    driver.send({ type: 'start' });
    expect(driver.fail('CONNECT_FAILED', 'connection refused')).toEqual([
      'disconnect',
      'left 0: connection refused',
      'connect 1',
    ]);
    expect(driver.machine.view()).toMatchObject({
      phase: 'connecting',
      detail: 'a:5432: connection refused',
    });
    expect(driver.login()).toEqual(['identify read-write']);
    expect(driver.fail(OTHER_SESSION_KIND, 'session is read-only')).toEqual([
      'disconnect',
      'left 1, other kind: session is read-only',
    ]);
    expect(driver.machine.view()).toMatchObject({
      phase: 'backoff',
      detail:
        'none of the 2 upstream hosts can be followed: a:5432: connection refused; b:5432: session is read-only',
      nextAttemptAtMs: 1_180,
    });
  });

  it('follows the primary for want of a standby when one is preferred', () => {
    const driver = new Driver({ hosts: NAMES.slice(0, 2), targetSessionAttrs: 'prefer-standby' });
    driver.send({ type: 'start' });
    expect(driver.login()).toEqual(['identify prefer-standby']);
    expect(driver.fail(OTHER_SESSION_KIND, 'no standby')).toContain('connect 1');
    expect(driver.fail('CONNECT_FAILED', 'connection refused')).toContain('connect 0');
    expect(driver.login()).toEqual(['identify any']);
    driver.send({ type: 'identified' });
    // What was learnt on this session is used on the next one, with the same host in the same pass.
    expect(driver.does({ type: 'again' })).toEqual(['disconnect', 'connect 0']);
    driver.stream();
    expect(driver.machine.view()).toMatchObject({ phase: 'streaming', detail: null, hostIndex: 0 });
    driver.now += 60_000;
    const error = new OperationalError('UPSTREAM_CLOSED', 'closed', { isRetryable: true });
    expect(driver.does({ type: 'lost', reason: 'eof', error })).toEqual([
      'disconnect',
      'connect 0',
    ]);
    expect(driver.login()).toEqual(['identify prefer-standby']);
  });

  it('comes back to a host that went away while another one has to be waited for', () => {
    const driver = new Driver({ hosts: NAMES.slice(0, 2) });
    driver.send({ type: 'start' });
    expect(driver.hold('diverged', 60_000)).toEqual([
      'disconnect',
      'left 0: it is diverged',
      'connect 1',
    ]);
    driver.fail('CONNECT_FAILED', 'connection refused');
    expect(driver.machine.view()).toMatchObject({
      phase: 'held',
      hostIndex: 0,
      heldState: 'diverged',
      nextAttemptAtMs: driver.now + 180,
      detail:
        'none of the 2 upstream hosts can be followed: a:5432: it is diverged; b:5432: connection refused',
    });
  });

  it('waits as long as it is told where every host is to be waited for', () => {
    const driver = new Driver({ hosts: NAMES.slice(0, 2) });
    driver.send({ type: 'start' });
    driver.hold('waiting', 700);
    driver.hold('diverged', 60_000);
    expect(driver.machine.view()).toMatchObject({
      heldState: 'waiting',
      nextAttemptAtMs: driver.now + 700,
    });
  });

  it('asks all again when the first of them may have changed its mind', () => {
    const driver = new Driver({ hosts: NAMES.slice(0, 2) });
    driver.send({ type: 'start' });
    driver.hold('diverged', 60_000);
    driver.hold('waiting', 700);
    expect(driver.machine.view()).toMatchObject({
      heldState: 'diverged',
      hostIndex: 0,
      nextAttemptAtMs: driver.now + 700,
    });
  });

  it('says of a single host what its error says, and nothing about a list', () => {
    const driver = new Driver({ hosts: ['a:5432'], targetSessionAttrs: 'standby' });
    driver.send({ type: 'start' });
    driver.login();
    expect(driver.fail(OTHER_SESSION_KIND, 'server is not in hot standby mode')).toEqual([
      'disconnect',
    ]);
    expect(driver.machine.view()).toMatchObject({
      phase: 'backoff',
      detail: 'server is not in hot standby mode',
    });
  });

  /** What a host of the list is found to be. */
  const hostKind = fc.constantFrom('gone', 'primary', 'read-only primary', 'standby');
  type HostKind = 'gone' | 'primary' | 'read-only primary' | 'standby';

  function mismatchOf(wanted: TargetSessionAttrs, kind: HostKind): string | null {
    const isInRecovery = kind === 'standby';
    return sessionMismatch(wanted, { isInRecovery, isReadOnly: kind !== 'primary' });
  }

  /** The host that libpq would end up with. */
  function libpqChoice(wanted: TargetSessionAttrs, kinds: readonly HostKind[]): number | null {
    const passes = wanted === 'prefer-standby' ? [wanted, 'any' as const] : [wanted];
    for (const pass of passes) {
      const host = kinds.findIndex((kind) => kind !== 'gone' && mismatchOf(pass, kind) === null);
      if (host >= 0) return host;
    }
    return null;
  }

  /** Plays `kinds` to a machine until it identified one or has nobody left; gives that host and all that were tried. */
  function walk(
    driver: Driver,
    kinds: readonly HostKind[],
  ): { chosen: number | null; tried: number[] } {
    const tried: number[] = [];
    let actions = driver.send({ type: 'start' });
    for (;;) {
      const connect = actions.find((action) => action.type === 'connect');
      if (connect === undefined) return { chosen: null, tried };
      tried.push(connect.hostIndex);
      const kind = kinds[connect.hostIndex] ?? 'gone';
      const gone = new OperationalError('CONNECT_FAILED', 'gone', { isRetryable: true });
      if (kind === 'gone') {
        actions = driver.send({ type: 'failed', error: gone });
        continue;
      }
      driver.send({ type: 'dialed' });
      const identify = driver
        .send({ type: 'logged-in' })
        .find((action) => action.type === 'identify');
      if (identify === undefined) throw new Error('nothing is asked');
      const mismatch = mismatchOf(identify.wanted, kind);
      if (mismatch === null) return { chosen: connect.hostIndex, tried };
      const error = new OperationalError(OTHER_SESSION_KIND, mismatch, { isRetryable: true });
      actions = driver.send({ type: 'failed', error });
    }
  }

  it('chooses the host that libpq would, and bothers no host more than twice', () => {
    fc.assert(
      fc.property(
        fc.array(hostKind, { minLength: 1, maxLength: 6 }),
        fc.constantFrom(...TARGET_SESSION_ATTRS),
        (kinds, wanted) => {
          const hosts = kinds.map((_kind, index) => `h${index}:5432`);
          const driver = new Driver({ hosts, targetSessionAttrs: wanted });
          const { chosen, tried } = walk(driver, kinds);
          expect(chosen).toBe(libpqChoice(wanted, kinds));
          for (const [host, kind] of kinds.entries()) {
            const times = tried.filter((each) => each === host).length;
            expect(times).toBeLessThanOrEqual(kind === 'gone' ? 1 : 2);
            if (chosen === null) expect(times).toBe(1);
          }
          if (chosen !== null) return;
          expect(driver.machine.view()).toMatchObject({ phase: 'backoff' });
          expect(driver.machine.view().nextAttemptAtMs).toBe(driver.now + 180);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('takes with load_balance_hosts=random one of those that libpq could, each of them at times', () => {
    const kinds = ['standby', 'gone', 'primary', 'standby', 'read-only primary'] as const;
    const hosts = kinds.map((_kind, index) => `h${index}:5432`);
    const random = dice();
    const chosen = new Set<number | null>();
    for (let count = 0; count < 200; count += 1) {
      const driver = new Driver({
        hosts,
        targetSessionAttrs: 'prefer-standby',
        loadBalanceHosts: 'random',
        random,
      });
      chosen.add(walk(driver, kinds).chosen);
    }
    expect(chosen).toEqual(new Set([0, 3]));
  });
});
