// Who makes room at the door, who waits for the answer to a failure, and what does the log say of those who come and go?
import { describe, expect, it } from 'vitest';
import { FailureLimit } from '../../src/auth/failure-limit.ts';
import { KeyedLogBudget } from '../../src/base/keyed-log-budget.ts';
import {
  FAILED_OF_NETWORK_MAX,
  STARTUPS_MAX,
  STRANGERS_LOG_LINES,
} from '../../src/config/limits.ts';
import type { PeerAddress } from '../../src/net/connection.ts';
import { clientNetwork } from '../../src/pg/client-network.ts';
import type { AuthenticationReport, AuthorizedSession } from '../../src/walsender/audit.ts';
import { Door } from '../../src/walsender/door.ts';
import type { Visitor } from '../../src/walsender/door.ts';
import { Entrance } from '../../src/walsender/entrance.ts';
import type { EntranceSettings } from '../../src/walsender/entrance.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { LogRecord } from '../support/wal-senders-fixture.ts';

const REPORT: AuthenticationReport = {
  method: 'scram-sha-256',
  user: 'replicator',
  identity: null,
  rule: 'line 3',
  detail: 'Password does not match for user "replicator".',
};
const SESSION: AuthorizedSession = {
  isReplication: true,
  user: 'replicator',
  database: '',
  applicationName: 'standby1',
  tls: null,
};

function stranger(network: string): { network: string; isKnown: boolean } {
  return { network, isKnown: false };
}

describe('the door', () => {
  const visitor = (): Visitor => ({ close: () => {} });
  const visitors = (count: number): Visitor[] => Array.from({ length: count }, visitor);

  it('lets who has waited longest make room, of the network that has the most', () => {
    const door = new Door({ failedMax: 4, failedOfNetworkMax: 2 });
    const [a1, b1, b2, a2, b3] = visitors(5);
    if (!a1 || !a2 || !b1 || !b2 || !b3) throw new Error('no visitors');
    for (const [one, network] of [
      [a1, 'a'],
      [b1, 'b'],
      [b2, 'b'],
      [a2, 'a'],
      [b3, 'b'],
    ] as const)
      door.enter(one, stranger(network));
    expect(door.first()).toBe(b1);
    door.leave(b1);
    door.leave(b2);
    expect(door.size).toBe(3);
    expect(door.first()).toBe(a1);
    door.leave(a1);
    door.leave(a2);
    door.leave(b3);
    expect([door.size, door.first()]).toEqual([0, null]);
  });

  it('lets those make room last from whose network somebody was let in', () => {
    const door = new Door({ failedMax: 4, failedOfNetworkMax: 2 });
    const [known1, known2, lone] = visitors(3);
    if (!known1 || !known2 || !lone) throw new Error('no visitors');
    door.enter(known1, { network: 'k', isKnown: true });
    door.enter(known2, { network: 'k', isKnown: true });
    door.enter(lone, stranger('s'));
    expect(door.first()).toBe(lone);
    expect(door.firstOf('k')).toBe(known1);
    door.leave(lone);
    expect(door.first()).toBe(known1);
  });

  it('takes no place at the door for who waits for the answer to a failure, and only so many of them', () => {
    const door = new Door({ failedMax: 3, failedOfNetworkMax: 2 });
    const [a1, a2, a3, b1, b2, late] = visitors(6);
    if (!a1 || !a2 || !a3 || !b1 || !b2 || !late) throw new Error('no visitors');
    for (const one of [a1, a2, a3]) door.enter(one, stranger('a'));
    for (const one of [b1, b2]) door.enter(one, stranger('b'));
    door.enter(late, stranger('c'));
    expect([door.fail(a1), door.fail(a2), door.size]).toEqual([null, null, 4]);
    expect(door.fail(a3)).toBe(a1);
    door.leave(a1);
    expect(door.fail(b1)).toBeNull();
    expect(door.fail(b2)).toBe(a2);
    expect(door.size).toBe(1);
    expect(door.firstAtDoor()).toBe(late);
    expect(door.first()).toBe(a2);
  });
});

describe('failures of a network', () => {
  const size = { freeMax: 3, stepMs: 100, delayMsMax: 500, forgiveMs: 1_000, networksMax: 2 };

  it('are answered at once, then later and later up to a bound, and are forgiven', () => {
    const limit = new FailureLimit(size);
    const delays = Array.from({ length: 12 }, () => limit.failed('a', 0));
    expect(delays).toEqual([0, 0, 0, 100, 200, 300, 400, 500, 500, 500, 500, 500]);
    expect(limit.failed('b', 0)).toBe(0);
    expect(limit.failed('a', 8_000)).toBe(0);
    expect(limit.failed('a', 1_000_000)).toBe(0);
  });

  it('of more networks than are told apart are counted together, until some are forgiven', () => {
    const limit = new FailureLimit(size);
    limit.failed('a', 0);
    limit.failed('b', 0);
    const strangers = ['c', 'd', 'e', 'f'].map((network) => limit.failed(network, 0));
    expect(strangers).toEqual([0, 0, 0, 100]);
    expect(limit.failed('g', 10_000)).toBe(0);
  });
});

