// Hostile inputs of the catalogue's part C.4: what may be sent while WAL is streamed.
import {
  closesOrWaits,
  leftStream,
  letIn,
  patiently,
  position,
  said,
  saidUntilMarker,
  streamBytes,
  streaming,
  TIMELINE,
} from './hostile-case.ts';
import type { HostileCase } from './hostile-case.ts';
import { cstr, i32, i64, message, raw } from './naive-writer.ts';
import { query, statusUpdate } from './raw-client.ts';
import type { RawClient } from './raw-client.ts';

const COPY_DONE = message('c');
const NEVER = 0xff_ff_ff_ff_ff_ff_ff_ffn;

/** Hot standby feedback inside CopyData. */
export function feedback(
  xmin: number,
  epoch: number,
  catalogXmin = 0,
  catalogEpoch = 0,
): Uint8Array {
  return message('d', 'h', i64(0n), i32(xmin), i32(epoch), i32(catalogXmin), i32(catalogEpoch));
}

/** Is taken without a word: the stream goes on, and ends in order. */
function accepted(row: string, name: string, ...bytes: Uint8Array[]): HostileCase {
  return streamBytes(row, name, raw(...bytes, COPY_DONE));
}

/** A length that is announced while streaming, some bytes, and then nothing. */
function announced(row: string, name: string, head: Uint8Array): HostileCase {
  const waiting = row === 'I71' ? 'postgres' : 'nobody';
  return {
    row,
    name,
    async run(side): Promise<string[]> {
      const client = await streaming(side);
      client.send(head);
      return await closesOrWaits(client, side, waiting);
    },
  };
}

/** Keepalives that come before the end of the stream, which is asked for behind the replies. */
const MANY_REPLIES: HostileCase = {
  row: 'I78',
  name: 'a thousand replies that ask for one',
  async run(side): Promise<string[]> {
    const client = await streaming(side);
    client.send(...Array.from({ length: 1000 }, () => statusUpdate(1n, 1n, 1n, 1)), COPY_DONE);
    let keepalives = 0;
    for (;;) {
      const item = await patiently(client, client.next());
      if (item === null) return ['closed'];
      if (item.type === 'd' && item.body[0] === 0x6b) keepalives += 1;
      if (item.type === 'Z') break;
    }
    client.close();
    return [keepalives >= 1000 ? 'each is answered' : 'not each is answered'];
  },
};

/** What comes when nothing is answered: a keepalive that asks at half of the time, and the end behind all of it. */
const SILENCE: HostileCase = {
  row: 'I79',
  name: 'silence',
  async run(side): Promise<string[]> {
    // Before the other end counts: whatever comes was at least as late as it seems.
    const begun = performance.now();
    const client = await streaming(side, { options: '-c wal_sender_timeout=4s' });
    const lines: string[] = [];
    for (;;) {
      const item = await patiently(client, client.next());
      const seconds = (performance.now() - begun) / 1000;
      if (item === null)
        return [...lines, seconds >= 3.9 ? 'closed after the time' : 'closed early'];
      if (item.type !== 'd') lines.push(item.type);
      if (item.type === 'd' && item.body[0] === 0x6b && item.body[17] === 1) {
        lines.push(seconds >= 1.9 ? 'asked at half of the time' : 'asked early');
      }
    }
  },
};

/** Replies keep a stream alive that would have ended long before. */
const ALIVE: HostileCase = {
  row: 'I79',
  name: 'answers only, and no progress',
  async run(side): Promise<string[]> {
    const client = await streaming(side, { options: '-c wal_sender_timeout=4s' });
    const until = performance.now() + 5000;
    while (performance.now() < until) {
      const item = await patiently(client, client.next());
      if (item === null) return ['closed'];
      if (item.type === 'd' && item.body[0] === 0x6b && item.body[17] === 1)
        client.send(statusUpdate(1n, 1n, 1n));
    }
    client.send(COPY_DONE);
    return await leftStream(client);
  },
};

async function startWith(client: RawClient, ...behind: Uint8Array[]): Promise<string[]> {
  const start = `START_REPLICATION ${await position(client)} TIMELINE ${TIMELINE}`;
  client.send(query(start), ...behind);
  return await leftStream(client);
}

function behindStart(row: string, name: string, ...behind: Uint8Array[]): HostileCase {
  return {
    row,
    name,
    run: async (side) => await startWith(await letIn(side), ...behind),
  };
}

const SUBTYPES: readonly string[] = ['z', 'p', 'w', 'k', 'R', '\0'];
const INTRUDERS: readonly [name: string, bytes: Uint8Array][] = [
  ['a query', query('IDENTIFY_SYSTEM')],
  ['CopyFail', message('f', cstr('x'))],
  ['Flush', message('H')],
  ['Sync', message('S')],
  ['type 0', raw(0, i32(4))],
  ['Parse', message('P', cstr(''), cstr(''), 0, 0)],
  ['FunctionCall', message('F', i32(0))],
  ['a password', message('p', cstr('x'))],
  ['a message of a server', message('W', 0, 0, 0)],
  ['type 255', raw(0xff, i32(4))],
];

