import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StartupDecoder } from '../../src/wire/startup-decoder.ts';
import type { StartupPacket } from '../../src/wire/startup-decoder.ts';
import {
  decodeInitialMessage,
  encodeCancelRequest,
  encodeSslRequest,
  encodeStartupMessage,
  unsupportedProtocol,
} from '../../src/wire/startup.ts';
import type { InitialMessage } from '../../src/wire/startup.ts';
import { cstr, i32, packet, raw } from '../support/naive-writer.ts';
import { violation } from '../support/violation.ts';

const PROTOCOL_3_0 = 0x30000;

function onlyPacket(bytes: Uint8Array): StartupPacket {
  const result = new StartupDecoder().push(bytes);
  if (typeof result === 'string') throw new Error(result);
  return result;
}

function initial(bytes: Uint8Array): InitialMessage {
  return decodeInitialMessage(onlyPacket(bytes));
}

describe('StartupDecoder', () => {
  const bytes = packet(PROTOCOL_3_0, cstr('user'), cstr('u'), 0);

  it('gives the packet split at every offset, and says "more" until then', () => {
    for (let offset = 1; offset < bytes.length; offset += 1) {
      const decoder = new StartupDecoder();
      expect(decoder.push(bytes.slice(0, offset))).toBe('more');
      expect(decoder.bufferedBytes).toBe(offset);
      expect(decoder.push(bytes.slice(offset))).toEqual(onlyPacket(bytes));
      expect(decoder.bufferedBytes).toBe(0);
    }
  });

  it('gives the packet byte by byte', () => {
    const decoder = new StartupDecoder();
    const results = Array.from(bytes, (byte) => decoder.push(raw(byte)));
    expect(results.slice(0, -1).every((result) => result === 'more')).toBe(true);
    expect(results.at(-1)).toEqual(onlyPacket(bytes));
  });

  it('shows bytes that were sent behind a packet before its answer', () => {
    const decoder = new StartupDecoder();
    decoder.push(raw(encodeSslRequest(), 'INJECTED'));
    expect(decoder.bufferedBytes).toBe(8);
    expect(Buffer.from(decoder.takeRest()).toString()).toBe('INJECTED');
    expect(decoder.bufferedBytes).toBe(0);
  });

  it('gives two packets of one chunk one after the other', () => {
    const decoder = new StartupDecoder();
    expect(decoder.push(raw(packet(80_877_104), bytes))).toEqual(onlyPacket(packet(80_877_104)));
    expect(decoder.push(raw())).toEqual(onlyPacket(bytes));
    expect(decoder.push(raw())).toBe('more');
  });

  it.each([
    ['length 3', i32(3)],
    ['length 7, which holds no code', i32(7)],
    ['a negative length', i32(-5)],
    ['the longest length there is', i32(0x7fffffff)],
    ['one byte too many', i32(10_005)],
    ['HTTP', raw('GET / HTTP/1.1\r\n')],
    ['TLS', raw(0x16, 0x03, 0x01, 0x02, 0x00)],
  ])('refuses %s as soon as the length word is there, and for good', (_name, word) => {
    const decoder = new StartupDecoder();
    expect(decoder.push(word.slice(0, 3))).toBe('more');
    expect(decoder.push(word.slice(3))).toBe('invalid-length');
    expect(decoder.push(bytes)).toBe('invalid-length');
  });

  it('takes the longest packet that is allowed', () => {
    const longest = packet(PROTOCOL_3_0, new Uint8Array(10_000 - 4));
    expect(onlyPacket(longest).body).toHaveLength(9996);
  });
});