describe('a budget of lines by key', () => {
  it('leaves lines to others than the one who floods, counts what it left out, and bounds keys', () => {
    const budget = new KeyedLogBudget({ linesMax: 6, keyLinesMax: 2, keysMax: 2, windowMs: 1_000 });
    expect(Array.from({ length: 5 }, () => budget.take('flood', 0))).toEqual([
      0,
      0,
      null,
      null,
      null,
    ]);
    expect(budget.take('b', 1)).toBe(3);
    expect([budget.take('c', 2), budget.take('d', 3), budget.take('e', 4)]).toEqual([0, 0, null]);
    expect(budget.take('b', 5)).toBe(1);
    expect(budget.take('b', 6)).toBeNull();
    expect(budget.take('flood', 1_000)).toBe(1);
  });
});

describe('networks of clients', () => {
  it('are whole addresses of IPv4, also inside IPv6, and the first 64 bits of IPv6', () => {
    expect(clientNetwork('10.0.0.1')).not.toBe(clientNetwork('10.0.0.2'));
    expect(clientNetwork('::ffff:10.0.0.1')).toBe(clientNetwork('10.0.0.1'));
    expect(clientNetwork('2001:db8:1:2::1')).toBe(clientNetwork('2001:db8:1:2:ffff::9'));
    expect(clientNetwork('2001:db8:1:2::1')).not.toBe(clientNetwork('2001:db8:1:3::1'));
  });
});

/** An entrance and what came of it. */
class Rig {
  readonly clock = new ManualClock();
  readonly log = new LogRecord();
  readonly closed: string[] = [];
  settings: EntranceSettings = {
    connectionsPerNetworkMax: null,
    logConnections: true,
    logDisconnections: true,
  };
  connectionsMax = 1_000;
  tooMany = 0;
  readonly entrance: Entrance = new Entrance({
    clock: this.clock,
    log: this.log,
    settings: () => this.settings,
    connectionsMax: () => this.connectionsMax,
    onTooMany: () => {
      this.tooMany += 1;
    },
  });

  visitor(name: string): Visitor {
    return { close: () => void this.closed.push(name) };
  }

  enter(name: string, address: string | null): { visitor: Visitor; isTaken: boolean } {
    const visitor = this.visitor(name);
    const peer: PeerAddress = { address, port: address === null ? null : 4711 };
    return { visitor, isTaken: this.entrance.enter(visitor, peer) };
  }

  texts(): string[] {
    return this.log.lines.map((line) => line.slice(5, line.indexOf(' {')));
  }
}

