// Heavy work of many: one piece a turn, in order, and none for who has gone.
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { TurnQueue } from '../../src/base/turn-queue.ts';

it('runs one piece in a turn, the first at once, in order', async () => {
  const queue = new TurnQueue();
  const done: number[] = [];
  for (const index of [0, 1, 2, 3]) queue.run(() => done.push(index));
  expect(done).toEqual([0]);
  expect(queue.length).toBe(3);
  for (const count of [2, 3, 4]) {
    await turn();
    expect(done).toHaveLength(count);
  }
  expect(done).toEqual([0, 1, 2, 3]);
  await turn();
  queue.run(() => done.push(4));
  expect(done.at(-1)).toBe(4);
});

it('gives no turn to what was taken back', async () => {
  const queue = new TurnQueue();
  const done: number[] = [];
  const takeBack = Array.from({ length: 1000 }, (_, index) => queue.run(() => done.push(index)));
  for (const back of takeBack.slice(1, 999)) back();
  expect(queue.length).toBe(1);
  await turn();
  expect(done).toEqual([0, 999]);
  takeBack[999]?.();
  expect(queue.length).toBe(0);
});

it('goes on when a piece adds others, and when one throws', async () => {
  const queue = new TurnQueue();
  const done: string[] = [];
  expect(() =>
    queue.run(() => {
      queue.run(() => done.push('inner'));
      throw new Error('outer');
    }),
  ).toThrow('outer');
  expect(done).toEqual([]);
  await turn();
  expect(done).toEqual(['inner']);
});

it('serves those it comes from by turns, however much one of them wants', async () => {
  const queue = new TurnQueue();
  const done: string[] = [];
  const crowd = Array.from({ length: 500 }, (_, index) =>
    queue.run(() => done.push(`crowd${index}`), 'crowd'),
  );
  queue.run(() => done.push('standby'), 'standby');
  crowd[1]?.();
  queue.run(() => done.push('other'), 'other');
  for (let count = 0; count < 4; count += 1) await turn();
  expect(done).toEqual(['crowd0', 'crowd2', 'standby', 'other', 'crowd3']);
  expect(queue.length).toBe(496);
});
