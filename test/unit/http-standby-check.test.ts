// Does a load balancer get 200 when enough standbys stream near enough to the end of the WAL, and never by mistake?
import { beforeAll, afterAll, describe, expect, test } from 'vitest';
import { HTTP_CHECK_NAMES_MAX } from '../../src/config/limits.ts';
import type { HttpServer } from '../../src/http/server.ts';
import { checkStandbys } from '../../src/http/standby-check.ts';
import type { StandbyWish } from '../../src/http/standby-check.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { RelayStatus, StandbyStatus } from '../../src/status/status.ts';
import { exchange, openTestPort, problemOf } from '../support/http-port.ts';
import { sampleStandby, sampleStatus, unknownStatus } from '../support/relay-status.ts';

/** The upstream's end of WAL is at 0/3000100; ours at 0/3000060. */
const END = 0x3000100n;

function standby(
  name: string,
  lag: bigint | null,
  more: Partial<StandbyStatus> = {},
): StandbyStatus {
  const applyLsn = lag === null ? INVALID_LSN : toLsn(END - lag);
  return sampleStandby({ applicationName: name, applyLsn, ...more });
}

function check(standbys: readonly StandbyStatus[], wish: Partial<StandbyWish>): object {
  return checkStandbys(sampleStatus({ standbys }), {
    name: null,
    lagBytesMax: null,
    min: 1,
    ...wish,
  });
}

describe('who qualifies', () => {
  test('every standby that streams, when no bound is given', () => {
    const standbys = [standby('a', 5000n), standby('b', null)];
    expect(check(standbys, {})).toEqual({
      status: 'ok',
      state: 'streaming',
      reason: null,
      min: 1,
      qualifying: 2,
      standbys: ['a', 'b'],
    });
  });

  test.each([
    [256, ['a']],
    [255, []],
    [0, []],
    [5000, ['a', 'b']],
  ])('with a lag of at most %i bytes, the least behind first', (lagBytesMax, names) => {
    const standbys = [standby('b', 5000n), standby('a', 256n)];
    expect(check(standbys, { lagBytesMax })).toMatchObject({ standbys: names });
  });

  test('the end that counts is the upstream’s, and our own where that is further', () => {
    const { upstream } = sampleStatus();
    const standbys = [standby('a', 0n)];
    const further = { ...upstream, serverLsn: toLsn(END + 100n) };
    const wish = { name: null, lagBytesMax: 0, min: 1 };
    expect(checkStandbys(sampleStatus({ standbys }), wish).status).toBe('ok');
    expect(checkStandbys(sampleStatus({ standbys, upstream: further }), wish)).toMatchObject({
      status: 'unavailable',
      reason: '0 of 1 needed standbys stream and lack 0 bytes at most; 1 stream',
    });
  });

  test('an upstream that is away takes nobody out: what it said last counts', () => {
    const { upstream } = sampleStatus();
    const status = sampleStatus({
      standbys: [standby('a', 10n)],
      state: 'connecting',
      upstream: { ...upstream, state: 'disconnected' },
    });
    expect(checkStandbys(status, { name: null, lagBytesMax: 10, min: 1 })).toMatchObject({
      status: 'ok',
      state: 'connecting',
    });
  });

  test('while the upstream has not said since the start how far it is, nobody as soon as there is a bound', () => {
    const { upstream } = sampleStatus();
    const status = sampleStatus({
      standbys: [standby('a', 0n)],
      state: 'connecting',
      upstream: { ...upstream, state: 'disconnected', serverLsn: INVALID_LSN },
    });
    const wish = { name: null, min: 1 };
    expect(checkStandbys(status, { ...wish, lagBytesMax: 2 ** 50 })).toMatchObject({
      status: 'unavailable',
      reason: expect.stringContaining('has not said'),
      standbys: [],
    });
    expect(checkStandbys(status, { ...wish, lagBytesMax: null }).status).toBe('ok');
  });

  test.each(['startup', 'backup', 'catchup', 'stopping'] as const)(
    'none in state %s, however near',
    (state) => {
      expect(check([standby('a', 0n, { state })], { lagBytesMax: 1 })).toMatchObject({
        status: 'unavailable',
        qualifying: 0,
      });
    },
  );

  test('none that does not replay, as soon as there is a bound', () => {
    const receiver = standby('pg_receivewal', null);
    expect(check([receiver], { lagBytesMax: Number.MAX_SAFE_INTEGER })).toMatchObject({
      qualifying: 0,
    });
    expect(check([receiver], {})).toMatchObject({ qualifying: 1 });
  });

  test('those of one name only, letter for letter', () => {
    const standbys = [standby('a', 0n), standby('A', 0n), standby('ab', 0n)];
    expect(check(standbys, { name: 'a' })).toMatchObject({ standbys: ['a'] });
    expect(check(standbys, { name: 'b' })).toMatchObject({
      status: 'unavailable',
      reason: '0 of 1 needed standbys of application_name "b" stream',
    });
  });

  test('when nothing is known, nobody', () => {
    const wish = { name: null, lagBytesMax: 10, min: 1 };
    expect(checkStandbys(unknownStatus(), wish)).toMatchObject({
      status: 'unavailable',
      state: 'starting',
    });
  });

  test('the list of a crowd has an end, the count has not', () => {
    const crowd = Array.from({ length: 1000 }, (_none, index) => standby(`s${index}`, 0n));
    const { standbys, qualifying } = Object(check(crowd, { min: 1000 }));
    expect([standbys.length, qualifying]).toEqual([HTTP_CHECK_NAMES_MAX, 1000]);
  });
});

