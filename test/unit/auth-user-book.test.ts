// Who are the users, when is the upstream asked, and what counts while it cannot be?
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { UserBook } from '../../src/auth/user-book.ts';
import type { UserAnswer } from '../../src/auth/user-directory.ts';
import type { UserRows } from '../../src/auth/user-row.ts';
import { OperationalError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import {
  AUTH_ASK_AGAIN_MAX,
  AUTH_ASK_AGAIN_MS,
  AUTH_OUTAGE_MS,
  AUTH_QUESTION_MS_MAX,
  AUTH_QUESTIONS_MAX,
  AUTH_RETRY_MS,
  AUTH_STRANGERS_KEPT_MAX,
  AUTH_USERS_KEPT_MAX,
} from '../../src/config/limits.ts';
import type { PasswordSecret } from '../../src/pg/password-secret.ts';
import { SCRAM_ITERATIONS_MAX } from '../../src/wire/scram-client.ts';
import { ManualClock } from '../support/manual-clock.ts';

const CACHE_MS = 60_000;
const NO_USER: UserRows = { columns: 4, rows: [] };

interface Asked {
  readonly name: string;
  readonly signal: AbortSignal;
  answer(rows: UserRows): void;
  fail(): void;
}

let clock: ManualClock;
let asked: Asked[];
let users: Map<string, PasswordSecret>;
let withoutSecret: Set<string>;
let cacheMs: number | null;
let book: UserBook;

beforeEach(() => {
  clock = new ManualClock();
  asked = [];
  users = new Map();
  withoutSecret = new Set();
  cacheMs = CACHE_MS;
  book = openBook();
});

function openBook(seed: Uint8Array = randomBytes(32)): UserBook {
  return new UserBook({
    users: () => users,
    usersWithoutSecret: () => withoutSecret,
    cacheMs: () => cacheMs,
    ask: (name, signal) =>
      new Promise((resolve, reject) => {
        asked.push({
          name,
          signal,
          answer: resolve,
          fail: () => reject(new OperationalError('ECONNREFUSED', 'nobody is there')),
        });
      }),
    seed,
    clock,
    log: silentLog,
  });
}

function row(name: string, password: string | null, more: (string | null)[] = []): UserRows {
  const values = [name, password, ...more];
  return { columns: values.length, rows: [values] };
}

/** Asks for `name`, which is answered with `rows`. */
async function learn(name: string, rows: UserRows): Promise<UserAnswer> {
  const before = asked.length;
  const told = book.lookup(name);
  expect(asked).toHaveLength(before + 1);
  asked.at(-1)?.answer(rows);
  return await told;
}

/** The password of an answer that was found, else its kind. */
async function passwordOf(told: UserAnswer | Promise<UserAnswer>): Promise<string> {
  const answer = await told;
  if (answer.kind !== 'found') return answer.kind;
  return answer.secret?.kind === 'plain' ? answer.secret.password : String(answer.secret?.kind);
}

describe('users of our own', () => {
  test('win, and nobody is asked about them', async () => {
    users.set('repl', { kind: 'plain', password: 'own' });
    expect(book.lookup('repl')).toEqual({
      kind: 'found',
      secret: { kind: 'plain', password: 'own' },
      validUntilMs: null,
      mayReplicate: null,
    });
    expect(asked).toEqual([]);
    users.delete('repl');
    expect(await passwordOf(learn('repl', row('repl', 'theirs')))).toBe('theirs');
  });

  test('without a secret are not asked for either: no password is to let them in', () => {
    withoutSecret.add('repl');
    expect(book.lookup('repl')).toMatchObject({ kind: 'found', secret: null, mayReplicate: null });
    expect(asked).toEqual([]);
  });

  test('are all there are without auth_query', () => {
    cacheMs = null;
    expect(book.lookup('repl')).toEqual({ kind: 'unknown' });
    expect(asked).toEqual([]);
  });
});

describe('an answer of the upstream', () => {
  test('counts for auth_cache_time and no longer', async () => {
    await learn('repl', row('repl', 'one'));
    clock.advance(CACHE_MS - 1);
    expect(await passwordOf(book.lookup('repl'))).toBe('one');
    expect(asked).toHaveLength(1);
    clock.advance(1);
    expect(await passwordOf(learn('repl', row('repl', 'two')))).toBe('two');
  });

  test('is asked for each time with auth_cache_time 0', async () => {
    cacheMs = 0;
    await learn('repl', row('repl', 'one'));
    await learn('repl', row('repl', 'two'));
  });

  test('is waited for by everybody who asks for the same name meanwhile, and asked for once', async () => {
    const told = [book.lookup('repl'), book.lookup('repl'), book.lookup('repl')];
    expect(asked).toHaveLength(1);
    asked[0]?.answer(row('repl', 'one'));
    expect(await Promise.all(told.map(passwordOf))).toEqual(['one', 'one', 'one']);
  });

  test('tells how long it is valid and whether the user may replicate', async () => {
    const answer = await learn('repl', row('repl', 'x', ['2030-01-02 03:04:05.678901+00', 'f']));
    expect(answer).toMatchObject({
      validUntilMs: Date.UTC(2030, 0, 2, 3, 4, 5, 678),
      mayReplicate: false,
    });
  });

  test('of which something is wrong lets nobody in, not even with what was known before', async () => {
    await learn('repl', row('repl', 'one'));
    clock.advance(CACHE_MS);
    const answer = await learn('repl', row('somebody', 'geheim'));
    expect(answer).toEqual({
      kind: 'unavailable',
      reason: 'its first column is not the name that was asked for',
    });
  });

  test('of which something is wrong makes the one before count no more, also once nobody can be asked', async () => {
    await learn('repl', row('repl', 'one'));
    clock.advance(CACHE_MS);
    await learn('repl', { columns: 0, rows: [], problem: 'query returned no rows' });
    const told = book.lookup('repl');
    asked.at(-1)?.fail();
    expect(await passwordOf(told)).toBe('unavailable');
    expect(await passwordOf(book.lookup('repl'))).toBe('unavailable');
  });

  test('that the server has not for one name keeps nobody else from being asked for', async () => {
    await learn('nobody', { columns: 0, rows: [], problem: 'query returned no rows' });
    expect(await passwordOf(learn('repl', row('repl', 'one')))).toBe('one');
  });

  test('is not asked for a name that no server can have', () => {
    expect(book.lookup('x'.repeat(64))).toEqual({ kind: 'unknown' });
    expect(book.lookup('ü'.repeat(32))).toEqual({ kind: 'unknown' });
    expect(asked).toEqual([]);
    void book.lookup('x'.repeat(63));
    expect(asked).toHaveLength(1);
  });
});

describe('a wrong password', () => {
  test('has the answer asked for again at once, but not ever again', async () => {
    await learn('repl', row('repl', 'old'));
    for (let count = 0; count < AUTH_ASK_AGAIN_MAX; count += 1) {
      book.onWrongPassword('repl');
      expect(await passwordOf(learn('repl', row('repl', 'new')))).toBe('new');
    }
    book.onWrongPassword('repl');
    expect(await passwordOf(book.lookup('repl'))).toBe('new');
    expect(asked).toHaveLength(1 + AUTH_ASK_AGAIN_MAX);
    clock.advance(AUTH_ASK_AGAIN_MS);
    expect(await passwordOf(learn('repl', row('repl', 'newer')))).toBe('newer');
  });

  test('does not, where the next one was right', async () => {
    await learn('repl', row('repl', 'one'));
    clock.advance(AUTH_ASK_AGAIN_MS);
    expect(await passwordOf(book.lookup('repl'))).toBe('one');
    expect(asked).toHaveLength(1);
  });

  test.each([
    ['a user who is not there', NO_USER],
    ['a user without password', row('repl', null)],
    ['a user whose password has expired', row('repl', 'x', ['1999-01-01 00:00:00+00'])],
  ])('is what %s is taken for, so nobody can tell by the rhythm', async (_what, rows) => {
    for (let count = 0; count <= AUTH_ASK_AGAIN_MAX; count += 1) await learn('repl', rows);
    void book.lookup('repl');
    expect(asked).toHaveLength(1 + AUTH_ASK_AGAIN_MAX);
    clock.advance(AUTH_ASK_AGAIN_MS);
    expect(await passwordOf(learn('repl', row('repl', 'x')))).toBe('x');
  });
});

describe('while the upstream cannot be asked', () => {
  async function outage(name: string): Promise<UserAnswer> {
    const told = book.lookup(name);
    asked.at(-1)?.fail();
    return await told;
  }

  test('the last answer counts, however old, and nobody waits for the next attempt', async () => {
    await learn('repl', row('repl', 'one', ['2030-01-01 00:00:00+00']));
    clock.advance(10 * CACHE_MS);
    expect(await passwordOf(outage('repl'))).toBe('one');
    clock.advance(AUTH_RETRY_MS);
    expect(book.lookup('repl')).toMatchObject({ kind: 'found', validUntilMs: Date.UTC(2030) });
    expect(asked).toHaveLength(3);
    asked[2]?.answer(row('repl', 'two'));
    await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    expect(await passwordOf(book.lookup('repl'))).toBe('two');
  });

  test('a while ago, it is asked first: who is gone since does not get in once more', async () => {
    await learn('repl', row('repl', 'one'));
    clock.advance(CACHE_MS);
    expect(await passwordOf(outage('repl'))).toBe('one');
    clock.advance(AUTH_OUTAGE_MS);
    expect(await passwordOf(learn('repl', NO_USER))).toBe('unknown');
  });

  test('a password that has expired meanwhile is told as such', async () => {
    const untilMs = clock.wallMs() + 2 * CACHE_MS;
    const text = new Date(untilMs).toISOString().replace('T', ' ').replace('Z', '+00');
    await learn('repl', row('repl', 'one', [text]));
    clock.advance(3 * CACHE_MS);
    const answer = await outage('repl');
    expect(answer).toMatchObject({ kind: 'found', validUntilMs: untilMs });
    expect(untilMs).toBeLessThan(clock.wallMs());
  });

  test('who is not known is refused at once, without another attempt', async () => {
    const out = { kind: 'unavailable', reason: 'nobody is there', isOut: true };
    expect(await outage('a')).toEqual(out);
    expect(await book.lookup('b')).toEqual(out);
    expect(asked).toHaveLength(1);
    clock.advance(AUTH_RETRY_MS);
    await learn('b', row('b', 'x'));
  });

  test('a question that is not answered is given up', async () => {
    const told = book.lookup('repl');
    clock.advance(AUTH_QUESTION_MS_MAX);
    expect(await told).toEqual({
      kind: 'unavailable',
      reason: 'no answer within 5 s',
      isOut: true,
    });
    expect(asked[0]?.signal.aborted).toBe(true);
    expect(clock.nextTimerMs()).toBeNull();
  });

  test('a role that was not there lets nobody in by any method', async () => {
    await learn('repl', NO_USER);
    clock.advance(CACHE_MS);
    expect(await outage('repl')).toEqual({ kind: 'unknown', isSure: true });
    expect(await book.lookup('repl')).toEqual({ kind: 'unknown', isSure: true });
  });
});

describe('a flood of names', () => {
  test('has a bounded number of them asked for, besides known users: one that is gone must not get in by the last answer', async () => {
    await learn('repl', row('repl', 'one'));
    clock.advance(CACHE_MS);
    for (let index = 0; index < AUTH_QUESTIONS_MAX; index += 1)
      void book.lookup(`stranger${index}`);
    expect(asked).toHaveLength(1 + AUTH_QUESTIONS_MAX);
    // Nobody is taken for a user of a server that is away: it is there.
    expect(await book.lookup('one more')).toEqual({
      kind: 'unavailable',
      reason: `${AUTH_QUESTIONS_MAX} users are being asked for already`,
    });
    expect(await passwordOf(learn('repl', NO_USER))).toBe('unknown');
    expect(asked).toHaveLength(2 + AUTH_QUESTIONS_MAX);
  });

  test('is no outage, also where there was one long ago', async () => {
    const told = book.lookup('a');
    asked.at(-1)?.fail();
    expect(await told).toMatchObject({ isOut: true });
    clock.advance(AUTH_OUTAGE_MS);
    for (let index = 0; index < AUTH_QUESTIONS_MAX; index += 1)
      void book.lookup(`stranger${index}`);
    expect(await book.lookup('one more')).toEqual({
      kind: 'unavailable',
      reason: `${AUTH_QUESTIONS_MAX} users are being asked for already`,
    });
  });

  test('makes nobody forget a user', async () => {
    await learn('repl', row('repl', 'one'));
    for (let index = 0; index < 2 * AUTH_STRANGERS_KEPT_MAX; index += 1) {
      await learn(`stranger${index}`, NO_USER);
    }
    expect(book.lookup('repl')).toMatchObject({ kind: 'found' });
  });

  test('of users that are there makes room for the newest', async () => {
    for (let index = 0; index <= AUTH_USERS_KEPT_MAX; index += 1) {
      await learn(`user${index}`, row(`user${index}`, 'x'));
    }
    expect(book.lookup('user1')).toMatchObject({ kind: 'found' });
    await learn('user0', row('user0', 'x'));
  });
});

describe('another upstream', () => {
  test('makes what was said before count no more, even while it cannot be asked', async () => {
    await learn('repl', row('repl', 'one'));
    const told = book.lookup('late');
    book.forget();
    expect(await told).toEqual({
      kind: 'unavailable',
      reason: 'the upstream is asked in another way by now',
    });
    asked.at(-1)?.answer(row('late', 'of the old upstream'));
    const again = book.lookup('repl');
    asked.at(-1)?.fail();
    expect(await again).toMatchObject({ kind: 'unavailable' });
  });
});

describe('what an unknown user is shown', () => {
  test('is the same for a name, and after a restart, and says nothing about others', () => {
    const seed = randomBytes(32);
    const [first, second] = [openBook(seed), openBook(seed)];
    expect(first.mockSalt('a')).toEqual(second.mockSalt('a'));
    expect(first.mockSalt('a')).toHaveLength(16);
    expect(first.mockSalt('a')).not.toEqual(first.mockSalt('b'));
    expect(openBook().mockSalt('a')).not.toEqual(first.mockSalt('a'));
  });

  test('has the iterations that most users have', async () => {
    expect(book.mockIterations).toBe(4096);
    const secret = (iterations: number): string =>
      `SCRAM-SHA-256$${iterations}:${Buffer.alloc(16, 1).toString('base64')}$${Buffer.alloc(32).toString('base64')}:${Buffer.alloc(32).toString('base64')}`;
    await learn('a', row('a', secret(10_000)));
    await learn('b', row('b', secret(20_000)));
    await learn('c', row('c', secret(20_000)));
    expect(book.mockIterations).toBe(20_000);
    // Whoever has a role may give it a secret like that, with which no key can be derived within hours.
    for (const name of ['d', 'e', 'f']) {
      await learn(name, row(name, secret(SCRAM_ITERATIONS_MAX + 1)));
    }
    expect(book.mockIterations).toBe(20_000);
  });

  test('under md5 they go the way that most users go', async () => {
    const md5: PasswordSecret = { kind: 'md5', hash: '0'.repeat(32), text: `md5${'0'.repeat(32)}` };
    expect(book.mockKind).toBe('scram');
    await learn('a', row('a', md5.text));
    expect(book.mockKind).toBe('md5');
    users = new Map<string, PasswordSecret>([
      ['b', { kind: 'plain', password: 'b' }],
      ['c', md5],
    ]);
    expect(book.mockKind).toBe('md5');
    users = new Map([['b', { kind: 'plain', password: 'b' }]]);
    expect(book.mockKind).toBe('scram');
    book.forget();
    users = new Map([['c', md5]]);
    expect(book.mockKind).toBe('md5');
  });
});

describe('a plain password', () => {
  test('can be derived before anybody logs in with it', async () => {
    const secret: PasswordSecret = { kind: 'plain', password: 'geheim' };
    users = new Map([['ann', secret]]);
    const isThere = async (name: string): Promise<boolean> =>
      (await Promise.race([book.scramOf(name, secret), Promise.resolve('late')])) !== 'late';
    await book.prepare();
    expect(await isThere('ann')).toBe(true);
    expect(await isThere('bob')).toBe(false);
  });

  test('is derived once, with the salt the user had before he was known', async () => {
    const secret: PasswordSecret = { kind: 'plain', password: 'geheim' };
    const first = book.scramOf('repl', secret);
    expect(book.scramOf('repl', { ...secret })).toBe(first);
    const derived = await first;
    expect(derived?.salt).toEqual(book.mockSalt('repl'));
    expect(derived?.iterations).toBe(book.mockIterations);
    expect(book.scramOf('repl', { kind: 'plain', password: 'another' })).not.toBe(first);
  });

  test('of md5 is of no use for SCRAM', () => {
    expect(book.scramOf('repl', { kind: 'md5', hash: '0'.repeat(32), text: '' })).toBeNull();
  });
});
