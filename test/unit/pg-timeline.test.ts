import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatLsn, toLsn } from '../../src/pg/lsn.ts';
import {
  formatPosition,
  HISTORY_FILE_BYTES_MAX,
  historyFileName,
  isInHistory,
  parseHistoryFileName,
  parseTimelineHistory,
  rootHistory,
  switchPoint,
  timelineOfLsn,
  toTimelineId,
} from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';

const tli = toTimelineId;

function history(timeline: number, content: string): TimelineHistory {
  const parsed = parseTimelineHistory(tli(timeline), content);
  if (typeof parsed === 'string') throw new Error(parsed);
  return parsed;
}

// As a server writes it: the parent's file, a newline, one more line.
const FILE_OF_4 = '1\t0/3000000\tno recovery target specified\n\n2\t0/5000148\tbefore 2026-01-01\n';

describe('a timeline id', () => {
  it('lies within 32 bits and is never 0', () => {
    expect(tli(0xffffffff)).toBe(0xffffffff);
    for (const value of [0, -1, 1.5, 2 ** 32, Number.NaN]) {
      expect(() => tli(value)).toThrow(RangeError);
    }
  });

  it('names its history file, and is read from the name', () => {
    expect(historyFileName(tli(0x1f))).toBe('0000001F.history');
    expect(parseHistoryFileName('0000001F.history')).toBe(0x1f);
    for (const name of ['00000000.history', '1F.history', '0000001f.history', '0000001F.histor']) {
      expect(parseHistoryFileName(name)).toBeNull();
    }
  });
});

describe('a timeline history', () => {
  it('lists the ancestors and where each was left', () => {
    expect(history(4, FILE_OF_4)).toEqual({
      timeline: 4,
      ancestors: [
        { timeline: 1, endLsn: 0x3000000n },
        { timeline: 2, endLsn: 0x5000148n },
      ],
    });
    expect(history(1, '')).toEqual(rootHistory(tli(1)));
  });

  it('allows comments, blank lines, other white space and CRLF', () => {
    expect(history(4, '# comment\r\n \n  1   0/3000000\r\n2\t0/5000148')).toEqual(
      history(4, FILE_OF_4),
    );
  });

  it.each([
    ['a line without a position', '1\n'],
    ['no number', 'x\t0/1\n'],
    ['timeline 0', '0\t0/1\n'],
    ['a number beyond 32 bits', '4294967296\t0/1\n'],
    ['a position that is none', '1\t0-1\n'],
    ['the timeline itself', '4\t0/1\n'],
    ['a later timeline', '5\t0/1\n'],
    ['a repeated timeline', '1\t0/1\n1\t0/2\n'],
    ['timelines that decrease', '2\t0/1\n1\t0/2\n'],
    ['positions that decrease', '1\t0/2\n2\t0/1\n'],
    ['binary rubbish', '\u0000\u0001\u0002'],
    ['a megabyte and more', '#'.repeat(HISTORY_FILE_BYTES_MAX + 1)],
  ])('is refused with %s, and says why', (_name, content) => {
    expect(parseTimelineHistory(tli(4), content)).toEqual(expect.any(String));
  });

  it('tells who is an ancestor, where it was left, and for which timeline', () => {
    const four = history(4, FILE_OF_4);
    expect([1, 2, 3, 4, 5].map((value) => isInHistory(four, tli(value)))).toEqual([
      true,
      true,
      false,
      true,
      false,
    ]);
    expect(switchPoint(four, tli(1))).toEqual({ endLsn: 0x3000000n, nextTimeline: 2 });
    expect(switchPoint(four, tli(2))).toEqual({ endLsn: 0x5000148n, nextTimeline: 4 });
    expect(switchPoint(four, tli(3))).toBeNull();
    expect(switchPoint(four, tli(4))).toBeNull();
  });

  it('gives the byte at a switch point to the child', () => {
    const four = history(4, FILE_OF_4);
    const owner = (lsn: bigint): number => timelineOfLsn(four, toLsn(lsn));
    expect([0n, 0x2ffffffn, 0x3000000n, 0x5000147n, 0x5000148n].map(owner)).toEqual([
      1, 1, 2, 2, 4,
    ]);
    expect(timelineOfLsn(rootHistory(tli(7)), toLsn(0n))).toBe(7);
  });

  it('is read back from any file a server could write', () => {
    const anyAncestors = fc
      .uniqueArray(fc.integer({ min: 1, max: 0xfffffffe }), { maxLength: 20 })
      .map((values) => values.toSorted((a, b) => a - b))
      .chain((timelines) =>
        fc
          .array(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), {
            minLength: timelines.length,
            maxLength: timelines.length,
          })
          .map((ends) => ends.toSorted((a, b) => (a < b ? -1 : 1)))
          .map((ends) =>
            timelines.map((timeline, index) => ({
              timeline: tli(timeline),
              endLsn: toLsn(ends[index] ?? 0n),
            })),
          ),
      );
    fc.assert(
      fc.property(anyAncestors, (ancestors) => {
        const content = ancestors
          .map((each) => `${each.timeline}\t${formatLsn(each.endLsn)}\twhy not\n`)
          .join('\n');
        expect(parseTimelineHistory(tli(0xffffffff), content)).toEqual({
          timeline: 0xffffffff,
          ancestors,
        });
      }),
    );
  });

  it('shows positions with their timeline', () => {
    expect(formatPosition(tli(1), toLsn(0x3000000n))).toBe('0/3000000 on timeline 1');
  });
});
