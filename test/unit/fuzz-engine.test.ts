// Is what the fuzzer makes of inputs bounded, the same for the same seed, and the same behind a file or a watchdog's memory?
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mutate } from '../fuzz/engine/mutate.ts';
import { FuzzRandom } from '../fuzz/engine/random.ts';
import {
  formatInput,
  packSession,
  parseInput,
  say,
  sessionOf,
  sizeOf,
  unpackSession,
} from '../fuzz/engine/session.ts';
import type { FuzzSession, StepKind } from '../fuzz/engine/session.ts';
import { cstr, message } from '../support/naive-writer.ts';

const kinds = fc.constantFrom<StepKind>(
  'say',
  'turn',
  'time',
  'wal',
  'full',
  'drain',
  'upstream',
  'end',
);
const sessions: fc.Arbitrary<FuzzSession> = fc.record({
  steps: fc.array(fc.record({ kind: kinds, bytes: fc.uint8Array({ maxLength: 50 }) }), {
    maxLength: 10,
  }),
  chunk: fc.nat(70_000),
  variant: fc.nat(255),
});

const QUERY = message('Q', cstr('IDENTIFY_SYSTEM'));
const CORPUS = [
  sessionOf([say(QUERY), say(QUERY)]),
  sessionOf([say(Buffer.from('host=a port=5432'))]),
];
const MATERIAL = { corpus: CORPUS, words: [cstr('SHOW')], events: ['turn', 'time'] as const };

describe('an input', () => {
  it('is the same when it is read from a file', () => {
    fc.assert(
      fc.property(sessions, (session) => {
        const read = parseInput(
          formatInput({ target: 't', sessions: [session] }, { kind: 'crash' }),
        );
        expect(read).toEqual({ target: 't', sessions: [session] });
      }),
    );
  });

  it('is the same when a watchdog reads it, and is left out where it has no room', () => {
    const memory = Buffer.alloc(4_096);
    fc.assert(
      fc.property(sessions, (session) => {
        expect(packSession(session, memory, 8)).toBeGreaterThan(0);
        expect(unpackSession(memory, 8)).toEqual(session);
      }),
    );
    expect(packSession(sessionOf([say(Buffer.alloc(5_000))]), memory, 8)).toBe(0);
  });
});

describe('a changed input', () => {
  it('is the same for the same seed', () => {
    const make = (seed: number): FuzzSession[] => {
      const random = new FuzzRandom(seed);
      return Array.from({ length: 200 }, () => mutate(random, MATERIAL));
    };
    expect(make(7)).toEqual(make(7));
    expect(make(7)).not.toEqual(make(8));
  });

  it('is bounded, whatever grew', () => {
    const random = new FuzzRandom(3);
    const corpus = [...CORPUS];
    for (let index = 0; index < 6_000; index += 1) {
      const session = mutate(random, { ...MATERIAL, corpus });
      expect(session.steps.length).toBeLessThanOrEqual(120);
      expect(sizeOf(session)).toBeLessThanOrEqual(48 * 1024);
      if (corpus.length < 200) corpus.push(session);
    }
  });

  it('keeps a length that fits in most messages, and not in all', () => {
    const random = new FuzzRandom(5);
    const fits = Array.from({ length: 2_000 }, () =>
      mutate(random, { ...MATERIAL, corpus: CORPUS.slice(0, 1) }),
    )
      .flatMap(({ steps }) => steps)
      .filter(({ kind, bytes }) => kind === 'say' && bytes.length >= 5)
      .map(
        ({ bytes }) =>
          new DataView(bytes.buffer, bytes.byteOffset).getUint32(1) === bytes.length - 1,
      );
    const share = fits.filter(Boolean).length / fits.length;
    expect(share).toBeGreaterThan(0.6);
    expect(share).toBeLessThan(0.98);
  });
});
