// Does a crowd of standbys, or of those who ask about them, leave the event loop to the WAL?
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  HTTP_PICTURE_MS_PER_ROW,
  HTTP_ROWS_PER_PIECE,
  HTTP_SLICE_MS,
} from '../../src/config/limits.ts';
import { Pictures } from '../../src/http/pictures.ts';
import type { RelayStatus, StandbyStatus } from '../../src/status/status.ts';
import { openTestPort } from '../support/http-port.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';

function crowd(length: number): StandbyStatus[] {
  return Array.from({ length }, (_none, pid) => sampleStandby({ pid }));
}

/** A source that counts how often it was asked. */
class Counted {
  readonly #status: RelayStatus;
  looks = 0;

  constructor(standbys: number) {
    this.#status = sampleStatus({ standbys: crowd(standbys) });
  }

  status(): RelayStatus {
    this.looks++;
    return this.#status;
  }
}

/** Standbys that note in which turn of the event loop each was looked at. */
function watched(length: number): { standbys: StandbyStatus[]; turns: number[] } {
  const turns: number[] = [];
  let turn = 0;
  const count = (): void => {
    turn++;
    // Each is looked at twice.
    if (turns.length < 2 * length) setImmediate(count);
  };
  setImmediate(count);
  const standbys = crowd(length).map((standby) =>
    Object.defineProperty({ ...standby }, 'pid', {
      enumerable: true,
      get: () => {
        turns.push(turn);
        return standby.pid;
      },
    }),
  );
  return { standbys, turns };
}

/** A clock on which every look at it takes as long as a whole slice: each piece of work is one too many for its turn. */
class SlowClock extends ManualClock {
  override nowMs(): number {
    this.skip(HTTP_SLICE_MS);
    return super.nowMs();
  }
}

describe('a picture', () => {
  test('of a crowd is written in slices, a turn of the event loop each', async () => {
    const { standbys, turns } = watched(1000);
    const source = { status: () => sampleStatus({ standbys }) };
    const picture = new Pictures({ source, clock: new SlowClock() }).current();
    const answer = await picture.answer('standbys');
    expect(JSON.parse(answer.toString())).toHaveLength(1000);
    const looksIn = new Map<number, number>();
    for (const turn of turns) looksIn.set(turn, (looksIn.get(turn) ?? 0) + 1);
    expect(looksIn.size).toBeGreaterThan(10);
    // The turns that are counted here may begin in the middle of those of the program.
    expect(Math.max(...looksIn.values())).toBeLessThanOrEqual(4 * HTTP_ROWS_PER_PIECE);
  });

  test('is written once for all parts that show it, and is one object for all who ask', async () => {
    const { standbys, turns } = watched(300);
    const source = { status: () => sampleStatus({ standbys }) };
    const picture = new Pictures({ source, clock: new ManualClock() }).current();
    const [status, again] = await Promise.all([picture.answer('status'), picture.answer('status')]);
    expect(again).toBe(status);
    const looks = turns.length;
    await picture.answer('standbys');
    await picture.texts();
    expect(turns.length).toBe(looks);
  });

  test('that cannot be written is an error for who asked', async () => {
    const broken = Object.defineProperty({ ...sampleStandby() }, 'pid', {
      get: () => {
        throw new Error('no');
      },
    });
    const source = { status: () => sampleStatus({ standbys: [broken] }) };
    const picture = new Pictures({ source, clock: new ManualClock() }).current();
    await expect(picture.answer('status')).rejects.toThrow('no');
  });
});

describe('who asks', () => {
  test('of a small relay sees it as it is at that moment', () => {
    const source = new Counted(3);
    const pictures = new Pictures({ source, clock: new ManualClock() });
    for (let asked = 1; asked <= 5; asked++) {
      pictures.current();
      expect(source.looks).toBe(asked);
    }
  });

  test('of a crowd shares what was seen a moment ago, the longer the larger it is', () => {
    const source = new Counted(1000);
    const clock = new ManualClock();
    const pictures = new Pictures({ source, clock });
    const first = pictures.current();
    clock.advance(1000 * HTTP_PICTURE_MS_PER_ROW - 1);
    expect(pictures.current()).toBe(first);
    expect(pictures.status()).toBe(first.status);
    expect(source.looks).toBe(1);
    clock.advance(3);
    expect(pictures.current()).not.toBe(first);
    expect(source.looks).toBe(2);
  });

  test('many at once over HTTP are one look; after a change everybody sees the change', async () => {
    const source = new Counted(1000);
    const token = 'a-token-of-more-than-sixteen-characters';
    const server = await openTestPort({ source, clock: new ManualClock(), token: () => token });
    onTestFinished(() => server.close());
    const get = async (path: string): Promise<number> => {
      const response = await fetch(server.url + path);
      await response.arrayBuffer();
      return response.status;
    };
    const paths = ['/api/v1/status', '/api/v1/standbys', '/readyz', '/livez', '/standbys'];
    const codes = await Promise.all([...paths, ...paths, ...paths].map(get));
    expect(new Set(codes)).toEqual(new Set([200]));
    expect(source.looks).toBe(1);
    const headers = { authorization: `Bearer ${token}` };
    await fetch(`${server.url}/api/v1/pause`, { method: 'POST', headers });
    const before = source.looks;
    await get('/api/v1/status');
    expect(source.looks).toBe(before + 1);
  });

  test.each([
    ['OPTIONS', '/readyz', 200],
    ['POST', '/api/v1/pause', 401],
    ['POST', '/nothing', 404],
    ['POST', '/readyz', 405],
  ])('%s %s changes nothing: a crowd is not looked at again for it', async (method, path, code) => {
    const source = new Counted(1000);
    const token = 'a-token-of-more-than-sixteen-characters';
    const server = await openTestPort({ source, clock: new ManualClock(), token: () => token });
    onTestFinished(() => server.close());
    await (await fetch(`${server.url}/readyz`)).arrayBuffer();
    const asked = await fetch(server.url + path, { method });
    await asked.arrayBuffer();
    expect(asked.status).toBe(code);
    await (await fetch(`${server.url}/readyz`)).arrayBuffer();
    expect(source.looks).toBe(1);
  });
});

test('of those who wait for one large answer each has it in a turn of its own', async () => {
  const source = { status: () => sampleStatus({ standbys: crowd(300) }) };
  const pictures = new Pictures({ source, clock: new ManualClock() });
  let answered = 0;
  const waiting = Array.from({ length: 50 }, async () => {
    await pictures.answer('status');
    answered += 1;
  });
  const inTurn: number[] = [];
  for (let last = 0; answered < waiting.length; last = answered) {
    await new Promise(setImmediate);
    inTurn.push(answered - last);
  }
  expect(Math.max(...inTurn)).toBe(1);
});
