// May our application_name satisfy commits that wait for somebody else?
import { beforeEach, expect, it } from 'vitest';
import { UpstreamNames } from '../../src/relay/upstream-names.ts';
import type { OwnName } from '../../src/relay/upstream-names.ts';
import { LogRecord } from '../support/wal-senders-fixture.ts';

let log: LogRecord;
let names: UpstreamNames;

beforeEach(() => {
  log = new LogRecord();
  names = new UpstreamNames(log);
});

function own(overrides: Partial<OwnName> = {}): OwnName {
  return { applicationName: 'walcast', hasPolicy: false, memberNames: [], ...overrides };
}

it('is not known before a server was asked, and where it does not say', () => {
  expect(names.status(own())).toBeNull();
  names.identified(undefined, 1_000);
  expect(names.status(own())).toBeNull();
  expect(names.clash(own())).toBeNull();
});

it('may when the list names it and no standby of ours is waited for, said once in a row', () => {
  names.identified('ANY 1 (b, "WalCast")', 1_000);
  expect(names.status(own())).toEqual({
    synchronousStandbyNames: 'ANY 1 (b, "WalCast")',
    membership: 'named',
    asOfMs: 1_000,
  });
  names.say(own());
  names.identified('ANY 1 (b, "WalCast")', 2_000);
  names.say(own());
  expect(log.lines).toHaveLength(1);
  expect(names.clash(own({ hasPolicy: true }))).toBeNull();
  names.say(own({ hasPolicy: true }));
  names.say(own());
  expect(log.lines).toHaveLength(2);
});

it('may whatever the policy when a member of the cluster bears it', () => {
  const member = own({ applicationName: 'pg-1', hasPolicy: true, memberNames: ['pg-0', 'PG-1'] });
  expect(names.clash(member)).toContain('that of a member');
  expect(names.clash({ ...member, memberNames: ['pg-0'] })).toBeNull();
});

it('may not by a list that means everybody, nobody, or cannot be read', () => {
  for (const [text, membership] of [
    ['*', 'any'],
    ['b, c', 'none'],
    ['', 'none'],
    ['FIRST (', 'none'],
  ] as const) {
    names.identified(text, 1_000);
    expect(names.status(own())).toMatchObject({ membership });
    expect(names.clash(own())).toBeNull();
  }
});
