// Are the messages of an authentication the same however their bytes are cut, and is nothing else taken for one?
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AuthenticationDecoder, SASL_LENGTH_MAX } from '../../src/wire/authentication-decoder.ts';
import { i32, message, raw } from '../support/naive-writer.ts';

/** Everything that comes out of `chunks`, and what is left. */
function readAll(chunks: readonly Uint8Array[], lengthMax = SASL_LENGTH_MAX): string[] {
  const decoder = new AuthenticationDecoder();
  const seen: string[] = [];
  for (const chunk of chunks) {
    decoder.push(chunk);
    for (;;) {
      const input = decoder.take(lengthMax);
      if (input.kind === 'more') break;
      if (input.kind !== 'message') return [...seen, JSON.stringify(input)];
      seen.push(Buffer.from(input.body).toString('hex'));
    }
  }
  return [...seen, `rest ${Buffer.from(decoder.takeRest()).toString('hex')}`];
}

test('messages are the same at every cut', () => {
  const bytes = raw(
    message('p', 'one'),
    message('p'),
    message('p', new Uint8Array(1020)),
    'p',
    0,
    0,
  );
  const whole = readAll([bytes]);
  expect(whole).toEqual(['6f6e65', '', '00'.repeat(1020), 'rest 700000']);
  for (let at = 0; at <= bytes.length; at += 1) {
    expect(readAll([bytes.subarray(0, at), bytes.subarray(at)])).toEqual(whole);
  }
  expect(readAll([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(whole);
});

describe('what is no message', () => {
  test.each([
    ['another type, from its first byte', raw('Q'), '{"kind":"other-type","type":81}'],
    ['a length below four', raw('p', i32(3)), '{"kind":"bad-length","length":3}'],
    ['a length below zero', raw('p', i32(-1)), '{"kind":"bad-length","length":-1}'],
    [
      'a length beyond the limit, before its bytes are there',
      raw('p', i32(1025)),
      '{"kind":"bad-length","length":1025}',
    ],
    ['2 GB', raw('p', i32(0x7fffffff)), '{"kind":"bad-length","length":2147483647}'],
  ])('%s', (_name, bytes, text) => {
    expect(readAll([bytes])).toEqual([text]);
    expect(readAll([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual([text]);
  });
});

test('what is behind the last message goes to the next decoder, byte for byte', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 50 }),
      fc.uint8Array({ maxLength: 300 }),
      (body, behind) => {
        const decoder = new AuthenticationDecoder();
        decoder.push(raw(message('p', body), behind));
        expect(decoder.take(SASL_LENGTH_MAX)).toEqual({
          kind: 'message',
          body: Uint8Array.from(body),
        });
        expect(decoder.bufferedBytes).toBe(behind.length);
        expect(decoder.takeRest()).toEqual(Uint8Array.from(behind));
        expect(decoder.bufferedBytes).toBe(0);
      },
    ),
  );
});

test('a body is not changed by what comes later', () => {
  const decoder = new AuthenticationDecoder();
  const chunk = Buffer.from(message('p', 'secret'));
  decoder.push(chunk);
  const input = decoder.take(SASL_LENGTH_MAX);
  chunk.fill(0);
  decoder.push(message('p', 'other'));
  decoder.take(SASL_LENGTH_MAX);
  expect(input.kind === 'message' ? Buffer.from(input.body).toString() : '').toBe('secret');
});
