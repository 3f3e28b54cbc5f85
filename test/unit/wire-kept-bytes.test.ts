// Does what keeps early bytes give out what came, whatever the pieces are?
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { KeptBytes } from '../../src/wire/kept-bytes.ts';

test('bytes come out in the order in which they came, whatever is taken between', () => {
  const step = fc.oneof(
    fc.record({ push: fc.uint8Array({ maxLength: 600 }) }),
    fc.record({ drop: fc.nat(700) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const kept = new KeptBytes();
      let expected: number[] = [];
      for (const action of steps) {
        if ('push' in action) {
          kept.push(action.push);
          expected.push(...action.push);
        } else {
          const bytes = Math.min(action.drop, kept.length);
          kept.drop(bytes);
          expected = expected.slice(bytes);
        }
        expect(kept.length).toBe(expected.length);
        expect([...kept.view()]).toEqual(expected);
      }
      expect([...kept.takeAll()]).toEqual(expected);
      expect(kept.length).toBe(0);
    }),
  );
});

test('a chunk that its owner changes later stays as it came', () => {
  const kept = new KeptBytes();
  const chunk = Uint8Array.of(1, 2, 3);
  kept.push(chunk);
  chunk.fill(9);
  expect([...kept.takeAll()]).toEqual([1, 2, 3]);
});
