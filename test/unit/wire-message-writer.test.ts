// Does a message hold what was written into it, wherever its buffer had to grow?
import { describe, expect, it } from 'vitest';
import { MessageWriter } from '../../src/wire/message-writer.ts';

describe('MessageWriter', () => {
  it('keeps every field that crosses the end of its buffer', () => {
    for (let filler = 0; filler < 600; filler += 1) {
      const start = new Uint8Array(filler).fill(0x2e);
      const message = new MessageWriter('T')
        .bytes(start)
        .int32(-1)
        .int64(0x0102030405060708n)
        .int16(0x0a0b)
        .byte(0xc0)
        .finish();
      const expected = Buffer.alloc(5 + filler + 15);
      expected.write('T');
      expected.writeInt32BE(expected.length - 1, 1);
      expected.set(start, 5);
      expected.set([0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 0x0b, 0xc0], 5 + filler);
      expect(Buffer.from(message).toString('hex')).toBe(expected.toString('hex'));
    }
  });
});
