import fc from 'fast-check';
import { expect, it, vi } from 'vitest';
import {
  compiledWindow,
  crc32c,
  CRC32C_INITIAL,
  CRC32C_WINDOW_BYTES,
  finishCrc32c,
  scriptWindow,
  updateCrc32c,
} from '../../src/base/crc32c.ts';
import type { Crc32cWindow } from '../../src/base/crc32c.ts';
import { updateInScript } from '../../src/base/crc32c-script.ts';

/** One bit at a time, straight from the definition. */
function slowCrc32c(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** The command PDU of RFC 3720 B.4. */
const READ_COMMAND = Buffer.from(
  '01c00000000000000000000000000000140000000000040000000014000000182800000000000000' +
    '0200000000000000',
  'hex',
);

const KNOWN: readonly [string, Uint8Array, number][] = [
  ['the check value of the definition', Buffer.from('123456789'), 0xe3069283],
  ['32 zeros (RFC 3720 B.4)', Buffer.alloc(32), 0x8a9136aa],
  ['32 ones (RFC 3720 B.4)', Buffer.alloc(32, 0xff), 0x62a8ab43],
  ['32 bytes that count up (RFC 3720 B.4)', Buffer.from(range(0, 32)), 0x46dd794e],
  ['32 bytes that count down (RFC 3720 B.4)', Buffer.from(range(0, 32)).reverse(), 0x113fdb5c],
  ['an iSCSI read command (RFC 3720 B.4)', READ_COMMAND, 0xd9963a56],
  ['nothing', Buffer.alloc(0), 0],
];

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}

function windowed(window: Crc32cWindow, bytes: Uint8Array, start: number, end: number): number {
  window.open(bytes, start, end);
  return finishCrc32c(window.update(CRC32C_INITIAL, start, end));
}

it.each(KNOWN)('gives the known checksum of %s in every way', (_what, bytes, expected) => {
  expect(crc32c(bytes)).toBe(expected);
  for (const window of windows()) expect(windowed(window, bytes, 0, bytes.length)).toBe(expected);
});

it('equals the definition for any bytes, cut anywhere', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (bytes, cutAt) => {
      const cut = Math.min(cutAt, bytes.length);
      const first = updateCrc32c(CRC32C_INITIAL, bytes, 0, cut);
      const sum = finishCrc32c(updateCrc32c(first, bytes, cut, bytes.length));
      expect(sum).toBe(slowCrc32c(bytes));
      expect(crc32c(bytes)).toBe(sum);
    }),
  );
});

it('is compiled where these tests run', () => {
  expect(compiledWindow()).not.toBeNull();
});

it('is the same compiled and in JavaScript, for any range of any stretch at any alignment', () => {
  const stretch = fc.record({
    bytes: fc.uint8Array({ maxLength: 300 }),
    start: fc.nat(40),
    cuts: fc.tuple(fc.nat(300), fc.nat(300)),
    state: fc.integer(),
    offset: fc.nat(15),
  });
  fc.assert(
    fc.property(stretch, ({ bytes, start, cuts, state, offset }) => {
      // A view into a larger buffer, at an address that is a multiple of nothing.
      const whole = new Uint8Array(bytes.length + offset);
      whole.set(bytes, offset);
      const view = whole.subarray(offset);
      const from = Math.min(start, view.length);
      const [low, high] = [Math.min(...cuts), Math.max(...cuts)].map((cut) =>
        Math.min(view.length, Math.max(from, cut)),
      );
      const expected = updateInScript(state, view, low ?? from, high ?? from);
      for (const window of windows()) {
        window.open(view, from, view.length);
        expect(window.update(state, low ?? from, high ?? from)).toBe(expected);
      }
      expect(updateCrc32c(state, view, low ?? from, high ?? from)).toBe(expected);
    }),
    { numRuns: 500 },
  );
});

it('is the same for every length up to 600 and every split of it', () => {
  const bytes = Buffer.from(range(0, 600).map((index) => (index * 167 + 13) & 0xff));
  for (let length = 0; length <= bytes.length; length++) {
    const expected = finishCrc32c(updateInScript(CRC32C_INITIAL, bytes, 0, length));
    expect(crc32c(bytes.subarray(0, length))).toBe(expected);
    const cut = (length * 7) % (length + 1);
    const first = updateCrc32c(CRC32C_INITIAL, bytes, 0, cut);
    expect(finishCrc32c(updateCrc32c(first, bytes, cut, length))).toBe(expected);
  }
});

it('takes more than its window holds in pieces', () => {
  const bytes = Buffer.alloc(3 * CRC32C_WINDOW_BYTES + 77);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.imul(i, 2_654_435_761) >>> 24;
  for (const end of [CRC32C_WINDOW_BYTES - 1, CRC32C_WINDOW_BYTES, bytes.length]) {
    const expected = updateInScript(CRC32C_INITIAL, bytes, 5, end);
    expect(updateCrc32c(CRC32C_INITIAL, bytes, 5, end)).toBe(expected);
  }
  const [start, end] = [bytes.length - CRC32C_WINDOW_BYTES, bytes.length];
  const expected = finishCrc32c(updateInScript(CRC32C_INITIAL, bytes, start, end));
  for (const window of windows()) expect(windowed(window, bytes, start, end)).toBe(expected);
});

it.each([
  ['has none', undefined],
  ['refuses it', { Module: class extends Uint8Array {}, Instance: refusing() }],
])('is computed without WebAssembly where Node.js %s', async (_what, replacement) => {
  vi.resetModules();
  vi.stubGlobal('WebAssembly', replacement);
  try {
    const fresh = await import('../../src/base/crc32c.ts');
    expect(fresh.compiledWindow()).toBeNull();
    const bytes = Buffer.alloc(100_000, 7);
    expect(fresh.crc32c(bytes)).toBe(crc32c(bytes));
  } finally {
    vi.unstubAllGlobals();
  }
});

function refusing(): () => never {
  return function Instance() {
    throw new RangeError('could not allocate memory');
  };
}

function windows(): readonly Crc32cWindow[] {
  const compiled = compiledWindow();
  return compiled === null ? [scriptWindow()] : [scriptWindow(), compiled];
}
