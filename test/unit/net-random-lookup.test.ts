// In which order the addresses of a name are tried where the order is left to chance.
import type { LookupAddress } from 'node:dns';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { shuffled } from '../../src/base/shuffle.ts';
import { dial } from '../../src/net/dial.ts';
import { randomLookup } from '../../src/net/random-lookup.ts';

const ADDRESSES: readonly LookupAddress[] = [
  { address: '192.0.2.1', family: 4 },
  { address: '2001:db8::2', family: 6 },
  { address: '192.0.2.3', family: 4 },
];

describe('a shuffled list', () => {
  it('has what was there, each time', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat()),
        fc.infiniteStream(fc.noShrink(fc.double({ min: 0, max: 0.999, noNaN: true }))),
        (list, stream) => {
          const order = shuffled(list, () => Number(stream.next().value));
          expect(order.toSorted((a, b) => a - b)).toEqual(list.toSorted((a, b) => a - b));
        },
      ),
    );
  });

  it('stays as it is with the lowest numbers, and turns around with the highest', () => {
    expect(shuffled([1, 2, 3], () => 0)).toEqual([1, 2, 3]);
    expect(shuffled([1, 2, 3], () => 0.99)).toEqual([3, 2, 1]);
    expect(shuffled([], () => 0)).toEqual([]);
  });
});

describe('looking a name up', () => {
  const found = randomLookup(
    () => 0.99,
    (_host, callback) => callback(null, ADDRESSES),
  );

  it('gives all addresses, or one of them, in random order', () => {
    const seen: unknown[] = [];
    found('pg', { all: true }, (_error, addresses) => seen.push(addresses));
    found('pg', {}, (_error, address, family) => seen.push([address, family]));
    expect(seen).toEqual([ADDRESSES.toReversed(), ['192.0.2.3', 4]]);
  });

  it('passes the failure on', () => {
    const failure = Object.assign(new Error('not found'), { code: 'ENOTFOUND' });
    const lookup = randomLookup(
      () => 0,
      (_host, callback) => callback(failure, []),
    );
    const seen: unknown[] = [];
    lookup('pg', { all: true }, (error) => seen.push(error));
    expect(seen).toEqual([failure]);
  });

  it('is part of dialling where there is a die', async () => {
    const server = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    const { port } = server.address() as AddressInfo;
    let throws = 0;
    const options = {
      clock: systemClock,
      timeoutMs: 5_000,
      readBufferBytes: 1_024,
      random: () => {
        throws += 1;
        return 0;
      },
    };
    const events = { onBytes: () => {}, onDrain: () => {}, onEnd: () => {}, onClose: () => {} };
    const connection = await dial({ host: 'localhost', port }, options, events);
    connection.destroy();
    expect(throws).toBeGreaterThan(0);
    server.close();
  });
});
