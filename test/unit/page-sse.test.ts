// Does the status page find the events in a stream, however the stream is cut?
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EVENT_LENGTH_MAX, EventStreamParser } from '../../page/sse.ts';
import type { StreamEvent } from '../../page/sse.ts';

const STREAM = [
  'retry: 1000\n\n',
  'id: 1\nevent: snapshot\ndata: {"at":"2026-01-01T00:00:00.000Z"}\n\n',
  ': keep-alive\n\n',
  'id: 2\nevent: change\ndata: one\ndata: two\n\n',
  'data:no space\n\n',
].join('');

const EVENTS: readonly StreamEvent[] = [
  { name: 'snapshot', data: '{"at":"2026-01-01T00:00:00.000Z"}' },
  { name: 'change', data: 'one\ntwo' },
  { name: 'message', data: 'no space' },
];

function parse(pieces: readonly string[]): StreamEvent[] {
  const parser = new EventStreamParser();
  return pieces.flatMap((piece) => parser.push(piece));
}

/** Line ends as a server might write them. */
const ENDS = ['\n', '\r\n', '\r'] as const;

describe.each(ENDS)('a stream with lines that end in %j', (end) => {
  const stream = STREAM.replaceAll('\n', end);

  test('is read whole', () => {
    expect(parse([stream])).toEqual(EVENTS);
  });

  test('is read character by character', () => {
    expect(parse(stream.split(''))).toEqual(EVENTS);
  });

  test('is read when it is cut in two anywhere', () => {
    for (let cut = 0; cut <= stream.length; cut += 1) {
      expect(parse([stream.slice(0, cut), stream.slice(cut)]), `cut at ${cut}`).toEqual(EVENTS);
    }
  });
});

describe('single lines', () => {
  test('a byte order mark in front is left out', () => {
    expect(parse(['\uFEFFdata: x\n\n'])).toEqual([{ name: 'message', data: 'x' }]);
  });

  test('only one space behind the colon is left out', () => {
    expect(parse(['data:  x \n\n'])).toEqual([{ name: 'message', data: ' x ' }]);
  });

  test('a field without a colon has an empty value', () => {
    expect(parse(['data\n\n'])).toEqual([{ name: 'message', data: '' }]);
  });

  test('an event without data is none, and its name is not that of the next', () => {
    expect(parse(['event: change\n\ndata: x\n\n'])).toEqual([{ name: 'message', data: 'x' }]);
  });

  test('an event that is not ended yet is not told', () => {
    expect(parse(['event: change\ndata: x\n'])).toEqual([]);
  });

  test('an event that is longer than any can be is refused, on one line or many', () => {
    const half = 'x'.repeat(EVENT_LENGTH_MAX / 2 + 1);
    expect(() => parse([`data: ${half}`, half])).toThrow(RangeError);
    expect(() => parse([`data: ${half}\n`, `data: ${half}\n`])).toThrow(RangeError);
  });
});

test('whatever is sent as data comes out, however it is cut', () => {
  const line = fc.string().map((text) => text.replaceAll(/[\r\n]/g, ''));
  fc.assert(
    fc.property(
      fc.array(fc.array(line, { minLength: 1, maxLength: 4 }), { maxLength: 5 }),
      fc.array(fc.nat(200)),
      fc.constantFrom(...ENDS),
      (events, cuts, end) => {
        const stream = events
          .map((lines) => `${lines.map((text) => `data: ${text}${end}`).join('')}${end}`)
          .join('');
        const places = [0, ...cuts.filter((cut) => cut < stream.length), stream.length];
        const sorted = places.toSorted((a, b) => a - b);
        const pieces = sorted.slice(1).map((place, index) => stream.slice(sorted[index], place));
        const data = parse(pieces).map((event) => event.data);
        expect(data).toEqual(events.map((lines) => lines.join('\n')));
      },
    ),
  );
});
