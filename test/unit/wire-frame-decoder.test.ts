import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../src/base/errors.ts';
import { FrameDecoder } from '../../src/wire/frame-decoder.ts';
import { i32, message, raw } from '../support/naive-writer.ts';

interface Seen {
  readonly type: string;
  readonly body: readonly number[];
}

const LENGTH_MAX = 70_000;
const anyType = (): number => LENGTH_MAX;

/** Decodes chunk by chunk. Bodies are looked at after the push, because that is how long they stay valid. */
function decode(chunks: Iterable<Uint8Array>, decoder = new FrameDecoder(anyType)): Seen[] {
  const seen: Seen[] = [];
  for (const chunk of chunks) {
    const views: [number, Uint8Array][] = [];
    decoder.push(chunk, (type, body) => views.push([type, body]));
    for (const [type, body] of views) {
      seen.push({ type: String.fromCharCode(type), body: Array.from(body) });
    }
  }
  return seen;
}

function* cutAt(bytes: Uint8Array, sizes: readonly number[]): Generator<Uint8Array> {
  let offset = 0;
  for (let index = 0; offset < bytes.length; index += 1) {
    const size = sizes[index % sizes.length] ?? 1;
    // A chunk that is overwritten once it has been pushed, as a socket's buffer may be.
    const chunk = bytes.slice(offset, offset + size);
    yield chunk;
    chunk.fill(0xee);
    offset += size;
  }
}

const frames = [
  { type: 'd', body: [1, 2, 3] },
  { type: 'c', body: [] },
  { type: 'Q', body: Array.from({ length: 700 }, (_, index) => index % 256) },
  { type: 'X', body: [] },
  { type: 'd', body: [255] },
];
const stream = raw(...frames.map((frame) => message(frame.type, Uint8Array.from(frame.body))));

