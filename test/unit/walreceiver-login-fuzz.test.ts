// Whatever a server sends, in whatever pieces: a login and the questions after it end with a session or with an error of
// the world, never with one of ours, and never not at all.
import fc from 'fast-check';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { InvariantError, WalcastError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { ConnectionEvents } from '../../src/net/connection.ts';
import type { Dial } from '../../src/net/dial.ts';
import { UpstreamConnection } from '../../src/walreceiver/upstream-connection.ts';
import { identifyUpstream } from '../../src/walreceiver/upstream-identify.ts';
import { cstr, i16, i32, message, raw } from '../support/naive-writer.ts';
import { READY } from '../support/scripted-upstream.ts';
import { targetFor } from '../support/upstream-target.ts';

const OK = message('R', i32(0));
const column = raw(cstr('a'), i32(0), i16(0), i32(25), i16(-1), i32(-1), i16(0));
const text = fc.string({ maxLength: 8, unit: 'binary' });
const bytes = fc.uint8Array({ maxLength: 40 });

const said = fc.oneof(
  fc.constantFrom<Uint8Array>(
    OK,
    READY,
    message('K', i32(1), i32(1)),
    message('R', i32(10), cstr('SCRAM-SHA-256'), 0),
    message('R', i32(10), cstr('SCRAM-SHA-256-PLUS'), cstr('SCRAM-SHA-256'), 0),
    message('S', cstr('server_version'), cstr('18.4')),
    message('T', i16(1), column),
    message('D', i16(1), i32(4), '16MB'),
    message('C', cstr('SHOW')),
  ),
  fc
    .tuple(fc.constantFrom(3, 5, 7, 10, 11, 12, -1), bytes)
    .map(([code, rest]) => message('R', i32(code), rest)),
  fc
    .tuple(fc.constantFrom(...Array.from('RSKZTDCIWHGcdENvAQ')), bytes)
    .map(([type, body]) => message(type, body)),
  fc.tuple(text, text).map(([name, value]) => message('S', cstr(name), cstr(value))),
  fc
    .tuple(text, text)
    .map(([code, words]) => message('E', 'S', cstr('FATAL'), 'C', cstr(code), 'M', cstr(words), 0)),
  bytes,
);

/** What comes of a server that says `chunks` and closes; null: it was as good as PostgreSQL. */
async function outcomeOf(chunks: readonly Uint8Array[]): Promise<unknown> {
  const host = { host: 'pg', address: 'pg', port: 1, password: 'secret' };
  let serverSide: ConnectionEvents | null = null;
  const dial: Dial = async (_target, _options, events) => {
    serverSide = events;
    return {
      tls: null,
      peer: { address: null, port: null },
      isEncrypted: false,
      pendingBytes: () => 0,
      write() {},
      pauseReading() {},
      resumeReading() {},
      end() {},
      destroy() {},
    };
  };
  const opening = UpstreamConnection.open({
    target: targetFor('sslmode=disable', { hosts: [host] }),
    host,
    database: 'replication',
    applicationName: 'tester',
    isReplication: true,
    timeoutMs: 0,
    readBufferBytes: 1024,
    clock: systemClock,
    log: silentLog,
    dial,
  });
  const asking = opening.then(async (connection) => {
    const run = (command: string): ReturnType<UpstreamConnection['query']> =>
      connection.query(command, { timeoutMs: 0 });
    await identifyUpstream({ parameters: connection.parameters, run }, null);
    return null;
  });
  const ended = asking.catch((error: unknown) => error);
  await nextTurn();
  const events = serverSide as ConnectionEvents | null;
  for (const chunk of chunks) {
    events?.onBytes(chunk);
    await Promise.resolve();
  }
  await nextTurn();
  events?.onEnd();
  events?.onClose(null);
  return await ended;
}

it('a server that says anything is left with an error about it', async () => {
  const script = fc.record({
    messages: fc.array(said, { maxLength: 14 }),
    isLetIn: fc.boolean(),
    size: fc.integer({ min: 1, max: 200 }),
  });
  await fc.assert(
    fc.asyncProperty(script, async ({ messages, isLetIn, size }) => {
      const all = raw(...(isLetIn ? [OK, READY] : []), ...messages);
      const count = Math.ceil(all.length / size);
      const chunks = Array.from({ length: count }, (_, index) =>
        all.subarray(index * size, (index + 1) * size),
      );
      const outcome = await outcomeOf(chunks);
      const isFair = outcome === null || outcome instanceof WalcastError;
      expect(isFair && !(outcome instanceof InvariantError), String(outcome)).toBe(true);
    }),
    { numRuns: 2_000 },
  );
});