/** Rows I66 to I79. */
export const STREAM_CASES: readonly HostileCase[] = [
  ...[0, 1, 8, 20, 32].map((length) =>
    streamBytes('I66', `a reply of ${length} bytes`, message('d', 'r', new Uint8Array(length))),
  ),
  ...[0, 11, 23].map((length) =>
    streamBytes('I66', `feedback of ${length} bytes`, message('d', 'h', new Uint8Array(length))),
  ),
  streamBytes('I66', 'an empty CopyData', message('d')),
  accepted('I67', 'a reply with ten bytes more', message('d', 'r', new Uint8Array(43))),
  accepted('I67', 'feedback with ten bytes more', message('d', 'h', new Uint8Array(34))),
  accepted(
    'I67',
    'a reply with sixty thousand bytes more',
    message('d', 'r', new Uint8Array(60_000)),
  ),
  ...SUBTYPES.map((type) =>
    streamBytes('I68', `an unknown payload ${JSON.stringify(type)}`, message('d', type, i64(1n))),
  ),
  ...INTRUDERS.map(([name, bytes]) => streamBytes('I69', name, bytes)),
  announced('I70', 'CopyData of length 3', raw('d', i32(3))),
  announced('I70', 'CopyData of length 0', raw('d', i32(0))),
  announced('I70', 'CopyData of negative length', raw('d', i32(-1))),
  announced('I70', 'CopyData of 2 GB', raw('d', i32(0x7f_ff_ff_ff))),
  announced('I70', 'CopyData of 1 GB', raw('d', i32(0x3f_ff_ff_ff))),
  announced('I71', 'CopyData of 1 GB less a byte', raw('d', i32(0x3f_ff_ff_fe))),
  announced(
    'I71',
    'CopyData of 1 GB less a byte, and a reply of it',
    raw('d', i32(0x3f_ff_ff_fe), 'r', new Uint8Array(33)),
  ),
  announced('I72', 'CopyDone of 20 KB', raw('c', i32(20_000))),
  announced('I72', 'Terminate of 20 KB', raw('X', i32(20_000))),
  streamBytes('I73', 'CopyDone', COPY_DONE),
  streamBytes('I73', 'CopyDone and a command', raw(COPY_DONE, query('SHOW wal_level'))),
  streamBytes('I73', 'CopyDone with a body', message('c', 'x')),
  streamBytes('I73', 'CopyDone twice', raw(COPY_DONE, COPY_DONE)),
  streamBytes(
    'I73',
    'replies behind CopyDone',
    raw(COPY_DONE, statusUpdate(1n, 1n, 1n), message('d', 'z')),
  ),
  streamBytes(
    'I73',
    'a stream after a stream',
    raw(COPY_DONE, query('START_REPLICATION FF/0 TIMELINE 1')),
  ),
  {
    row: 'I74',
    name: 'Terminate',
    async run(side): Promise<string[]> {
      const client = await streaming(side);
      client.send(message('X'));
      return await said(client);
    },
  },
  behindStart('I75', 'a reply in the packet of the command', statusUpdate(1n, 1n, 1n), COPY_DONE),
  behindStart(
    'I75',
    'CopyDone and a command in the packet of the command',
    COPY_DONE,
    query('SHOW wal_level'),
  ),
  behindStart('I75', 'a command in the packet of the command', query('IDENTIFY_SYSTEM')),
  accepted('I76', 'a reply from beyond what was sent', statusUpdate(NEVER, NEVER, NEVER)),
  accepted('I76', 'flushed before written', statusUpdate(1n, 0x10_00_00_00n, 0x20_00_00_00n)),
  accepted(
    'I76',
    'positions going backwards',
    statusUpdate(100n, 100n, 100n),
    statusUpdate(1n, 1n, 1n),
  ),
  accepted('I76', 'no positions', statusUpdate(0n, 0n, 0n)),
  accepted('I76', 'replyRequested 255', statusUpdate(1n, 1n, 1n, 255)),
  accepted('I77', 'xmin of the future', feedback(0x7f_ff_ff_ff, 0)),
  accepted('I77', 'an epoch of the future', feedback(1000, 7)),
  accepted('I77', 'xmin 1', feedback(1, 0)),
  accepted(
    'I77',
    'xmin 2, and a catalog xmin of the future',
    feedback(2, 0, 0xff_ff_ff_ff, 0xff_ff),
  ),
  accepted('I77', 'feedback withdrawn', feedback(1000, 0), feedback(0, 0)),
  MANY_REPLIES,
  SILENCE,
  ALIVE,
  {
    row: 'I75',
    name: 'a stream that fails, with replies behind it',
    async run(side): Promise<string[]> {
      const client = await letIn(side);
      client.send(query('START_REPLICATION FF/0'), statusUpdate(1n, 1n, 1n), COPY_DONE);
      return await saidUntilMarker(client);
    },
  },
];