describe('FrameDecoder', () => {
  it('hands out the messages of one chunk in order', () => {
    expect(decode([stream])).toEqual(frames);
  });

  it('gives the same messages byte by byte', () => {
    expect(decode(cutAt(stream, [1]))).toEqual(frames);
  });

  it('gives the same messages split at every offset', () => {
    for (let offset = 1; offset < stream.length; offset += 1) {
      expect(decode([stream.slice(0, offset), stream.slice(offset)])).toEqual(frames);
    }
  });

  it('gives the same messages however they are cut', () => {
    const anyFrames = fc.array(
      fc.record({
        type: fc.constantFrom('d', 'Q', 'c'),
        body: fc.array(fc.nat(255), { maxLength: 2000 }),
      }),
      { maxLength: 8 },
    );
    const anySizes = fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(anyFrames, anySizes, (sent, sizes) => {
        const bytes = raw(...sent.map((frame) => message(frame.type, Uint8Array.from(frame.body))));
        expect(decode(cutAt(bytes, sizes))).toEqual(sent);
      }),
      { numRuns: 60 },
    );
  });

  it('gives a view of the chunk for a message that lies whole inside it', () => {
    const chunk = message('d', 'abc');
    new FrameDecoder(anyType).push(chunk, (_type, body) => {
      expect(body.buffer).toBe(chunk.buffer);
      expect(body.byteOffset).toBe(chunk.byteOffset + 5);
    });
    expect.assertions(2);
  });

  it('keeps an assembled body valid while the same chunk leaves another one unfinished', () => {
    const first = message('d', 'first');
    const second = message('d', 'other');
    const decoder = new FrameDecoder(anyType);
    const bodies: Uint8Array[] = [];
    const keep = (_type: number, body: Uint8Array): void => void bodies.push(body);
    decoder.push(first.slice(0, 7), keep);
    decoder.push(raw(first.slice(7), second.slice(0, 8)), keep);
    expect(Buffer.from(bodies[0] ?? []).toString()).toBe('first');
    decoder.push(second.slice(8), keep);
    expect(Buffer.from(bodies[1] ?? []).toString()).toBe('other');
  });

  it('needs time in proportion to the bytes when they come one by one', () => {
    const bytes = Buffer.alloc(5 + 400_000);
    bytes.write('d');
    bytes.writeInt32BE(4 + 400_000, 1);
    const decoder = new FrameDecoder(() => bytes.length);
    let calls = 0;
    const started = performance.now();
    for (let offset = 0; offset < bytes.length; offset += 1) {
      decoder.push(bytes.subarray(offset, offset + 1), () => void (calls += 1));
    }
    expect(calls).toBe(1);
    // Linear: some 0.1 s. Joining the chunks anew each time would copy 80 GB.
    expect(performance.now() - started).toBeLessThan(3000);
  });

  it.each([
    ['a length below its own four bytes', i32(3), 3],
    ['a length of zero', i32(0), 0],
    ['a negative length', i32(-1), -1],
    ['the longest length there is', i32(0x7fffffff), 0x7fffffff],
    ['one byte more than allowed', i32(LENGTH_MAX + 1), LENGTH_MAX + 1],
  ])('fails for %s before it allocates, whole and byte by byte', (_name, word, length) => {
    const bytes = raw('d', word, 'xxxx');
    for (const size of [bytes.length, 1]) {
      const decoder = new FrameDecoder(anyType);
      expect(decode(cutAt(bytes, [size]), decoder)).toEqual([]);
      expect(decoder.failure).toEqual({ kind: 'bad-length', type: 'd'.charCodeAt(0), length });
      expect(decoder.bufferedBytes).toBe(0);
    }
  });

  it('takes the longest message that is allowed', () => {
    const decoder = new FrameDecoder(() => 4 + 100);
    expect(decode([message('d', new Uint8Array(100))], decoder)).toHaveLength(1);
    expect(decoder.failure).toBeNull();
  });

  it('fails for a type that is not allowed', () => {
    const decoder = new FrameDecoder((type) => (type === 0x64 ? 1000 : 0));
    expect(decode([raw(message('d', 'a'), message('?', 'b'))], decoder)).toEqual([
      { type: 'd', body: [0x61] },
    ]);
    expect(decoder.failure).toEqual({ kind: 'bad-type', type: 0x3f, length: 5 });
  });

  it('stays failed', () => {
    const decoder = new FrameDecoder(anyType);
    decode([raw('d', i32(1))], decoder);
    const failure = decoder.failure;
    expect(failure).not.toBeNull();
    expect(decode([message('d', 'fine')], decoder)).toEqual([]);
    expect(decoder.failure).toBe(failure);
    expect(decoder.takeRest()).toHaveLength(0);
  });

  it('leaves what follows a stop for takeRest, however the bytes were cut', () => {
    const bytes = raw(message('Q', 'go'), message('d', 'after'), 'tail');
    for (let offset = 1; offset < bytes.length; offset += 1) {
      const decoder = new FrameDecoder(anyType);
      const seen: number[] = [];
      let rest = raw();
      for (const chunk of [bytes.slice(0, offset), bytes.slice(offset)]) {
        if (seen.length > 0) {
          rest = raw(rest, chunk);
          continue;
        }
        decoder.push(chunk, (type) => {
          seen.push(type);
          decoder.stop();
        });
        if (seen.length > 0) rest = decoder.takeRest();
      }
      expect(seen).toEqual(['Q'.charCodeAt(0)]);
      expect(Buffer.from(rest).toString('latin1')).toBe(
        Buffer.from(raw(message('d', 'after'), 'tail')).toString('latin1'),
      );
      expect(decoder.bufferedBytes).toBe(0);
    }
  });

  it('gives the rest from inside the handler too', () => {
    const decoder = new FrameDecoder(anyType);
    let rest: Uint8Array = raw();
    decoder.push(raw(message('Q', 'go'), 'tail'), () => {
      decoder.stop();
      rest = decoder.takeRest();
    });
    expect(Buffer.from(rest).toString()).toBe('tail');
    expect(decoder.bufferedBytes).toBe(0);
  });

  it('gives a half-collected message back as it came', () => {
    const bytes = message('d', 'half');
    for (let offset = 0; offset < bytes.length; offset += 1) {
      const decoder = new FrameDecoder(anyType);
      decode(cutAt(bytes.slice(0, offset), [2]), decoder);
      expect(decoder.bufferedBytes).toBe(offset);
      expect(Array.from(decoder.takeRest())).toEqual(Array.from(bytes.slice(0, offset)));
      expect(decode([bytes], decoder)).toHaveLength(1);
    }
  });

  it('keeps what it only holds for the push after, whoever the chunks belong to', () => {
    const bytes = raw(message('d', 'one'), message('d', 'two'), 'd', 0);
    for (let offset = 0; offset <= bytes.length; offset += 1) {
      const decoder = new FrameDecoder(anyType);
      decoder.push(message('Q', 'go'), () => decoder.stop());
      for (const chunk of [bytes.slice(0, offset), bytes.slice(offset)]) {
        decoder.hold(chunk);
        chunk.fill(0xff);
      }
      expect(decoder.bufferedBytes).toBe(bytes.length);
      const bodies: string[] = [];
      decoder.push(raw(), (_type, body) => bodies.push(Buffer.from(body).toString()));
      expect(bodies).toEqual(['one', 'two']);
      expect(decoder.bufferedBytes).toBe(2);
    }
  });

  it('goes on after a stop with the next push, one message at a time', () => {
    const decoder = new FrameDecoder(anyType);
    const seen: string[] = [];
    const one = (type: number): void => {
      seen.push(String.fromCharCode(type));
      decoder.stop();
    };
    const chunk = raw(message('a'), message('b'), message('c'));
    decoder.push(chunk, one);
    chunk.fill(0);
    decoder.push(raw(), one);
    expect(seen).toEqual(['a', 'b']);
    decoder.push(message('d'), one);
    decoder.push(raw(), one);
    expect(seen).toEqual(['a', 'b', 'c', 'd']);
    expect(decoder.bufferedBytes).toBe(0);
  });

  it('keeps its place when a handler throws', () => {
    const decoder = new FrameDecoder(anyType);
    const boom = (): void => {
      throw new Error('boom');
    };
    expect(() => decoder.push(raw(message('a'), message('b')), boom)).toThrow('boom');
    expect(decode([raw()], decoder)).toEqual([{ type: 'b', body: [] }]);
  });

  it('calls it our bug when a handler pushes', () => {
    const decoder = new FrameDecoder(anyType);
    expect(() => decoder.push(message('a'), () => decoder.push(message('b'), () => {}))).toThrow(
      InvariantError,
    );
  });
});
