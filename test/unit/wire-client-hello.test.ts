// When all of a TLS client's first message is there.
import { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CLIENT_HELLO_BYTES_MAX, ClientHello } from '../../src/wire/client-hello.ts';
import type { ClientHelloState } from '../../src/wire/client-hello.ts';

/** What Node's own client sends first. */
async function recordHello(): Promise<Buffer> {
  return await new Promise((resolve) => {
    const pipe = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        resolve(chunk);
        done();
      },
    });
    const socket = connect({ socket: pipe, servername: 'localhost' });
    socket.on('error', () => {});
  });
}

function clientHelloState(bytes: Uint8Array): ClientHelloState {
  return new ClientHello().push(bytes);
}

/** The same message in records of `size`. */
function rewrapped(hello: Buffer, size: number): Buffer {
  const message = hello.subarray(5);
  const records: Buffer[] = [];
  for (let offset = 0; offset < message.length; offset += size) {
    const part = message.subarray(offset, offset + size);
    records.push(Buffer.from([0x16, 3, 1, part.length >> 8, part.length & 0xff]), part);
  }
  return Buffer.concat(records);
}

describe('a ClientHello', () => {
  it('is whole at its last byte and not before, in one record or many', async () => {
    const hello = await recordHello();
    for (const bytes of [hello, rewrapped(hello, 100), rewrapped(hello, 1), rewrapped(hello, 3)]) {
      for (let length = 0; length < bytes.length; length += 1) {
        expect(clientHelloState(bytes.subarray(0, length))).toBe('more');
      }
      expect(clientHelloState(bytes)).toBe('whole');
      expect(clientHelloState(Buffer.concat([bytes, Buffer.from('more')]))).toBe('whole');
    }
  });

  it.each([
    ['plain text', Buffer.from('GET / HTTP/1.1\r\n')],
    ['a startup packet', Buffer.from([0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f])],
    ['another handshake message', Buffer.from([0x16, 3, 1, 0, 4, 2, 0, 0, 0])],
    ['an empty record', Buffer.from([0x16, 3, 1, 0, 0])],
    ['a record that is too long', Buffer.from([0x16, 3, 1, 0x40, 1])],
    [
      'an alert behind the first record',
      Buffer.from([0x16, 3, 1, 0, 2, 1, 0, 0x15, 3, 1, 0, 1, 0]),
    ],
  ])('is not %s', (_name, bytes) => {
    expect(clientHelloState(bytes)).toBe('other');
  });

  it('is the same in whatever pieces it comes', async () => {
    const hello = await recordHello();
    const whole = Buffer.concat([rewrapped(hello, 7), Buffer.from('more')]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 400 }), { maxLength: 200 }), (sizes) => {
        const collected = new ClientHello();
        let offset = 0;
        for (const size of [...sizes, whole.length]) {
          const next = Math.min(whole.length, offset + size);
          expect(collected.push(whole.subarray(offset, next))).toBe(
            clientHelloState(whole.subarray(0, next)),
          );
          offset = next;
        }
        expect(Buffer.from(collected.take())).toEqual(whole);
        expect(collected.take()).toHaveLength(0);
      }),
    );
  });

  it('of thousands of records that come byte by byte is no work', () => {
    // All but whole: each byte on its own, in a record of its own. Read anew with each byte it would take half a minute.
    const message = Buffer.alloc(Math.floor((CLIENT_HELLO_BYTES_MAX - 1) / 6));
    message.set([1, 0, 0x40]);
    const bytes = rewrapped(Buffer.concat([Buffer.alloc(5), message]), 1);
    const collected = new ClientHello();
    const began = performance.now();
    for (let offset = 0; offset < bytes.length; offset += 1) {
      if (collected.push(bytes.subarray(offset, offset + 1)) !== 'more') throw new Error('whole');
    }
    expect(performance.now() - began).toBeLessThan(3_000);
  });

  it('is not waited for without end', () => {
    const record = Buffer.alloc(5 + 0x4000);
    record.set([0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]);
    const filler = Buffer.alloc(5 + 0x4000);
    filler.set([0x16, 3, 1, 0x40, 0]);
    expect(clientHelloState(record)).toBe('more');
    const long = Buffer.concat([record, filler, filler]).subarray(0, CLIENT_HELLO_BYTES_MAX);
    expect(clientHelloState(long)).toBe('whole');
  });

  it('never throws, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, isRecord) => {
        if (isRecord) bytes.set([0x16, 3, 1].slice(0, bytes.length));
        expect(['more', 'whole', 'other']).toContain(clientHelloState(bytes));
      }),
    );
  });
});
