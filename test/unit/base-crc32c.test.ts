import fc from 'fast-check';
import { expect, it } from 'vitest';
import { crc32c, CRC32C_INITIAL, finishCrc32c, updateCrc32c } from '../../src/base/crc32c.ts';

/** One bit at a time, straight from the definition. */
function slowCrc32c(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

it.each([
  ['the check value of the definition', Buffer.from('123456789'), 0xe3069283],
  ['32 zeros (RFC 3720 B.4)', Buffer.alloc(32), 0x8a9136aa],
  ['32 ones (RFC 3720 B.4)', Buffer.alloc(32, 0xff), 0x62a8ab43],
  ['nothing', Buffer.alloc(0), 0],
])('gives the known checksum of %s', (_what, bytes, expected) => {
  expect(crc32c(bytes)).toBe(expected);
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