describe('the entrance', () => {
  it('has whoever is no session yet make room for a newcomer of the same network, never a session', () => {
    const rig = new Rig();
    rig.settings = { ...rig.settings, connectionsPerNetworkMax: 2 };
    const first = rig.enter('first', '10.0.0.1');
    rig.entrance.admitted(first.visitor, SESSION);
    expect(rig.enter('second', '10.0.0.1').isTaken).toBe(true);
    const third = rig.enter('third', '10.0.0.1');
    expect([third.isTaken, rig.closed]).toEqual([true, ['second']]);
    rig.entrance.admitted(third.visitor, SESSION);
    const fourth = rig.enter('fourth', '10.0.0.1');
    expect([fourth.isTaken, rig.closed, rig.tooMany]).toEqual([false, ['second'], 2]);
    rig.entrance.left(fourth.visitor);
    expect(rig.enter('elsewhere', '10.0.0.2').isTaken).toBe(true);
    rig.entrance.left(first.visitor);
    expect(rig.enter('fifth', '10.0.0.1').isTaken).toBe(true);
    for (const name of ['u1', 'u2', 'u3']) expect(rig.enter(name, null).isTaken).toBe(true);
  });

  it('answers failures later and later, and a right password of the same network at once', () => {
    const rig = new Rig();
    const answered: number[] = [];
    for (let count = 0; count < 30; count += 1) {
      const { visitor } = rig.enter(`f${count}`, '10.0.0.1');
      rig.entrance.failed(visitor, REPORT, () => void answered.push(count));
    }
    expect(answered).toHaveLength(10);
    rig.clock.advance(1_000);
    expect(answered).toHaveLength(20);
    const { visitor } = rig.enter('right', '10.0.0.1');
    rig.entrance.authenticated(visitor, { ...REPORT, identity: 'replicator', detail: null });
    rig.entrance.admitted(visitor, SESSION);
    expect(rig.texts().slice(-2)).toEqual([
      'connection authenticated: identity="replicator" method=scram-sha-256 (line 3)',
      'replication connection authorized: user=replicator application_name=standby1',
    ]);
    rig.clock.advance(5_000);
    expect(answered).toHaveLength(30);
  });

  it('answers nobody who has gone, and keeps only so many of one network waiting', () => {
    const rig = new Rig();
    const answered: number[] = [];
    const count = 10 + FAILED_OF_NETWORK_MAX + 5;
    for (let index = 0; index < count; index += 1) {
      const { visitor } = rig.enter(`f${index}`, '10.0.0.1');
      rig.entrance.failed(visitor, REPORT, () => void answered.push(index));
      if (index === count - 1) rig.entrance.left(visitor);
    }
    expect(rig.closed).toEqual(['f10', 'f11', 'f12', 'f13', 'f14']);
    rig.clock.advance(60_000);
    expect(answered).toHaveLength(count - 6);
  });

  it('writes what PostgreSQL writes of a session, in its words', () => {
    const rig = new Rig();
    const { visitor } = rig.enter('psql', '10.0.0.1');
    rig.entrance.authenticated(visitor, { ...REPORT, method: 'trust' });
    rig.entrance.admitted(visitor, {
      isReplication: false,
      user: 'a b',
      database: 'walcast',
      applicationName: 'x" y\n',
      tls: { protocol: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', bits: 256 },
    });
    rig.clock.advance(3_723_045);
    rig.entrance.left(visitor);
    expect(rig.texts()).toEqual([
      'connection received: host=10.0.0.1 port=4711',
      'connection authenticated: user="replicator" method=trust (line 3)',
      'connection authorized: user="a b" database=walcast application_name="x"" y\\x0a" SSL enabled ' +
        '(protocol=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits=256)',
      'disconnection: session time: 1:02:03.045 user="a b" database=walcast host=10.0.0.1 port=4711',
    ]);
    expect(rig.log.lines[2]).toContain('"user":"a b"');
  });

  it('writes nothing of sessions where that is off, and still what it refuses', () => {
    const rig = new Rig();
    rig.settings = { ...rig.settings, logConnections: false, logDisconnections: false };
    const { visitor } = rig.enter('psql', '10.0.0.1');
    rig.entrance.authenticated(visitor, REPORT);
    rig.entrance.admitted(visitor, SESSION);
    rig.entrance.left(visitor);
    const other = rig.enter('guesser', '10.0.0.1');
    rig.entrance.failed(other.visitor, REPORT, () => {});
    expect(rig.texts()).toEqual([
      'connection refused: password authentication failed for user "replicator"',
    ]);
    expect(rig.log.lines[0]).toContain('"detail":"Password does not match');
  });

  it.each([
    [{ method: 'trust' }, '"trust" authentication failed for user "replicator"'],
    [{ method: 'cert' }, 'certificate authentication failed for user "replicator"'],
    [{ refusal: 'no\ncertificate' }, 'no\\x0acertificate'],
  ])('says of a failure like %j what the client is told', (facts, text) => {
    const rig = new Rig();
    rig.settings = { ...rig.settings, logConnections: false };
    const { visitor } = rig.enter('stranger', '10.0.0.1');
    rig.entrance.failed(visitor, { ...REPORT, ...facts }, () => {});
    expect(rig.texts()).toEqual([`connection refused: ${text}`]);
  });

  it('neither fills the log in a flood nor hides who comes in, or fails elsewhere, in the middle of it', () => {
    const rig = new Rig();
    const flood = (): void => {
      const { visitor } = rig.enter('flood', '10.0.0.1');
      rig.entrance.failed(visitor, REPORT, () => {});
      rig.entrance.left(visitor);
    };
    for (let count = 0; count < 5_000; count += 1) flood();
    const standby = rig.enter('standby', '10.0.0.1');
    rig.entrance.authenticated(standby.visitor, { ...REPORT, identity: 'replicator' });
    rig.entrance.admitted(standby.visitor, SESSION);
    const other = rig.enter('other', '10.0.0.2');
    rig.entrance.failed(other.visitor, { ...REPORT, user: 'postgres' }, () => {});
    for (let count = 0; count < 5_000; count += 1) flood();
    const { keyLinesMax } = STRANGERS_LOG_LINES;
    // Before somebody was let in from there, and behind it.
    expect(rig.texts().filter((text) => text.includes('refused'))).toHaveLength(
      2 * keyLinesMax + 1,
    );
    expect(rig.texts().length).toBeLessThanOrEqual(4 * (keyLinesMax + 1) + 2);
    expect(rig.texts()).toContain(
      'connection authenticated: identity="replicator" method=scram-sha-256 (line 3)',
    );
    expect(rig.texts()).toContain(
      'connection refused: password authentication failed for user "postgres"',
    );
    rig.clock.advance(STRANGERS_LOG_LINES.windowMs);
    flood();
    expect(rig.log.lines.at(-1)).toMatch(/"left_out":\d+/);
  });

  it('hides no refusal of where somebody was let in behind strangers who come from everywhere', () => {
    const rig = new Rig();
    const { visitor } = rig.enter('standby', '10.0.0.1');
    rig.entrance.authenticated(visitor, { ...REPORT, identity: 'replicator' });
    rig.entrance.admitted(visitor, SESSION);
    const peer = (address: string | null): PeerAddress => ({ address, port: 1 });
    for (let index = 0; index < 5_000; index += 1) {
      rig.entrance.turnedAway('noise', peer(`10.1.${index % 200}.1`));
    }
    const lines = rig.log.lines.length;
    const again = rig.enter('standby again', '10.0.0.1');
    rig.entrance.failed(again.visitor, REPORT, () => {});
    rig.entrance.turnedAway('connection refused: too many', peer('10.0.0.1'));
    expect(rig.texts().slice(lines)).toEqual([
      'connection received: host=10.0.0.1 port=4711',
      'connection refused: password authentication failed for user "replicator"',
      'connection refused: too many',
    ]);
  });

  it('hides no refusal on a Unix socket behind connections that are closed because there are too many', () => {
    const rig = new Rig();
    rig.connectionsMax = 0;
    for (let index = 0; index < 1_000; index += 1) rig.entrance.makePlace();
    rig.entrance.turnedAway('connection refused: no entry', { address: null, port: null });
    expect(rig.texts()).toContain('connection refused: no entry');
  });

  it('hides no login behind names that nobody has to prove', () => {
    const rig = new Rig();
    const come = (address: string, user: string, identity: string | null): void => {
      const { visitor } = rig.enter(user, address);
      rig.entrance.authenticated(visitor, { ...REPORT, method: 'any', user, identity });
      rig.entrance.admitted(visitor, { ...SESSION, user });
      rig.entrance.left(visitor);
    };
    for (let index = 0; index < 5_000; index += 1) come('10.0.0.9', `name${index}`, null);
    come('10.0.0.1', 'standby', 'standby');
    const said = rig.texts().slice(-4);
    expect(said).toEqual([
      'connection received: host=10.0.0.1 port=4711',
      'connection authenticated: identity="standby" method=any (line 3)',
      'replication connection authorized: user=standby application_name=standby1',
      'disconnection: session time: 0:00:00.000 user=standby database= host=10.0.0.1 port=4711',
    ]);
  });

  it('writes a refusal in one line of bounded length, whatever the client sent', () => {
    const rig = new Rig();
    const text = `invalid value: "\n\u001b[2J\u202e${'x'.repeat(9_000)}"`;
    rig.entrance.turnedAway(text, { address: '10.0.0.1', port: 1 });
    const [said = ''] = rig.texts();
    expect(said).toContain('"\\x0a\\x1b[2J\\u202ex');
    expect(said.length).toBeLessThan(1_100);
  });

  it('holds only so many who are no sessions, and whom it sends away is of the crowd', () => {
    const rig = new Rig();
    rig.connectionsMax = 3 * STARTUPS_MAX;
    rig.entrance.makePlace();
    rig.enter('standby', '10.0.0.1');
    for (let index = 0; index < 2 * STARTUPS_MAX; index += 1) {
      expect(rig.entrance.makePlace()).toBe(true);
      rig.enter(`crowd${index}`, `10.1.1.${index % 50}`);
    }
    expect(rig.closed).toHaveLength(STARTUPS_MAX + 1);
    expect(rig.closed).not.toContain('standby');
  });

  it('keeps no timer of who has gone while it waited for the answer to a failure', () => {
    const rig = new Rig();
    const visitors = Array.from({ length: 40 }, (_, index) => rig.enter(`f${index}`, '10.0.0.1'));
    for (const { visitor } of visitors) rig.entrance.failed(visitor, REPORT, () => {});
    expect(rig.clock.nextTimerMs()).not.toBeNull();
    for (const { visitor } of visitors) rig.entrance.left(visitor);
    expect(rig.clock.nextTimerMs()).toBeNull();
  });
});
