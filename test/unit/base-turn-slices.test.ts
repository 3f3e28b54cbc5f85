// Work in slices: what fits into a turn is done at once, the rest in order, and whoever else has work comes in between.
import { describe, expect, it } from 'vitest';
import { TurnSlices } from '../../src/base/turn-slices.ts';
import { ManualClock } from '../support/manual-clock.ts';

describe('TurnSlices', () => {
  const clock = new ManualClock();
  const slices = (): TurnSlices => new TurnSlices({ clock, sliceMs: 5 });
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it('does at once what fits into a turn', () => {
    const done: number[] = [];
    const work = slices();
    for (let piece = 0; piece < 100; piece += 1) work.run(() => done.push(piece));
    expect(done).toHaveLength(100);
  });

  it('does a crowd’s work in order, so much in a turn, and lets others in between', async () => {
    const work = slices();
    const done: (number | string)[] = [];
    for (let piece = 0; piece < 12; piece += 1) {
      work.run(() => {
        done.push(piece);
        clock.skip(2);
      });
    }
    // The third piece ends beyond the slice: a piece that has begun is finished.
    expect(done).toEqual([0, 1, 2]);
    for (let round = 0; round < 3; round += 1) {
      await turn();
      done.push('other');
    }
    await turn();
    expect(done).toEqual([0, 1, 2, 3, 4, 5, 'other', 6, 7, 8, 'other', 9, 10, 11, 'other']);
  });

  it('keeps the order for what is added meanwhile', async () => {
    const work = slices();
    const done: string[] = [];
    const slow =
      (name: string, then: () => void = () => {}) =>
      (): void => {
        done.push(name);
        clock.skip(10);
        then();
      };
    work.run(slow('a'));
    work.run(slow('b', () => work.run(slow('d'))));
    work.run(slow('c'));
    for (let round = 0; round < 5; round += 1) await turn();
    expect(done).toEqual(['a', 'b', 'c', 'd']);
  });

  it('takes a piece of each of those it comes from by turns', async () => {
    const work = slices();
    const done: string[] = [];
    const piece =
      (name: string): (() => void) =>
      () => {
        done.push(name);
        clock.skip(10);
      };
    for (const name of ['a1', 'a2', 'a3', 'a4']) work.run(piece(name), 'a');
    work.run(piece('b1'), 'b');
    work.run(piece('c1'), 'c');
    work.run(piece('b2'), 'b');
    for (let round = 0; round < 8; round += 1) await turn();
    expect(done).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
  });

  it('begins anew in each turn', async () => {
    const work = slices();
    const done: string[] = [];
    work.run(() => clock.skip(10));
    await turn();
    work.run(() => done.push('next'));
    expect(done).toEqual(['next']);
  });
});