describe('the route', () => {
  let status: RelayStatus = sampleStatus();
  let server: HttpServer;

  beforeAll(async () => {
    server = await openTestPort({ source: { status: () => status } });
  });

  afterAll(async () => {
    await server.close();
  });

  test.each([
    ['', 200],
    ['?lag=16MB', 200],
    ['?lag=4352', 200],
    ['?lag=4351', 503],
    ['?lag=4kB', 503],
    ['?lag=0', 503],
    ['?name=standby_a', 200],
    ['?name=standby_a&lag=16MB&min=1', 200],
    ['?name=standby_b', 503],
    ['?name=', 503],
    ['?min=2', 503],
  ])('/standbys%s is %i, to HEAD as well', async (query, code) => {
    status = sampleStatus();
    const response = await fetch(`${server.url}/standbys${query}`);
    expect(response.status).toBe(code);
    const answer = await response.json();
    expect(answer).toMatchObject(
      code === 200
        ? { status: 'ok', reason: null, standbys: ['standby_a'] }
        : { status: 'unavailable', reason: expect.any(String) },
    );
    const head = await fetch(`${server.url}/standbys${query}`, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([code, '']);
  });

  test.each(['/standbys?lag=16MB', '/readyz', '/livez', '/startupz'])(
    'OPTIONS %s of HTTP/1.0, which HAProxy asks with by itself, is answered as GET is',
    async (path) => {
      status = sampleStatus();
      const answer = await exchange(server.port, `OPTIONS ${path} HTTP/1.0\r\n\r\n`);
      expect(answer).toMatch(/^HTTP\/1\.1 200 /);
      status = unknownStatus();
      const asked = await exchange(server.port, `OPTIONS ${path} HTTP/1.0\r\n\r\n`);
      expect(asked).toMatch(path === '/livez' ? /^HTTP\/1\.1 200 / : /^HTTP\/1\.1 503 /);
      const posted = await fetch(server.url + path, { method: 'POST' });
      expect(posted.headers.get('allow')).toBe('GET, HEAD, OPTIONS');
    },
  );

  test.each([
    ['?lag=', 'lag'],
    ['?lag=-1', 'lag is negative'],
    ['?lag=16XB', 'lag'],
    ['?lag=1&lag=2', 'lag is given more than once'],
    ['?min=0', 'min is no whole number'],
    ['?min=1.5', 'min is no whole number'],
    ['?min=-1', 'min is no whole number'],
    ['?min=1000000', 'min is no whole number'],
    ['?min=1&min=1', 'min is no whole number'],
    ['?name=a&name=b', 'name is given more than once'],
    ['?lagg=1', 'a parameter is not known'],
    ['?__proto__=1', 'a parameter is not known'],
  ])('/standbys%s is refused: what is not understood is no bound', async (query, detail) => {
    const response = await fetch(`${server.url}/standbys${query}`);
    expect([response.status, await response.json()]).toEqual([
      400,
      problemOf('invalid-request', {
        detail: expect.stringContaining(detail),
        hint: expect.any(String),
      }),
    ]);
  });
});
