// Is an address written as the system writes it, and read back as the same one?
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatIpAddress, parseIpAddress } from '../../src/pg/ip-address.ts';

it.each([
  '0.0.0.0',
  '10.0.0.255',
  '::',
  '::1',
  '1::',
  'fe80::1',
  '2001:db8::ff00:42:8329',
  // The first one of two equal runs, and never one group alone.
  '1::2:0:0:3:4',
  '1:0:2:3:4:5:6:7',
  '::ffff:192.0.2.128',
  '::192.0.2.128',
  'ffff:ffff:ffff:ffff::',
])('%s is written as it was read', (text) => {
  const address = parseIpAddress(text);
  expect(address === null ? null : formatIpAddress(address)).toBe(text);
});

it('every address is read back as the same one', () => {
  const bytes = fc.constantFrom(0, 0, 0, 1, 0xff);
  const address = fc.oneof(
    fc.array(bytes, { minLength: 4, maxLength: 4 }),
    fc.array(bytes, { minLength: 16, maxLength: 16 }),
  );
  fc.assert(
    fc.property(address, (numbers) => {
      const one = Uint8Array.from(numbers);
      expect(parseIpAddress(formatIpAddress(one))).toEqual(one);
    }),
  );
});