describe('decodeInitialMessage', () => {
  it('tells the requests apart', () => {
    expect(initial(packet(80_877_103))).toEqual({ type: 'SSLRequest' });
    expect(initial(packet(80_877_104))).toEqual({ type: 'GSSENCRequest' });
    expect(initial(packet(80_877_102, i32(4711), 1, 2, 3, 4))).toEqual({
      type: 'CancelRequest',
      pid: 4711,
      key: Uint8Array.of(1, 2, 3, 4),
    });
  });

  it('reads parameters, the last value winning, and keeps protocol options apart', () => {
    const bytes = packet(
      0x30002,
      ...['user', 'u', '_pq_.x', '1', 'replication', 'true', 'user', 'v'].map(cstr),
      0,
    );
    expect(initial(bytes)).toEqual({
      type: 'StartupMessage',
      protocolMajor: 3,
      protocolMinor: 2,
      parameters: new Map([
        ['user', 'v'],
        ['replication', 'true'],
      ]),
      protocolOptions: ['_pq_.x'],
    });
  });

  it("accepts an empty list, because asking for a user is somebody else's question", () => {
    expect(initial(packet(PROTOCOL_3_0, 0))).toMatchObject({ parameters: new Map() });
  });

  it.each([
    ['no bytes at all', raw()],
    ['no terminator', raw(cstr('user'), cstr('u'))],
    ['a name without a NUL', raw('user')],
    ['a name without a value', cstr('user')],
    ['a value without a NUL', raw(cstr('user'), 'u')],
    ['bytes behind the terminator', raw(cstr('user'), cstr('u'), 0, 'x')],
    ['a second terminator', raw(0, 0)],
  ])('refuses a layout with %s', (_name, body) => {
    expect(violation(() => initial(packet(PROTOCOL_3_0, body)))).toBe(
      '08P01 invalid startup packet layout: expected terminator as last byte',
    );
  });

  it("refuses other majors with the server's text", () => {
    const text = (code: number): string | null => violation(() => initial(packet(code, 0)));
    expect(text(0x20000)).toBe(
      '0A000 unsupported frontend protocol 2.0: server supports 3.0 to 3.0',
    );
    expect(text(0x40000)).toBe(
      '0A000 unsupported frontend protocol 4.0: server supports 3.0 to 3.0',
    );
    expect(unsupportedProtocol(80_877_103, 2).message).toBe(
      'unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2',
    );
  });

  it('refuses cancel keys that are empty or too long', () => {
    const cancel = (keyBytes: number): string | null =>
      violation(() => initial(packet(80_877_102, i32(1), new Uint8Array(keyBytes))));
    expect(cancel(0)).toMatch(/^08P01/);
    expect(cancel(1)).toBeNull();
    expect(cancel(256)).toBeNull();
    expect(cancel(257)).toMatch(/^08P01/);
    expect(violation(() => initial(packet(80_877_102, 1, 2)))).toMatch(/^08P01/);
  });

  it('reads each string by itself, whatever bytes stand in it', () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 6, min: 1 });
    fc.assert(
      fc.property(fc.array(fc.tuple(bytes, bytes), { maxLength: 5 }), (pairs) => {
        const given = pairs.flatMap((pair) => pair.flatMap((part) => [part, 0]));
        const message = initial(packet(PROTOCOL_3_0, ...given, 0));
        const text = (part: Uint8Array): string =>
          new TextDecoder('utf-8', { ignoreBOM: true }).decode(part);
        const expected = new Map(pairs.map(([name, value]) => [text(name), text(value)]));
        expect(message).toMatchObject({ type: 'StartupMessage', parameters: expected });
      }),
    );
  });

  it('never throws anything but a protocol violation', () => {
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.uint8Array({ maxLength: 200 }), (code, body) => {
        violation(() => decodeInitialMessage({ code, body }));
        violation(() => decodeInitialMessage({ code: PROTOCOL_3_0, body }));
      }),
    );
  });
});

describe('startup encoders', () => {
  it('write what the naive writer writes', () => {
    expect(encodeSslRequest()).toEqual(packet(80_877_103));
    expect(encodeCancelRequest(-2, Uint8Array.of(9, 8, 7, 6))).toEqual(
      packet(80_877_102, i32(-2), 9, 8, 7, 6),
    );
    expect(
      encodeStartupMessage([
        ['user', 'ü'],
        ['options', ''],
      ]),
    ).toEqual(packet(PROTOCOL_3_0, cstr('user'), cstr('ü'), cstr('options'), cstr(''), 0));
    expect(encodeStartupMessage([], 2)).toEqual(packet(0x30002, 0));
  });

  it('end a string at a NUL, so that a value cannot smuggle in a parameter', () => {
    expect(encodeStartupMessage([['user', 'u\0replication\0true']])).toEqual(
      packet(PROTOCOL_3_0, cstr('user'), cstr('u'), 0),
    );
  });
});
