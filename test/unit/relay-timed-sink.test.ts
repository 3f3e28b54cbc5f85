// What stands between the walreceiver and the store hands on everything, and tells of what was taken.
import { expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import { TimedSink } from '../../src/relay/timed-sink.ts';
import type { WalRejection, WalSink } from '../../src/walreceiver/ports.ts';

const LSN = toLsn(0x500_0000n);

it('hands on what the sink says, also how far it has written, and tells of a message only once it was taken', () => {
  const said: string[] = [];
  let rejection: WalRejection | null = null;
  const sink: Required<WalSink> = {
    nextLsn: () => LSN,
    append: () => {
      said.push('append');
      return rejection;
    },
    noteRejected: () => said.push('rejected'),
    isFull: () => true,
    onRoom: () => said.push('room'),
    positions: () => ({ writtenLsn: toLsn(77n) }),
  };
  const timed: WalSink = new TimedSink(sink, () => said.push('taken'));
  expect([timed.nextLsn(), timed.isFull(), timed.positions?.()]).toEqual([
    LSN,
    true,
    { writtenLsn: 77n },
  ]);
  expect(timed.append(LSN, new Uint8Array(8))).toBeNull();
  timed.noteRejected?.();
  timed.onRoom(() => {});
  rejection = { lsn: LSN, reason: 'a test' };
  expect(timed.append(LSN, new Uint8Array(8))).toBe(rejection);
  expect(said).toEqual(['append', 'taken', 'rejected', 'room', 'append']);
});
